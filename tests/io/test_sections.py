import imageio.v3
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

STACK = np.random.default_rng(0).integers(0, 255, (12, 8, 9), np.uint8)


@pytest.fixture(params=[".png", ".tif"])
def folder(request, tmp_path):
    folder = tmp_path / "my sections"
    folder.mkdir()
    for number, section in enumerate(STACK):
        imageio.v3.imwrite(folder / f"s{number}{request.param}", section)
    (folder / "notes.txt").write_text("ignored")
    return folder


def test_a_folder_is_a_stack_in_natural_order_read_by_section(folder):
    found = read_image(folder)

    assert (found.axes, found.name) == ("ZYX", "my sections")
    assert found.data.chunks[0] == (1,) * 12
    assert np.array_equal(np.asarray(found.data), STACK)


def test_a_pattern_chooses_sections(folder):
    found = read_image(folder / f"s?{next(folder.glob('s1.*')).suffix}")

    assert np.array_equal(np.asarray(found.data), STACK[:10])


def test_the_pixel_size_of_tiff_sections_is_kept(tmp_path):
    for number in range(2):
        tifffile.imwrite(
            tmp_path / f"{number}.tif", STACK[0], resolution=(1e7 / 4, 1e7 / 4), resolutionunit=3
        )

    found = read_image(tmp_path)

    assert found.units == ("pixel", "nm", "nm")
    assert found.scale == pytest.approx((1, 4, 4))


def test_other_images_in_each_section_are_told_once(tmp_path):
    for number in range(3):
        with tifffile.TiffWriter(tmp_path / f"{number}.tif") as file:
            file.write(STACK[number][:4, :4], metadata=None)
            file.write(STACK[number], metadata=None)

    with pytest.warns(UserWarning, match="holds several images") as told:
        found = np.asarray(read_image(tmp_path).data)

    assert np.array_equal(found, STACK[:3])
    assert len(told) == 1


def test_sections_that_differ_are_named(folder):
    suffix = next(folder.glob("s1.*")).suffix
    imageio.v3.imwrite(folder / f"s5{suffix}", STACK[0, :, :4])

    with pytest.raises(
        FileReadError, match=rf"not alike: s0\{suffix} is 8 x 9 .*s5\{suffix} 8 x 4"
    ):
        read_image(folder)


def test_several_formats_in_a_folder_ask_for_a_pattern(folder):
    imageio.v3.imwrite(folder / "preview.jpg", STACK[0])

    with pytest.raises(FileReadError, match=r"several formats .*1 of \.jpg"):
        read_image(folder)
    assert read_image(folder / "preview.jpg").shape == (8, 9)


def test_an_animation_is_no_section(tmp_path):
    first, *others = (Image.fromarray(np.full((64, 64), grey, np.uint8)) for grey in (1, 2, 3))
    first.save(tmp_path / "a.png", save_all=True, append_images=others)

    with pytest.raises(FileReadError, match=r"a\.png holds several pictures"):
        read_image(tmp_path / "a.png")


def test_a_section_that_is_damaged_is_named(tmp_path):
    for number in range(3):
        imageio.v3.imwrite(tmp_path / f"{number}.png", STACK[number])
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(FileReadError, match=r"Cannot read .*1\.png"):
        np.asarray(read_image(tmp_path).data)

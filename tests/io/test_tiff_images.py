"""TIFF files of several images, in several files, cut short, or with greys of their own."""

import shutil
import warnings

import dask.array
import numpy as np
import pytest
import tifffile

from napari_unet.io import lazy, tiff
from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image
from napari_unet.io.tiff import tiff_shape

STACK = np.random.default_rng(0).integers(0, 255, (5, 64, 48), np.uint8)
OVERVIEW = STACK[0, :16, :16]


@pytest.fixture(params=["in memory", "on disk"])
def kept(request, monkeypatch):
    if request.param == "on disk":
        for module in (tiff, lazy):
            monkeypatch.setattr(module, "LARGEST_IN_MEMORY", 100)
    return request.param


def appended(path):
    for section in STACK:
        tifffile.imwrite(path, section, append=True)


def described_one_by_one(path):
    with tifffile.TiffWriter(path) as file:
        for section in STACK:
            file.write(section)


def compressed_in_turns(path):
    with tifffile.TiffWriter(path) as file:
        for number, section in enumerate(STACK):
            file.write(section, compression=("zlib", None)[number % 2], metadata=None)


def with_copies_at_half_the_resolution(path):
    with tifffile.TiffWriter(path) as file:
        for section in STACK:
            file.write(section, subifds=1)
            file.write(section[::2, ::2], subfiletype=1)


@pytest.mark.parametrize(
    "write",
    [
        appended,
        described_one_by_one,
        compressed_in_turns,
        with_copies_at_half_the_resolution,
    ],
)
def test_sections_that_are_images_by_themselves_are_a_stack_in_their_order(tmp_path, kept, write):
    path = tmp_path / "a.tif"
    write(path)

    found = read_image(path)

    assert found.axes == "ZYX"
    assert np.array_equal(np.asarray(found.data), STACK)
    assert isinstance(found.data, dask.array.Array) == (kept == "on disk")
    assert tiff_shape(path) == (STACK.shape, "uint8")


def test_one_page_of_many_that_is_compressed_in_another_way_is_read_as_it_is(tmp_path):
    data = np.concatenate([STACK, STACK, STACK])
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, section in enumerate(data):
            file.write(section, compression="zlib" if number == 4 else None, metadata=None)

    assert np.array_equal(read_image(tmp_path / "a.tif").data, data)


@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize("other", [OVERVIEW, STACK[0].astype(np.uint16)])
@pytest.mark.parametrize("sections", [STACK, STACK[None]])
def test_of_several_images_the_largest_is_read_and_the_others_are_told(
    tmp_path, kept, metadata, other, sections
):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(other, metadata=metadata)
        for each in sections:
            file.write(each, metadata=metadata)

    with pytest.warns(UserWarning, match=r"a\.tif holds several images; the largest") as told:
        found = read_image(tmp_path / "a.tif")

    assert np.array_equal(np.asarray(found.data), STACK)
    size = " × ".join(map(str, other.shape))
    assert "number 2 (5 × 64 × 48, uint8), is read" in str(told[0].message)
    assert f"without number 1 ({size}, {other.dtype}). To read" in str(told[0].message)


def test_of_many_images_that_are_left_out_a_few_are_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for width in range(10, 18):
            file.write(STACK[0, :, :width])

    with pytest.warns(UserWarning, match=r"number 8 \(64 × 17, uint8\), is read.* and 2 more\."):
        read_image(tmp_path / "a.tif")


def test_a_thumbnail_that_the_file_calls_one_is_not_told(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(OVERVIEW, subfiletype=1)
        file.write(STACK)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(tmp_path / "a.tif").data, STACK)


def test_the_pixel_size_is_that_of_the_image_in_an_ome_tiff_that_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        for data, axes, size in ((OVERVIEW, "YX", 900.0), (STACK, "ZYX", 4.0)):
            size = {f"PhysicalSize{a}": size for a in "XY"} | {"PhysicalSizeXUnit": "nm"}
            file.write(data, metadata={"axes": axes, "Name": axes, **size})

    with pytest.warns(UserWarning, match=r"'ZYX' \(5 .* is read, without 'YX' \(16 × 16, uint8\)"):
        found = read_image(tmp_path / "a.ome.tif")

    assert np.array_equal(found.data, STACK)
    assert (found.scale[2], found.units[2]) == (4.0, "nm")


def test_images_of_one_section_in_an_ome_tiff_are_a_stack_and_it_is_told(tmp_path):
    described_one_by_one(tmp_path / "a.ome.tif")

    with pytest.warns(UserWarning, match="holds 5 images of one section each; they are read as a"):
        found = read_image(tmp_path / "a.ome.tif")

    assert np.array_equal(found.data, STACK)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_a_pyramid_is_read_at_its_full_resolution_without_a_word(tmp_path, name):
    with tifffile.TiffWriter(tmp_path / name) as file:
        file.write(STACK, subifds=1)
        file.write(STACK[:, ::2, ::2], subfiletype=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(tmp_path / name).data, STACK)


FIRST, SECOND = "m_0.ome.tif", "m_1.ome.tif"


@pytest.fixture
def in_two_files(tmp_path):
    """An OME-TIFF with two sections in one file, and three in another one."""
    parts = {FIRST: STACK[:2], SECOND: STACK[2:]}
    places = [(name, number) for name, part in parts.items() for number in range(len(part))]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="{number}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        for z, (name, number) in enumerate(places)
    )
    for name, part in parts.items():
        told = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{name}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="48" SizeY="64" SizeZ="5" SizeC="1" '
            'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f"{data}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(tmp_path / name) as file:
            for number, section in enumerate(part):
                description = None if number else told.encode()
                file.write(section, description=description, metadata=None)
    return tmp_path


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_an_ome_tiff_in_several_files_is_read_from_each_of_them(in_two_files, kept, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert np.array_equal(np.asarray(read_image(in_two_files / name).data), STACK)


def test_an_ome_tiff_that_was_renamed_is_read_with_the_files_beside_it(in_two_files):
    (in_two_files / FIRST).rename(in_two_files / "new.tif")

    assert np.array_equal(read_image(in_two_files / "new.tif").data, STACK)


@pytest.mark.parametrize(("opened", "missing"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_a_missing_file_of_an_ome_tiff_is_named_with_its_place(in_two_files, opened, missing):
    (in_two_files / missing).unlink()

    with pytest.raises(FileReadError) as refused:
        read_image(in_two_files / opened)

    assert f"should be in {in_two_files / missing}, which is not there." in str(refused.value)


def test_an_empty_file_of_an_ome_tiff_is_named(in_two_files):
    (in_two_files / SECOND).write_bytes(b"")

    with pytest.raises(FileReadError, match=r"m_1\.ome\.tif, which is empty \(0 bytes\)\. Copy"):
        read_image(in_two_files / FIRST)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_of_an_ome_tiff_that_was_cut_short_is_named(in_two_files, share):
    content = (in_two_files / SECOND).read_bytes()
    (in_two_files / SECOND).write_bytes(content[: int(len(content) * share)])

    with pytest.raises(FileReadError, match=r"m_1\.ome\.tif(, which| beside it) is cut short"):
        read_image(in_two_files / FIRST)


def test_a_single_ome_tiff_that_was_renamed_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK)
    shutil.move(tmp_path / "a.ome.tif", tmp_path / "b.tif")

    assert np.array_equal(read_image(tmp_path / "b.tif").data, STACK)


@pytest.fixture
def one_page_of_imagej(tmp_path):
    """A stack as ImageJ writes it beyond 4 GB: the first page is described, the others follow."""
    path = tmp_path / "large.tif"
    tifffile.imwrite(
        path,
        STACK[0],
        description="ImageJ=1.53t\nimages=5\nslices=5\nunit=nm\nspacing=40.0\n",
        metadata=None,
        byteorder=">",
        resolution=(0.25, 0.25),
        resolutionunit=1,
    )
    with path.open("ab") as file:
        file.write(STACK[1:].tobytes())
    return path


def test_a_stack_of_imagej_with_one_page_is_read_whole(one_page_of_imagej):
    found = read_image(one_page_of_imagej)

    assert np.array_equal(found.data, STACK)
    assert (found.scale, found.units) == ((40.0, 4.0, 4.0), ("nm",) * 3)


@pytest.mark.parametrize("missing", [1, 1000, 2 * 64 * 48, 4 * 64 * 48 - 1, 4 * 64 * 48 + 1])
def test_a_stack_of_imagej_with_one_page_that_was_cut_short_is_refused(one_page_of_imagej, missing):
    content = one_page_of_imagej.read_bytes()
    one_page_of_imagej.write_bytes(content[:-missing])

    with pytest.raises(FileReadError, match=rf"cut short \({len(content) - missing} bytes, where"):
        read_image(one_page_of_imagej)


def test_a_page_taken_out_of_a_stack_of_imagej_is_read_though_its_description_tells_more(tmp_path):
    described = "ImageJ=1.53t\nimages=5\nslices=5\n"
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], description=described, metadata=None)

    assert np.array_equal(read_image(tmp_path / "a.tif").data, STACK[0])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_that_were_appended_and_cut_off_in_their_description_are_missed(
    tmp_path, compression
):
    path, cut = tmp_path / "a.tif", tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as file:
        for section in STACK[:3]:
            file.write(section, compression=compression)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        last = file.pages[2]
        begin, end = last.offset, last.dataoffsets[0]
    for size in range(begin, end, 7):
        cut.write_bytes(content[:size])
        with pytest.raises(FileReadError, match="Cannot read"):
            read_image(cut)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_where_0_is_white_the_values_are_those_of_the_same_picture_with_0_as_black(
    tmp_path, kept, dtype, compression
):
    data = STACK.astype(dtype)
    path = tmp_path / "a.tif"
    stored = np.iinfo(dtype).max - data
    tifffile.imwrite(path, stored, photometric="miniswhite", compression=compression)

    found = read_image(path)

    assert isinstance(found.data, dask.array.Array) == (kept == "on disk")
    assert found.dtype == dtype
    assert np.array_equal(np.asarray(found.data), data)


def test_where_0_is_white_single_bits_are_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK < 100, photometric="miniswhite")

    assert np.array_equal(read_image(tmp_path / "a.tif").data, STACK >= 100)


def test_where_0_is_white_the_bits_that_are_used_say_which_value_is_black(tmp_path):
    data = STACK // 16
    tifffile.imwrite(
        tmp_path / "a.tif", 15 - data, photometric="miniswhite", bitspersample=4, compression=None
    )

    assert np.array_equal(read_image(tmp_path / "a.tif").data, data)


def test_real_numbers_are_read_as_they_are_where_0_is_white(tmp_path):
    data = STACK.astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="miniswhite")

    assert np.array_equal(read_image(tmp_path / "a.tif").data, data)


def test_masks_of_imagej_keep_their_values_though_they_are_drawn_in_black(tmp_path):
    mask = (STACK > 200).astype(np.uint8) * np.uint8(255)
    described = "ImageJ=1.54f\nimages=5\nslices=5\n"
    tifffile.imwrite(
        tmp_path / "a.tif", mask, photometric="miniswhite", description=described, metadata=None
    )

    assert np.array_equal(read_image(tmp_path / "a.tif").data, mask)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_of_greys_is_looked_up(tmp_path, kept, bits):
    greys = np.arange(255, -1, -1, dtype=np.uint16) * (257 if bits == 16 else 1)
    palette = np.stack([greys] * 3)
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="palette", colormap=palette)

    found = read_image(tmp_path / "a.tif")

    assert found.dtype == np.uint8
    assert np.array_equal(np.asarray(found.data), 255 - STACK)


@pytest.mark.parametrize("red", [1, 3])
def test_numbers_in_a_palette_of_colours_are_read_as_they_are(tmp_path, red):
    palette = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    palette[0, red] = 65535
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="palette", colormap=palette)

    assert np.array_equal(read_image(tmp_path / "a.tif").data, STACK)


def test_a_palette_of_one_grey_says_nothing(tmp_path):
    palette = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="palette", colormap=palette)

    assert np.array_equal(read_image(tmp_path / "a.tif").data, STACK)

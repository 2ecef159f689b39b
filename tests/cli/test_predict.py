import warnings
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.cli import main
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import load_model, save_model
from tests.cli.conftest import PREDICT, SCALE, UNITS, answer, complaint, stack


def test_predict_writes_a_class_mask_with_the_scale_of_the_image(folder, capsys):
    answer(capsys, *PREDICT)

    mask = read_image("mask.tif")
    assert (mask.shape, mask.dtype) == ((3, 48, 48), np.uint8)
    assert set(np.unique(mask.data)) <= {1, 2, 3}
    assert (mask.axes, mask.units) == ("ZYX", UNITS)
    assert mask.scale == pytest.approx(SCALE)


def test_predict_writes_the_mask_of_one_class_as_0_and_255(folder, capsys):
    answer(capsys, *PREDICT)
    classes = np.array(read_image("mask.tif").data)
    names = ("background", "membrane", "mitochondrion")
    total = np.zeros(classes.shape, int)

    for number, name in enumerate(names, start=1):
        answer(capsys, *PREDICT, "--class", name)
        mask = read_image("mask.tif")
        assert mask.dtype == np.uint8
        assert np.array_equal(mask.data, 255 * (classes == number))
        assert mask.scale == pytest.approx(SCALE)
        total += mask.data

    assert (total == 255).all()


def test_predict_writes_probabilities_that_add_up_to_1(folder, capsys):
    answer(capsys, *PREDICT)
    answer(capsys, *PREDICT[:3], "all.tif", *PREDICT[4:], "--probabilities")

    found = read_image("all.tif")
    assert (found.axes, found.shape) == ("CZYX", (3, 3, 48, 48))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.data.sum(axis=0), 1, atol=1e-4)
    assert found.scale[1:] == pytest.approx(SCALE)
    assert np.array_equal(found.data.argmax(axis=0) + 1, read_image("mask.tif").data)
    assert tifffile.imread("all.tif").shape == (3, 3, 48, 48)


def test_predict_writes_the_probabilities_of_one_class(folder, capsys):
    answer(capsys, *PREDICT[:3], "all.tif", *PREDICT[4:], "--probabilities")
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    found = read_image("mask.tif")
    assert (found.axes, found.shape, found.dtype) == ("ZYX", (3, 48, 48), np.float32)
    assert np.array_equal(found.data, read_image("all.tif").data[1])
    assert found.scale == pytest.approx(SCALE)


def test_predict_gives_the_same_for_every_tile_size(folder, capsys):
    answer(capsys, *PREDICT, "--precision", "float32", "--probabilities")
    answer(
        capsys, *PREDICT[:3], "tiled.tif", *PREDICT[4:], "--precision", "float32",
        "--probabilities", "--tile-size", "16",
    )  # fmt: skip

    np.testing.assert_allclose(read_image("tiled.tif").data, read_image("mask.tif").data, atol=2e-5)


def test_predict_uses_the_bundled_model_where_none_is_named(folder, capsys):
    answer(capsys, "predict", "image.tif", "-o", "mask.tif", "--device", "cpu")

    mask = read_image("mask.tif")
    assert mask.shape == (3, 48, 48)
    assert set(np.unique(mask.data)) <= {1, 2, 3}


def test_predict_takes_a_single_image_and_a_time_series(folder, capsys):
    grey = read_image("image.tif").data
    write_image("single.tif", ImageArray(grey[0], "YX", (4.0, 4.0), ("nm", "nm")))
    series = ImageArray(np.stack([grey, grey]), "TZYX", (1.5, *SCALE), ("s", *UNITS))
    write_image("series.tif", series)

    for name, shape, axes in (("single", (48, 48), "YX"), ("series", (2, 3, 48, 48), "TZYX")):
        answer(capsys, "predict", f"{name}.tif", *PREDICT[2:])
        mask = read_image("mask.tif")
        assert (mask.shape, mask.axes) == (shape, axes)


def test_predict_asks_for_the_channel_of_a_multichannel_image(folder, capsys):
    grey = read_image("image.tif").data
    channels = ImageArray(np.stack([grey, 255 - grey]), "CZYX", (1.0, *SCALE), ("", *UNITS))
    write_image("channels.tif", channels)
    command = ["predict", "channels.tif", *PREDICT[2:]]

    said = complaint(capsys, *command)
    answer(capsys, *command, "--channel", "0")

    assert "has 2 channels" in said
    assert "--channel" in said
    first = np.array(read_image("mask.tif").data)
    answer(capsys, *PREDICT)
    assert np.array_equal(first, read_image("mask.tif").data)
    assert "no channel 2" in complaint(capsys, *command, "--channel", "2")


def test_predict_takes_the_luminance_of_a_colour_image(folder, capsys):
    grey = np.array(read_image("image.tif").data[0])
    tifffile.imwrite("colour.tif", np.stack([grey] * 3, axis=-1), photometric="rgb")

    answer(capsys, "predict", "colour.tif", *PREDICT[2:])

    assert read_image("mask.tif").shape == (48, 48)


def test_predict_notes_missing_pixels_and_goes_on(folder, capsys):
    grey = np.array(read_image("image.tif").data, np.float32)
    grey[0, :4] = np.nan
    write_image("holes.tif", stack(grey))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["predict", "holes.tif", *PREDICT[2:]]) == 0

    assert "napari-unet: note: 2.8% of the pixels" in capsys.readouterr().err
    assert read_image("mask.tif").data.all()


def probabilities(capsys, *options, image="image.tif"):
    answer(capsys, "predict", image, *PREDICT[2:], "--probabilities", *options)
    return read_image("mask.tif")


def test_predict_shows_the_network_the_pixel_size_it_knows(folder, capsys):
    save_model("model.safetensors", replace(load_model("model.safetensors"), pixel_size=4.0))
    grey = read_image("image.tif").data
    write_image("coarse.tif", ImageArray(grey, "ZYX", (50.0, 8.0, 8.0), UNITS))
    write_image("unknown.tif", image_from_array(grey))

    fine = probabilities(capsys)
    coarse = probabilities(capsys, image="coarse.tif")
    said = probabilities(capsys, "--pixel-size", "8")
    unknown = probabilities(capsys, image="unknown.tif")

    assert np.array_equal(said.data, coarse.data)
    assert said.scale[1:] == pytest.approx((50.0, 8.0, 8.0))
    assert np.array_equal(unknown.data, fine.data)
    assert not np.allclose(coarse.data, fine.data, atol=0.01)


@pytest.mark.parametrize("kind", ["symmetries", "rotations"])
def test_predict_averages_over_what_an_image_looks_like_when_turned(folder, capsys, kind):
    grey = np.array(read_image("image.tif").data)
    write_image("turned.tif", stack(np.rot90(grey, axes=(1, 2))))
    options = ["--precision", "float32", "--test-time-augmentation", kind]

    plain = probabilities(capsys)
    averaged = probabilities(capsys, *options)
    turned = probabilities(capsys, *options, image="turned.tif")

    assert not np.allclose(averaged.data, plain.data, atol=0.005)
    np.testing.assert_allclose(averaged.data.sum(axis=0), 1, atol=1e-4)
    if kind == "symmetries":
        back = np.rot90(turned.data, -1, axes=(2, 3))
        np.testing.assert_allclose(back, averaged.data, atol=1e-4)


@pytest.mark.parametrize("size", ["0", "-4", "nan", "inf", "1e-30"])
def test_a_pixel_size_that_makes_no_sense_is_refused(folder, capsys, size):
    assert "--pixel-size must lie between 0.001 and 1e+09 nm" in complaint(
        capsys, *PREDICT, "--pixel-size", size
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: "gone.tif"}, "There is no file gone.tif"),
        ({1: "model.safetensors"}, "no known image format"),
        ({3: "mask.bmp"}, "'mask.bmp' has no known image format"),
        ({3: "gone/mask.tif"}, "there is no folder"),
        ({5: "nobody"}, "There is no model 'nobody'"),
        ({5: "image.tif"}, "image.tif is not a whole safetensors file"),
    ],
)
def test_predict_says_what_is_wrong(folder, capsys, change, message):
    command = [change.get(i, word) for i, word in enumerate(PREDICT)]

    assert message in complaint(capsys, *command)
    assert not (folder / "mask.tif").exists()


def write_sections(folder):
    """The sections of the image as files in a folder of their own."""
    (folder / "sections").mkdir()
    for z, section in enumerate(np.asarray(read_image("image.tif").data)):
        write_image(f"sections/{z}.tif", image_from_array(section, "section", 4.0))


@pytest.mark.parametrize("name", ["image.tif", "link.tif", "sections/1.tif", "h.h5", "pngs.png"])
def test_predict_does_not_replace_its_own_image(folder, capsys, name):
    write_sections(folder)
    write_image("pngs.png", stack(read_image("image.tif").data))
    write_image("h.h5", stack(read_image("image.tif").data))
    (folder / "link.tif").symlink_to("image.tif")
    asked = {"sections/1.tif": ("sections", "sections/*.tif"), "h.h5": ("h.h5", "h.h5/data")}
    for image in asked.get(name, (name, "pngs.png/*.png" if name == "pngs.png" else "image.tif")):
        before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}

        said = complaint(capsys, "predict", image, "-o", name, *PREDICT[4:])

        assert "the image itself is read from there" in said
        assert {path: path.read_bytes() for path in before} == before


def test_predict_writes_beside_its_image_and_over_an_earlier_mask(folder, capsys):
    write_sections(folder)
    for _ in range(2):
        answer(capsys, "predict", "sections", "-o", "sections.tif", *PREDICT[4:])

    assert read_image("sections.tif").shape == (3, 48, 48)
    for _ in range(2):
        answer(capsys, "predict", "sections/?.tif", "-o", "sections/mask.tif", *PREDICT[4:])


def test_a_loop_of_links_is_no_file_to_write(folder, capsys):
    (folder / "a.tif").symlink_to("b.tif")
    (folder / "b.tif").symlink_to("a.tif")

    assert main([*PREDICT[:3], "a.tif", *PREDICT[4:]]) in (0, 1)

    assert "Traceback" not in capsys.readouterr().err


def test_predict_names_the_classes_when_one_is_unknown(folder, capsys):
    said = complaint(capsys, *PREDICT, "--class", "nucleus")

    assert "no class 'nucleus'; the classes are background, membrane, mitochondrion" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 20, 20), 7, np.uint8), "is constant"),
        (np.full((3, 20, 20), np.nan, np.float32), "no finite grey value"),
    ],
)
def test_predict_refuses_an_image_without_content(folder, capsys, values, message):
    write_image("empty.tif", stack(values))

    assert message in complaint(capsys, "predict", "empty.tif", *PREDICT[2:])


def test_predict_refuses_a_file_that_was_cut_short(folder, capsys):
    content = (folder / "image.tif").read_bytes()
    (folder / "image.tif").write_bytes(content[: len(content) // 2])

    assert "Cannot read image.tif" in complaint(capsys, *PREDICT)


def test_an_option_outside_of_its_limits_is_refused(folder, capsys):
    assert "tile_size must be at least 16" in complaint(capsys, *PREDICT, "--tile-size", "4")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_named(folder, capsys):
    said = complaint(capsys, *PREDICT[:-1], "cuda")

    assert "The device 'cuda' is not available here; PyTorch finds" in said

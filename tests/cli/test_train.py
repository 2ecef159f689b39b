import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.cli import main
from napari_unet.core import patches, training
from napari_unet.core.annotations import class_table
from napari_unet.core.config import LIGHT_NETWORK
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.core.losses import border_weights
from napari_unet.io import checkpoints, models
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import BundledModel, load_model, save_model
from tests.conftest import REPOSITORY
from tests.examples import bright_discs, tiny_model

SCALE, UNITS = (50.0, 4.0, 4.0), ("nm", "nm", "nm")


def stack(data):
    return ImageArray(data, "ZYX", SCALE, UNITS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with an image, its full annotations and a small model."""
    monkeypatch.chdir(tmp_path)
    grey, labels = bright_discs(3, 48)
    write_image("image.tif", stack(grey))
    write_image("painted.tif", stack(labels))
    save_model("model.safetensors", tiny_model("background", "membrane", "mitochondrion"))
    return tmp_path


ON_CPU = ["--device", "cpu"]
TRAIN = [
    "train",
    "image.tif",
    "painted.tif",
    "-o",
    "new.safetensors",
    "--patch-size",
    "32",
    *ON_CPU,
]
LIGHT = [*TRAIN, "--model", "new", "--preset", "light", "--steps", "2"]
PREDICT = ["predict", "image.tif", "-o", "mask.tif", "--model", "model.safetensors", *ON_CPU]


def answer(capsys, *arguments):
    """What a command that does what was asked prints."""
    assert main(arguments) == 0
    return capsys.readouterr().out


def complaint(capsys, *arguments):
    """What a command that cannot do what was asked says."""
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("napari-unet: ")
    return said.err


def weights(path):
    return load_model(path).network.state_dict()


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first)


# info


def test_info_prints_one_json_object(folder, capsys):
    assert json.loads(answer(capsys, "info", "image.tif")) == {
        "shape": [3, 48, 48],
        "dtype": "uint8",
        "axes": "ZYX",
        "scale": [50.0, 4.0, 4.0],
        "units": ["nm", "nm", "nm"],
    }


def test_info_of_an_image_of_unknown_spacing_has_one_scale_and_unit_per_axis(folder, capsys):
    tifffile.imwrite("plain.tif", np.zeros((2, 3, 5, 6), np.uint16), photometric="minisblack")

    found = json.loads(answer(capsys, "info", "plain.tif"))

    assert found["shape"] == [2, 3, 5, 6]
    assert found["dtype"] == "uint16"
    assert found["scale"] == [1.0] * 4
    assert found["units"] == ["pixel"] * 4
    assert len(found["axes"]) == 4


# predict


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


@pytest.mark.parametrize("size", ["0", "-4", "nan", "inf"])
def test_a_pixel_size_that_makes_no_sense_is_refused(folder, capsys, size):
    assert "--pixel-size must be a positive number" in complaint(
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


# train


def test_train_writes_a_model_that_can_be_used(folder, capsys):
    answer(capsys, *LIGHT, "--classes", "background,disc")

    found = load_model("new.safetensors")
    assert (found.name, found.steps) == ("new", 2)
    assert [c.name for c in found.classes] == ["background", "disc"]
    assert found.network.config == LIGHT_NETWORK.replace(classes=2)
    assert found.history[-1]["config"]["patch_size"] == 32
    answer(capsys, *PREDICT[:5], "new.safetensors", *ON_CPU, "--class", "disc")
    assert set(np.unique(read_image("mask.tif").data)) <= {0, 255}


def test_train_names_the_classes_of_a_new_model_itself(folder, capsys):
    write_image("painted.tif", stack(np.arange(3 * 48 * 48).reshape(3, 48, 48) % 5))

    answer(capsys, *LIGHT)

    found = load_model("new.safetensors")
    assert [c.name for c in found.classes] == ["background", "foreground", "class 3", "class 4"]


def test_the_same_seed_gives_the_same_model(folder, capsys):
    found = []
    for seed in (3, 3, 4):
        answer(capsys, *LIGHT, "--seed", str(seed))
        found.append(weights("new.safetensors"))

    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_training_goes_on_from_a_model_file(folder, capsys):
    before = weights("model.safetensors")

    answer(capsys, *TRAIN, "--model", "model.safetensors", "--steps", "2")
    answer(capsys, *TRAIN, "--model", "new.safetensors", "--steps", "3")

    found = load_model("new.safetensors")
    assert found.steps == 5
    assert [record["steps"] for record in found.history] == [2, 3]
    assert [c.name for c in found.classes] == ["background", "membrane", "mitochondrion"]
    assert not same(weights("new.safetensors"), before)
    assert same(weights("model.safetensors"), before)


def test_classes_of_a_model_can_be_renamed_and_added(folder, capsys):
    answer(
        capsys, *TRAIN, "--model", "model.safetensors", "--steps", "1", "--classes", "a,b,c,d"
    )  # fmt: skip

    assert [c.name for c in load_model("new.safetensors").classes] == ["a", "b", "c", "d"]


def test_half_precision_weights_take_half_the_space(folder, capsys):
    answer(capsys, *LIGHT)
    whole = (folder / "new.safetensors").stat().st_size

    answer(capsys, *LIGHT, "--half")

    assert (folder / "new.safetensors").stat().st_size < 0.55 * whole


def test_training_stops_after_the_set_minutes(folder, capsys):
    answer(capsys, *TRAIN, "--model", "model.safetensors", "--minutes", "0.005")

    record = load_model("new.safetensors").history[-1]
    assert record["steps"] >= 1
    assert record["config"]["steps"] == 0


def test_training_learns(folder, capsys):
    save_model("model.safetensors", tiny_model())

    answer(
        capsys, *TRAIN, "--model", "model.safetensors", "--steps", "40", "--batch-size", "4",
        "--learning-rate", "0.005", "--averaging", "0", "--elastic", "0",
    )  # fmt: skip
    answer(capsys, *PREDICT[:5], "new.safetensors", *ON_CPU)
    scores = json.loads(answer(capsys, "evaluate", "mask.tif", "painted.tif", "--json"))

    assert scores["classes"]["2"]["f1"] > 0.8


def test_an_interrupted_training_keeps_what_was_learnt(folder, capsys, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    interrupt_after(monkeypatch, 1, signal.SIGINT)  # what Ctrl+C sends

    assert main([*TRAIN, "--model", "model.safetensors", "--steps", "1000"]) == 130

    assert "Stopped early; what was learnt is in new.safetensors" in capsys.readouterr().err
    assert load_model("new.safetensors").steps <= 2
    assert signal.getsignal(signal.SIGINT) is before


def test_options_win_over_the_recipe_and_the_recipe_over_the_defaults(folder, capsys):
    (folder / "recipe.toml").write_text(
        "steps = 50\nlearning_rate = 1\nbatch_size = 1\n[augmentation]\nelastic = 3\nnoise = 0.5\n"
    )

    answer(
        capsys, *TRAIN, "--model", "model.safetensors", "--config", "recipe.toml",
        "--steps", "1", "--noise", "0.25", "--no-mirror",
    )  # fmt: skip

    config = load_model("new.safetensors").history[-1]["config"]
    assert (config["steps"], config["learning_rate"], config["batch_size"]) == (1, 1, 1)
    varied = config["augmentation"]
    assert (varied["elastic"], varied["noise"], varied["mirror"]) == (3, 0.25, False)
    assert varied["scale"] == 0.15


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("steps = ", "Cannot read the recipe recipe.toml"),
        ("speed = 3", "In the recipe recipe.toml, the top level has no option 'speed'. Its"),
        ("[augmentation]\ntwist = 3", "[augmentation] has no option 'twist'"),
        ("augmentation = 3", "augmentation must be a table; got 3"),
        ("batch_size = 'many'", "batch_size must be of type int; got 'many'"),
        ("optimiser = 'luck'", "optimiser must be one of adamw, sgd; got 'luck'"),
        ("momentum = nan", "momentum must be a finite number"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(folder, capsys, recipe, message):
    (folder / "recipe.toml").write_text(recipe)

    assert message in complaint(capsys, *LIGHT, "--config", "recipe.toml")
    assert not (folder / "new.safetensors").exists()


def test_a_missing_recipe_is_named(folder, capsys):
    assert "Cannot read the recipe gone.toml" in complaint(capsys, *LIGHT, "--config", "gone.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 48, 48), np.uint8), "Nothing is annotated in painted.tif"),
        (np.ones((3, 48, 48), np.uint8), "Only 'background' is painted"),
        (np.ones((2, 48, 48), np.uint8), "shape (2, 48, 48), its image (3, 48, 48)"),
        (np.full((3, 48, 48), 1.5, np.float32), "must be whole numbers"),
        (np.full((3, 48, 48), 1000, np.uint16), "holds values from 1000 to 1000"),
    ],
    ids=["nothing", "one class", "another shape", "real numbers", "object numbers"],
)
def test_annotations_that_cannot_be_learnt_from_are_refused(folder, capsys, values, message):
    write_image("painted.tif", stack(values))

    assert message in complaint(capsys, *LIGHT)
    assert not (folder / "new.safetensors").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("new.pth", "ends with .safetensors"),
        ("gone/new.safetensors", "there is no folder"),
        ("folder.safetensors", "it is a folder"),
    ],
)
def test_training_does_not_begin_when_its_output_cannot_be_written(folder, capsys, output, message):
    (folder / "folder.safetensors").mkdir()
    command = [output if word == "new.safetensors" else word for word in LIGHT]

    assert message in complaint(capsys, *command)


def test_a_preset_is_for_new_models(folder, capsys):
    said = complaint(capsys, *TRAIN, "--model", "model.safetensors", "--preset", "light")

    assert "use it with --model new" in said


def test_fewer_classes_than_the_model_knows_are_refused(folder, capsys):
    said = complaint(capsys, *TRAIN, "--model", "model.safetensors", "--classes", "a,b")

    assert "knows 3 classes; 2 are too few" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*LIGHT, "--minutes", "1"], "not allowed with argument"),
        (["train", "image.tif"], "the following arguments are required"),
        (["predict", "image.tif"], "the following arguments are required: -o"),
        ([*PREDICT, "--device", "abacus"], "invalid choice: 'abacus'"),
        ([*LIGHT, "--optimiser", "luck"], "invalid choice: 'luck'"),
        ([*LIGHT, "--validation", "a", "--validation-share", "0.1"], "not allowed with argument"),
        ([*PREDICT, "--test-time-augmentation", "luck"], "invalid choice: 'luck'"),
        ([*PREDICT, "--pixel-size", "small"], "invalid float value: 'small'"),
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
    ids=[
        "steps and minutes",
        "train",
        "predict",
        "device",
        "choice",
        "two splits",
        "augmentation",
        "pixel size",
        "nothing",
        "command",
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(folder, capsys, words, message):
    with pytest.raises(SystemExit) as end:
        main(words)

    assert end.value.code == 2
    assert message in capsys.readouterr().err


# train on folders and recipes


TINY = """
steps = 6
patch_size = 32
learning_rate = 0.005
class_balance = 0.5
[network]
depth = 2
width = 4
dropout = 0.2
"""


def add_pair(folder, name, labels=None, grey=None, sections=0, pixel_size=4.0, size=48):
    """Write an image and its labels of the same name; without sections it is a single image."""
    found = bright_discs(max(1, sections), size, seed=sum(map(ord, name)))
    found = found if sections else [each[0] for each in found]
    for kind, given, made in zip(("images", "labels"), (grey, labels), found, strict=True):
        path = Path(folder, kind, f"{name}.tif")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = made if given is None else given
        write_image(path, image_from_array(np.asarray(data), name, pixel_size))


@pytest.fixture
def cells(folder):
    """Beside the others a folder of two images and a stack with labels, and a quick recipe."""
    add_pair("cells", "one")
    add_pair("cells", "two")
    add_pair("cells", "stack", sections=3)
    Path("tiny.toml").write_text(TINY)
    return folder


ON_CELLS = ["train", "cells", "-o", "new.safetensors", "--config", "tiny.toml", *ON_CPU]


def record(path="new.safetensors"):
    return load_model(path).history[-1]


def test_train_learns_from_a_folder_and_tells_first_what_it_found(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--validation", "one,stack:1-2").splitlines()

    assert said[0].split() == [
        "image", "sections", "size", "nm/px", "labelled", "background", "foreground",
    ]  # fmt: skip
    rows = [re.split(r" {2,}", line) for line in said[1:]]
    assert [row[:6] for row in rows] == [
        ["learn from", "stack", "1", "48 x 48", "4", "100.0%"],
        ["learn from", "two", "1", "48 x 48", "4", "100.0%"],
        ["judge by", "one", "1", "48 x 48", "4", "100.0%"],
        ["judge by", "stack", "2", "48 x 48", "4", "100.0%"],
    ]
    discs = (read_image("cells/labels/two.tif").data == 2).mean()
    assert rows[1][6:] == [f"{1 - discs:.1%}", f"{discs:.1%}"]
    found = record()
    assert [(each["image"], each["sections"]) for each in found["data"]] == [
        ("stack", 1),
        ("two", 1),
    ]
    assert load_model("new.safetensors").pixel_size == pytest.approx(4)


def test_the_record_of_a_training_holds_the_hashes_of_its_files(cells, capsys):
    answer(capsys, *ON_CELLS)

    assert record()["files"] == {
        name: {
            kind: hashlib.sha256(Path(f"cells/{folder}/{name}.tif").read_bytes()).hexdigest()
            for kind, folder in (("image", "images"), ("labels", "labels"))
        }
        for name in ("one", "two", "stack")
    }


def test_the_record_of_a_training_holds_its_curve(cells, capsys):
    command = [*ON_CELLS, "--validation", "one", "--validate-every", "4"]
    assert main(command) == 0

    said = capsys.readouterr().err.splitlines()
    curve = record()["curve"]
    assert [point["step"] for point in curve] == [4, 6]
    assert all(set(point["validation"]["one"]) == {"background", "foreground"} for point in curve)
    for point, line in zip(curve, said, strict=True):
        figures = {name: each["f1"] for name, each in point["validation"]["one"].items()}
        assert line == (
            f"step {point['step']}: one: background F1 {figures['background']:.3f}, "
            f"foreground F1 {figures['foreground']:.3f}"
        )


def test_the_validation_images_can_stand_in_a_file(cells, capsys):
    Path("list.txt").write_text("one.tif\n\n  stack:2\r\n", encoding="utf-8-sig")

    said = answer(capsys, *ON_CELLS, "--validation-list", "list.txt")

    assert re.findall(r"judge by +(\w+) +(\d)", said) == [("one", "1"), ("stack", "1")]


def test_a_share_of_the_sections_can_be_held_out(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--validation-share", "0.1")

    assert re.findall(r"judge by +(\w+) +(\d)", said) == [("two", "1")]


def test_sections_of_a_single_stack_can_be_held_out(folder, capsys):
    said = answer(capsys, *TRAIN, "--model", "model.safetensors", "--steps", "1",
                  "--validation", "image:2")  # fmt: skip

    assert re.findall(r"(learn from|judge by) +(\w+) +(\d)", said) == [
        ("learn from", "image", "2"),
        ("judge by", "image", "1"),
    ]
    assert list(record()["curve"][-1]["validation"]) == ["image"]


def test_a_folder_of_many_images_is_reported_in_one_line(cells, capsys):
    for number in range(25):
        add_pair("many", f"s{number}", size=32 + number % 3, pixel_size=4.0 + number % 2)
    command = [word.replace("cells", "many") for word in ON_CELLS]

    assert main([*command, "--validation", "s1,s2,s3,s4,s5", "--steps", "1"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 20 + 5 + 1
    assert re.match(r"step 1: mean of 5 images: background F1 0\.\d+, fore", said.err)

    lines = answer(capsys, *command, "--validation-share", "0.01", "--steps", "1").splitlines()
    assert re.split(r" {2,}", lines[1])[:6] == [
        "learn from", "24 images", "24", "32 x 32 to 34 x 34", "4 to 5", "100.0%",
    ]  # fmt: skip
    assert len(lines) == 4


def test_long_names_do_not_disturb_the_report(cells, capsys):
    add_pair("cells", "a" * 90 + "b")

    lines = answer(capsys, *ON_CELLS).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert "aaa...aaa" in lines[1]
    assert "ab  " in lines[1]


def test_images_of_another_pixel_size_are_told_and_resampled(cells, capsys):
    add_pair("cells", "coarse", pixel_size=8.0)
    add_pair("cells", "unknown", pixel_size=None)

    said = answer(capsys, *ON_CELLS)

    sizes = dict(re.findall(r"learn from +(\w+) +\d +\S+ x \S+ +(\S+)", said))
    assert sizes == {"coarse": "8", "one": "4", "stack": "4", "two": "4", "unknown": "?"}
    assert "The network sees 4 nm/px; images of another pixel size are resampled to it." in said
    assert load_model("new.safetensors").pixel_size == pytest.approx(4)
    said = answer(capsys, *ON_CELLS, "--pixel-size", "6")
    assert "resampled" not in said
    assert load_model("new.safetensors").pixel_size == 6


def test_classes_that_nobody_looked_for_are_told(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--classes", "background, disc, hole", "--unlabelled", "hole")

    assert said.splitlines()[0].split()[-3:] == ["background", "disc", "hole"]
    assert said.splitlines()[1].endswith("not labelled")
    assert {tuple(each["unlabelled"]) for each in record()["data"]} == {("hole",)}


def test_a_mask_of_0_and_255_can_be_learnt_from(folder, capsys):
    write_image("painted.tif", stack((read_image("painted.tif").data == 2) * np.uint8(255)))

    answer(capsys, *LIGHT)

    assert len(load_model("new.safetensors").classes) == 2
    painted = record()["data"][0]["painted"]
    assert min(painted.values()) > 0
    assert sum(painted.values()) == 3 * 48 * 48


def test_images_smaller_than_a_patch_can_be_learnt_from(cells, capsys):
    add_pair("small", "a", size=20)
    command = [word.replace("cells", "small") for word in ON_CELLS]

    answer(capsys, *command, "--patch-size", "64", "--steps", "2")

    assert load_model("new.safetensors").steps == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.ones((48, 40), np.uint8)},
            "cells/labels/bad.tif has the shape (48, 40), its image",
        ),
        ({"labels": np.full((48, 48), 3, np.uint8)}, "name more with --classes"),
        ({"labels": np.full((48, 48), 999, np.uint16)}, "bad.tif holds values from 999 to 999"),
        ({"labels": np.ones((48, 48), np.float32)}, "bad.tif holds values of type float32"),
        ({"grey": np.full((48, 48), 9, np.uint8)}, "'cells/images/bad.tif' is constant"),
    ],
    ids=["shape", "class 3", "objects", "real numbers", "constant"],
)
def test_files_of_a_folder_that_do_not_agree_are_named_and_nothing_is_written(
    cells, capsys, change, message
):
    add_pair("cells", "bad", **change)
    before = sorted(cells.rglob("*"))

    said = complaint(capsys, *ON_CELLS, "--checkpoint", "a.checkpoint")

    assert message in said
    assert said.count("\n") == 1
    assert sorted(cells.rglob("*")) == before


def test_a_file_of_a_folder_that_is_cut_short_or_alone_is_named(cells, capsys):
    path = cells / "cells" / "labels" / "one.tif"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "Cannot read cells/labels/one.tif" in complaint(capsys, *ON_CELLS)

    path.unlink()
    assert "images/one.tif has no labels" in complaint(capsys, *ON_CELLS)


def test_labels_of_one_class_are_refused_with_what_they_should_be(cells, capsys):
    for path in (cells / "cells" / "labels").iterdir():
        write_image(path, image_from_array(np.array(read_image(path).data) - np.uint8(1)))

    said = complaint(capsys, *ON_CELLS)

    assert "Only 'background' is painted" in said
    assert "a mask of one structure holds 0 and 255" in said


def test_an_image_without_annotations_is_left_out_with_a_note(cells, capsys):
    add_pair("cells", "empty", labels=np.zeros((48, 48), np.uint8))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(ON_CELLS) == 0

    said = capsys.readouterr()
    assert "napari-unet: note: Nothing is annotated in cells/labels/empty.tif (all" in said.err
    assert "empty" not in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--validation", "three"], "There is no image 'three' to validate with; there are one,"),
        (["--validation", "one,two,stack"], "Every section is held out"),
        (["--validation", ","], "--validation names no images"),
        (["--validation-list", "gone.txt"], "Cannot read gone.txt"),
        (["--validation-list", "tiny.toml"], "There is no image 'steps = 6'"),
        (["--validation-share", "1"], "--validation-share must lie between 0 and 1; got 1.0"),
        (["--validation-share", "nan"], "--validation-share must lie between 0 and 1; got nan"),
        (["--unlabelled", "background"], "cannot be unlabelled"),
        (["--unlabelled", "nucleus"], "There is no class 'nucleus'"),
        (["--unlabelled", "foreground"], "pixels of 'foreground', which is said to be unlabelled"),
        (["--pixel-size", "-4"], "--pixel-size must be a positive number; got -4.0"),
        (["--pixel-size", "inf"], "--pixel-size must be a positive number; got inf"),
        (["--channel", "1"], "has no channels, so there is no channel 1"),
        (["--data", "cells"], "--data says where the [[data]] of a recipe lies"),
        (["--checkpoint", "new.safetensors"], "cannot both be new.safetensors"),
        (["--checkpoint", "gone/a"], "Cannot write gone/a: there is no folder"),
        (["--checkpoint", "cells"], "Cannot write cells: it is a folder"),
        (["--checkpoint", "image.tif"], "image.tif is no whole checkpoint"),
        (["--checkpoint", "model.safetensors"], "model.safetensors is no checkpoint of this"),
        (["--checkpoint-minutes", "nan"], "--checkpoint-minutes must be a number from 0 on"),
        (["--classes", "background"], "A class table holds 2 to 255 classes; got 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_for_a_folder_that_make_no_sense_are_refused(cells, capsys, options, message):
    before = (cells / "image.tif").read_bytes()

    assert message in complaint(capsys, *ON_CELLS, *options)
    assert not (cells / "new.safetensors").exists()
    assert (cells / "image.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "gone"], "There is no file or folder gone"),
        (["train", "image.tif"], "Say which annotations belong to image.tif"),
        (["train", "image.tif", "gone.tif"], "There is no file gone.tif"),
        (
            ["train", "cells", "painted.tif"],
            "its labels lie in it, so that painted.tif is too much",
        ),
        (["train"], "Say what to learn from"),
        (["train", "--config", "tiny.toml"], "or a recipe with [[data]]"),
        (["train", "--data", "cells"], "it needs --config"),
        (["train", "."], "holds no images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_says_what_it_needs(cells, capsys, words, message):
    for name in ("image.tif", "painted.tif") if words[-1] == "." else ():
        Path(name).unlink()

    assert message in complaint(capsys, *words, "-o", "new.safetensors", *ON_CPU)


def test_border_weights_are_computed_once_for_each_section(cells, capsys, monkeypatch):
    sections = []
    monkeypatch.setattr(
        patches,
        "border_weights",
        lambda cells, *options: sections.append(cells) or border_weights(cells, *options),
    )

    answer(capsys, *ON_CELLS, "--border-weight", "5", "--steps", "8", "--validation", "one")

    assert len(sections) == 4


DATA = """
[[data]]
folder = "cells"
share = 3
validation = ["one"]
[[data]]
folder = "other"
unlabelled = ["hole"]
"""


@pytest.fixture
def data(cells):
    """A recipe with data that lies beside it, in another folder than the one worked in."""
    add_pair("other", "one")
    Path("recipes").mkdir()
    for name in ("cells", "other"):
        Path(name).rename(Path("recipes", name))
    classes = 'classes = ["background", "disc", "hole"]\npixel_size = 5.0\n'
    Path("recipes", "all.toml").write_text(classes + TINY + DATA)
    return cells


ON_DATA = ["train", "--config", "recipes/all.toml", "-o", "new.safetensors", *ON_CPU]


def shown(said):
    return re.findall(r"(learn from|judge by) +(\S+) +(\d)", said)


def test_a_recipe_says_everything(data, capsys):
    said = answer(capsys, *ON_DATA)

    assert shown(said) == [
        ("learn from", "cells/stack", "3"),
        ("learn from", "cells/two", "1"),
        ("learn from", "other/one", "1"),
        ("judge by", "cells/one", "1"),
    ]
    model = load_model("new.safetensors")
    assert [each.name for each in model.classes] == ["background", "disc", "hole"]
    assert (model.network.config.width, model.pixel_size, model.steps) == (4, 5, 6)
    found = model.history[-1]
    assert [each["share"] for each in found["data"]] == pytest.approx([2.25, 0.75, 1])
    assert [each["unlabelled"] for each in found["data"]] == [[], [], ["hole"]]
    assert set(found["files"]) == {"cells/one", "cells/two", "cells/stack", "other/one"}


def test_the_data_of_a_recipe_may_lie_elsewhere(data, capsys):
    Path("recipes", "all.toml").rename("all.toml")
    command = ["all.toml" if word == "recipes/all.toml" else word for word in ON_DATA]

    assert "There is no folder cells" in complaint(capsys, *command)
    assert "learn from  cells/stack" in answer(capsys, *command, "--data", "recipes")


def test_options_win_over_what_a_recipe_says_of_its_data(data, capsys):
    said = answer(
        capsys, *ON_DATA, "--validation", "other/one,cells/stack:0", "--pixel-size", "10",
        "--unlabelled", "hole", "--classes", "a,b,hole,c",
    )  # fmt: skip

    assert shown(said) == [
        ("learn from", "cells/one", "1"),
        ("learn from", "cells/stack", "2"),
        ("learn from", "cells/two", "1"),
        ("judge by", "cells/stack", "1"),
        ("judge by", "other/one", "1"),
    ]
    found = record()["data"]
    assert {each["pixel_size"] for each in found} == {10}
    assert {tuple(each["unlabelled"]) for each in found} == {("hole",)}
    assert [each.name for each in load_model("new.safetensors").classes] == ["a", "b", "hole", "c"]


def test_a_share_of_every_data_set_of_a_recipe_can_be_held_out(data, capsys):
    add_pair("recipes/other", "two")

    said = answer(capsys, *ON_DATA, "--validation-share", "0.4")

    assert [row for row in shown(said) if row[0] == "judge by"] == [
        ("judge by", "cells/stack", "1"),
        ("judge by", "cells/two", "1"),
        ("judge by", "other/two", "1"),
    ]


def test_an_unknown_image_of_a_recipe_is_told_with_its_folders(data, capsys):
    said = complaint(capsys, *ON_DATA, "--validation", "one")

    assert "write FOLDER/NAME with a folder of the recipe: cells, other" in said


def test_a_folder_on_the_command_line_wins_over_the_data_of_a_recipe(data, capsys):
    said = answer(capsys, *ON_DATA, "recipes/other")

    assert shown(said) == [("learn from", "one", "1")]


def test_a_model_wins_over_the_network_of_a_recipe_and_keeps_its_classes(data, capsys):
    before = load_model("model.safetensors")

    answer(capsys, *ON_DATA, "--model", "model.safetensors", "--steps", "1")

    found = load_model("new.safetensors")
    assert found.network.config == before.network.config
    assert [each.name for each in found.classes] == ["background", "disc", "hole"]
    assert found.pixel_size == 5


def test_a_recipe_widens_the_model_it_begins_with(data, capsys):
    before = load_model("model.safetensors")
    width = 2 * before.network.config.width
    recipe = Path("recipes", "all.toml")
    text = recipe.read_text().replace("[network]\ndepth = 2\nwidth = 4\ndropout = 0.2\n", "")
    recipe.write_text(f"model = 'model.safetensors'\nwiden = {width}\n{text}")

    answer(capsys, *ON_DATA, "--steps", "1")

    found = load_model("new.safetensors")
    assert found.network.config == before.network.config.replace(width=width)
    assert found.history[-1]["began_with"] == {
        "model": before.name,
        "steps": before.steps,
        "width": before.network.config.width,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "new", "--widen", "8"], "--widen goes with a model that has learnt"),
        (["--model", "model.safetensors", "--widen", "1"], "cannot be widened to 1"),
    ],
)
def test_what_cannot_be_widened_is_refused(folder, capsys, options, message):
    assert message in complaint(capsys, *TRAIN, *options)


def test_a_preset_is_what_a_recipe_changes(data, capsys):
    answer(capsys, *ON_DATA, "--preset", "original", "--steps", "1")

    found = load_model("new.safetensors")
    assert (found.network.config.padding, found.network.config.width) == ("valid", 4)
    config = found.history[-1]["config"]
    assert (config["optimiser"], config["border_weight"]) == ("sgd", 10)
    assert (config["patch_size"], config["learning_rate"]) == (32, 0.005)


# train with a checkpoint


CHECKPOINT = ["--checkpoint", "a.checkpoint", "--checkpoint-minutes", "0"]


def interrupt_after(monkeypatch, steps, number):
    """Let a signal arrive after so many steps of the next training."""
    uninterrupted = training.train_on

    def interrupted(*arguments, **options):
        work = uninterrupted(*arguments, **options)
        for _ in range(steps):
            yield next(work)
        monkeypatch.setattr(training, "train_on", uninterrupted)
        signal.raise_signal(number)
        return (yield from work)

    monkeypatch.setattr(training, "train_on", interrupted)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_training_that_was_interrupted_twice_ends_with_the_same_weights(
    cells, capsys, monkeypatch, number, status
):
    command = [*ON_CELLS, "--validation", "one", "--validate-every", "2"]
    before = signal.getsignal(number)
    answer(capsys, *command)
    uninterrupted, curve = weights("new.safetensors"), record()["curve"]
    Path("new.safetensors").unlink()

    for steps in (3, 2):
        interrupt_after(monkeypatch, steps, number)
        assert main([*command, *CHECKPOINT]) == status
        assert "Stopped early; what was learnt is in new.safetensors" in capsys.readouterr().err
    assert load_model("new.safetensors").steps == 5
    assert signal.getsignal(number) is before
    said = answer(capsys, *command, *CHECKPOINT)

    assert "Going on from step 5 of a.checkpoint" in said
    found = load_model("new.safetensors")
    assert same(weights("new.safetensors"), uninterrupted)
    assert (found.steps, found.history[-1]["curve"]) == (6, curve)
    assert len(found.history) == 1


def test_a_finished_checkpoint_ends_at_once_with_the_same_model(cells, capsys):
    answer(capsys, *ON_CELLS, *CHECKPOINT)
    finished = weights("new.safetensors")
    Path("new.safetensors").unlink()

    said = answer(capsys, *ON_CELLS, *CHECKPOINT)

    assert "Going on from step 6" in said
    assert same(weights("new.safetensors"), finished)
    assert load_model("new.safetensors").steps == 6


def test_a_killed_training_goes_on_from_its_last_checkpoint(cells, capsys):
    command = [*ON_CELLS, "--steps", "60", "--batch-size", "1", "--patch-size", "16"]
    running = subprocess.Popen(
        [sys.executable, "-m", "napari_unet.cli", *command, *CHECKPOINT],
        cwd=cells,
        env=PROGRAM_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while running.poll() is None and not Path("a.checkpoint").exists():
            time.sleep(0.005)
    finally:
        running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not Path("new.safetensors").exists()

    said = answer(capsys, *command, "--checkpoint", "a.checkpoint")
    resumed = weights("new.safetensors")
    answer(capsys, *command)

    assert 1 <= int(re.search(r"Going on from step (\d+)", said)[1]) < 60
    assert same(resumed, weights("new.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning-rate", "0.1"], "with another recipe: learning_rate was 0.005, now 0.1"),
        (["--steps", "7"], "with another recipe: steps was 6, now 7"),
        (["--model", "new", "--preset", "original"], "with another recipe"),
        (["--classes", "a,b,c"], "with another network: classes was 2, now 3"),
        (["--classes", "a,b"], "with other classes"),
        (["--validation", "one"], "with other images to learn from, images to judge by"),
        (["--pixel-size", "7"], "with other images to learn from, pixel size of the network"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_checkpoint_of_another_training_is_refused_with_what_differs(
    cells, capsys, options, message
):
    answer(capsys, *ON_CELLS, *CHECKPOINT)
    Path("new.safetensors").unlink()
    before = Path("a.checkpoint").read_bytes()

    assert message in complaint(capsys, *ON_CELLS, *CHECKPOINT, *options)
    assert not Path("new.safetensors").exists()
    assert Path("a.checkpoint").read_bytes() == before


def test_a_checkpoint_of_other_files_is_refused(cells, capsys):
    answer(capsys, *ON_CELLS, *CHECKPOINT)
    path = Path("cells/images/one.tif")
    write_image(path, image_from_array(255 - np.array(read_image(path).data), "one", 4.0))

    assert "with other files. Go on with the same" in complaint(capsys, *ON_CELLS, *CHECKPOINT)


def test_a_damaged_checkpoint_is_refused(cells, capsys):
    answer(capsys, *ON_CELLS, *CHECKPOINT)
    path = Path("a.checkpoint")
    path.write_bytes(path.read_bytes()[:-100])

    said = complaint(capsys, *ON_CELLS, *CHECKPOINT)

    assert "a.checkpoint is no whole checkpoint" in said
    assert said.count("\n") == 1


def test_a_checkpoint_that_cannot_be_written_does_not_cost_the_training(cells, capsys, monkeypatch):
    def full(path, checkpoint):
        raise FileWriteError(f"Cannot write {path}: No space left on device.")

    monkeypatch.setattr(checkpoints, "save_checkpoint", full)

    assert main([*ON_CELLS, *CHECKPOINT, "--steps", "1"]) == 0

    assert "napari-unet: note: Cannot write a.checkpoint: No space" in capsys.readouterr().err
    assert load_model("new.safetensors").steps == 1


# evaluate


def masks(prediction, truth):
    for name, values in (("found.tif", prediction), ("truth.tif", truth)):
        tifffile.imwrite(name, np.array(values, np.uint8))


def test_evaluate_prints_the_scores_worked_out_by_hand(folder, capsys):
    masks([[2, 2, 1, 2], [1, 1, 1, 1]], [[2, 2, 2, 1], [1, 1, 1, 1]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))
    text = answer(capsys, "evaluate", "found.tif", "truth.tif").splitlines()

    assert found["classes"]["2"] == pytest.approx(
        {"f1": 2 / 3, "iou": 0.5, "dice": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "pixels": 3}
    )
    assert found["classes"]["1"]["iou"] == pytest.approx(4 / 6)
    assert text[0].split() == ["class", "F1", "IoU", "Dice", "precision", "recall", "pixels"]
    assert text[1].split() == ["1", "0.8000", "0.6667", "0.8000", "0.8000", "0.8000", "5"]
    assert text[2].split() == ["2", "0.6667", "0.5000", "0.6667", "0.6667", "0.6667", "3"]
    assert len(text) == 3


def test_evaluate_leaves_out_what_nobody_annotated(folder, capsys):
    masks([[1, 2, 2, 2]], [[1, 2, 0, 0]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert {n: s["f1"] for n, s in found["classes"].items()} == {"1": 1.0, "2": 1.0}


def test_evaluate_counts_every_pixel_of_masks_of_0_and_255(folder, capsys):
    masks([[255, 255, 0, 0]], [[255, 0, 0, 255]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert list(found["classes"]) == ["255"]
    assert found["classes"]["255"] == pytest.approx(
        {"f1": 0.5, "iou": 1 / 3, "dice": 0.5, "precision": 0.5, "recall": 0.5, "pixels": 2}
    )


def test_evaluate_tells_ratios_without_denominator(folder, capsys):
    masks([[1, 1, 3]], [[1, 1, 1]])

    text = answer(capsys, "evaluate", "found.tif", "truth.tif").splitlines()
    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert text[2].split() == ["3", "0.0000", "0.0000", "0.0000", "0.0000", "-", "0"]
    assert found["classes"]["3"]["recall"] is None


def test_evaluate_tells_the_names_of_classes_that_the_files_hold(folder, capsys):
    mask = image_from_array(np.array([[1, 1, 2, 2], [1, 2, 2, 2]], np.uint8))
    write_image("found.tif", mask, class_table(["background", "outer membrane"]))
    write_image("truth.zarr", mask)

    text = answer(capsys, "evaluate", "found.tif", "truth.zarr").splitlines()
    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.zarr", "--json"))
    parted = ("evaluate", "found.tif", "truth.zarr", "--boundary", "outer membrane")
    boundary = answer(capsys, *parted)

    assert text[1].endswith("  background")
    assert text[2].endswith("  outer membrane")
    assert found["names"] == {"1": "background", "2": "outer membrane"}
    assert "V_rand" in boundary  # though no model knows this name


@pytest.mark.filterwarnings("default::UserWarning:napari_unet")
def test_evaluate_tells_where_files_call_a_class_differently(folder, capsys):
    mask = image_from_array(np.array([[1, 2], [2, 1]], np.uint8))
    write_image("found.tif", mask, class_table(["background", "membrane"]))
    write_image("truth.h5", mask, class_table(["background", "mitochondrion"]))

    assert main(["evaluate", "found.tif", "truth.h5"]) == 0

    said = capsys.readouterr().err
    assert "Class 2 is 'membrane' in found.tif, but 'mitochondrion' in truth.h5" in said


def test_evaluate_refuses_masks_of_different_shapes(folder, capsys):
    masks([[1, 2]], [[1], [2]])

    assert "they must be the same" in complaint(capsys, "evaluate", "found.tif", "truth.tif")


def test_evaluate_refuses_what_is_no_mask(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    assert "mask.tif is no mask" in complaint(capsys, "evaluate", "painted.tif", "mask.tif")


GAP = [[0, 0, 255, 0, 0], [0, 0, 0, 0, 0], [0, 0, 255, 0, 0]]
WALL = [[0, 0, 255, 0, 0]] * 3


def test_evaluate_compares_the_membranes_of_masks_of_0_and_255(folder, capsys):
    masks(GAP, WALL)

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))["boundary"]
    text = answer(capsys, "evaluate", "found.tif", "truth.tif")

    # two cells of 6 pixels became one: V_rand = 2 * (36 + 36) / (144 + 36 + 36)
    assert found["v_rand"] == pytest.approx(2 / 3)
    assert found["v_info"] == 0
    assert found["rand_error"] == pytest.approx(1 / 3)
    assert found["warping_error"] == found["pixel_error"] == pytest.approx(1 / 15)
    assert found["challenge_warping_error"] == pytest.approx(1 / 15)
    assert found["challenge_pixel_error"] == pytest.approx(1 / 25)
    assert found["thresholds"]["v_rand"] is None
    assert "V_rand after border thinning (1 is best)        0.666667          -" in text
    assert "warping error                                   0.066667          -" in text


def test_evaluate_takes_truth_in_the_polarity_of_the_challenge(folder, capsys):
    masks(GAP, 255 - np.array(WALL))

    inverted = json.loads(
        answer(capsys, "evaluate", "found.tif", "truth.tif", "--inverted-truth", "--json")
    )
    masks(GAP, WALL)

    assert inverted == json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))


def test_evaluate_finds_the_best_threshold_of_predicted_probabilities(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities")
    all_maps = ["evaluate", "mask.tif", "painted.tif", "--json", "--boundary"]
    by_name = json.loads(answer(capsys, *all_maps, "membrane", "--model", "model.safetensors"))
    by_number = json.loads(answer(capsys, *all_maps, "2"))
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")
    one_map = json.loads(answer(capsys, *all_maps, "2"))

    assert by_name == by_number
    assert one_map["boundary"] == by_number["boundary"]
    assert 0.1 <= one_map["boundary"]["thresholds"]["v_rand"] <= 1
    assert set(one_map["classes"]) == {"2"}
    assert set(by_number["classes"]) >= {"1", "2"}


def test_evaluate_asks_which_class_probabilities_are_of(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    said = complaint(capsys, "evaluate", "mask.tif", "painted.tif")

    assert "painted.tif holds the classes 1, 2" in said
    assert "say with --boundary" in said


def test_evaluate_knows_the_class_names_of_a_model(folder, capsys):
    said = complaint(capsys, "evaluate", "painted.tif", "painted.tif", "--boundary", "bone")

    assert "There is no class 'bone'; the classes are background, membrane" in said


def test_evaluate_compares_objects(folder, capsys):
    for name, numbers in (
        ("found.tif", [[70000, 70000, 8, 8, 1]]),
        ("truth.tif", [[3, 3, 3, 3, 0]]),
    ):
        tifffile.imwrite(name, np.array(numbers, np.uint32))

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--objects", "--json"))
    text = answer(capsys, "evaluate", "found.tif", "truth.tif", "--objects").splitlines()

    # pairs: 2 + 2 in both and in the prediction, 4 * 3 in the truth
    assert found["objects"] == pytest.approx(
        {
            "arand": 0.5, "precision": 1, "recall": 1 / 3, "voi": 1, "voi_split": 1,
            "voi_merge": 0, "predicted_objects": 3, "true_objects": 1,
        }
    )  # fmt: skip
    assert text[0].split() == [
        "ARAND", "precision", "recall", "VOI", "split", "merge", "predicted", "true",
    ]  # fmt: skip
    assert text[1].split() == [
        "0.5000", "1.0000", "0.3333", "1.0000", "1.0000", "0.0000", "3", "1",
    ]  # fmt: skip


def test_evaluate_refuses_objects_that_are_none(folder, capsys):
    tifffile.imwrite("real.tif", np.full((2, 2), 0.5, np.float32))
    tifffile.imwrite("negative.tif", np.full((2, 2), -1, np.int16))

    for name in ("real.tif", "negative.tif"):
        said = complaint(capsys, "evaluate", name, "painted.tif", "--objects")
        assert f"{name} holds no objects" in said
    objects = ["evaluate", "painted.tif", "painted.tif", "--objects"]
    assert "leave out" in complaint(capsys, *objects, "--boundary", "2")
    assert "leave out" in complaint(capsys, *objects, "--inverted-truth")


# the rest


def test_models_lists_the_bundled_ones_with_their_classes(capsys):
    lines = answer(capsys, "models").splitlines()

    assert any(line.startswith("em-lite: background, membrane, mitochondrion (") for line in lines)
    assert all("M parameters" in line for line in lines)


def test_models_tells_the_pixel_size_of_models_that_know_it(folder, capsys, monkeypatch):
    known = replace(tiny_model(), pixel_size=4.5)
    save_model("known.safetensors", known)
    bundled = [BundledModel(name, folder / f"{name}.safetensors") for name in ("known", "model")]
    monkeypatch.setattr(models, "bundled_models", lambda: bundled)

    assert answer(capsys, "models").splitlines() == [
        "known: background, disc (0.0 M parameters, 4.5 nm/px)",
        "model: background, membrane, mitochondrion (0.0 M parameters)",
    ]


def test_open_names_a_file_that_is_not_there(folder, capsys):
    assert "There is no file gone.tif" in complaint(capsys, "open", "gone.tif")


@pytest.mark.parametrize(
    "command", [[], ["open"], ["predict"], ["train"], ["evaluate"], ["models"], ["info"]]
)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])

    assert end.value.code == 0
    assert "usage: napari-unet" in capsys.readouterr().out


PROGRAM_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def program(folder, *arguments):
    """A run of the command line as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "napari_unet.cli", *arguments],
        cwd=folder,
        env=PROGRAM_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_that_did_what_was_asked_ends_with_0_and_shows_no_progress_bar(folder):
    done = program(folder, *PREDICT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read_image("mask.tif").shape == (3, 48, 48)


def test_a_program_that_failed_ends_with_another_status_and_one_line(folder):
    done = program(folder, "info", "gone.tif")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "napari-unet: There is no file gone.tif.\n"


def test_masks_of_different_kinds_are_not_compared(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "one.tif", np.array([[0, 255], [255, 0]], np.uint8))
    tifffile.imwrite(tmp_path / "classes.tif", np.array([[1, 2], [2, 3]], np.uint8))
    assert main(["evaluate", str(tmp_path / "one.tif"), str(tmp_path / "classes.tif")]) == 1
    assert "masks of the same kind" in capsys.readouterr().err


def test_a_grey_image_is_not_taken_for_a_mask(tmp_path, capsys):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    tifffile.imwrite(tmp_path / "truth.tif", np.ones((16, 16), np.uint8))
    assert main(["evaluate", str(tmp_path / "grey.tif"), str(tmp_path / "truth.tif")]) == 1
    assert "256 different values" in capsys.readouterr().err


def test_masks_of_zero_and_one_are_of_one_class(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "found.tif", np.ones((2, 2), np.uint8))
    tifffile.imwrite(tmp_path / "truth.tif", np.array([[0, 0], [1, 1]], np.uint8))
    files = [str(tmp_path / "found.tif"), str(tmp_path / "truth.tif")]
    assert main(["evaluate", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["1"]["precision"] == 0.5


def test_a_name_that_is_too_long_for_a_file_gets_a_message(capsys):
    assert main(["info", "a" * 300 + ".tif"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_opening_without_a_display_gets_a_message(tmp_path, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["open"]) == 1
    assert "no display" in capsys.readouterr().err

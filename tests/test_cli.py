import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.cli import main
from napari_unet.core import training
from napari_unet.core.image import ImageArray
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import load_model, save_model
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: "gone.tif"}, "There is no file gone.tif"),
        ({1: "model.safetensors"}, "no known image format"),
        ({3: "mask.png"}, "'mask.png' has no known image format"),
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
    assert found.network.config.width == 32
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
    before, uninterrupted = signal.getsignal(signal.SIGINT), training.train

    def interrupted(*arguments, **options):
        work = uninterrupted(*arguments, **options)
        yield next(work)
        signal.raise_signal(signal.SIGINT)  # what Ctrl+C does
        return (yield from work)

    monkeypatch.setattr(training, "train", interrupted)

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
        ("speed = 3", "TrainingConfig has no option 'speed'. Its options are"),
        ("[augmentation]\ntwist = 3", "AugmentationConfig has no option 'twist'"),
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
        (np.zeros((3, 48, 48), np.uint8), "Nothing is painted yet"),
        (np.ones((3, 48, 48), np.uint8), "Only 'background' is painted"),
        (np.ones((2, 48, 48), np.uint8), "shape (2, 48, 48), the image (3, 48, 48)"),
        (np.full((3, 48, 48), 1.5, np.float32), "must be whole numbers"),
        (np.full((3, 48, 48), 1000, np.uint16), "must lie between 0 and 255"),
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
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
    ids=["steps and minutes", "train", "predict", "device", "choice", "nothing", "command"],
)
def test_a_command_line_that_makes_no_sense_is_refused(folder, capsys, words, message):
    with pytest.raises(SystemExit) as end:
        main(words)

    assert end.value.code == 2
    assert message in capsys.readouterr().err


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
    assert text[0].split() == ["class", "F1", "IoU", "Dice", "pixels"]
    assert text[1].split() == ["1", "0.8000", "0.6667", "0.8000", "5"]
    assert text[2].split() == ["2", "0.6667", "0.5000", "0.6667", "3"]


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

    assert text[2].split() == ["3", "0.0000", "0.0000", "0.0000", "0"]
    assert found["classes"]["3"]["recall"] is None


def test_evaluate_refuses_masks_of_different_shapes(folder, capsys):
    masks([[1, 2]], [[1], [2]])

    assert "they must be the same" in complaint(capsys, "evaluate", "found.tif", "truth.tif")


def test_evaluate_refuses_what_is_no_mask(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    assert "mask.tif is no mask" in complaint(capsys, "evaluate", "mask.tif", "painted.tif")


# the rest


def test_models_lists_the_bundled_ones_with_their_classes(capsys):
    lines = answer(capsys, "models").splitlines()

    assert any(line.startswith("em-lite: background, membrane, mitochondrion (") for line in lines)
    assert all("M parameters" in line for line in lines)


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


def program(folder, *arguments):
    """A run of the command line as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "napari_unet.cli", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
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

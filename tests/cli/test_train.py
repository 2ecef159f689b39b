import json
import re
import signal

import numpy as np
import pytest

from napari_unet.cli import main
from napari_unet.core.config import LIGHT_NETWORK
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import load_model, save_model
from tests.cli.conftest import (
    LIGHT,
    ON_CPU,
    PREDICT,
    TRAIN,
    answer,
    complaint,
    interrupt_after,
    record,
    same,
    stack,
    weights,
)
from tests.examples import tiny_model


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


def test_sections_of_a_single_stack_can_be_held_out(folder, capsys):
    said = answer(capsys, *TRAIN, "--model", "model.safetensors", "--steps", "1",
                  "--validation", "image:2")  # fmt: skip

    assert re.findall(r"(learn from|judge by) +(\w+) +(\d)", said) == [
        ("learn from", "image", "2"),
        ("judge by", "image", "1"),
    ]
    assert list(record()["curve"][-1]["validation"]) == ["image"]


def test_a_mask_of_0_and_255_can_be_learnt_from(folder, capsys):
    write_image("painted.tif", stack((read_image("painted.tif").data == 2) * np.uint8(255)))

    answer(capsys, *LIGHT)

    assert len(load_model("new.safetensors").classes) == 2
    painted = record()["data"][0]["painted"]
    assert min(painted.values()) > 0
    assert sum(painted.values()) == 3 * 48 * 48

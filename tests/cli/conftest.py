"""A folder to work in, and what the tests of commands call and write there."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet.cli import main
from napari_unet.core import training
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.io.images import write_image
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


PROGRAM_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}

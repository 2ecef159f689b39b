import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_unet.cli import main
from napari_unet.core.image import image_from_array
from napari_unet.io import checkpoints
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import load_model
from tests.cli.conftest import (
    ON_CELLS,
    PROGRAM_ENVIRONMENT,
    answer,
    complaint,
    interrupt_after,
    record,
    same,
    weights,
)

CHECKPOINT = ["--checkpoint", "a.checkpoint", "--checkpoint-minutes", "0"]


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

"""RootPainter's training server, as a program of its own that is driven through its files.

The package root-painter-trainer is GPL-2.0. It is installed into an environment of its own, runs
there, and takes what its own client would write: images, annotations and instructions.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from skimage.io import imread, imsave

from benchmarks.annotation.annotator import HandStroke
from benchmarks.annotation.tasks import Task
from benchmarks.annotation.tool import Mask, Stopwatch
from napari_unet.core.annotations import annotations_from_array, class_table
from napari_unet.core.held_out import parted
from napari_unet.core.image import ImageArray

NEEDS = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "numpy==2.3.4",
    "scikit-image==0.25.2",
    "scipy==1.16.2",
    "Pillow==12.1.1",
)
"""What version 0.3.3 imports, as it pins it, but for torch, whose newest builds bring CUDA along.

It also asks for imagecodecs, which is for images that are not PNG.
"""

TRAINER = "root-painter-trainer==0.3.3"

PATCH_SIZE = 252
"""Side of its patches; its default of 572 takes about six seconds a step on two CPU cores."""

EPOCH_TILES = 24
"""Patches between two looks whether the weights got better; its default is 612."""

PATIENCE = 900
"""Seconds after which something that does not come about is an error."""


def environment(folder: Path) -> Path:
    """Return the Python of an environment with RootPainter's trainer, made if it is not there.

    Raises
    ------
    RuntimeError
        If it cannot be installed; the reason is the last line that pip wrote.
    """
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise RuntimeError("RootPainter's trainer needs Python 3.11 or 3.12.")
    python = folder / "venv" / "bin" / "python"
    ready = folder / "venv" / "ready"
    if not ready.exists():
        venv.create(folder / "venv", with_pip=True)
        for wanted in (NEEDS, ("--no-deps", TRAINER)):
            done = subprocess.run(
                [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["pip failed."]
                raise RuntimeError(f"It could not be installed: {lines[-1]}")
        ready.touch()
    return python


class RootPainter:
    """RootPainter's server with one project: the target is its foreground, all else background.

    It learns from the strokes that the plugin learns from and judges by those that the plugin
    holds out; until some of the target are held out, by all of them.

    Parameters
    ----------
    task
        Its sections become the images of the project.
    folder
        For the environment and the project.
    budget
        Seconds that the machine has for each stroke.
    """

    model = None

    def __init__(self, task: Task, folder: Path, budget: float) -> None:
        python = environment(folder)
        self._task, self._budget = task, budget
        self._folder = folder / f"project-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self._painted = np.zeros_like(task.truth)
        self._section = task.painted[0]
        self._strokes = 0
        self._instructions = itertools.count(1)
        self._classes = class_table(["background", "foreground"])
        self._parted = parted(annotations_from_array(self._painted, self._classes))
        for name in ("train", "val", "models", "logs", "messages", "images"):
            (self._folder / name).mkdir(parents=True)
        for z in {*task.painted, *task.scored}:
            imsave(self._folder / "images" / f"{z}.png", task.grey[z], check_contrast=False)
        self._log = self._folder / "server.log"
        with self._log.open("w") as log:
            self._server = subprocess.Popen(
                [python.absolute(), Path(__file__).with_name("rootpainter_server.py"),
                 self._folder.absolute(), str(PATCH_SIZE), str(EPOCH_TILES)],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self._wait(lambda: "Started main loop" in self._log.read_text(), "the server to start")
        self._learns = False
        self.watch = Stopwatch()

    def show(self, section: int) -> None:
        self._section = section

    def mask(self) -> Mask:
        found = self.masks(None, [self._section])
        assert found is not None
        return found[0]

    def painted(self) -> Mask:
        return self._painted[self._section]

    def paint(self, stroke: HandStroke) -> tuple[int, ...]:
        is_target = stroke.number == self._task.target
        self._painted[stroke.section].flat[list(stroke.pixels)] = 2 if is_target else 1
        self._strokes += 1
        return stroke.pixels

    def answer(self) -> float:
        annotations = annotations_from_array(self._painted, self._classes)
        self._parted = parted(annotations, self._parted)
        learnt, held_out = self._parted.learnt, self._parted.held_out
        judged_by = held_out if held_out.counts()[1] else learnt
        for name, part in (("train", learnt), ("val", judged_by)):
            kept = {int(index[-1]): painted for index, painted in part.sections.items()}
            for z in self._task.painted:
                path = self._folder / name / f"{z}.png"
                if z in kept and kept[z].any():
                    _write_annotation(path, kept[z])
                else:
                    path.unlink(missing_ok=True)
        if not self._learns and np.count_nonzero(learnt.counts()) == 2:
            self._learns = True
            self._instruct(
                "start_training",
                dataset_dir="images",
                train_annot_dir="train",
                val_annot_dir="val",
                model_dir="models",
                log_dir="logs",
                message_dir="messages",
            )
        while self.watch.seconds < self._budget * self._strokes:
            time.sleep(0.1)
            self._check()
        return 0.0  # it shows nothing before a section is segmented

    def masks(self, image: ImageArray | None, sections: Sequence[int]) -> Mask | None:
        if image is not None:
            return None
        asked = f"segmented-{self._strokes}-{next(self._instructions)}"
        (self._folder / asked).mkdir()
        begun = self._log.read_text().count("execute_instruction segment")
        self._instruct(
            "segment",
            dataset_dir="images",
            seg_dir=asked,
            model_dir="models",
            file_names=[f"{z}.png" for z in sections],
        )
        # Until it comes to that, it learns.
        self._wait(
            lambda: self._log.read_text().count("execute_instruction segment") > begun,
            "the server to begin",
        )
        paths = [self._folder / asked / f"{z}.png" for z in sections]
        with self.watch.held():
            self._wait(lambda: all(path.exists() for path in paths), "the segmentations")
            time.sleep(0.5)  # they are copied into place
            found = [np.where(imread(path)[..., 3] > 0, self._task.target, 1) for path in paths]
        return np.stack(found).astype(np.uint8)

    def close(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()

    def _instruct(self, name: str, **values: object) -> None:
        """Write an instruction as RootPainter's client does; paths are relative to the folder."""
        file = f"{name}_{next(self._instructions)}"
        hidden = self._folder / "instructions" / f".{file}"
        hidden.write_text(json.dumps(values))
        hidden.rename(hidden.with_name(file))

    def _wait(self, claim: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not claim():
            self._check()
            if time.monotonic() > end:
                raise TimeoutError(f"RootPainter: waited {PATIENCE} s in vain for {what}.")
            time.sleep(0.05)

    def _check(self) -> None:
        log = self._log.read_text()
        if "Exception" in log or self._server.poll() is not None:
            lines = [line for line in log.strip().splitlines() if "rror" in line or "xcept" in line]
            raise RuntimeError(f"RootPainter's server failed: {(lines or ['it ended'])[-1]}")


def _write_annotation(path: Path, painted: Mask) -> None:
    """Write paint as RootPainter does: foreground red, background green, all else transparent."""
    colours = np.zeros((*painted.shape, 4), np.uint8)
    colours[painted == 2] = (255, 0, 0, 180)
    colours[painted == 1] = (0, 255, 0, 180)
    hidden = path.with_name(f".{path.name}")
    imsave(hidden, colours, check_contrast=False)
    hidden.rename(path)

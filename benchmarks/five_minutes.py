"""Learn for five minutes from right and from wrong strokes, and see where it ends.

Usage: python -m benchmarks.five_minutes [MINUTES]

Drives the generator that the dock drives, with em-lite and the options of the dock, on ISBI 2012
sections 20 and 21: strokes of the first are learnt from, those of the second are held out. Wrong
strokes call every pixel by the next class. Prints a table and writes it to
``docs/benchmarks.md``. The data lies in ``NAPARI_UNET_DATA`` (default ``../shared/data``).
"""

from __future__ import annotations

import sys

import numpy as np
from skimage.draw import line
from skimage.morphology import dilation, disk

from benchmarks.report import table, write_section
from benchmarks.train_bundled import isbi2012
from napari_unet.core.annotations import Annotations
from napari_unet.core.config import LiveConfig, TrainingConfig
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import image_from_array
from napari_unet.core.learning import LearningStep, learn
from napari_unet.core.metrics import mean_iou
from napari_unet.io.models import bundled_models, load_model

SECTIONS = (20, 21)
STROKES = 12
"""Of each class, in each of the two sections."""

BRUSH = 2
"""Radius of a stroke, in pixels; it only paints the class that it begins in."""


def strokes(truth: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return short strokes in every class, as painted without a mistake."""
    painted = np.zeros_like(truth)
    for number in np.unique(truth[truth > 0]):
        for row, column in chance.permutation(np.argwhere(truth == number))[:STROKES]:
            along = np.zeros(truth.shape, bool)
            down, right = np.clip(
                np.add((row, column), chance.integers(-15, 16, 2)), 0, len(truth) - 1
            )
            along[line(row, column, down, right)] = True
            painted[dilation(along, disk(BRUSH)) & (truth == number)] = number
    return painted


def main(minutes: float = 5.0) -> None:
    """Learn from each kind of strokes, and write what came of it."""
    model = next(load_model(each.path) for each in bundled_models() if each.name == "em-lite")
    grey, mask = isbi2012()
    chance = np.random.default_rng(0)
    image = image_from_array(grey[list(SECTIONS)], "isbi2012", 4.0)
    right, held_out = (strokes(mask[z], chance) for z in SECTIONS)
    wrong = np.where(right > 0, right % len(model.classes) + 1, 0).astype(np.uint8)
    nothing, judged = Annotations(model.classes), Annotations(model.classes, {(1,): held_out})
    cases = [
        ("right strokes", right, True),
        ("wrong strokes", wrong, True),
        ("wrong strokes, held out paint only from half of the time on", wrong, False),
    ]
    rows = []
    for name, painted, from_the_first in cases:
        learnt = Annotations(model.classes, {(0,): painted})
        begins = Strokes(learnt, judged if from_the_first else nothing)
        config = TrainingConfig(minutes=minutes, steps=0)
        work = learn(model, image, begins, config, live=LiveConfig)
        looks: list[LearningStep] = []
        news, steps = None, 0
        while True:
            try:
                step = work.send(news)
            except StopIteration:
                break
            steps = step.training.step
            late = not from_the_first and step.training.seconds >= 30 * minutes
            news = Strokes(learnt, judged) if late else None
            if step.best is not None:
                looks.append(step)
        at_the_end = looks[-1]
        assert at_the_end.first is not None
        assert at_the_end.best is not None
        found = [iou for each in looks if (iou := mean_iou(each.scores or {})) is not None]
        figures = (at_the_end.first.iou, min(found), found[-1], at_the_end.best.iou)
        rows.append([name, str(steps), *(f"{figure:.3f}" for figure in figures)])
        print(rows[-1], flush=True)
    write_section(
        "Five minutes of learning",
        f"Made by `python -m benchmarks.five_minutes {minutes:g}` on two shared CPU cores: "
        "`em-lite` learns with the options of the\ndock from strokes on ISBI 2012 section 20, and "
        f"is judged, as it is shown, by those on section 21, {STROKES} of each class.\n*Wrong* "
        "strokes call every pixel by the next class. Mean IoU on the held-out strokes: what "
        "learning began with, the\nworst weights that were looked at, the newest at the end, and "
        "those that are kept.\n\n"
        + table(["", "steps", "at first", "worst", "newest", "kept"], rows),
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))

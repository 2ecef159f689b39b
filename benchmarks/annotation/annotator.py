"""Somebody who looks at the overlay and paints the largest mistake, as a person would."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.annotation import hand
from benchmarks.annotation.places import Places, Region, View
from benchmarks.annotation.tasks import Task
from demo.annotator import next_stroke
from napari_unet.core.suggestions import Place

MOST_TIMES = 10
"""Of target and rest, none is painted more than so many times as much as the other."""

MOST_LOOKS = 20
"""Places that are looked at before the annotator thinks that there is nothing to correct."""

Mask = npt.NDArray[np.integer]


@dataclass(frozen=True)
class HandStroke:
    """A stroke as a hand painted it.

    Parameters
    ----------
    section
        Index in the stack.
    number
        Class number.
    brush
        Diameter, in pixels.
    path
        Where the mouse was seen, row and column.
    seconds
        Judging, going there and painting.
    pixels
        Which pixels it changed, as flat indices into the section; known when it is painted.
    """

    section: int
    number: int
    brush: int
    path: tuple[hand.Point, ...]
    seconds: float
    pixels: tuple[int, ...] = field(default=(), repr=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HandStroke:
        """Return the stroke that `dataclasses.asdict` described, read back from JSON."""
        path = tuple((row, column) for row, column in values["path"])
        return cls(**{**values, "path": path, "pixels": tuple(values["pixels"])})


def may_paint(side: int, other: int, more: int) -> bool:
    """Tell whether more pixels of one side may be painted beside what the other side has.

    The first stroke of a side always may.
    """
    return side == 0 or side + more <= MOST_TIMES * other


class Annotator:
    """Corrects one class of a task, section by section.

    Parameters
    ----------
    task
        What is to be found.
    places
        Where to look for mistakes.
    seed
        Of what is drawn at random.
    """

    def __init__(self, task: Task, places: Places, seed: int = 0) -> None:
        self._task = task
        self._places = places
        self._chance = np.random.default_rng(seed)
        self._seen: list[Place] = []
        self._mouse: hand.Point | None = None
        self._painted = {True: 0, False: 0}  # pixels of the target, and of the rest

    def next(self, section: int, mask: Mask, painted: Mask, model: Any = None) -> HandStroke | None:
        """Return the next stroke on a section; None where nothing is left to correct.

        Parameters
        ----------
        section
            The one in view.
        mask, painted
            What the overlay and the corrections show of it.
        model
            What the overlay is predicted with, for strategies that ask it.
        """
        view = View(self._task.image, section, np.asarray(painted), model, self._chance, self._seen)
        regions = itertools.islice(self._places(view), MOST_LOOKS)
        for looks, region in enumerate(regions, start=1):
            found = self._correction(section, mask, painted, region)
            if found is not None:
                number, brush, path = found
                start = self._mouse or path[0]
                taken = hand.seconds([start, path[0]]) + hand.seconds(path)
                taken += looks * hand.JUDGE_SECONDS
                return HandStroke(section, number, brush, tuple(hand.samples(path)), taken)
        return None

    def has_painted(self, stroke: HandStroke) -> None:
        """Take note of a stroke that was painted."""
        self._mouse = stroke.path[-1]
        self._painted[stroke.number == self._task.target] += len(stroke.pixels)

    def _correction(
        self, section: int, mask: Mask, painted: Mask, region: Region
    ) -> tuple[int, int, list[hand.Point]] | None:
        """Return class, brush and path over the largest mistake in a region that may be painted."""
        truth, target = self._task.truth[section], self._task.target
        is_target = truth == target
        wrong = (np.asarray(mask) == target) != is_target
        if not np.any(wrong[region]):
            return None
        # What would be too much of one side is left; then the other side is corrected or,
        # where nothing is wrong there, confirmed.
        for candidates in (wrong, wrong & is_target, wrong & ~is_target, is_target, ~is_target):
            asked = np.zeros_like(wrong)
            asked[region] = candidates[region]
            stroke = next_stroke(np.where(asked, 0, truth), truth, painted)
            if stroke is None:
                continue
            side = stroke.number == target
            size = stroke.brush * (hand.length(stroke.path) + math.pi / 4 * stroke.brush)
            if may_paint(self._painted[side], self._painted[not side], math.ceil(size)):
                return stroke.number, stroke.brush, stroke.path
        return None

"""How long a hand takes: a mouse that is sampled, does not move too fast, and an eye that judges.

The protocol is that of RootPainter's simulated annotator: 120 samples a second, at most 400 pixels
a second, and 200 milliseconds to judge before every stroke. Pixels are those of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SAMPLES_PER_SECOND = 120
PIXELS_PER_SECOND = 400.0
JUDGE_SECONDS = 0.2

SPACING = PIXELS_PER_SECOND / SAMPLES_PER_SECOND
"""Pixels between two samples of a mouse that moves as fast as it may."""

Point = tuple[float, float]
"""Row and column."""


def length(path: Sequence[Point]) -> float:
    """Return how long a path is, in pixels."""
    return float(np.hypot(*np.diff(np.asarray(path), axis=0).T).sum()) if len(path) > 1 else 0.0


def seconds(path: Sequence[Point]) -> float:
    """Return how long the mouse takes along a path: a whole number of samples."""
    return math.ceil(length(path) / SPACING - 1e-9) / SAMPLES_PER_SECOND


def samples(path: Sequence[Point]) -> list[Point]:
    """Return where the mouse is seen along a path, from its first point to its last."""
    points = np.asarray(path, float)
    along = np.append(0.0, np.hypot(*np.diff(points, axis=0).T).cumsum())
    seen = np.append(np.arange(0.0, along[-1] - 1e-9, SPACING), along[-1])
    rows, columns = (np.interp(seen, along, points[:, axis]) for axis in (0, 1))
    return [(round(float(r), 2), round(float(c), 2)) for r, c in zip(rows, columns, strict=True)]

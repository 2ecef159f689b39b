"""Where a person would paint next: on the largest mistake, well inside the true structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

STEP = 3
HEADINGS = np.linspace(0, 2 * np.pi, 24, endpoint=False)

Mask = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Stroke:
    """A stroke: its class, the brush, and the pixels (row, column) that the mouse passes."""

    number: int
    brush: int
    path: list[tuple[float, float]]


def next_stroke(mask: Mask, truth: Mask, painted: Mask, length: int = 45) -> Stroke | None:
    """Return a stroke over the largest mistake that is not painted over yet.

    Parameters
    ----------
    mask, truth, painted
        Predicted classes, true classes and paint of one section.
    length
        The longest stroke, in pixels.

    Returns
    -------
    Stroke or None
        None where nothing is wrong that a brush of two pixels could reach.
    """
    wrong = (mask != truth) & (truth > 0)
    wrong &= ndimage.distance_transform_edt(painted == 0) > 4
    best: tuple[float, int, tuple[int, int]] = (0.0, 0, (0, 0))
    for number in np.unique(truth[wrong]):
        regions, count = ndimage.label(wrong & (truth == number))
        areas = ndimage.sum_labels(np.ones_like(regions), regions, np.arange(1, count + 1))
        largest = int(np.argmax(areas)) + 1
        depth = ndimage.distance_transform_edt(truth == number) * (regions == largest)
        start = np.unravel_index(int(np.argmax(depth)), depth.shape)
        if areas[largest - 1] > best[0] and depth[start] >= 1.5:
            best = (float(areas[largest - 1]), int(number), (int(start[0]), int(start[1])))
    area, number, start = best
    if not area:
        return None
    depth = ndimage.distance_transform_edt(truth == number)
    path = _walk(depth, start, length)
    narrowest = min(depth[round(r), round(c)] for r, c in path)
    return Stroke(number, int(np.clip(1.6 * narrowest, 2, 10)), path)


def _walk(
    depth: npt.NDArray[np.float64], start: tuple[int, int], length: int
) -> list[tuple[float, float]]:
    """Go from the start to where the structure is thickest, without turning back."""
    path = [(float(start[0]), float(start[1]))]
    heading = None
    while len(path) * STEP < length:
        row, column = path[-1]
        steps = []
        for angle in HEADINGS:
            turn = 0.0 if heading is None else abs((angle - heading + np.pi) % (2 * np.pi) - np.pi)
            r, c = row + STEP * np.sin(angle), column + STEP * np.cos(angle)
            inside = 4 <= r < depth.shape[0] - 4 and 4 <= c < depth.shape[1] - 4
            if turn <= np.pi / 3 and inside:
                steps.append((depth[round(r), round(c)], angle, (r, c)))
        if not steps:
            break
        thickness, heading, point = max(steps)
        if thickness < max(1.5, 0.5 * depth[start]):
            break
        path.append(point)
    return path

"""A made-up electron-microscopy stack with its true labels.

It looks like serial-section transmission electron microscopy of neural tissue: dark membranes
between cells that drift from section to section, mitochondria with cristae, vesicles, grey
noise, fixed-pattern shading and sections of uneven staining.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_unet.core.annotations import ClassTable, class_table

PIXEL_SIZE = 4.0
"""Nanometres per pixel."""

SECTION_THICKNESS = 50.0
"""Nanometres from section to section."""

CLASSES: ClassTable = class_table(["background", "membrane", "mitochondrion", "vesicle"])

_CELL = 62.0  # mean distance of cells, in pixels
_PERSISTENCE = 4.0  # how much longer cells are across sections than in them
_MITOCHONDRIA_SHARE = 0.16
_SYNAPTIC_SHARE = 0.12

Grey = npt.NDArray[np.float32]


def synthetic_stack(
    sections: int = 12, size: int = 512, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a made-up stack and its true classes; the same seed gives the same stack.

    Parameters
    ----------
    sections, size
        Number of sections, and their side in pixels.
    seed
        Seed of everything that is drawn at random.

    Returns
    -------
    tuple of arrays
        Grey values and class numbers (1 background, 2 membrane, 3 mitochondrion, 4 vesicle),
        both uint8 of shape (sections, size, size).
    """
    chance = np.random.default_rng(seed)
    tissue = _Tissue(sections, size, chance)
    shading = _smooth(chance, size, size / 2.5) * 9
    grey = np.empty((sections, size, size), np.uint8)
    labels = np.empty((sections, size, size), np.uint8)
    for z in range(sections):
        drawn, labels[z] = tissue.section(z, chance)
        blurred = ndimage.gaussian_filter(drawn, 0.9 + 0.35 * chance.random())
        grain = chance.normal(0, 11, (size, size)) + ndimage.gaussian_filter(
            chance.normal(0, 34, (size, size)), 1.1
        )
        contrast = chance.uniform(0.85, 1.1)
        values = 128 + (blurred - 128) * contrast + grain + shading + chance.normal(0, 4)
        grey[z] = np.clip(values, 0, 255).astype(np.uint8)
    return grey, labels


def _smooth(chance: np.random.Generator, size: int, scale: float) -> Grey:
    """Smooth noise with mean 0 and deviation 1."""
    noise = ndimage.gaussian_filter(chance.normal(size=(size, size)), scale, mode="reflect")
    result: Grey = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return result


class _Tissue:
    """Cells as a warped Voronoi partition of the volume, with what lies inside them."""

    def __init__(self, sections: int, size: int, chance: np.random.Generator) -> None:
        self._size = size
        depth = sections * SECTION_THICKNESS / PIXEL_SIZE / _PERSISTENCE
        low, high = np.array([-_CELL] * 3), np.array([depth, size, size]) + _CELL
        count = int(np.prod((high - low) / _CELL))
        self._cells = chance.uniform(low, high, (count, 3))
        self._tree = cKDTree(self._cells)
        self._brightness = chance.normal(0, 9, count)
        self._warp = [_smooth(chance, size, 26) * 11 for _ in range(4)]
        self._fuzzy = _smooth(chance, size, 40)
        self._has_vesicles = chance.random(count) < _SYNAPTIC_SHARE
        holders = np.flatnonzero(chance.random(count) < _MITOCHONDRIA_SHARE)
        self._mitochondria = [
            (int(cell), chance.uniform(17, 32), chance.uniform(1.1, 1.9), chance.uniform(0, np.pi))
            for cell in holders
        ]

    def section(self, z: int, chance: np.random.Generator) -> tuple[Grey, npt.NDArray[np.uint8]]:
        """Return the ideal grey values and the classes of a section."""
        size = self._size
        depth = z * SECTION_THICKNESS / PIXEL_SIZE / _PERSISTENCE
        drift = np.sin(z / 5.0), np.cos(z / 5.0)
        rows, columns = np.mgrid[:size, :size].astype(np.float32)
        y = rows + self._warp[0] * drift[1] + self._warp[1] * drift[0]
        x = columns + self._warp[2] * drift[1] + self._warp[3] * drift[0]
        points = np.stack([np.full_like(y, depth), y, x], axis=-1).reshape(-1, 3)
        distance, nearest = self._tree.query(points, k=2, workers=-1)
        gap = (distance[:, 1] - distance[:, 0]).reshape(size, size).astype(np.float32)
        cell = nearest[:, 0].reshape(size, size)

        grey = (172 + self._brightness[cell]).astype(np.float32)
        grey += 7 * _smooth(chance, size, 5) + 9 * _smooth(chance, size, 2.0)
        labels = np.ones((size, size), np.uint8)
        self._draw_mitochondria(grey, labels, y, x, cell, gap, depth)
        self._draw_vesicles(grey, labels, cell, gap, chance)
        # Obliquely cut membranes are wider and paler.
        width = 3.4 + 0.8 * np.clip(self._fuzzy, -1, 1.5)
        darkness = 122 - 26 * np.clip(self._fuzzy, 0, 1.5)
        grey -= darkness * np.exp(-((gap / width) ** 2))
        labels[gap < width] = 2
        return grey, labels

    def _draw_mitochondria(
        self,
        grey: Grey,
        labels: npt.NDArray[np.uint8],
        y: Grey,
        x: Grey,
        cell: npt.NDArray[np.intp],
        gap: Grey,
        depth: float,
    ) -> None:
        for holder, radius, elongation, angle in self._mitochondria:
            centre = self._cells[holder]
            across = (depth - centre[0]) / 30.0
            if abs(across) >= 1:
                continue
            here = radius * np.sqrt(1 - across**2)
            places = np.nonzero(cell == holder)
            dy, dx = y[places] - centre[1], x[places] - centre[2]
            along = (dy * np.sin(angle) + dx * np.cos(angle)) / (here * elongation)
            side = (dx * np.sin(angle) - dy * np.cos(angle)) / here
            # Distance to the outline in units of the radius, never through the cell's membrane.
            inside = np.minimum(1 - np.hypot(along, side), (gap[places] - 9) / here)
            body = inside > 0
            if body.sum() < 60:
                continue
            cristae = 0.5 + 0.5 * np.cos(along * here * elongation * 2 * np.pi / 10 + 2.5 * side)
            rim = np.exp(-((inside * here / 2.4) ** 2))
            matrix = 112 - 62 * np.maximum(rim, 0.8 * cristae**3)
            drawn = tuple(axis[body] for axis in places)
            grey[drawn] = matrix[body]
            labels[drawn] = 3

    def _draw_vesicles(
        self,
        grey: Grey,
        labels: npt.NDArray[np.uint8],
        cell: npt.NDArray[np.intp],
        gap: Grey,
        chance: np.random.Generator,
    ) -> None:
        free = self._has_vesicles[cell] & (gap > 11) & (labels == 1)
        places = np.argwhere(free)
        chance.shuffle(places)
        taken = np.zeros_like(free)
        for row, column in places[: len(places) // 10]:
            box = np.s_[
                max(0, row - 7) : min(self._size, row + 8),
                max(0, column - 7) : min(self._size, column + 8),
            ]
            if taken[box].any():
                continue
            taken[row, column] = True
            radius = chance.uniform(3.6, 4.8)
            rows, columns = np.mgrid[box]
            away = np.hypot(rows - row, columns - column)
            disc = (away <= radius) & free[box]
            ring = 62 * np.exp(-(((away - radius + 1.2) / 1.2) ** 2))
            grey[box] = np.where(disc, 178 - ring, grey[box])
            labels[box][disc] = 4

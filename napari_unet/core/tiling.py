"""Overlap-tile strategy: cut a section into tiles, mirror it beyond its border (paper, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.reading import read


@dataclass(frozen=True)
class Tile:
    """A rectangle of a section, in pixels; it never reaches beyond the section."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the tile lies in its section (Y, X)."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def with_surroundings(tile: Tile, reach: int, multiple: int, height: int, width: int) -> Tile:
    """Return a tile with at least so many pixels around it, as far as the section goes.

    Parameters
    ----------
    tile, reach
        In pixels.
    multiple, height, width
        See `plan_tiles`; the larger tile begins at multiples, too.
    """
    more = -(-reach // multiple) * multiple
    top, left = max(0, tile.top - more), max(0, tile.left - more)
    bottom = min(height, tile.top + tile.height + more)
    right = min(width, tile.left + tile.width + more)
    return Tile(top, left, bottom - top, right - left)


def plan_tiles(height: int, width: int, size: int, multiple: int) -> list[Tile]:
    """Return tiles that cover a section once, row by row.

    Parameters
    ----------
    height, width
        The section, in pixels.
    size
        Wanted side of a tile; rounded down to the multiple.
    multiple
        Tiles begin at multiples of this, so that poolings fall on the same pixels in every plan.

    Raises
    ------
    ValueError
        If the size is smaller than the multiple.
    """
    step = size // multiple * multiple
    if step == 0:
        raise ValueError(f"The tile size ({size}) must be at least {multiple}.")
    return [
        Tile(top, left, min(step, height - top), min(step, width - left))
        for top in range(0, height, step)
        for left in range(0, width, step)
    ]


def mirrored_indices(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return the indices of an axis from `start` to `stop`, mirrored where they leave it.

    The border pixel itself is not repeated: with length 4, -2 .. 6 is 2 1 0 1 2 3 2 1.
    """
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    indices = np.abs(np.arange(start, stop)) % period
    return np.where(indices < length, indices, period - indices).astype(np.intp)


class RowStrips:
    """A section that lies on disk, of which whole rows are read and kept until others are asked for.

    Tiles see overlapping parts of a section, which would else be read, and often decoded, several
    times.

    Parameters
    ----------
    section
        (Y, X), anything with ``shape``, ``dtype`` and slicing.
    """

    def __init__(self, section: Any) -> None:
        self._section = section
        self._first = 0
        self._kept = np.empty((0, section.shape[-1]), section.dtype)
        self.shape = section.shape
        self.dtype = section.dtype

    def __getitem__(self, key: tuple[Any, slice, slice]) -> npt.NDArray[Any]:
        """Return a rectangle; `key` is an ellipsis, and rows and columns within the section."""
        _, rows, columns = key
        if rows.start < self._first or rows.stop > self._first + len(self._kept):
            self._kept, self._first = read(self._section[rows]), rows.start
        return self._kept[rows.start - self._first : rows.stop - self._first, columns]


def read_mirrored(section: Any, top: int, left: int, height: int, width: int) -> npt.NDArray[Any]:
    """Return a rectangle of a section (..., Y, X) that may reach beyond it, mirrored there.

    Only the part of the section that is needed is read, so that it may lie on disk.
    """
    rows = mirrored_indices(top, top + height, section.shape[-2])
    columns = mirrored_indices(left, left + width, section.shape[-1])
    row0, column0 = int(rows.min()), int(columns.min())
    part = read(section[..., row0 : int(rows.max()) + 1, column0 : int(columns.max()) + 1])
    return part[..., (rows - row0)[:, None], (columns - column0)[None, :]]

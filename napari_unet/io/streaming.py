"""Sections of an image one after the other, so that it need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray, SectionIndex
from napari_unet.core.reading import read

SLAB_BYTES = 2**28
"""Sections that lie in the same chunks are read together, up to this size."""


def ordered_axes(image: ImageArray, order: str) -> str:
    """Return the axes of an image in an order, such as ``TCZYX``."""
    return "".join(axis for axis in order if axis in image.axes)


def sections_of(image: ImageArray, axes: str) -> Iterator[tuple[SectionIndex, npt.NDArray[Any]]]:
    """Yield every section of an image in the order of its axes, with its index along them.

    Parameters
    ----------
    image
        Its data may lie on disk; sections that share chunks are read at once.
    axes
        The axes of the image in the wanted order; the last ones are those of a section, (Y, X)
        or (Y, X, S).
    """
    inner = 3 if axes.endswith("YXS") else 2
    outer, within = axes[:-inner], axes[-inner:]
    lengths = dict(zip(image.axes, image.shape, strict=True))
    turned = [sorted(within, key=image.axes.index).index(axis) for axis in within]
    depth = _depth(image, outer, lengths)
    for index in np.ndindex(tuple(lengths[axis] for axis in outer[:-1])):
        for start in range(0, lengths[outer[-1]] if outer else 1, depth):
            chosen: dict[str, int | slice] = dict(zip(outer[:-1], index, strict=True))
            if outer:
                chosen[outer[-1]] = slice(start, start + depth)
            slab = read(image.data[tuple(chosen.get(a, slice(None)) for a in image.axes)])
            if not outer:
                yield (), slab.transpose(turned)
                continue
            left = [axis for axis in image.axes if axis in within or axis == outer[-1]]
            slab = np.moveaxis(slab, left.index(outer[-1]), 0)
            for number, section in enumerate(slab, start):
                yield (*index, number), section.transpose(turned)


def _depth(image: ImageArray, outer: str, lengths: dict[str, int]) -> int:
    """How many sections are read at once."""
    chunks = getattr(image.data, "chunksize", None)
    if not outer or chunks is None:
        return 1
    section = image.dtype.itemsize * lengths["Y"] * lengths["X"] * lengths.get("S", 1)
    deep = int(chunks[image.axes.index(outer[-1])])
    return max(1, min(deep, SLAB_BYTES // section))

"""Grey values as a TIFF file wants them seen, where it does not store them as such."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile


def is_inverted(page: tifffile.TiffPage) -> bool:
    """Return whether 0 is white in a page of grey values.

    ImageJ says so of images with an inverting look-up table, as its masks have; it changes how
    they are drawn, and the values remain what they mean. So they do of real numbers, which have
    no largest one.
    """
    return (
        page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        and page.dtype is not None
        and page.dtype.kind in "bui"
        and not page.parent.is_imagej
    )


def grey_palette(page: tifffile.TiffPage) -> npt.NDArray[Any] | None:
    """Return the grey value of each entry of a palette; None if there are colours in it.

    Entries that have colours are mostly numbers of objects or classes.
    """
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    greys: npt.NDArray[Any] = page.colormap[0]
    if (page.colormap != greys).any() or greys.min() == greys.max():
        return None
    # Palettes have 16 bits. Some programs fill only the lower eight.
    if page.dtype == np.uint8 and greys.max() > 255:
        greys = greys >> 8
    return greys.astype(page.dtype)


def as_seen(data: Any, page: tifffile.TiffPage) -> Any:
    """Return grey values, of a numpy or dask array as it is stored, that are larger the lighter."""
    greys = grey_palette(page)
    if greys is not None:
        look_up = partial(np.take, greys)
        if isinstance(data, np.ndarray):
            return look_up(data)
        return data.map_blocks(look_up, dtype=greys.dtype)
    if is_inverted(page):
        signed = data.dtype.kind == "i"
        return data ^ data.dtype.type(-1 if signed else 2**page.bitspersample - 1)
    return data

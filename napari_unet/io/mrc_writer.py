"""MRC: volumes with their voxel size, written section by section."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.units import nanometres
from napari_unet.io.files import replacing
from napari_unet.io.streaming import ordered_axes, sections_of

_DENSITIES, _DEVIATION = 76, 216
"""Where the header keeps least, greatest and mean value, and their standard deviation."""

LABEL_LENGTH = 80


def write_mrc(path: Path, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write a section, a stack or several stacks with the voxel size in ångström.

    MRC has signed bytes only, so that bytes become 16-bit numbers. Other whole numbers and real
    ones are written as float32.

    Raises
    ------
    ValueError
        If there are more than four axes, or whole numbers that float32 cannot hold.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    import mrcfile

    axes = ordered_axes(image, "TCZYX")
    if len(axes) > 4 or "S" in image.axes:
        raise ValueError(
            f"MRC files hold stacks (Z, Y, X) and lists of them; {image.name!r} has the axes "
            f"{image.axes}. Write OME-Zarr or TIFF instead."
        )
    sizes = dict(zip(image.axes, image.shape, strict=True))
    shape = tuple(sizes[axis] for axis in axes)
    dtype = _stored_type(image.dtype)
    count = math.prod(shape)
    low, high, total, squares = math.inf, -math.inf, 0.0, 0.0
    with replacing(path) as temporary:
        with mrcfile.new(temporary, overwrite=True) as file:
            # Of these pixels only their type and the axes matter: the header is made for them.
            file.set_data(np.zeros((1,) * len(shape), dtype))
            header = file.header
            header.nx = header.mx = shape[-1]
            header.ny = header.my = shape[-2]
            header.nz = math.prod(shape[:-2])
            header.mz = shape[-3] if len(shape) >= 3 else 1
            file.voxel_size = tuple(_angstroms(image, axis) for axis in "XYZ")
            if classes:
                names = ", ".join(f"{n} {c.name}" for n, c in enumerate(classes, start=1))
                plain = names.encode("ascii", "replace").decode()
                file.add_label(f"classes: {plain}"[:LABEL_LENGTH])
        with temporary.open("r+b") as stream:
            stream.truncate(1024)
            stream.seek(1024)
            for _, section in sections_of(image, axes):
                pixels = _fitting(section, dtype, image.name)
                stream.write(pixels.tobytes())
                low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
                precise = pixels.astype(np.float64)
                total += float(precise.sum())
                squares += float((precise**2).sum())
            mean = total / count
            deviation = math.sqrt(max(0.0, squares / count - mean**2))
            stream.seek(_DENSITIES)
            stream.write(struct.pack("=3f", low, high, mean))
            stream.seek(_DEVIATION)
            stream.write(struct.pack("=f", deviation))


def _stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype in (np.int8, np.int16, np.uint16):
        return dtype.newbyteorder("=")
    return np.dtype(np.uint16 if dtype.kind == "b" or dtype == np.uint8 else np.float32)


def _fitting(section: npt.NDArray[Any], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    stored = np.ascontiguousarray(section, dtype=dtype)
    if section.dtype.kind in "ui" and dtype.kind == "f" and (stored != section).any():
        raise ValueError(
            f"{name!r} holds whole numbers beyond 16 bits that MRC cannot hold exactly. Write "
            "OME-Zarr or TIFF instead."
        )
    return stored


def _angstroms(image: ImageArray, axis: str) -> float:
    """Spacing of an axis; 0 means that it is not known."""
    if axis not in image.axes:
        return 0.0
    place = image.axes.index(axis)
    length = nanometres(image.scale[place], image.units[place])
    return 0.0 if length is None else 10 * length

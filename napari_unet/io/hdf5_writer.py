"""HDF5 as ilastik and PlantSeg read it: axis tags, element size, class names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, nanometres, standard_unit
from napari_unet.io.files import replacing
from napari_unet.io.streaming import ordered_axes, sections_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

DATA_SET = "data"
CHUNK = 256
"""Side of a chunk in a section, in pixels."""

_FLAGS = {"C": 1, "T": 8}
"""Kinds of axes as vigra numbers them; others are 2, space."""


def write_hdf5(path: Path, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write an image as a compressed data set ``data`` with its axes, spacing and classes.

    Raises
    ------
    FileWriteError
        If it cannot be written; an older file stays.
    """
    import h5py

    axes = ordered_axes(image, "TCZYXS")
    sizes = dict(zip(image.axes, image.shape, strict=True))
    shape = tuple(sizes[axis] for axis in axes)
    chunks = {"Y": min(CHUNK, sizes["Y"]), "X": min(CHUNK, sizes["X"]), "S": sizes.get("S", 1)}
    dtype = np.dtype(np.uint8) if image.dtype == bool else image.dtype.newbyteorder("=")
    with replacing(path) as temporary, _Disk(temporary) as disk, h5py.File(disk, "w") as file:
        data = file.create_dataset(
            DATA_SET,
            shape,
            dtype,
            chunks=tuple(chunks.get(axis, 1) for axis in axes),
            compression="gzip",
            compression_opts=1,
        )
        lengths = _lengths(image, axes)
        data.attrs["axistags"] = _axistags(lengths)
        data.attrs["axis_units"] = json.dumps({_key(a): unit for a, (_, unit) in lengths.items()})
        size = _element_size(lengths)
        if size is not None:
            data.attrs["element_size_um"] = size
        if classes:
            data.attrs["class_names"] = [each.name for each in classes]
            data.attrs["class_colours"] = [each.colour for each in classes]
        for index, section in sections_of(image, axes):
            data[index] = section
            if disk.problem is not None:
                break


class _Disk(io.FileIO):
    """A file that keeps its errors until it is closed.

    The library cannot close what it could not write, and ends the process when it tries.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+b")
        self.problem: OSError | None = None

    def write(self, content: Buffer) -> int:
        size = memoryview(content).nbytes
        try:
            if self.problem is None:
                written = super().write(content)
                while written < size:
                    written += super().write(memoryview(content)[written:])
        except OSError as error:
            self.problem = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.problem = self.problem or error
            return size or 0

    def __exit__(self, *told: Any) -> None:
        super().__exit__(*told)
        if self.problem is not None:
            raise self.problem


def _key(axis: str) -> str:
    return "c" if axis == "S" else axis.lower()


def _lengths(image: ImageArray, axes: str) -> dict[str, tuple[float, str]]:
    """Spacing and unit of each axis, as ilastik has them: 0 and no unit where they are unknown."""
    found = {}
    for axis in axes:
        place = image.axes.index(axis)
        unit = standard_unit(image.units[place]) if axis in "TZYX" else PIXEL
        found[axis] = (0.0, "") if unit == PIXEL else (float(image.scale[place]), unit)
    return found


def _axistags(lengths: dict[str, tuple[float, str]]) -> str:
    tags = [
        {
            "key": _key(axis),
            "typeFlags": 1 if axis == "S" else _FLAGS.get(axis, 2),
            "resolution": resolution,
            "description": "",
        }
        for axis, (resolution, _) in lengths.items()
    ]
    return json.dumps({"axes": tags})


def _element_size(lengths: dict[str, tuple[float, str]]) -> list[float] | None:
    """Spacing of the axes of space in micrometres; None if it is not known of all of them."""
    spacing = []
    for length in (nanometres(*each) for axis, each in lengths.items() if axis in "ZYX"):
        if length is None:  # programs divide by it
            return None
        spacing.append(length / 1000)
    return spacing

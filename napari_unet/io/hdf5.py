"""HDF5: one of the data sets in a file, with what ilastik, plantseg, CREMI or EMD tell of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, positive_number, standard_unit
from napari_unet.io import emd
from napari_unet.io.contents import StoredImage
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.lazy import chunked

if TYPE_CHECKING:
    import h5py

USUAL_NAMES = (
    "raw",
    "data",
    "volume",
    "image",
    "images",
    "stack",
    "main",
    "exported_data",
)
"""Names of data sets that are taken before others, the first ones first."""

MOST_AXES = 5

MOST_COLOURS = 4
"""A last axis that is not longer than this holds colours or channels."""

CHUNK_BYTES = "32MiB"
"""About as much is read at once where a data set is stored in small pieces."""

MOST_NAMED = 20
"""Of many data sets so many are named."""


@dataclass(frozen=True)
class _Stored:
    """A data set, opened when a part of it is read, so that nothing keeps its file open."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part of the data set."""
        import h5py

        with reading(self.path), h5py.File(self.path, "r") as file:
            part: npt.NDArray[Any] = file[self.name][key]
        return part


def read_hdf5(path: Path, dataset: str | None = None) -> ImageArray:
    """Return a data set of an HDF5 file, parts of which are read when they are looked at.

    Parameters
    ----------
    dataset
        Its name within the file. Without one it is the first image of an EMD file; elsewhere one
        of the usual name (`USUAL_NAMES`), or the largest that has two axes or more.

    Raises
    ------
    FileReadError
        If the file is damaged, there is no such data set, or it is no image; the message names
        those that are there.
    """
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        signals = emd.signals(file)
        if dataset is not None:
            signals = [each for each in signals if each.name == dataset.strip("/")]
        elif not signals and emd.is_velox(file):
            raise FileReadError(
                f"{path} holds no image but {emd.held(file)}; a spectrum is not an image. Export "
                "the image from the program that wrote it."
            )
        found = signals[0] if signals else _described(_chosen(path, file, dataset))
        if found.objection:
            raise FileReadError(f"{path}: the data set {found.name!r} {found.objection}.")
        stored = file[found.name]
        chunks = stored.chunks
        source = _Stored(path, found.name, stored.shape, stored.dtype)
    data = chunked(source, _chunks(source, chunks)).astype(source.dtype.newbyteorder("="))
    if found.order is not None:
        data = data.transpose(found.order)
        if found.single:
            data = data[0]
    name = path.name.split(".")[0]
    if dataset is not None:
        name += f" {found.name.rsplit('/', 1)[-1]}"
    return ImageArray(data, found.axes, found.scale, found.units, name)


def hdf5_images(path: Path) -> list[StoredImage]:
    """Return the images in an HDF5 file, the one first that is read where none is named.

    Raises
    ------
    FileReadError
        If the file is damaged.
    """
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        found = emd.signals(file)
        if not found and not emd.is_velox(file):
            found = [_described(each) for each in _by_preference(dict(_data_sets(file)))]
        return [
            StoredImage(each.name, file[each.name].shape, file[each.name].dtype.name)
            for each in found
            if not each.objection
        ]


def _chunks(source: _Stored, stored: tuple[int, ...] | None) -> Any:
    """Pieces to read at once: whole stored pieces, or sections where it is stored in one."""
    import dask.array

    if stored is None:
        return (1,) * (source.ndim - 2) + source.shape[-2:]
    return dask.array.core.normalize_chunks(
        "auto", source.shape, limit=CHUNK_BYTES, dtype=source.dtype, previous_chunks=stored
    )


def _chosen(path: Path, file: h5py.File, name: str | None) -> h5py.Dataset:
    """The data set of a name, or the one that is most likely meant."""
    import h5py

    sets = dict(_data_sets(file))
    there = [f"{n} {each.shape} {each.dtype}" for n, each in sets.items()][:MOST_NAMED]
    listed = ", ".join(there) or "none"
    if name is not None:
        asked = file.get(name) if name.strip("/") else None
        if not isinstance(asked, h5py.Dataset):
            raise FileReadError(
                f"{path} has no data set {name!r}; those in it are: {listed}. Name one of them, "
                f"as in {path.name}/{next(iter(sets), 'raw')}."
            )
        return asked
    images = _by_preference(sets)
    if not images:
        raise FileReadError(
            f"{path} holds no image: none of its data sets has two axes of numbers ({listed})."
        )
    return images[0]


def _by_preference(sets: dict[str, h5py.Dataset]) -> list[h5py.Dataset]:
    """The data sets of two axes of numbers or more, the one that is most likely meant first."""
    images = {n: each for n, each in sets.items() if _wide(each) and each.dtype.kind in "buif"}

    def preference(named: str) -> tuple[int, int]:
        last = named.rsplit("/", 1)[-1].lower()
        place = USUAL_NAMES.index(last) if last in USUAL_NAMES else len(USUAL_NAMES)
        return place, -images[named].size

    return [images[name] for name in sorted(images, key=preference)]


def _data_sets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    import h5py

    found: list[tuple[str, h5py.Dataset]] = []

    def remember(name: str, each: object) -> None:
        if isinstance(each, h5py.Dataset):
            found.append((name, each))

    file.visititems(remember)
    return iter(found)


def _wide(dataset: h5py.Dataset) -> bool:
    return dataset.shape is not None and sum(n > 1 for n in dataset.shape) >= 2


def _described(dataset: h5py.Dataset) -> emd.Signal:
    name = dataset.name.strip("/")
    shape = dataset.shape or ()
    if dataset.dtype.kind not in "buif":
        return emd.Signal(name, objection=f"holds values of type {dataset.dtype}, no grey values")
    if len(shape) < 2 or 0 in shape:
        return emd.Signal(name, objection=f"has the shape {shape}, which is no image")
    axes = _axes(dataset)
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        return emd.Signal(
            name,
            objection=f"has the axes {axes!r} and the shape {shape}; time, Z, Y, X and channel, "
            "at most once each, are understood",
        )
    spacing = _spacing(dataset, sum(a in "ZYX" for a in axes))
    lengths = iter(spacing)
    per_axis = [
        next(lengths) if axis in "ZYX" else (1.0, PIXEL if axis == "T" else "") for axis in axes
    ]
    scale, units = zip(*per_axis, strict=True)
    return emd.Signal(name, axes, scale, units)


def _axes(dataset: h5py.Dataset) -> str:
    """Letters from vigra's axis tags (ilastik), from HDF5's labels, or by what is usual."""
    tags = dataset.attrs.get("axistags")
    if isinstance(tags, bytes):
        tags = tags.decode("utf-8", "replace")
    if isinstance(tags, str):
        try:
            keys = [str(each["key"]).upper() for each in json.loads(tags)["axes"]]
        except (ValueError, KeyError, TypeError):
            keys = []
        if len(keys) == dataset.ndim and set(keys) <= set("TCZYX"):
            return "".join(keys)
    labels = [str(dimension.label).upper() for dimension in dataset.dims]
    if {"Y", "X"} <= set(labels) <= set("TCZYX"):
        return "".join(labels)
    return _usual_axes(dataset.shape, dataset.dtype)


def _usual_axes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    short_last = len(shape) > 2 and shape[-1] <= MOST_COLOURS < min(shape[-3:-1])
    if short_last or len(shape) == MOST_AXES:
        colour = dtype == np.uint8 and shape[-1] in (3, 4)
        return {3: "YX", 4: "ZYX", 5: "TZYX"}.get(len(shape), "") + ("S" if colour else "C")
    return {2: "YX", 3: "ZYX", 4: "TZYX"}.get(len(shape), "")


_SIZES = (("element_size_um", "µm"), ("resolution", "nm"), ("voxel_size", "nm"))
"""Attributes with the spacing of Z, Y and X, and their units where none is told."""


def _spacing(dataset: h5py.Dataset, count: int) -> list[tuple[float, str]]:
    """Spacing of the last `count` of Z, Y and X."""
    for attribute, unit in _SIZES:
        told = dataset.attrs.get(attribute)
        if told is None:
            continue
        sizes = [positive_number(each) for each in np.atleast_1d(told)]
        if isinstance(told, str | bytes):
            words = told.decode("utf-8", "replace") if isinstance(told, bytes) else told
            sizes = [positive_number(each) for each in re.findall(r"[-+.\deE]+", words)]
        if len(sizes) < count:
            continue
        if attribute != "element_size_um":
            unit = standard_unit(_text(dataset.attrs.get("unit", dataset.attrs.get("units", unit))))
        return [(1.0, PIXEL) if size is None else (size, unit) for size in sizes[-count:]]
    return [(1.0, PIXEL)] * count


def _text(attribute: Any) -> str:
    """An attribute, or the first of several, as text."""
    first = np.atleast_1d(attribute)[0]
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)

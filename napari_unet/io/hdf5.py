"""HDF5: one of the data sets in a file, with what ilastik, plantseg, CREMI or EMD tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.io import emd
from napari_unet.io.contents import StoredImage
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.hdf5_axes import axes_of, spacing_of
from napari_unet.io.hdf5_links import (
    broken_link,
    check_sources,
    data_sets,
    followed,
    opened,
    sources_of,
)
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
    sources: tuple[Path, ...] = ()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part of the data set."""
        import h5py

        with reading(self.path), h5py.File(self.path, "r") as file:
            check_sources(self.path, self.sources)
            part: npt.NDArray[Any] = opened(self.path, file, self.name)[key]
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
        If the file, or one that its data lies in, is missing or damaged, there is no such data
        set, or it is no image; the message names those that are there.
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
        found = signals[0] if signals else _described(*_chosen(path, file, dataset))
        if found.objection:
            raise FileReadError(f"{path}: the data set {found.name!r} {found.objection}.")
        stored = file[found.name]
        pieces = _pieces(stored, found.order)
        sources = sources_of(path, stored)
        source = _Stored(path, found.name, stored.shape, stored.dtype, sources)
    data = chunked(source, pieces).astype(source.dtype.newbyteorder("="))
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
            found = [_described(*each) for each in _by_preference(dict(data_sets(file))).items()]
        return [
            StoredImage(each.name, file[each.name].shape, file[each.name].dtype.name)
            for each in found
            if not each.objection
        ]


def _pieces(stored: h5py.Dataset, order: tuple[int, ...] | None) -> Any:
    """Pieces to read at once: whole stored pieces, or sections where these lie in one."""
    import dask.array

    ndim = stored.ndim
    if stored.chunks is None and (order is None or order[-2:] == (ndim - 2, ndim - 1)):
        return (1,) * (ndim - 2) + stored.shape[-2:]
    return dask.array.core.normalize_chunks(
        "auto", stored.shape, limit=CHUNK_BYTES, dtype=stored.dtype, previous_chunks=stored.chunks
    )


def _chosen(path: Path, file: h5py.File, name: str | None) -> tuple[str, h5py.Dataset]:
    """The data set of a name, or the one that is most likely meant, and its name."""
    import h5py

    if name is not None and name.strip("/"):
        asked = followed(file, name)
        if isinstance(asked, h5py.Dataset):
            return name.strip("/"), asked
        if broken := broken_link(path, file, name):
            raise FileReadError(broken)
    sets = dict(data_sets(file))
    there = {n: f"{n} {each.shape} {each.dtype}" for n, each in sets.items() if each is not None}
    listed = ", ".join([*there.values()][:MOST_NAMED]) or "none"
    if name is not None:
        raise FileReadError(
            f"{path} has no data set {name!r}; those in it are: {listed}. Name one of them, "
            f"as in {path.name}/{next(iter(there), 'raw')}."
        )
    images = _by_preference(sets)
    first = next(iter(images), None)
    lost = min((n for n in sets if n not in there), key=_place, default=None)
    if lost is not None and (first is None or _place(lost) < _place(first)):
        raise FileReadError(broken_link(path, file, lost))
    if first is None:
        raise FileReadError(
            f"{path} holds no image: none of its data sets has two axes of numbers ({listed})."
        )
    return first, images[first]


def _by_preference(sets: dict[str, h5py.Dataset | None]) -> dict[str, h5py.Dataset]:
    """The data sets of two axes of numbers or more, the one that is most likely meant first."""
    images = {
        name: each
        for name, each in sets.items()
        if each is not None and _wide(each) and each.dtype.kind in "buif"
    }
    names: dict[h5py.Dataset, str] = {}
    for name in sorted(images, key=lambda name: (_place(name), -images[name].size)):
        names.setdefault(images[name], name)  # which may have others
    return {name: each for each, name in names.items()}


def _place(name: str) -> int:
    """How far behind others a data set of this name comes."""
    last = name.rsplit("/", 1)[-1].lower()
    return USUAL_NAMES.index(last) if last in USUAL_NAMES else len(USUAL_NAMES)


def _wide(dataset: h5py.Dataset) -> bool:
    return dataset.shape is not None and sum(n > 1 for n in dataset.shape) >= 2


def _described(name: str, dataset: h5py.Dataset) -> emd.Signal:
    shape = dataset.shape or ()
    if dataset.dtype.kind not in "buif":
        return emd.Signal(name, objection=f"holds values of type {dataset.dtype}, no grey values")
    if len(shape) < 2 or 0 in shape:
        return emd.Signal(name, objection=f"has the shape {shape}, which is no image")
    axes = axes_of(dataset)
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        return emd.Signal(
            name,
            objection=f"has the axes {axes!r} and the shape {shape}; time, Z, Y, X and channel, "
            "at most once each, are understood",
        )
    order = list(range(len(axes)))
    if not axes.rstrip("CS").endswith("YX"):
        # Sections are wanted; other programs may count X first.
        order.sort(key=lambda place: "TCZYXS".index(axes[place]))
    spacing = spacing_of(dataset, axes)
    scale, units = zip(*(spacing[place] for place in order), strict=True)
    turned = "".join(axes[place] for place in order)
    return emd.Signal(name, turned, scale, units, tuple(order) if turned != axes else None)

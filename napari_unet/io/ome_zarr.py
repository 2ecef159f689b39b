"""OME-Zarr 0.5, written chunk by chunk, with lower resolutions and the names of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.units import standard_unit
from napari_unet.io.files import FileWriteError, replacing_folder
from napari_unet.io.locks import InUseError, Lock, beside
from napari_unet.io.streaming import ordered_axes, sections_of

if TYPE_CHECKING:
    import zarr

CHUNK = 512
"""Side of a chunk in a section, in pixels. Chunks are one section deep."""

SMALLEST_LEVEL = 512
"""A section is halved until no side is longer than this."""

FULL = "0"
"""Name of the array at full resolution."""

LABELS = "labels"
"""Group in which an image keeps its labels."""

_TYPES = {"T": "time", "C": "channel"}

_UNITS = {
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "s": "second",
    "ms": "millisecond",
}


def write_ome_zarr(path: Path, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write an image, or a class mask with the names and colours of its classes.

    A path ``x.zarr/labels/name`` puts a mask among the labels of the image in ``x.zarr``.

    Raises
    ------
    ValueError
        If labels are no whole numbers.
    FileWriteError
        If it cannot be written, or something else is there; what was there stays.
    """
    image = as_ome(image)
    check_replaceable(path)
    if labelled_image(path) is not None and image.dtype.kind not in "ui":
        raise ValueError(f"Labels are whole numbers; {path} cannot hold {image.dtype}.")
    lock = write_lock(path)
    try:
        with placing(path) as (temporary, source):
            group = new_group(temporary, image, classes, source=source)
            array: Any = group[FULL]
            for index, section in sections_of(image, image.axes):
                if section.any():  # the store says 0 where nothing was written
                    array[index] = section
            add_levels(group, image, classes)
    finally:
        lock.give_back()


def write_lock(path: Path) -> Lock:
    """Take the lock of who writes a store; it is taken over from a process that was killed.

    Raises
    ------
    FileWriteError
        If another process writes there, or nothing can be written.
    """
    root = labelled_image(path)
    place = path.resolve() if path.exists() else path
    if root is not None:  # their folder may not be there yet
        root = root.resolve() if root.exists() else root
        place = root.with_name(f"{root.name}-{path.name}")
    if not place.parent.is_dir():
        raise FileWriteError(f"Cannot write {path}: there is no folder {place.parent}.")
    try:
        return beside(place).take()
    except InUseError as who:
        raise FileWriteError(
            f"{path} is being written by {who}. Wait until it has finished, or choose another name."
        ) from None
    except OSError as error:
        raise FileWriteError(f"Cannot write {path}: {error.strerror or error}.") from error


@contextmanager
def placing(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Give a temporary name for a store, and where the image of these labels lies, if they are.

    When all went well the store is moved to `path`, and labels are told of in their image.

    Raises
    ------
    FileWriteError
        If it cannot be written; what was there stays.
    """
    root = labelled_image(path)
    if root is None:
        with replacing_folder(path) as temporary:
            yield temporary, None
        return
    labels = _labels_group(root)
    with replacing_folder(path) as temporary:
        yield temporary, "../../"
    known = _told(labels)
    names = [*dict.fromkeys([*known.get("labels", []), path.name])]
    labels.attrs["ome"] = {**known, "version": "0.5", "labels": names}


def as_ome(image: ImageArray) -> ImageArray:
    """Return an image as OME-Zarr wants it: axes (T, C, Z, Y, X), colours as channels."""
    image = replace(image, axes=image.axes.replace("S", "C"), levels=())
    if image.dtype == bool:
        image = image.with_data(np.asarray(image.data).astype(np.uint8))
    axes = ordered_axes(image, "TCZYX")
    if axes == image.axes:
        return image
    turned = [image.axes.index(axis) for axis in axes]
    data = image.data if hasattr(image.data, "transpose") else np.asarray(image.data)
    return ImageArray(
        data.transpose(turned),
        axes,
        tuple(image.scale[i] for i in turned),
        tuple(image.units[i] for i in turned),
        image.name,
    )


def check_replaceable(path: Path) -> None:
    """Complain where something else than a store would be lost.

    Raises
    ------
    FileWriteError
        If there is a file, or a folder of other things.
    """
    if path.is_file():
        raise FileWriteError(f"Cannot write {path}: there is a file of this name.")
    stores = ("zarr.json", ".zgroup", ".zarray")
    if path.is_dir() and any(path.iterdir()) and not any((path / n).exists() for n in stores):
        raise FileWriteError(
            f"Cannot write {path}: it is a folder of other files. Choose another name."
        )


def labelled_image(path: Path) -> Path | None:
    """Return the store whose labels a path names, as ``x.zarr/labels/name`` does; else None."""
    root = path.parent.parent
    inside = any(part.suffix.lower() == ".zarr" for part in (root, *root.parents))
    return root if path.parent.name == LABELS and inside else None


def new_group(
    folder: Path,
    image: ImageArray,
    classes: ClassTable = (),
    *,
    chunk: int = CHUNK,
    source: str | None = None,
    attributes: dict[str, Any] | None = None,
) -> zarr.Group:
    """Return a new store with an empty array of full resolution.

    Parameters
    ----------
    folder
        Where to; it is made.
    image
        What the array will hold; only its shape and meaning are looked at.
    classes
        Names and colours of the values 1, 2, ..., if it is a mask.
    chunk
        Side of a chunk in a section, in pixels.
    source
        Where the image lies that was segmented.
    attributes
        What else is to be known of it.
    """
    import zarr

    group = zarr.create_group(folder, zarr_format=3, attributes=attributes or {})
    group.attrs["ome"] = _metadata(image, classes, [[1] * len(image.axes)], source)
    _new_array(group, FULL, image.shape, image.dtype, image.axes, chunk)
    return group


def _new_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    axes: str,
    chunk: int,
) -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(min(chunk, n) if a in "YX" else 1 for a, n in zip(axes, shape, strict=True)),
        fill_value=0,
        dimension_names=list(axes.lower()),
        overwrite=True,
    )


def add_levels(group: zarr.Group, image: ImageArray, classes: ClassTable = ()) -> None:
    """Add what an image looks like from afar, and tell of it in the metadata.

    Masks keep every second pixel, so that classes stay classes; grey values are averaged.

    Parameters
    ----------
    group
        A store of `new_group` that is filled.
    image, classes
        As in `new_group`.
    """
    factors = _planned_levels(image)
    finer: Any = group[FULL]
    for number, (before, now) in enumerate(pairwise(factors), start=1):
        steps = [b // a for a, b in zip(before, now, strict=True)]
        shape = [-(-n // step) for n, step in zip(finer.shape, steps, strict=True)]
        chunk = int(finer.chunks[-1])
        coarser = _new_array(group, str(number), shape, finer.dtype, image.axes, chunk)
        rows = int(coarser.chunks[-2])
        for index in np.ndindex(*shape[:-2]):
            for top in range(0, shape[-2], rows):
                here = (*index, slice(top, min(top + rows, shape[-2])), slice(0, shape[-1]))
                coarser[here] = _reduced(finer, here, steps, nearest=bool(classes))
        finer = coarser
    source = _told(group).get("image-label", {}).get("source", {}).get("image")
    group.attrs["ome"] = _metadata(image, classes, factors, source)


def _told(group: zarr.Group) -> dict[str, Any]:
    """What the metadata of OME tell of a group."""
    attributes: dict[str, Any] = group.attrs.asdict()
    return dict(attributes.get("ome") or {})


def _planned_levels(image: ImageArray) -> list[list[int]]:
    """By how much each axis is reduced in each level; thick sections wait for the others."""
    factors = [[1] * len(image.axes)]
    while True:
        last = factors[-1]
        sides = [n / f for n, f, a in zip(image.shape, last, image.axes, strict=True) if a in "YX"]
        if max(sides) <= SMALLEST_LEVEL:
            return factors
        spacing = {
            a: s * f for a, s, f in zip(image.axes, image.scale, last, strict=True) if a in "ZYX"
        }
        least = min(spacing[a] for a in "YX")
        halved = {a for a in spacing if a in "YX" or spacing[a] < 2 * least}
        factors.append([f * 2 if a in halved else f for a, f in zip(image.axes, last, strict=True)])


def _reduced(
    finer: zarr.Array[Any], here: Sequence[int | slice], steps: Sequence[int], *, nearest: bool
) -> npt.NDArray[Any]:
    """Part of a level, made of the finer one."""
    area = []
    for each, step, length in zip(here, steps, finer.shape, strict=True):
        start, stop = (each.start, each.stop) if isinstance(each, slice) else (each, each + 1)
        area.append(slice(start * step, min(stop * step, length)))
    if nearest:
        area = [slice(a.start, a.stop, step) for a, step in zip(area, steps, strict=True)]
        chosen: npt.NDArray[Any] = np.asarray(finer[tuple(area)])
        return chosen.reshape(chosen.shape[-2:])
    values = np.asarray(finer[tuple(area)])
    missing = [(0, -n % step) for n, step in zip(values.shape, steps, strict=True)]
    values = np.pad(values, missing, mode="edge")
    sides = [k for n, s in zip(values.shape, steps, strict=True) for k in (n // s, s)]
    mean = values.reshape(sides).mean(axis=tuple(range(1, len(sides), 2)), dtype=np.float64)
    mean = np.rint(mean) if values.dtype.kind in "ui" else mean
    found: npt.NDArray[Any] = mean.astype(values.dtype)
    return found.reshape(found.shape[-2:])


def _metadata(
    image: ImageArray, classes: ClassTable, factors: Sequence[Sequence[int]], source: str | None
) -> dict[str, Any]:
    from yaozarrs import v05

    axes: list[dict[str, str]] = []
    for axis, unit in zip(image.axes, image.units, strict=True):
        axes.append({"name": axis.lower(), "type": _TYPES.get(axis, "space")})
        if (known := _UNITS.get(standard_unit(unit))) is not None:
            axes[-1]["unit"] = known
    datasets = []
    for number, factor in enumerate(factors):
        scale = [s * f for s, f in zip(image.scale, factor, strict=True)]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if not classes and number:
            # The middle of an averaged pixel lies between those it was made of.
            shift = [s * (f - 1) / 2 for s, f in zip(image.scale, factor, strict=True)]
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(number), "coordinateTransformations": transformations})
    content: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": image.name, "axes": axes, "datasets": datasets}],
    }
    if classes or source:
        content["image-label"] = {
            "version": "0.5",
            **({"source": {"image": source}} if source else {}),
            **(_class_metadata(classes) if classes else {}),
        }
        v05.LabelImage.model_validate(content)
    else:
        v05.Image.model_validate(content)
    return content  # as it is, since the model has no names of classes


def _class_metadata(classes: ClassTable) -> dict[str, Any]:
    colours, properties = [], []
    for number, each in enumerate(classes, start=1):
        rgb = [int(each.colour[i : i + 2], 16) for i in (1, 3, 5)]
        colours.append({"label-value": number, "rgba": [*rgb, 255]})
        properties.append({"label-value": number, "name": each.name})
    return {"colors": colours, "properties": properties}


def _labels_group(root: Path) -> zarr.Group:
    """The group of an image's labels, made if there is none."""
    import zarr

    try:
        group = zarr.open_group(root, mode="r+", use_consolidated=False, zarr_format=3)
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise FileWriteError(
            f"Cannot write labels into {root}: it is no OME-Zarr 0.5 (a group of Zarr 3). Write "
            "them into a store of their own."
        ) from error
    return group.require_group(LABELS)

"""Images from files and to files; suffix and content choose the format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray, as_grey
from napari_unet.io import hdf5_writer, mrc_writer, ome_zarr, png_series, tiff, zarrs
from napari_unet.io.contents import StoredImage
from napari_unet.io.files import FileReadError, FileWriteError, check_there, reading
from napari_unet.io.formats import FORMATS, format_of
from napari_unet.io.hdf5 import read_hdf5
from napari_unet.io.sections import PICTURES, TIFFS, holds_sections, is_pattern, read_sections

READERS: dict[str, Callable[[Path], ImageArray]] = {
    suffix: each.read for each in FORMATS for suffix in each.suffixes
}
"""Function that reads a file or a store, by suffix."""

KNOWN = ", ".join(suffix for suffix in READERS if suffix.count(".") == 1)
"""Suffixes that are read, for people; those of compressed files are left out."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".emd")

Writer = Callable[[Path, ImageArray, ClassTable], None]
"""Writes an image, or a class mask with the names of its classes."""

WRITERS: dict[str, Writer] = {
    ".tif": tiff.write_tiff,
    ".tiff": tiff.write_tiff,
    ".zarr": ome_zarr.write_ome_zarr,
    ".mrc": mrc_writer.write_mrc,
    ".h5": hdf5_writer.write_hdf5,
    ".png": png_series.write_png,
}
"""Function that writes an image, by suffix."""


def read_image(path: Path | str, dataset: str | None = None) -> ImageArray:
    """Return the image in a file, with its axes, spacing and units.

    Parameters
    ----------
    path
        A file; a folder of section images, or a pattern for them (``sections/*.png``); or an HDF5
        file and a data set in it (``file.h5/volume/raw``, as ilastik writes it).
    dataset
        Another way to name the data set of an HDF5 file.

    Raises
    ------
    FileReadError
        If the file is missing, damaged or of an unknown format.
    """
    if dataset is not None:
        check_there(Path(path))
        return read_hdf5(Path(path), dataset)
    return reader_for(path)(Path(path))


def read_grey(
    path: Path | str, channel: int | None = None, pixel_size: float | None = None
) -> ImageArray:
    """Return the image in a file as grey values.

    Parameters
    ----------
    path
        See `read_image`.
    channel
        Which one, of an image of several channels.
    pixel_size
        In nanometres, instead of what the file says.

    Raises
    ------
    FileReadError
        See `read_image`.
    ValueError
        If a channel has to be chosen, or is not there.
    """
    image = read_image(path)
    if pixel_size is not None:
        image = image.with_pixel_size(pixel_size)
    return as_grey(image, channel)


def reader_for(path: Path | str) -> Callable[[Path], ImageArray]:
    """Return the function that reads this file.

    Raises
    ------
    FileReadError
        If there is no such file, or no format has its suffix. Whether there is a store is left to
        its reader, which can tell what is in it instead.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            os.scandir(path).close()
            (path / "zarr.json").exists()
    if zarrs.is_zarr(path):
        return zarrs.read_zarr
    if is_pattern(path) or (path.is_dir() and holds_sections(path)):
        return read_sections
    file, dataset = _within(path)
    if dataset is not None:
        check_there(file)
        return lambda _: read_hdf5(file, dataset)
    if path.is_dir():
        raise FileReadError(
            f"{path} has no known image format: it is a folder without section images. These "
            f"files are read: {KNOWN}."
        )
    check_there(path)
    found = format_of(path)
    if found is None:
        raise FileReadError(f"{path} has no known image format; these are read: {KNOWN}.")
    return found.read


def is_known(path: Path | str) -> bool:
    """Return whether a path looks like one that `read_image` reads; nothing is opened."""
    path = Path(path)
    if zarrs.is_zarr(path):
        return True
    if is_pattern(path):
        return path.name.lower().endswith((*TIFFS, *PICTURES))
    if path.is_dir():
        return holds_sections(path)
    return path.name.lower().endswith(tuple(READERS)) or _within(path)[1] is not None


def _within(path: Path) -> tuple[Path, str | None]:
    """A file, and the data set in it that a path like ``file.h5/raw`` names."""
    for file in path.parents:
        if file.suffix.lower() in HDF5_SUFFIXES and file.is_file():
            return file, path.relative_to(file).as_posix()
    return path, None


def file_of(path: Path | str) -> Path:
    """Return the file or store of a path, which may name an image in it."""
    path = Path(path)
    file, dataset = _within(path)
    if dataset is not None:
        return file
    stores = [each for each in (path, *path.parents) if zarrs.is_store(each)]
    return stores[-1] if stores else path


def images_in(path: Path | str) -> list[StoredImage]:
    """Return the images in a file or store; none where its format has but one to a file.

    Parameters
    ----------
    path
        May name an image in it; all are listed, the one first that is read where none is named.

    Raises
    ------
    FileReadError
        If the file is missing or damaged.
    """
    file = file_of(path)
    if zarrs.is_zarr(file):
        return zarrs.zarr_images(file)
    if not file.is_file():
        return []
    found = format_of(file)
    return found.images(file) if found is not None else []


def write_image(path: Path | str, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write an image with its spacing and units; it replaces an older file when it is whole.

    Parameters
    ----------
    path
        The suffix chooses the format. ``x.zarr/labels/name`` is a place among the labels of an
        OME-Zarr image.
    image
        Its data may be larger than memory.
    classes
        What the values 1, 2, ... mean, if it is a class mask; told where the format can hold it.

    Raises
    ------
    ValueError
        If no format has this suffix.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    writer = writer_for(path)
    writer(Path(path), image, classes)


def check_keeps_source(path: Path | str, source: Path | str) -> None:
    """Complain if writing a file would replace what an image was read from.

    Parameters
    ----------
    path
        What is to be written.
    source
        See `read_image`; links are followed.

    Raises
    ------
    FileWriteError
        If it would.
    """
    source = Path(source)
    named, sections = (source.parent, source.name) if is_pattern(source) else (source, "*")
    target = Path(os.path.realpath(path))
    # Not the store around an image in it: labels find their place there.
    for held in (Path(os.path.realpath(each)) for each in (named, file_of(named))):
        is_section = target.parent == held and target.is_file() and target.match(sections)
        if is_section or target in (held, *held.parents):
            raise FileWriteError(
                f"{path} is not written, since the image itself is read from there ({held}). "
                "Choose another name."
            )


def writer_for(path: Path | str) -> Writer:
    """Return the function that writes files of this name.

    Raises
    ------
    ValueError
        If no format has this suffix.
    """
    if ome_zarr.labelled_image(Path(path)) is not None:
        return ome_zarr.write_ome_zarr
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise ValueError(
            f"{Path(path).name!r} has no known image format; these are written: "
            f"{', '.join(WRITERS)}."
        )
    return writer

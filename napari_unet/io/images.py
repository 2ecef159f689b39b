"""Images from files and to files; the suffix chooses the format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_unet.core.image import ImageArray
from napari_unet.io import tiff, zarrs
from napari_unet.io.files import FileReadError

READERS: dict[str, Callable[[Path], ImageArray]] = {
    ".tif": tiff.read_tiff,
    ".tiff": tiff.read_tiff,
    **dict.fromkeys(zarrs.SUFFIXES, zarrs.read_zarr),
}
"""Function that reads a file, by suffix."""

WRITERS: dict[str, Callable[[Path, ImageArray], None]] = {
    ".tif": tiff.write_tiff,
    ".tiff": tiff.write_tiff,
}
"""Function that writes an image, by suffix."""


def read_image(path: Path | str) -> ImageArray:
    """Return the image in a file, with its axes, spacing and units.

    Raises
    ------
    FileReadError
        If the file is missing, damaged or of an unknown format.
    """
    return reader_for(path)(Path(path))


def reader_for(path: Path | str) -> Callable[[Path], ImageArray]:
    """Return the function that reads this file.

    Raises
    ------
    FileReadError
        If there is no such file, or no format has its suffix. Whether there is a store is left to
        its reader, which can tell what is in it instead.
    """
    path = Path(path)
    if zarrs.is_zarr(path):
        return zarrs.read_zarr
    reader = READERS.get(path.suffix.lower())
    if path.is_dir() or (reader is None and path.exists()):
        raise FileReadError(
            f"{path} has no known image format; these are read: {', '.join(READERS)}."
        )
    if reader is None or not path.is_file():
        raise FileReadError(f"There is no file {path}.")
    return reader


def write_image(path: Path | str, image: ImageArray) -> None:
    """Write an image with its spacing and units; it replaces an older file when it is whole.

    Raises
    ------
    ValueError
        If no format has this suffix.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    writer = writer_for(path)
    writer(Path(path), image)


def writer_for(path: Path | str) -> Callable[[Path, ImageArray], None]:
    """Return the function that writes files of this name.

    Raises
    ------
    ValueError
        If no format has this suffix.
    """
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise ValueError(
            f"{Path(path).name!r} has no known image format; these are written: "
            f"{', '.join(WRITERS)}."
        )
    return writer

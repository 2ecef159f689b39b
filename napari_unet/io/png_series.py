"""PNG: a section as a file, a stack as a folder of numbered ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray, SectionIndex
from napari_unet.core.units import nanometres
from napari_unet.io.files import FileWriteError, replacing, replacing_folder
from napari_unet.io.streaming import ordered_axes, sections_of

_NANOMETRES_PER_INCH = 2.54e7
_DENSITIES = (1.0, 2**31 * 0.0254 - 1)
"""Pixels per inch of which the format can tell: whole numbers of 31 bits, per metre."""


def write_png(path: Path, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write a section as a PNG, several as a folder of this name with numbered PNGs.

    Whole numbers of 8 and 16 bits are kept as they are. Pixel size and class names are told
    in each file.

    Raises
    ------
    ValueError
        If there are real numbers, or ones beyond 16 bits.
    FileWriteError
        If it cannot be written, or a folder of other things is there; what was there stays.
    """
    axes = ordered_axes(image, "TCZYXS")
    outer = axes[: axes.index("Y")]
    settings = _settings(image, classes)
    dtype = _stored_type(image)
    if not outer:
        with replacing(path) as temporary:
            for _, section in sections_of(image, axes):
                _save(temporary, section, dtype, settings)
        return
    if path.is_file():
        raise FileWriteError(
            f"Cannot write {path}: a stack is a folder of sections, and there is a file of this "
            "name."
        )
    if path.is_dir() and not all(_is_ours(each, path.stem) for each in path.iterdir()):
        raise FileWriteError(
            f"Cannot write {path}: it is a folder with other files than sections that were written "
            "here before. Choose another name."
        )
    lengths = dict(zip(image.axes, image.shape, strict=True))
    with replacing_folder(path) as folder:
        folder.mkdir()
        for index, section in sections_of(image, axes):
            name = _numbered(index, outer, lengths)
            _save(folder / f"{path.stem}-{name}.png", section, dtype, settings)


def _is_ours(file: Path, stem: str) -> bool:
    return file.suffix == ".png" and file.name.startswith(f"{stem}-")


def _stored_type(image: ImageArray) -> np.dtype[Any]:
    if image.dtype.kind == "b" or image.dtype == np.uint8:
        return np.dtype(np.uint8)
    if image.dtype.kind not in "ui":
        raise ValueError(
            f"PNG files hold whole numbers of 8 or 16 bits; {image.name!r} holds {image.dtype}. "
            "Write OME-Zarr or TIFF instead."
        )
    return np.dtype(np.uint16)


def _settings(image: ImageArray, classes: ClassTable) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    if classes:
        told.add_itxt("classes", ", ".join(f"{n} {c.name}" for n, c in enumerate(classes, start=1)))
    settings: dict[str, Any] = {"format": "PNG", "pnginfo": told}
    spacing = [
        nanometres(image.scale[place], image.units[place])
        for place in (image.axes.index("X"), image.axes.index("Y"))
    ]
    densities = tuple(_NANOMETRES_PER_INCH / each for each in spacing if each)
    lowest, highest = _DENSITIES
    if len(densities) == 2 and all(lowest <= each <= highest for each in densities):
        settings["dpi"] = densities
    return settings


def _save(
    path: Path, section: npt.NDArray[Any], dtype: np.dtype[Any], settings: dict[str, Any]
) -> None:
    from PIL import Image

    stored = np.ascontiguousarray(section, dtype=dtype)
    if (stored != section).any():
        raise ValueError(
            f"PNG files hold numbers from 0 to 65535; these go from {section.min()} to "
            f"{section.max()}. Write OME-Zarr or TIFF instead."
        )
    Image.fromarray(stored).save(path, **settings)


def _numbered(index: SectionIndex, outer: str, lengths: dict[str, int]) -> str:
    """Numbers in the order of the names, such as ``c1-z0012``; the axis of a plain stack goes unnamed."""
    parts = [
        f"{axis.lower() if len(outer) > 1 else ''}{number:0{max(4, len(str(lengths[axis])))}d}"
        for axis, number in zip(outer, index, strict=True)
    ]
    return "-".join(parts)

"""Stacks of section images: a folder, or a pattern such as ``sections/*.png``."""

from __future__ import annotations

import glob
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL
from napari_unet.io.files import FileReadError, check_there, reading
from napari_unet.io.lazy import stack_of
from napari_unet.io.tiff import read_tiff, tiff_image, tiff_shape

PICTURES = (".png", ".jpg", ".jpeg")
TIFFS = (".tif", ".tiff")

MOST_NAMED = 5
"""Of many sections that differ so many are named."""

_WILD = "*?["


def is_pattern(path: Path | str) -> bool:
    """Return whether a path stands for several files."""
    return any(letter in Path(path).name for letter in _WILD) and not Path(path).exists()


def holds_sections(folder: Path) -> bool:
    """Return whether a folder holds images that may be sections."""
    return any(_is_section(path) for path in folder.iterdir())


def read_sections(path: Path) -> ImageArray:
    """Return the images of a folder, or of a pattern, as a stack in natural order (2 before 10).

    Every image is read when it is looked at; size and type of all are checked before. The pixel
    size is that of the first image; how far sections are apart is not known.

    Raises
    ------
    FileReadError
        If there are none, they are of several formats, or differ in size or type; the message
        names those that differ.
    """
    files = _files(path)
    first = read_picture(files[0]) if files[0].suffix.lower() in PICTURES else read_tiff(files[0])
    if first.axes not in ("YX", "YXS"):
        raise FileReadError(
            f"{files[0]} is no single section but a stack ({first.axes} {first.shape}). Open it "
            "by itself."
        )
    expected = _shape(files[0])
    different = [file for file in files if _shape(file) != expected]
    if different:
        named = ", ".join(f"{file.name} {_told(_shape(file))}" for file in different[:MOST_NAMED])
        more = len(different) - MOST_NAMED
        raise FileReadError(
            f"The sections in {path} are not alike: {files[0].name} is {_told(expected)}, but "
            f"{named}{f' and {more} more' if more > 0 else ''}. Bring them to one size and type, "
            "or name the right ones with a pattern."
        )
    read = partial(_section, files, first.shape, first.dtype)
    return ImageArray(
        stack_of(read, (len(files),), first.shape, first.dtype),
        f"Z{first.axes}",
        (1.0, *first.scale),
        (PIXEL, *first.units),
        (path.parent if is_pattern(path) else path).name,
    )


def read_picture(path: Path) -> ImageArray:
    """Return a PNG or JPEG image; they do not tell a pixel size that could be trusted.

    Raises
    ------
    FileReadError
        If it is damaged or cut short.
    """
    import imageio.v3

    with reading(path):
        data = imageio.v3.imread(path)
        pictures = imageio.v3.improps(path).n_images or 1
    if data.ndim == 3 and data.shape[-1] == 2:
        # Grey and opacity.
        data = data[..., 0]
    axes = {2: "YX", 3: "YXS"}.get(data.ndim)
    if axes is None or pictures > 1:
        raise FileReadError(
            f"{path} holds several pictures ({data.shape}), as an animation does. Save its frames "
            "as files of their own."
        )
    colour = len(axes) - 2
    return ImageArray(
        data, axes, (1.0,) * data.ndim, (PIXEL, PIXEL) + ("",) * colour, path.name.split(".")[0]
    )


def _is_section(path: Path) -> bool:
    is_image = path.suffix.lower() in (*PICTURES, *TIFFS) and not path.name.startswith(".")
    return is_image and path.is_file()


def _files(path: Path) -> list[Path]:
    pattern = is_pattern(path)
    with reading(path):
        # Path.glob takes no absolute patterns.
        named = [Path(n) for n in glob.glob(str(path))] if pattern else path.iterdir()  # noqa: PTH207
        files = [file for file in named if _is_section(file)]
    kinds = ", ".join((*PICTURES, *TIFFS))
    if not files:
        raise FileReadError(f"{path} names no section images ({kinds}).")
    suffixes = Counter(file.suffix.lower() for file in files)
    if len(suffixes) > 1:
        found = " and ".join(f"{count} of {suffix}" for suffix, count in suffixes.most_common())
        raise FileReadError(
            f"{path} holds images of several formats ({found}). Say which are the sections with a "
            f"pattern, such as {(path.parent if pattern else path) / '*'}{suffixes.most_common()[0][0]}."
        )
    return sorted(files, key=lambda file: natural_order(str(file)))


def natural_order(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that sorts a2 before a10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts], name


def _shape(path: Path) -> tuple[tuple[int, ...], str]:
    """Size and type of an image, from its header."""
    check_there(path)
    if path.suffix.lower() in TIFFS:
        return tiff_shape(path)
    import imageio.v3

    with reading(path):
        properties = imageio.v3.improps(path)
    return properties.shape, str(properties.dtype)


def _told(shape: tuple[tuple[int, ...], str]) -> str:
    return f"{' x '.join(map(str, shape[0]))} {shape[1]}"


def _section(
    files: list[Path], shape: tuple[int, ...], dtype: np.dtype[Any], number: int
) -> npt.NDArray[Any]:
    path = files[number]
    # What there is to tell of it was told of the first one.
    image = read_picture(path) if path.suffix.lower() in PICTURES else tiff_image(path)[0]
    if image.shape != shape or image.dtype != dtype:
        raise FileReadError(
            f"{path} has changed: it is {image.shape} {image.dtype} now, and was {shape} {dtype}. "
            "Open the sections anew."
        )
    return np.asarray(image.data)

"""TIFF: ImageJ hyperstacks, OME-TIFF and plain ones, with pixel size and units."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, nanometres, positive_number, standard_unit
from napari_unet.io.files import reading, replacing
from napari_unet.io.lazy import LARGEST_IN_MEMORY, native, raw_array
from napari_unet.io.streaming import ordered_axes, sections_of
from napari_unet.io.tiff_pages import lazy_series
from napari_unet.io.tiff_vendors import VENDORS_TAGS, Spacing, vendors_spacing

LARGEST_PLAUSIBLE_PIXEL = 1e4
"""In nanometres. Resolution tags beyond it are a printer's (72 dpi), not a microscope's."""

LARGEST_CLASSIC = 2**32 - 2**25
"""Bytes that fit into a TIFF that is no BigTIFF; ImageJ reads BigTIFF only through Bio-Formats."""

_IMAGEJ_UNITS = {"µm": "micron", "Å": "angstrom"}
"""Spellings for units that are no ASCII, as TIFF descriptions must be."""

_ADVICE = (
    "It may be damaged or no TIFF file; open it with the program that wrote it, and save it anew."
)

# What tifffile says of damaged files comes as an error of ours; without a handler Python would
# print it besides.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(path: Path) -> ImageArray:
    """Return the first series of a TIFF file.

    Of large stacks, pages or rows are read when they are looked at. Axes that TIFF does not name are taken as Z. Where a microscope's program
    tells the pixel size in tags of its own, these go before the resolution tags.

    Raises
    ------
    FileReadError
        If the file is no TIFF, cut short or damaged.
    """
    with reading(path, _ADVICE):
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            _check_whole(path, file)
            axes = _axes(series.axes)
            spacing = _spacing(file)
            if series.dataoffset is not None:
                dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
                data = raw_array(path, dtype, series.dataoffset, series.shape)
            else:
                large = series.nbytes > LARGEST_IN_MEMORY
                data = lazy_series(path, series) if large else None
                if data is None:
                    data = series.asarray()
                data = native(data.reshape(series.shape))
        if spacing.get("Z", (0, ""))[1] in ("s", "ms") and "T" not in axes:
            axes, spacing["T"] = axes.replace("Z", "T"), spacing["Z"]
        scale, units = zip(*(spacing.get(a, (1.0, _unknown(a))) for a in axes), strict=True)
        return ImageArray(data, axes, scale, units, path.name.split(".")[0])


def _check_whole(path: Path, file: tifffile.TiffFile) -> None:
    size = path.stat().st_size
    for page in file.series[0].pages:
        if page is None:
            continue
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset + count > size:
                raise ValueError(
                    f"it is cut short ({size} bytes, where it says it has at least "
                    f"{offset + count})"
                )
    first, last = (_directory(file, page.offset) for page in (file.pages.first, file.pages[-1]))
    if last[1] >= size:
        raise ValueError(f"it is cut short ({size} bytes): pages are missing at its end")
    if (first[0] & _MEANING) - {tag.code for tag in file.pages.first.tags}:
        raise ValueError(f"it is cut short ({size} bytes): its description is missing")


_MEANING = {270, 282, 283, *VENDORS_TAGS}
"""Tags that say what the pixels mean: ImageDescription, XResolution, YResolution, and vendors'."""


def _directory(file: tifffile.TiffFile, offset: int) -> tuple[set[int], int]:
    """The tags that a page says it has, and where the next page begins (0 after the last).

    tifffile leaves out pages and tags that it cannot read; this tells that there were some.
    """
    layout, handle = file.tiff, file.filehandle
    handle.seek(offset)
    (count,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    entries = handle.read(count * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    codes = (entries[i : i + 2] for i in range(0, len(entries), layout.tagsize))
    return {struct.unpack(layout.byteorder + "H", code)[0] for code in codes}, following


def _axes(axes: str) -> str:
    """Axes in the letters of `ImageArray`; nameless ones become Z, then T, then C."""
    free = [a for a in "ZTC" if a not in axes]
    if sum(a not in "TCZYXS" for a in axes) > len(free):
        raise ValueError(f"it has more axes ({axes}) than time, channel, Z, Y and X")
    return "".join(a if a in "TCZYXS" else free.pop(0) for a in axes)


def _unknown(axis: str) -> str:
    return "" if axis in "CS" else PIXEL


def tiff_shape(path: Path) -> tuple[tuple[int, ...], str]:
    """Return size and type of the first series of a TIFF file; its pixels are not read.

    Raises
    ------
    FileReadError
        If the file is no TIFF.
    """
    with reading(path, _ADVICE), tifffile.TiffFile(path) as file:
        series = file.series[0]
        return tuple(int(n) for n in series.shape), str(series.dtype.newbyteorder("="))


def _spacing(file: tifffile.TiffFile) -> Spacing:
    """Spacing and unit of each axis that the file knows."""
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    vendors = vendors_spacing(file)
    if vendors:
        return vendors
    resolution = _resolution(file.pages.first)
    if file.is_imagej:
        return _imagej_spacing(file.imagej_metadata or {}, resolution)
    unit_tag = file.pages.first.tags.get("ResolutionUnit")
    nanometres = {2: 2.54e7, 3: 1e7}.get(int(unit_tag.value) if unit_tag else 1)
    if nanometres is None:
        return {}
    return {
        a: (nanometres / r, "nm")
        for a, r in resolution.items()
        if nanometres / r <= LARGEST_PLAUSIBLE_PIXEL
    }


def _imagej_spacing(metadata: dict[str, Any], resolution: dict[str, float]) -> Spacing:
    unit = standard_unit(str(metadata.get("unit", "")))
    found: Spacing = {}
    lengths = {a: 1 / r for a, r in resolution.items()}
    step = positive_number(str(metadata.get("spacing", "")).lstrip("-"))
    if step is not None:
        lengths["Z"] = step
    for axis, length in lengths.items():
        # ImageJ tells the units of Y and Z only where they are not that of X.
        own = standard_unit(str(metadata.get(f"{axis.lower()}unit", unit)))
        if own != PIXEL and unit != PIXEL:
            found[axis] = (length, own)
    interval = positive_number(metadata.get("finterval"))
    if interval is not None:
        found["T"] = (interval, "s")
    return found


def _resolution(page: Any) -> dict[str, float]:
    """Pixels per unit along X and Y."""
    found = {}
    for axis, name in (("X", "XResolution"), ("Y", "YResolution")):
        tag = page.tags.get(name)
        if tag is not None and tag.value[0] and tag.value[1]:
            found[axis] = tag.value[0] / tag.value[1]
    return found


def _ome_spacing(xml: str) -> Spacing:
    images = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    first = images[0] if isinstance(images, list) else images
    pixels = first.get("Pixels", {})
    found: Spacing = {}
    for axis in "XYZ":
        size = positive_number(pixels.get(f"PhysicalSize{axis}"))
        unit = standard_unit(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        if size is not None and unit != PIXEL:
            found[axis] = (size, unit)
    interval = positive_number(pixels.get("TimeIncrement"))
    if interval is not None:
        found["T"] = (interval, standard_unit(str(pixels.get("TimeIncrementUnit", "s"))))
    return found


def write_tiff(path: Path, image: ImageArray, classes: ClassTable = ()) -> None:
    """Write an ImageJ hyperstack with pixel size and unit, or OME-TIFF where ImageJ's does not do.

    ImageJ knows 8- and 16-bit whole numbers and 32-bit real ones, up to 4 GB. Other whole
    numbers of up to 32 bits are written in OME-TIFF; real numbers become float32, truth values
    0 and 1. Axes in an order that ImageJ does not have are transposed. Section after section is
    read and written.

    Raises
    ------
    ValueError
        If a whole number needs more than 32 bits.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    dtype = _stored_type(image)
    size = dtype.itemsize * math.prod(image.shape)
    with replacing(path) as temporary:
        if dtype in (np.uint8, np.uint16, np.float32) and size < LARGEST_CLASSIC:
            _write_imagej(temporary, dtype, image, classes)
        else:
            _write_ome(temporary, dtype, image, classes)


def _stored_type(image: ImageArray) -> np.dtype[Any]:
    """A type that TIFF readers know, ImageJ's where the values fit."""
    if image.dtype.kind == "b":
        return np.dtype(np.uint8)
    if image.dtype.kind == "f":
        return np.dtype(np.float32)
    if image.dtype in (np.uint8, np.uint16):
        return image.dtype
    low, high = _extremes(image)
    if low >= 0 and high < 2**16:
        return np.dtype(np.uint16 if image.dtype.itemsize > 1 else np.uint8)
    if image.dtype.itemsize <= 4:
        return image.dtype
    for wide in (np.uint32, np.int32):
        limits = np.iinfo(wide)
        if limits.min <= low and high <= limits.max:
            return np.dtype(wide)
    raise ValueError(
        f"TIFF files hold whole numbers of up to 32 bits; these go from {low} to {high}. Number "
        "the objects anew, beginning with 1."
    )


def _extremes(image: ImageArray) -> tuple[int, int]:
    sections = (section for _, section in sections_of(image, _page_axes(image, "TCZ")))
    found = [(int(section.min()), int(section.max())) for section in sections]
    return min(low for low, _ in found), max(high for _, high in found)


def _page_axes(image: ImageArray, outer: str) -> str:
    """Axes of an image in the order of its pages."""
    return ordered_axes(image, f"{outer}YXS")


def _pages(image: ImageArray, axes: str, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    for _, section in sections_of(image, axes):
        yield np.ascontiguousarray(section, dtype=dtype)


def _write_imagej(path: Path, dtype: np.dtype[Any], image: ImageArray, classes: ClassTable) -> None:
    sizes = dict(zip(image.axes, image.shape, strict=True))
    if "S" in sizes:
        axes = _page_axes(image, "TCZ")
        shape = tuple(sizes[a] for a in axes)
        pages = _pages(image, axes, dtype)
        tifffile.imwrite(path, pages, shape=shape, dtype=dtype, photometric="rgb", metadata=None)
        return
    spacing = dict(zip(image.axes, image.scale, strict=True))
    unit, lengths = _common_unit(image)
    lines = {
        "ImageJ": "1.54f",
        "images": int(np.prod(image.shape, dtype=int)) // (sizes["Y"] * sizes["X"]),
        "channels": sizes.get("C", 1),
        "slices": sizes.get("Z", 1),
        "frames": sizes.get("T", 1),
        "hyperstack": "true",
        "mode": "grayscale",
        "unit": _IMAGEJ_UNITS.get(unit, unit),
        "loop": "false",
    }
    if "Z" in lengths:
        lines["spacing"] = lengths["Z"]
    if "T" in sizes and image.units[image.axes.index("T")] == "s":
        lines["finterval"] = spacing["T"]
    # Channels outside of Z, so that any reader of the pages gets (C, Z, Y, X). ImageJ
    # understands this one order besides its own.
    outside = "C" in sizes and not image.axes.endswith("CYX")
    if outside:
        lines["order"] = "zct"
    if classes:
        lines["classes"] = _told(classes)
    axes = _page_axes(image, "TCZ" if outside else "TZC")
    tifffile.imwrite(
        path,
        _pages(image, axes, dtype),
        shape=tuple(sizes[a] for a in axes),
        dtype=dtype,
        photometric="minisblack",
        description="\n".join(f"{k}={v}" for k, v in lines.items()) + "\n",
        resolution=(1 / lengths["X"], 1 / lengths["Y"]),
        resolutionunit="NONE",
        metadata=None,
    )


def _told(classes: ClassTable) -> str:
    """Names of classes in one line of ASCII, as descriptions must be."""
    names = ", ".join(f"{n} {each.name}" for n, each in enumerate(classes, start=1))
    return names.encode("ascii", "backslashreplace").decode()


def _common_unit(image: ImageArray) -> tuple[str, dict[str, float]]:
    """The unit of X, and the spacings known in it; ImageJ has one unit for all axes."""
    units = dict(zip(image.axes, image.units, strict=True))
    spacing = dict(zip(image.axes, image.scale, strict=True))
    unit = standard_unit(units["X"])
    one = nanometres(1.0, unit)
    lengths = {}
    for axis in (a for a in "ZYX" if a in units):
        length = nanometres(spacing[axis], units[axis])
        if one is not None and length is not None:
            lengths[axis] = length / one
        elif units[axis] == units["X"]:  # pixels, all of them
            lengths[axis] = spacing[axis]
    return unit, {"Y": spacing["Y"], "X": spacing["X"], **lengths}


def _write_ome(path: Path, dtype: np.dtype[Any], image: ImageArray, classes: ClassTable) -> None:
    axes = image.axes if image.axes.endswith(("YX", "YXS")) else _page_axes(image, "TCZ")
    metadata: dict[str, Any] = {"axes": axes}
    for axis, scale, unit in zip(image.axes, image.scale, image.units, strict=True):
        if axis in "ZYX" and unit not in ("", PIXEL):
            metadata[f"PhysicalSize{axis}"] = scale
            metadata[f"PhysicalSize{axis}Unit"] = unit
        if axis == "T" and standard_unit(unit) in ("s", "ms"):
            metadata["TimeIncrement"] = scale
            metadata["TimeIncrementUnit"] = unit
    if classes:
        metadata["Description"] = f"classes: {_told(classes)}"
    sizes = dict(zip(image.axes, image.shape, strict=True))
    tifffile.imwrite(
        path,
        _pages(image, axes, dtype),
        shape=tuple(sizes[a] for a in axes),
        dtype=dtype,
        ome=True,
        bigtiff=True,
        photometric="rgb" if "S" in axes else "minisblack",
        metadata=metadata,
    )

"""TIFF: ImageJ hyperstacks, OME-TIFF and plain ones, with pixel size and units."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.notices import tell
from napari_unet.core.units import PIXEL, nanometres, positive_number, standard_unit
from napari_unet.io.files import reading, replacing
from napari_unet.io.lazy import LARGEST_IN_MEMORY, native, raw_array
from napari_unet.io.streaming import ordered_axes, sections_of
from napari_unet.io.tiff_pages import lazy_series
from napari_unet.io.tiff_series import check_whole, elements, ome_of, series_to_read
from napari_unet.io.tiff_values import as_seen
from napari_unet.io.tiff_vendors import Spacing, vendors_spacing

LARGEST_PLAUSIBLE_PIXEL = 1e4
"""In nanometres. Resolution tags beyond it are a printer's (72 dpi), not a microscope's."""

LARGEST_CLASSIC = 2**32 - 2**25
"""Bytes that fit into a TIFF that is no BigTIFF; ImageJ reads BigTIFF only through Bio-Formats."""

ENOUGH_TO_FAIL = 2**20
"""Bytes that a disk does not take which was full a moment ago."""

_IMAGEJ_UNITS = {"µm": "micron", "Å": "angstrom"}
"""Spellings for units that are no ASCII, as TIFF descriptions must be."""

_ADVICE = (
    "It may be damaged or no TIFF file; open it with the program that wrote it, and save it anew."
)

# What tifffile says of damaged files comes as an error of ours; without a handler Python would
# print it besides.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(path: Path) -> ImageArray:
    """Return the image in a TIFF file; of several the largest, and a warning names the others.

    Raises
    ------
    FileReadError
        See `tiff_image`.
    """
    image, told = tiff_image(path)
    if told:
        tell(told, stacklevel=2)
    return image


def tiff_image(path: Path) -> tuple[ImageArray, str]:
    """Return the image in a TIFF file, and what people should know of it, if anything.

    Of large stacks, pages or rows are read when they are looked at. Axes that TIFF does not name
    are taken as Z. Where a microscope's program tells the pixel size in tags of its own, these go
    before the resolution tags. Where 0 is white, or a palette has nothing but greys, the image has
    the grey values that are meant.

    Raises
    ------
    FileReadError
        If the file is no TIFF, cut short or damaged.
    """
    with reading(path, _ADVICE):
        with tifffile.TiffFile(path) as file:
            series, told = series_to_read(path, file)
            check_whole(file, series)
            axes = _axes(series.axes)
            spacing = _spacing(file, series)
            if series.dataoffset is not None and series.keyframe.parent is file:
                dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
                data = raw_array(path, dtype, series.dataoffset, series.shape)
            else:
                large = series.nbytes > LARGEST_IN_MEMORY
                data = lazy_series(path, series) if large else None
                if data is None:
                    data = series.asarray()
                data = native(data.reshape(series.shape))
            data = as_seen(data, series.keyframe)
        if spacing.get("Z", (0, ""))[1] in ("s", "ms") and "T" not in axes:
            axes, spacing["T"] = axes.replace("Z", "T"), spacing["Z"]
        scale, units = zip(*(spacing.get(a, (1.0, _unknown(a))) for a in axes), strict=True)
        return ImageArray(data, axes, scale, units, path.name.split(".")[0]), told


def _axes(axes: str) -> str:
    """Axes in the letters of `ImageArray`; nameless ones become Z, then T, then C."""
    free = [a for a in "ZTC" if a not in axes]
    if sum(a not in "TCZYXS" for a in axes) > len(free):
        raise ValueError(f"it has more axes ({axes}) than time, channel, Z, Y and X")
    return "".join(a if a in "TCZYXS" else free.pop(0) for a in axes)


def _unknown(axis: str) -> str:
    return "" if axis in "CS" else PIXEL


def tiff_shape(path: Path) -> tuple[tuple[int, ...], str]:
    """Return size and type of what `read_tiff` reads of a file; its pixels are not read.

    Raises
    ------
    FileReadError
        If the file is no TIFF.
    """
    with reading(path, _ADVICE), tifffile.TiffFile(path) as file:
        series, _ = series_to_read(path, file)
        return tuple(int(n) for n in series.shape), str(series.dtype.newbyteorder("="))


def _spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Spacing:
    """Spacing and unit of each axis that the file knows."""
    if file.is_ome and file.ome_metadata:
        images = elements(ome_of(file).get("Image")) or [{}]
        keyframes = [each.keyframe for each in file.series]
        # Images whose pixels are nowhere are no series.
        told = len(keyframes) == len(images)
        return _ome_spacing(images[keyframes.index(series.keyframe) if told else 0])
    vendors = vendors_spacing(file)
    if vendors:
        return vendors
    page = series.keyframe
    resolution = _resolution(page)
    unit_tag = page.tags.get("ResolutionUnit")
    unit = int(unit_tag.value) if unit_tag else 0
    if file.is_imagej:
        return _imagej_spacing(file.imagej_metadata or {}, resolution, unit == 1)
    nanometres = {2: 2.54e7, 3: 1e7}.get(unit)
    if nanometres is None:
        return {}
    return {
        a: (nanometres / r, "nm")
        for a, r in resolution.items()
        if nanometres / r <= LARGEST_PLAUSIBLE_PIXEL
    }


def _imagej_spacing(
    metadata: dict[str, Any], resolution: dict[str, float], unitless: bool
) -> Spacing:
    told = str(metadata.get("unit", "")).strip().lower()
    unit = standard_unit(told)
    ratios = told in ("", PIXEL, f"{PIXEL}s")
    found: Spacing = {}
    # Beside no unit in words, one in the tags is a printer's.
    lengths = {a: 1 / r for a, r in resolution.items() if unitless or not ratios}
    step = positive_number(str(metadata.get("spacing", "")).lstrip("-"))
    if step is not None:
        lengths["Z"] = step
    for axis, length in lengths.items():
        # ImageJ tells the units of Y and Z only where they are not that of X.
        own = standard_unit(str(metadata.get(f"{axis.lower()}unit", unit)))
        if (own != PIXEL and unit != PIXEL) or (ratios and own == PIXEL):
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


def _ome_spacing(image: dict[str, Any]) -> Spacing:
    pixels = image.get("Pixels", {})
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
    imagej = dtype in (np.uint8, np.uint16, np.float32) and size < LARGEST_CLASSIC
    with replacing(path) as temporary:
        try:
            (_write_imagej if imagej else _write_ome)(temporary, dtype, image, classes)
        except OSError as error:
            if error.errno is not None:
                raise
            # NumPy tells how little it wrote, but not why; the system says it once more.
            with temporary.open("ab") as file:
                file.write(bytes(ENOUGH_TO_FAIL))
            raise OSError("it could not be written whole; the disk may be full") from error


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
    spacing = dict(zip(image.axes, image.scale, strict=True))
    units = dict(zip(image.axes, image.units, strict=True))
    unit, lengths = _common_unit(image)
    lines = {
        "ImageJ": "1.54f",
        "images": math.prod(sizes[a] for a in "TZC" if a in sizes),
        "channels": sizes.get("C", 1),
        "slices": sizes.get("Z", 1),
        "frames": sizes.get("T", 1),
        "hyperstack": "true",
        **({} if "S" in sizes else {"mode": "grayscale"}),
        "unit": _IMAGEJ_UNITS.get(unit, unit),
        "loop": "false",
    }
    if "Z" in lengths:
        lines["spacing"] = lengths["Z"]
    second = {"s": 1.0, "ms": 1e-3}.get(standard_unit(units.get("T", "")))
    if second is not None:
        lines["finterval"] = spacing["T"] * second
    # Channels outside of Z, so that any reader of the pages gets (C, Z, Y, X). ImageJ
    # understands this one order besides its own.
    outside = "C" in sizes and not image.axes.endswith(("CYX", "CYXS"))
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
        photometric="rgb" if "S" in sizes else "minisblack",
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

"""Pixel sizes that microscopes' programs write into TIFF tags of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tifffile

from napari_unet.core.units import PIXEL, legible, nanometres, positive_number, standard_unit

Spacing = dict[str, tuple[float, str]]
"""Length and unit by axis letter."""


_DIGITAL_MICROGRAPH = {"X": (65009, 65003), "Y": (65010, 65004), "Z": (65011, 65005)}
"""Tags with spacing and unit of each axis."""

VENDORS_TAGS = frozenset(
    {
        34118,  # Zeiss
        34680,  # FEI
        34682,
        37706,  # TVIPS
        33560,  # Olympus
        *(code for codes in _DIGITAL_MICROGRAPH.values() for code in codes),
    }
)
"""Tags without which the pixel size would be lost."""


def vendors_spacing(file: tifffile.TiffFile) -> Spacing:
    """Return the spacing of X, Y and Z as far as the tags of an instrument tell it.

    They go before the resolution tags, which such programs often fill with a printer's.
    """
    readers: tuple[Callable[[tifffile.TiffFile], Spacing], ...] = (
        _thermo_fisher,
        _zeiss,
        _tvips,
        _olympus,
        _digital_micrograph,
    )
    return next((found for read in readers if (found := read(file))), {})


def _thermo_fisher(file: tifffile.TiffFile) -> Spacing:
    metadata = file.fei_metadata or {}
    for scan in ("Scan", "EScan", "IScan"):
        section = metadata.get(scan)
        if isinstance(section, dict):
            found = _lengths(section.get("PixelWidth"), section.get("PixelHeight"), "m")
            if found:
                return found
    return {}


def _zeiss(file: tifffile.TiffFile) -> Spacing:
    metadata = file.sem_metadata or {}
    numbers = metadata.get("", ())
    size = positive_number(numbers[3]) if len(numbers) > 3 else None
    if size is None:
        entries = (metadata.get(key) for key in ("ap_image_pixel_size", "ap_pixel_size"))
        lengths = (_zeiss_length(entry) for entry in entries)
        return next(({"X": each, "Y": each} for each in lengths if each is not None), {})
    # The fourth of the nameless numbers is precise, but of the image as it was scanned, which may
    # have been stored at half the resolution. The readable width of the image is that of both.
    width = _zeiss_length(metadata.get("ap_width"))
    across = None if width is None else nanometres(*width)
    if across is not None:
        stored = across / file.pages.first.imagewidth
        size *= 2.0 ** round(math.log2(stored / (size * 1e9)))
    return _lengths(size, size, "m")


def _zeiss_length(entry: Any) -> tuple[float, str] | None:
    """A length among entries such as ``("Width", 2.5, "mm")``."""
    return _length(*entry[1:3]) if isinstance(entry, tuple) and len(entry) > 2 else None


def _tvips(file: tifffile.TiffFile) -> Spacing:
    metadata = file.tvips_metadata or {}
    return _lengths(metadata.get("PixelSizeX"), metadata.get("PixelSizeY"), "nm")


def _olympus(file: tifffile.TiffFile) -> Spacing:
    metadata = file.sis_metadata or {}
    return _lengths(metadata.get("pixelsizex"), metadata.get("pixelsizey"), "m")


def _digital_micrograph(file: tifffile.TiffFile) -> Spacing:
    tags = file.pages.first.tags
    found: Spacing = {}
    for axis, codes in _DIGITAL_MICROGRAPH.items():
        size, unit = (tags[code].value if code in tags else None for code in codes)
        length = _length(abs(size), unit) if isinstance(size, float) else None
        if length is not None:
            found[axis] = length
    return found


def _lengths(width: Any, height: Any, unit: str) -> Spacing:
    across, down = _length(width, unit), _length(height, unit)
    if across is None:
        return {}
    return {"X": across, "Y": down or across}


def _length(size: Any, unit: Any) -> tuple[float, str] | None:
    number, known = positive_number(size), standard_unit(str(unit))
    return None if number is None or known == PIXEL else legible(number, known)

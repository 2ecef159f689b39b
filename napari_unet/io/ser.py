"""SER and EMI, the files of the FEI program TIA."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, legible, positive_number, standard_unit
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.lazy import stack_of
from napari_unet.io.ncem import ncem_reader

_IMAGES = 0x4122
"""The header's DataTypeID where every element is an image; otherwise it is a spectrum."""

_HEADER = 50
"""Bytes before the pixels of an image: calibrations, type and size."""

LARGEST_PIXEL = 1e-2
"""In metres. Larger numbers are per metre, as in diffraction patterns; the file does not say."""


def read_ser(path: Path) -> ImageArray:
    """Return the images of a SER file, each read when it is looked at.

    Raises
    ------
    FileReadError
        If it holds spectra or complex numbers, is cut short or damaged.
    """
    with reading(path):
        header, first, details = _element(path, 0)
    count = int(header["ValidNumberElements"])
    if header["DataTypeID"] != _IMAGES:
        raise FileReadError(
            f"{path} holds no image but {count} spectra of {first.size} values; a spectrum is not "
            "an image. The images of the same recording are in the other SER files beside it."
        )
    if first.dtype.kind == "c":
        raise FileReadError(
            f"{path} holds complex numbers, as those of a Fourier transform, and no grey values. "
            "Save the image itself."
        )
    size = path.stat().st_size
    end = max(header["DataOffsetArray"]) + _HEADER + first.nbytes
    if len(header["DataOffsetArray"]) < count or end > size:
        raise FileReadError(
            f"Cannot read {path}: it is cut short ({size} bytes, where its {count} images should "
            f"end at {end}). Copy it anew."
        )
    leading, axes, spacing = _series(header, count)
    for calibration in details["Calibration"][1::-1]:
        delta = positive_number(abs(calibration["CalibrationDelta"]))
        known = delta is not None and delta < LARGEST_PIXEL
        spacing.append(legible(delta, "m") if known and delta is not None else (1.0, PIXEL))
    scale, units = zip(*spacing, strict=True)
    data: Any
    if leading:
        read = partial(_image, path, first.shape, first.dtype)
        data = stack_of(read, leading, first.shape, first.dtype)
    else:
        data = first
    return ImageArray(data, f"{axes}YX", scale, units, path.name.split(".")[0])


def read_emi(path: Path) -> ImageArray:
    """Return the first images in the SER files that belong to an EMI file.

    Raises
    ------
    FileReadError
        If there are no such files, or none holds an image.
    """
    pattern = re.compile(rf"{re.escape(path.stem)}_(\d+)\.ser", re.IGNORECASE)
    with reading(path):
        names = [match for file in path.parent.iterdir() if (match := pattern.fullmatch(file.name))]
    if not names:
        raise FileReadError(
            f"{path} keeps its images in files {path.stem}_1.ser and so on, and there are none "
            "beside it. Copy them into the same folder."
        )
    refusals = []
    for match in sorted(names, key=lambda found: int(found[1])):
        try:
            return read_ser(path.parent / match[0])
        except FileReadError as refusal:
            refusals.append(str(refusal))
    raise FileReadError(" ".join(refusals))


def _element(path: Path, number: int) -> tuple[dict[str, Any], npt.NDArray[Any], dict[str, Any]]:
    """The header of a file, one of its images or spectra, and what is told of this one."""
    with path.open("rb") as file:
        series = _series_reader()(file)
        data, details = series.getDataset(number)
        return series.head, np.ascontiguousarray(data), details


def _series_reader() -> Any:
    module = ncem_reader("ser")

    class Series(module.fileSER):  # type: ignore[misc, name-defined]
        def _read_emi(self) -> None:
            """Nothing: a damaged EMI file beside it is no reason not to read the images."""

    return Series


def _image(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], number: int
) -> npt.NDArray[Any]:
    with reading(path):
        _, data, _ = _element(path, number)
        if data.shape != shape or data.dtype != dtype:
            raise FileReadError(
                f"Cannot read {path}: its image {number} is {data.shape} {data.dtype}, but the "
                f"first is {shape} {dtype}. Save images of different sizes as files of their own."
            )
        return data


def _series(
    header: dict[str, Any], count: int
) -> tuple[tuple[int, ...], str, list[tuple[float, str]]]:
    """Shape, letters and spacing of the axes that the images are counted along."""
    if count == 1:
        return (), "", []
    dimensions = [each for each in header["Dimensions"][::-1] if each["DimensionSize"] > 1]
    leading = tuple(int(each["DimensionSize"]) for each in dimensions)
    if len(leading) > 2 or int(np.prod(leading, dtype=int)) != count:
        # A recording that was stopped has fewer images than planned.
        return (count,), "Z", [(1.0, PIXEL)]
    spacing = []
    for each in dimensions:
        delta = positive_number(abs(each["CalibrationDelta"]))
        unit = standard_unit(each["Units"])
        spacing.append((1.0, PIXEL) if delta is None or unit == PIXEL else legible(delta, unit))
    if len(leading) == 1:
        return leading, "T" if spacing[0][1] in ("s", "ms") else "Z", spacing
    return leading, "TZ", spacing

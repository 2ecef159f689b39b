"""DM3 and DM4, the files of Gatan's DigitalMicrograph."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, positive_number, standard_unit
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.lazy import raw_array
from napari_unet.io.ncem import ncem_reader

_DTYPES = {
    1: "<i2",
    2: "<f4",
    6: "u1",
    7: "<i4",
    9: "i1",
    10: "<u2",
    11: "<u4",
    12: "<f8",
    14: "?",
    23: "u1",
    39: "<i8",
    40: "<u8",
}
"""NumPy's type for each number in the tag DataType that stands for grey values or colours."""

_COLOUR = 23
"""Blue, green, red and opacity, a byte each."""

_COMPLEX = {3, 5, 13, 27, 28}

_ENERGY = ("ev", "kev")

MOST_AXES = 5


@dataclass(frozen=True)
class _Signal:
    """One entry of the list of images in a file; axes are in NumPy's order."""

    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int
    scale: tuple[float | None, ...]
    units: tuple[str, ...]
    layout: str

    def __str__(self) -> str:
        units = [unit or "no unit" for unit in self.units]
        return f"{' x '.join(map(str, self.shape))} values ({', '.join(units)})"

    @property
    def energy_axes(self) -> list[int]:
        return [i for i, unit in enumerate(self.units) if unit.strip().lower() in _ENERGY]

    def objection(self) -> str | None:
        """Why this is no image."""
        if self.kind in _COMPLEX:
            return "its values are complex numbers, as those of a Fourier transform"
        if self.kind not in _DTYPES:
            return f"its values are of the unknown type {self.kind}"
        wide = [i for i, n in enumerate(self.shape) if n > 1 and i not in self.energy_axes]
        is_spectrum = self.layout.strip().lower() == "spectrum" or bool(self.energy_axes)
        if len(self.shape) < 2 or (is_spectrum and len(wide) < 2):
            return "a spectrum is not an image"
        if len(self.shape) > MOST_AXES:
            return f"it has more than {MOST_AXES} axes"
        return None


def read_dm(path: Path) -> ImageArray:
    """Return the first image of a DM3 or DM4 file that is no thumbnail; large ones stay on disk.

    Images at several energies are a stack along Z; colours are red, green and blue samples.
    Lengths of reciprocal space are not known to us, so diffraction patterns have no pixel size.

    Raises
    ------
    FileReadError
        If it is damaged, or holds spectra or complex numbers only; the message says what.
    """
    signals = _signals(path)
    chosen = next((each for each in signals if each.objection() is None), None)
    if chosen is None:
        held = "; ".join(f"{each}: {each.objection()}" for each in signals) or "no data"
        raise FileReadError(
            f"{path} holds no image but {held}. Save the image you want as a file of its own in "
            "DigitalMicrograph."
        )
    size, dtype = path.stat().st_size, np.dtype(_DTYPES[chosen.kind])
    shape = (*chosen.shape, 4) if chosen.kind == _COLOUR else chosen.shape
    bytes_needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if chosen.offset + bytes_needed > size or bytes_needed > chosen.size:
        raise FileReadError(
            f"Cannot read {path}: it is cut short or damaged ({size} bytes, where its image of "
            f"{chosen} should end at {chosen.offset + bytes_needed}). Copy it anew."
        )
    data = raw_array(path, dtype, chosen.offset, shape)
    return _image(data, chosen, path.name.split(".")[0])


def _image(data: Any, signal: _Signal, name: str) -> ImageArray:
    spacing = [_spacing(s, u) for s, u in zip(signal.scale, signal.units, strict=True)]
    order = list(range(len(signal.shape)))
    if signal.energy_axes:
        # Sections are images at one energy.
        order = signal.energy_axes + [i for i in order if i not in signal.energy_axes]
        data = data.transpose(*order)
    spacing = [spacing[i] for i in order]
    axes = ""
    free = ["T", "Z"] if len(order) > 3 else ["Z"]
    for i in order[:-2]:
        is_time = standard_unit(signal.units[i]) in ("s", "ms")
        letter = (
            "T" if is_time and "T" not in axes else next(a for a in [*free, "C"] if a not in axes)
        )
        axes += letter
    axes += "YX"
    if signal.kind == _COLOUR:
        data = data[..., 2::-1]
        axes += "S"
        spacing.append((1.0, ""))
    scale, units = zip(*spacing, strict=True)
    return ImageArray(data, axes, scale, units, name)


def _spacing(scale: float | None, unit: str) -> tuple[float, str]:
    known = standard_unit(unit)
    if scale is None or (known == PIXEL and unit.strip()):
        return 1.0, PIXEL
    return scale, known


def _signals(path: Path) -> list[_Signal]:
    """The entries of the image list, without the thumbnail."""
    with reading(path), path.open("rb") as file:
        tags: dict[str, Any] = ncem_reader("dm").fileDM(file).allTags
    found: list[tuple[int, _Signal]] = []
    for number in sorted(
        {
            int(n)
            for tag in tags
            if tag.startswith(".ImageList.") and (n := tag.split(".")[2]).isdigit()
        }
    ):
        signal = _signal(tags, f".ImageList.{number}.")
        if signal is not None:
            found.append((number, signal))
    thumbnail = tags.get(".Thumbnails.1.ImageIndex")
    if len(found) > 1:
        # Numbers in the tags count from 0, groups without a name from 1.
        preview = 1 if thumbnail is None else int(thumbnail) + 1
        found = [
            (n, s) for n, s in found if n != preview or (thumbnail is None and s.kind != _COLOUR)
        ]
    return [signal for _, signal in found]


def _signal(tags: dict[str, Any], prefix: str) -> _Signal | None:
    data = f"{prefix}ImageData."
    lengths, scale, units = [], [], []
    for axis in count(1):
        length = tags.get(f"{data}Dimensions.{axis}")
        if length is None:
            break
        calibration = f"{data}Calibrations.Dimension.{axis}."
        lengths.append(int(length))
        scale.append(positive_number(abs(tags.get(f"{calibration}Scale", 0))))
        units.append(str(tags.get(f"{calibration}Units", "")).strip("\0"))
    offset, size = tags.get(f"{data}Data.arrayOffset"), tags.get(f"{data}Data.arraySize")
    if not lengths or 0 in lengths or offset is None or size is None:
        return None
    return _Signal(
        tuple(lengths[::-1]),
        int(tags.get(f"{data}DataType", 0)),
        int(offset),
        int(size),
        tuple(scale[::-1]),
        tuple(units[::-1]),
        str(tags.get(f"{prefix}ImageTags.Meta Data.Format", "")),
    )

"""NRRD: headers in text, with the data in the same file or beside it (.nrrd, .nhdr)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, positive_number, standard_unit
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.lazy import native, raw_array

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "u8": (
        "ulonglong",
        "unsigned long long",
        "unsigned long long int",
        "uint64",
        "uint64_t",
    ),
    "f4": ("float",),
    "f8": ("double",),
}

_COLOURS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color", "3-color", "4-color")
_TEXT = ("ascii", "text", "txt")
_LENGTHS = ("domain", "space")

_ADVICE = (
    "It may be damaged, cut short or no NRRD file; copy it anew, or save it anew with the program "
    "that wrote it, raw or with gzip."
)


def read_nrrd(path: Path) -> ImageArray:
    """Return the array in an NRRD file, of which large raw data is read in parts.

    Raises
    ------
    FileReadError
        If it is damaged, cut short, its data file is missing, or it holds less than an image.
    """
    import nrrd

    with reading(path, _ADVICE), path.open("rb") as file:
        header = dict(nrrd.read_header(_lines(path, file)))
        start = file.tell()
    missing = {"type", "dimension", "sizes", "encoding"} - header.keys()
    if missing:
        raise FileReadError(
            f"Cannot read {path}: its header does not tell the {', '.join(sorted(missing))}. "
            f"{_ADVICE}"
        )
    sizes = [int(n) for n in header["sizes"]]
    if int(header["dimension"]) != len(sizes) or min(sizes, default=0) < 1:
        raise FileReadError(
            f"Cannot read {path}: its header makes no sense (dimension {header['dimension']}, "
            f"sizes {sizes}). {_ADVICE}"
        )
    axes, spacing = _meaning(path, header, len(sizes))
    data = _data(path, header, start, tuple(sizes[::-1]))
    scale, units = zip(*spacing, strict=True)
    return ImageArray(native(data), axes, scale, units, path.name.split(".")[0])


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a header; the library itself would drop all letters beyond ASCII."""
    for line in iter(file.readline, b""):
        text = line.decode("utf-8", "surrogateescape")
        field, _, value = text.partition(":")
        field, value = field.strip().lower().replace(" ", ""), value.strip()
        if field == "datafile" and (value.split()[:1] == ["LIST"] or "%" in value):
            raise FileReadError(
                f"{path} keeps its data in several files ({value}), which is not read. Save it "
                "with its data in one file."
            )
        if field == "spacings":
            # Where commas are decimal; with a space after them they would part the numbers.
            text = re.sub(r"(?<=\d),(?=\d)", ".", text)
        yield text


def _data(path: Path, header: dict[str, Any], start: int, shape: tuple[int, ...]) -> Any:
    import nrrd

    detached = _either(header, "datafile", "data file", None)
    holder = path if detached is None else path.parent / str(detached)
    if not holder.is_file():
        raise FileReadError(
            f"{path} keeps its data in {detached}, and there is no such file beside it. Copy it "
            "into the same folder."
        )
    encoding = str(header["encoding"]).lower()
    if encoding == "raw":
        return _raw(path, holder, header, start if detached is None else 0, shape)
    dtype = _dtype(path, header, text=encoding in _TEXT)
    with reading(path, _ADVICE), path.open("rb") as file:
        file.seek(start)
        if encoding == "hex":
            return _hexadecimal(holder, header, start if detached is None else 0, dtype, shape)
        return nrrd.read_data({**header, "encoding": encoding}, file, str(path), "C")


def _hexadecimal(
    holder: Path, header: dict[str, Any], start: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    with holder.open("rb") as source:
        source.seek(start)
        digits = b"".join(source.readlines()[int(_either(header, "lineskip", "line skip", 0)) :])
    return np.frombuffer(bytes.fromhex(digits.decode("ascii")), dtype).reshape(shape)


def _raw(
    path: Path, holder: Path, header: dict[str, Any], start: int, shape: tuple[int, ...]
) -> Any:
    dtype = _dtype(path, header)
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    size = holder.stat().st_size
    with holder.open("rb") as source:
        source.seek(start)
        for _ in range(int(_either(header, "lineskip", "line skip", 0))):
            source.readline()
        start = source.tell()
    skipped = int(_either(header, "byteskip", "byte skip", 0))
    start = size - wanted if skipped == -1 else start + skipped
    if start < 0 or start + wanted > size:
        raise FileReadError(
            f"Cannot read {holder}: it is cut short ({size} bytes, where the header says it has "
            f"{max(start, 0) + wanted}). Copy it anew."
        )
    return raw_array(holder, dtype, start, shape)


def _dtype(path: Path, header: dict[str, Any], text: bool = False) -> np.dtype[Any]:
    name = str(header["type"]).strip().lower()
    code = next((code for code, names in _TYPES.items() if name in names), None)
    if code is None:
        raise FileReadError(
            f"{path} holds values of the type {name!r}, which are no grey values. Save it with "
            "whole or real numbers."
        )
    dtype = np.dtype(code)
    if dtype.itemsize == 1 or text:
        return dtype
    order = str(header.get("endian", "")).lower()
    if order not in ("little", "big"):
        raise FileReadError(f"Cannot read {path}: it does not tell its byte order. {_ADVICE}")
    return dtype.newbyteorder("<" if order == "little" else ">")


def _either(header: dict[str, Any], one: str, other: str, otherwise: Any) -> Any:
    """A field that may be spelt with or without a space."""
    return header.get(one, header.get(other, otherwise))


def _meaning(path: Path, header: dict[str, Any], count: int) -> tuple[str, list[tuple[float, str]]]:
    """Letters and spacing of the axes, in NumPy's order; NRRD counts from the fastest one."""
    kinds = [str(kind).lower() for kind in header.get("kinds", [])] or ["???"] * count
    lengths = _lengths(header, count)
    if len(kinds) != count or len(lengths) != count:
        raise FileReadError(
            f"Cannot read {path}: it has {count} axes, but kinds or spacing of another number. "
            f"{_ADVICE}"
        )
    told = "spacings" in header or "space directions" in header
    spatial = [
        kind in _LENGTHS or (kind == "???" and (not told or length is not None))
        for kind, length in zip(kinds, lengths, strict=True)
    ]
    if sum(spatial) < 2:
        raise FileReadError(
            f"{path} holds no image: of its {count} axes {sum(spatial)} are in space, and an "
            "image needs two."
        )
    letters = ["X", "Y", "Z", "T", "C"]
    axes: list[str] = []
    others = ["T" if not spatial[-1] else "C", "C", "T", "Z"]
    for kind, is_length in zip(kinds, spatial, strict=True):
        if is_length:
            free = letters
        elif kind in _COLOURS:
            free = ["S", "C"]
        elif kind == "time":
            free = ["T", "C", "Z"]
        else:
            free = others if kind == "???" else ["C", "T", "Z"]
        letter = next((each for each in free if each not in axes), None)
        if letter is None:
            raise FileReadError(
                f"{path} has {count} axes ({', '.join(kinds)}); at most time, channel, Z, Y and X "
                "are understood. Save a part of it."
            )
        axes.append(letter)
    spacing = [
        length if length is not None else (1.0, "" if axis in "CS" else PIXEL)
        for axis, length in zip(axes, lengths, strict=True)
    ]
    return "".join(axes[::-1]), spacing[::-1]


def _lengths(header: dict[str, Any], count: int) -> list[tuple[float, str] | None]:
    """Spacing and unit of each axis that has one; without units the numbers still say the shape."""
    directions = header.get("space directions")
    if directions is not None:
        units = [standard_unit(str(unit)) for unit in header.get("space units", [])]
        found: list[tuple[float, str] | None] = []
        for direction in directions:
            vector = np.asarray([] if direction is None else direction, float)
            length = positive_number(np.linalg.norm(vector)) if vector.size else None
            if length is None:
                found.append(None)
                continue
            along = int(np.argmax(np.abs(vector)))
            found.append((length, units[along] if along < len(units) else PIXEL))
        return found
    spacings = header.get("spacings")
    if spacings is None:
        return [None] * count
    units = [standard_unit(str(unit)) for unit in header.get("units", [""] * count)]
    return [
        None if (length := positive_number(abs(value))) is None else (length, unit)
        for value, unit in zip(spacings, units, strict=False)
    ]

"""Stacks whose sections are read from disk when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.io.files import FileReadError, reading

LARGEST_IN_MEMORY = 2**26
"""Bytes up to which images are read at once where they could be read in parts, too."""


def raw_array(path: Path, dtype: npt.DTypeLike, start: int, shape: tuple[int, ...]) -> Any:
    """Return an array that lies in a file as it is in memory.

    Small ones are read at once; of others, rows are read when they are looked at. Files are not
    mapped into memory: where another program cuts a mapped file short, the system ends every
    process that looks into it.

    Parameters
    ----------
    start
        Bytes before the array.
    shape
        At least two axes, the last one fastest.

    Returns
    -------
    numpy or dask array
        In the byte order of this machine.

    Raises
    ------
    FileReadError
        If the file cannot be read or is cut short; later, too, when a part is read.
    """
    source = _RawFile(path, np.dtype(dtype), start, shape)
    if source.nbytes <= LARGEST_IN_MEMORY:
        return source[(slice(None),) * len(shape)]
    row = source.nbytes // int(np.prod(shape[: source.sections + 1], dtype=object))
    rows = min(shape[source.sections], max(1, LARGEST_IN_MEMORY // row))
    return chunked(source, (1,) * source.sections + (rows, *shape[source.sections + 1 :]))


def stack_of(
    read: Callable[[int], npt.NDArray[Any]],
    leading: tuple[int, ...],
    section: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> Any:
    """Return a dask array of sections that are read one at a time.

    Parameters
    ----------
    read
        Returns the section of a number, counted through all leading axes, the last one fastest.
        It should open its file anew at every call, or be able to after it was pickled.
    leading, section
        Shape of the axes before the section, and of the section.
    """
    return chunked(_Sections(read, leading, section, dtype), (1,) * len(leading) + section)


def chunked(source: Any, chunks: Sequence[int] | Sequence[Sequence[int]]) -> Any:
    """Return anything with ``shape``, ``dtype`` and slicing as a dask array; nothing is read."""
    import dask.array

    return dask.array.from_array(
        source,
        chunks=tuple(chunks),
        # A name made from the content would need the content to be read.
        name=False,
        meta=np.empty((0,) * len(source.shape), source.dtype),
        inline_array=True,
    )


def native(data: Any) -> Any:
    """Return a numpy or dask array in the byte order of this machine."""
    return data.astype(data.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True)
class _RawFile:
    """What dask slices: an array in a file that is opened anew for each part."""

    path: Path
    stored: np.dtype[Any]
    start: int
    shape: tuple[int, ...]

    @property
    def sections(self) -> int:
        """Number of axes before rows; three or four values in the end are colours of a pixel."""
        return max(0, len(self.shape) - (3 if self.shape[-1] in (3, 4) else 2))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what is read, in the byte order of this machine."""
        return self.stored.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""
        return int(np.prod(self.shape, dtype=object)) * self.stored.itemsize

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part; `key` has a number or a slice for each axis."""
        leading, (rows, *row) = self.shape[: self.sections], self.shape[self.sections :]
        numbers = np.arange(int(np.prod(leading, dtype=int))).reshape(leading)
        wanted = np.asarray(numbers[key[: self.sections]])
        within = np.arange(rows)[key[self.sections]]
        first, last = (int(np.min(within)), int(np.max(within)) + 1) if np.size(within) else (0, 0)
        found = np.empty((wanted.size, last - first, *row), self.stored)
        with reading(self.path), self.path.open("rb") as file:
            for part, number in zip(found, wanted.flat, strict=True):
                file.seek(self.start + (int(number) * rows + first) * part[:1].nbytes)
                if file.readinto(part) < part.nbytes:
                    raise FileReadError(
                        f"Cannot read {self.path}: it is cut short ({self.path.stat().st_size} "
                        f"bytes, where it should have {self.start + self.nbytes}). Copy it anew."
                    )
        chosen = found[:, within - first].reshape(*wanted.shape, *np.shape(within), *row)
        return chosen[(..., *key[self.sections + 1 :])].astype(self.dtype, copy=False)


class _Sections:
    """What dask slices: an array of sections behind a function that reads one."""

    def __init__(
        self,
        read: Callable[[int], npt.NDArray[Any]],
        leading: tuple[int, ...],
        section: tuple[int, ...],
        dtype: npt.DTypeLike,
    ) -> None:
        self._read = read
        self._leading = leading
        self.shape = leading + section
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part; `key` has one slice for each axis, as dask asks."""
        count = len(self._leading)
        numbers = np.arange(int(np.prod(self._leading, dtype=int))).reshape(self._leading)
        wanted = numbers[key[:count]]
        found = np.empty((*wanted.shape, *self.shape[count:]), self.dtype)
        for place, number in np.ndenumerate(wanted):
            found[place] = self._read(int(number))
        return found[(..., *key[count:])]

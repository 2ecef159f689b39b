"""Stacks whose sections are read from disk when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
    """Return an array in the byte order of this machine; sections of another are turned lazily."""
    dtype = np.dtype(data.dtype)
    if dtype.isnative:
        return data
    section = data.shape[-2:]
    return chunked(data, (1,) * (data.ndim - 2) + tuple(section)).astype(dtype.newbyteorder("="))


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

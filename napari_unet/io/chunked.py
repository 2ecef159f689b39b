"""Chunked arrays on disk, read where they are looked at; an error names the chunk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.io.files import FileReadError

if TYPE_CHECKING:
    import dask.array
    import zarr

PIECE = 2**20
"""Smaller chunks are read together, so that a large image is not cut into millions of them."""


def lazy_array(array: zarr.Array[Any], where: str) -> dask.array.Array:
    """Return an array whose pixels are read when they are asked for, in the machine's byte order.

    Parameters
    ----------
    array
        What is read.
    where
        What errors call it; a path.
    """
    import dask.array

    stored = StoredArray(array, where)
    lazy: dask.array.Array = dask.array.from_array(
        stored,
        chunks=_pieces(array),
        name=False,
        # Selections reach the store, so that only what is looked at is decoded.
        inline_array=True,
        fancy=True,
        meta=np.empty((0,) * stored.ndim, stored.dtype),
    )
    return lazy


def _pieces(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Chunks, or several of them along the last axes where they are small."""
    pieces = [max(1, min(chunk, n)) for chunk, n in zip(array.chunks, array.shape, strict=True)]
    for axis in reversed(range(len(pieces))):
        times = PIECE // math.prod(pieces)
        if times < 2:
            break
        pieces[axis] = min(pieces[axis] * times, array.shape[axis])
    return tuple(pieces)


class StoredArray:
    """An array on disk that tells which chunk it is that cannot be read.

    Parameters
    ----------
    array
        What is read.
    where
        What errors call it; a path.
    """

    def __init__(self, array: zarr.Array[Any], where: str) -> None:
        self._array = array
        self._where = where
        self.shape = tuple(int(n) for n in array.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    def __getitem__(self, selection: Any) -> npt.NDArray[Any]:
        try:
            found = self._array.oindex[selection]
        except Exception as error:
            # Decoders of many libraries raise what they like.
            raise self._telling(selection, error) from error
        return np.asarray(found).astype(self.dtype, copy=False)

    def _telling(self, selection: Any, error: Exception) -> FileReadError:
        key, reason = self._damaged_chunk(selection) or ("", error)
        said = getattr(reason, "strerror", None) or str(reason).strip() or type(reason).__name__
        chunk = f"the chunk {key} cannot be decoded" if key else "its pixels cannot be decoded"
        return FileReadError(
            f"Cannot read {self._where}: {chunk} ({said.rstrip('.')}). It may be damaged, cut "
            "short, or compressed in a way that is not known here. Copy the data anew; a chunk "
            "that is deleted counts as missing, and its pixels as the fill value."
        )

    def _damaged_chunk(self, selection: Any) -> tuple[str, Exception] | None:
        """The first chunk of a selection that cannot be read, and why."""
        chosen = selection if isinstance(selection, tuple) else (selection,)
        if Ellipsis in chosen:
            gap = chosen.index(Ellipsis)
            fill = (slice(None),) * (self.ndim - len(chosen) + 1)
            chosen = (*chosen[:gap], *fill, *chosen[gap + 1 :])
        chosen = (*chosen, *(slice(None),) * (self.ndim - len(chosen)))
        ranges: list[list[int]] = []
        for each, length, chunk in zip(chosen, self.shape, self._array.chunks, strict=True):
            inside = np.atleast_1d(np.arange(length)[each])
            ranges.append(np.unique(inside // chunk).tolist())
        for place in itertools.product(*ranges):
            try:
                self._array[
                    tuple(
                        slice(i * chunk, (i + 1) * chunk)
                        for i, chunk in zip(place, self._array.chunks, strict=True)
                    )
                ]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                return self._key(place), error
        return None

    def _key(self, place: Sequence[int]) -> str:
        # Of shards only the file can be named.
        shards: tuple[int, ...] = self._array.shards or self._array.chunks
        within = tuple(
            i * chunk // shard
            for i, chunk, shard in zip(place, self._array.chunks, shards, strict=True)
        )
        return self._array.metadata.encode_chunk_key(within)

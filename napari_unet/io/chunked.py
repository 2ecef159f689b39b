"""Chunked arrays on disk, read where they are looked at; an error names the chunk."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.io.files import FileReadError, reading

if TYPE_CHECKING:
    import dask.array
    import zarr

N5_ATTRIBUTES = "attributes.json"

NODE_FILES = ("zarr.json", ".zarray", ".zgroup", ".zmetadata", N5_ATTRIBUTES)
"""One of these lies in every folder that is an array or a group."""

_BLOSC_HEADER = 16
"""Bytes; the last four are the size of the whole."""

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
        self._folder = Path(where)
        self._is_n5 = (self._folder / N5_ATTRIBUTES).is_file()
        # Archives stay open instead.
        self._signs = [each for name in NODE_FILES if (each := self._folder / name).is_file()]
        if not self._signs and self._folder.is_dir():
            self._signs = [self._folder]
        # In shards, chunks are no files; there, and in archives, checksums tell of what is cut short.
        compressors = array.compressors if array.shards is None and self._signs else ()
        self._is_blosc = bool(compressors) and "blosc" in type(compressors[-1]).__name__.lower()
        self._is_checked = bool(self._signs) and (self._is_blosc or array.shards is not None)
        self.shape = tuple(int(n) for n in array.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    def __getitem__(self, selection: Any) -> npt.NDArray[Any]:
        try:
            for place in self._places(selection) if self._is_checked else ():
                self._check_whole(place)
            found = self._array.oindex[selection]
        except Exception as error:
            self._check_there()
            if isinstance(error, PermissionError):
                with reading(self._where):
                    raise
            # Decoders of many libraries raise what they like.
            raise self._telling(selection, error) from error
        self._check_there()
        return np.asarray(found).astype(self.dtype, copy=False)

    def _check_whole(self, place: Sequence[int]) -> None:
        """Complain of a chunk that was cut short; the library decodes some of these into anything.

        Blosc's header tells how many bytes there are. Empty shards would count as missing.
        """
        try:
            with (self._folder / self._key(place)).open("rb") as file:
                header, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return
        if not size:
            raise ValueError("it is empty")
        has_header = self._is_blosc and len(header) == _BLOSC_HEADER
        told = int.from_bytes(header[-4:], "little") if has_header else 0
        if size < told:
            raise ValueError(f"it has {size} bytes, where its header tells of {told}")

    def _check_there(self) -> None:
        """Complain of a store that has gone; all its chunks would count as missing."""
        with reading(self._where):
            if not any(each.exists() for each in self._signs or (Path(),)):
                raise FileReadError(
                    f"Cannot read {self._where}: it is not there any more. Put it back to where it "
                    "was, or open it from where it is now."
                )

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
        for place in self._places(selection):
            try:
                if self._is_checked:
                    self._check_whole(place)
                self._array[
                    tuple(
                        slice(i * chunk, (i + 1) * chunk)
                        for i, chunk in zip(place, self._array.chunks, strict=True)
                    )
                ]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                return self._key(place), error
        return None

    def _places(self, selection: Any) -> Iterator[tuple[int, ...]]:
        """Which chunks a selection needs."""
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
        return itertools.product(*ranges)

    def _key(self, place: Sequence[int]) -> str:
        # Of shards only the file can be named.
        shards: tuple[int, ...] = self._array.shards or self._array.chunks
        within = tuple(
            i * chunk // shard
            for i, chunk, shard in zip(place, self._array.chunks, shards, strict=True)
        )
        if not self._is_n5:
            return self._array.metadata.encode_chunk_key(within)
        return "/".join(str(number) for number in reversed(within))

"""Arrays of zeros that lie in a temporary file: they take disk and memory only where they are used.

The file has no name, and goes with the array or with the process, however that ends. On Linux and
macOS it is sparse: only what was written to takes room. On Windows it takes its whole size on the
disk, and nobody can tell which sections were written to.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import platformdirs

from napari_unet.core.image import SectionIndex
from napari_unet.io.files import FileWriteError
from napari_unet.io.lazy import stack_of

RESERVE = 2**26
"""Bytes of the disk that are left free for others."""


class ScratchArray(np.memmap[Any, np.dtype[Any]]):
    """The array of `scratch_zeros`: a NumPy array that knows its file. Parts of it do not."""

    file: IO[bytes] | None = None
    folder: Path | None = None


def scratch_zeros(shape: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    """Return an array of zeros in a temporary file, (..., Y, X).

    Where no such file can be made, the array lies in memory.

    Raises
    ------
    MemoryError
        If there is room for it neither on disk nor in memory.
    """
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    folder = _roomiest_folder()
    try:
        file: Any = tempfile.TemporaryFile(prefix="napari-unet-", dir=folder)  # noqa: SIM115 - it stays open
        file.truncate(size)
        array = ScratchArray(file, dtype, mode="r+", shape=shape)
    except OSError as problem:
        try:
            return np.zeros(shape, dtype)
        except MemoryError:
            raise MemoryError(
                f"There is no room for an array of {size / 1e9:.1f} GB: not in {folder} "
                f"({problem.strerror or problem}), and not in memory. Make room on that disk, or "
                "set TMPDIR to a folder of another one and start again."
            ) from None
    array.file, array.folder = file, folder
    weakref.finalize(array, file.close)
    return array


def sections_in_use(array: Any) -> list[SectionIndex]:
    """Return the sections that may hold something else than zeros; all of them if nobody knows."""
    leading = tuple(int(n) for n in array.shape[:-2])
    file = _file_of(array)
    if file is None or not hasattr(os, "SEEK_DATA"):
        return list(np.ndindex(leading))
    section = _section_bytes(array)
    numbers: dict[int, None] = {}
    for start, stop in _written(file.fileno(), array.nbytes):
        numbers.update(dict.fromkeys(range(start // section, -(-stop // section))))
    return [tuple(int(n) for n in np.unravel_index(number, leading)) for number in numbers]


def make_room(array: Any, index: SectionIndex | None = None) -> None:
    """See that a section can be written to, or with None all of them.

    A disk that is full would otherwise end the process where it writes.

    Raises
    ------
    FileWriteError
        If the disk is full.
    """
    file = _file_of(array)
    if file is None:
        return
    start, size = 0, array.nbytes
    if index is not None:
        size = _section_bytes(array)
        start = _number(array, index) * size
    try:
        promises = hasattr(os, "posix_fallocate")
        little = size <= RESERVE and promises
        if not little and shutil.disk_usage(array.folder).free < size + RESERVE:
            raise OSError("it is almost full")  # rather than fill it for others, too
        if promises:
            os.posix_fallocate(file.fileno(), start, size)
    except OSError as error:
        raise FileWriteError(
            f"There is no room for {size / 1e6:.0f} MB in {array.folder} "
            f"({error.strerror or error}). Make room on that disk, or set TMPDIR to a folder of "
            "another one and start again."
        ) from error


def drop_from_memory(array: Any) -> None:
    """Leave what was read and written to the disk; it comes back when it is looked at."""
    if _file_of(array) is not None and hasattr(mmap.mmap, "madvise"):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def one_by_one(array: Any) -> Any:
    """Return an array for whoever reads all of it: a dask array of the sections of a scratch array.

    Sections that nobody has written to are not read, and no section stays in memory. Other arrays
    are returned as they are.
    """
    if _file_of(array) is None:
        return array
    leading, section = array.shape[:-2], array.shape[-2:]
    used = set(sections_in_use(array))

    def read(number: int) -> npt.NDArray[Any]:
        index = tuple(int(n) for n in np.unravel_index(number, leading)) if leading else ()
        if index not in used:
            return np.zeros(section, array.dtype)
        found: npt.NDArray[Any] = np.array(array[index])
        drop_from_memory(array)
        return found

    return stack_of(read, leading, section, array.dtype)


def _file_of(array: Any) -> IO[bytes] | None:
    return array.file if isinstance(array, ScratchArray) else None


def _section_bytes(array: npt.NDArray[Any]) -> int:
    return int(np.prod(array.shape[-2:], dtype=np.int64)) * array.dtype.itemsize


def _number(array: npt.NDArray[Any], index: SectionIndex) -> int:
    return int(np.ravel_multi_index(index, array.shape[:-2])) if index else 0


def _written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the parts of a file that take room on the disk."""
    start = 0
    while start < size:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:  # nothing follows
            return
        stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, stop
        start = stop


def _roomiest_folder() -> Path:
    """Where large temporary files go.

    On many machines the usual folder for them lies in memory, and the user's own on a disk.
    """
    usual = Path(tempfile.gettempdir())
    if "TMPDIR" in os.environ:
        return usual
    own = Path(platformdirs.user_cache_dir("napari-unet"))
    try:
        own.mkdir(parents=True, exist_ok=True)
        return max(usual, own, key=lambda folder: shutil.disk_usage(folder).free)
    except OSError:
        return usual

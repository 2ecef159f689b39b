"""Pages of TIFF files that are decoded when they are looked at."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_unet.io.files import reading
from napari_unet.io.lazy import stack_of
from napari_unet.io.tiff_series import series_to_read


def lazy_series(path: Path, series: tifffile.TiffPageSeries) -> Any:
    """Return a series as a dask array of its pages; None if its pages are not its sections."""
    section = tuple(int(n) for n in series.keyframe.shape)
    leading = tuple(int(n) for n in series.shape[: len(series.shape) - len(section)])
    fits = len(series.pages) == int(np.prod(leading, dtype=int))
    if not fits or leading + section != tuple(series.shape):
        return None
    return stack_of(_Pages(path), leading, section, series.dtype.newbyteorder("="))


class _Pages:
    """Reads a page of the image; the file stays open, and is opened anew when unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[tifffile.TiffFile, tifffile.TiffPageSeries] | None = None
        self._lock = threading.Lock()

    def __call__(self, number: int) -> npt.NDArray[Any]:
        with self._lock, reading(self._path):
            if self._opened is None:
                file = tifffile.TiffFile(self._path)
                self._opened = file, series_to_read(self._path, file)[0]
            series = self._opened[1]
            page = series.pages[number]
            if page is None:
                # OME-TIFF may leave out pages.
                return np.zeros(series.keyframe.shape, series.dtype)
            handle = page.parent.filehandle
            sibling = handle.closed
            try:
                if sibling:
                    # Of OME-TIFF in many files; they are not kept open all at once.
                    handle.open()
                data: npt.NDArray[Any] = page.asarray()
            finally:
                if sibling:
                    handle.close()
            return data

    def __reduce__(self) -> tuple[type[_Pages], tuple[Path]]:
        return _Pages, (self._path,)

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened[0].close()

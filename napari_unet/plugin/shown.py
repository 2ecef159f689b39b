"""Arrays on disk as a canvas shows them: what cannot be read there is black, and told of.

Without this, an error would leave napari half way through a step to another section, with the
layers above the image still on the one before.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.utils import resize_dask_cache
from napari.utils.notifications import show_error

from napari_unet.io.files import FileReadError
from napari_unet.io.lazy import chunked

AGAIN_SECONDS = 30.0
"""The same problem is told of again after so long."""

_STORED = "_napari_unet_stored"


def shown(data: Any) -> Any:
    """Return an array for a layer; only one that is read from disk on demand is another one."""
    if isinstance(data, list):
        return [shown(each) for each in data]
    if not hasattr(data, "dask"):
        return data
    lazy = chunked(_Shown(data), data.chunks)
    setattr(lazy, _STORED, data)
    return lazy


def stored(data: Any) -> Any:
    """Return the array behind one of `shown`, which raises errors; another one as it is."""
    return getattr(data, _STORED, data)


class _Shown:
    """What dask slices."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._told: dict[str, float] = {}
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part, black where it cannot be read."""
        part = self._data[key]
        try:
            # In this thread: dask has asked for one chunk, in one of its own.
            values: npt.NDArray[Any] = part.compute(scheduler="synchronous", callbacks=())
        except FileReadError as error:
            self._tell(str(error))
            return np.zeros(part.shape, part.dtype)
        if self._told:
            self._told = {}
            resize_dask_cache().cache.clear()  # napari has kept what was black
        return values

    def _tell(self, message: str) -> None:
        """Tell of a problem once, not for each of the chunks in view."""
        now = time.monotonic()
        if now - self._told.get(message, -AGAIN_SECONDS) >= AGAIN_SECONDS:
            self._told[message] = now
            show_error(message)

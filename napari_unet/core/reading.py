"""Reading parts of arrays that may lie on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def read(part: Any) -> npt.NDArray[Any]:
    """Return the values of a part of an array, which are read now where they lie on disk.

    A dask array is computed without the callbacks of this process: the cache that napari draws from
    is one, and breaks when another thread computes while napari draws.
    """
    if hasattr(part, "dask"):
        return np.asarray(part.compute(callbacks=()))
    return np.asarray(part)

"""How networks of other programs want grey values: steps that look at a section, then change it.

A step is a function that looks at the raw grey values of a section and says how grey values are to
be changed. As in the reference implementation of the BioImage.IO model format, every step measures
the raw values, also behind steps that change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.reading import read

Grey = npt.NDArray[np.float64]
Change = Callable[[Grey], Grey]
Step = Callable[[Grey], Change]

MOST_PIXELS = 2**24
"""Of larger sections, evenly spread pixels are measured."""


def zero_mean_unit_variance(eps: float) -> Step:
    """Return the step that brings the mean of a section to 0 and its deviation to 1."""
    return lambda raw: _linear(1 / (raw.std() + eps), -raw.mean() / (raw.std() + eps))


def scale_range(lowest: float, highest: float, eps: float) -> Step:
    """Return the step that brings two percentiles of a section to 0 and 1."""

    def measured(raw: Grey) -> Change:
        low, high = np.percentile(raw, (lowest, highest))
        return _linear(1 / (high - low + eps), -low / (high - low + eps))

    return measured


def scale_linear(gain: float, offset: float) -> Step:
    """Return the step that multiplies by a gain and adds an offset."""
    return lambda raw: _linear(gain, offset)


def clip(lowest: float | None, highest: float | None) -> Step:
    """Return the step that keeps grey values between two limits."""
    return lambda raw: lambda grey: np.clip(grey, lowest, highest)


def clip_percentiles(lowest: float, highest: float) -> Step:
    """Return the step that keeps grey values between two percentiles of the section."""

    def measured(raw: Grey) -> Change:
        low, high = np.percentile(raw, (lowest, highest))
        return lambda grey: np.clip(grey, low, high)

    return measured


def whole_numbers(dtype: str) -> Step:
    """Return the step that leaves what a type of whole numbers can hold."""
    limits = np.iinfo(dtype)
    return lambda raw: lambda grey: np.trunc(np.clip(grey, limits.min, limits.max))


def _linear(gain: float, offset: float) -> Change:
    return lambda grey: grey * gain + offset


@dataclass(frozen=True)
class SectionNormalisation:
    """What brings the grey values of one section to the range that a network knows.

    Parameters
    ----------
    changes
        What the steps say for this section.
    missing
        Stands for grey values that are not finite numbers.
    """

    changes: tuple[Change, ...]
    missing: float

    def normalise(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return grey values as float32, in the range of the network."""
        values = grey.astype(np.float64)
        np.nan_to_num(
            values, copy=False, nan=self.missing, posinf=self.missing, neginf=self.missing
        )
        for change in self.changes:
            values = change(values)
        return values.astype(np.float32)


def section_normalisation(steps: Sequence[Step], section: Any) -> SectionNormalisation:
    """Return how steps bring the grey values of a section (Y, X) to the range of a network."""
    height, width = section.shape[-2:]
    stride = max(1, int(np.ceil(np.sqrt(height * width / MOST_PIXELS))))
    raw = read(section[::stride, ::stride]).astype(np.float64).ravel()
    finite = raw[np.isfinite(raw)]
    if not finite.size:  # nothing is there to be seen, so that anything will do
        finite = np.zeros(1)
    return SectionNormalisation(tuple(step(finite) for step in steps), float(finite.mean()))

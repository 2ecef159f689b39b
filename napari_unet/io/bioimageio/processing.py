"""What BioImage.IO descriptions say is to be done before and after a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.core.preprocessing import (
    Step,
    clip,
    clip_percentiles,
    scale_linear,
    scale_range,
    whole_numbers,
    zero_mean_unit_variance,
)

Activation = Callable[[Tensor], Tensor]


class UnsupportedError(Exception):
    """Something that a package asks for and this program cannot do; a whole sentence."""


def preprocessing(steps: Sequence[Any]) -> tuple[Step, ...]:
    """Return what a section goes through before the network sees it.

    Parameters
    ----------
    steps
        As the description of the input names them.

    Raises
    ------
    UnsupportedError
        If one of them cannot be done here.
    """
    found = []
    for step in steps:
        kind = str(step.id)
        values: Any = getattr(step, "kwargs", None)
        axes = getattr(values, "axes", None)
        if axes is not None and not {"y", "x"} <= {str(axis) for axis in axes}:
            raise UnsupportedError(f"its {kind} measures each row or column by itself.")
        if getattr(values, "reference_tensor", None) is not None:
            raise UnsupportedError(f"its {kind} measures another image.")
        if kind == "ensure_dtype":
            if np.dtype(values.dtype).kind in "iu":
                found.append(whole_numbers(values.dtype))
        elif kind == "zero_mean_unit_variance":
            found.append(zero_mean_unit_variance(values.eps))
        elif kind == "scale_range":
            found.append(scale_range(values.min_percentile, values.max_percentile, values.eps))
        elif kind == "scale_linear":
            found.append(scale_linear(_single(values.gain), _single(values.offset)))
        elif kind == "fixed_zero_mean_unit_variance":
            deviation = _single(values.std)
            found.append(scale_linear(1 / deviation, -_single(values.mean) / deviation))
        elif kind == "clip" and values.min_percentile is None and values.max_percentile is None:
            found.append(clip(values.min, values.max))
        elif kind == "clip" and values.min is None and values.max is None:
            low = 0.0 if values.min_percentile is None else values.min_percentile
            found.append(clip_percentiles(low, values.max_percentile or 100.0))
        else:
            raise UnsupportedError(
                f"it wants {kind!r} before the network, which is not known here."
            )
    return tuple(found)


def activations(steps: Sequence[Any]) -> tuple[Activation, ...]:
    """Return what turns the answer of a network (channels, h, w) into probabilities.

    Parameters
    ----------
    steps
        As the description of the output names them.

    Raises
    ------
    UnsupportedError
        If one of them cannot be done here.
    """
    found: list[Activation] = []
    for step in steps:
        kind = str(step.id)
        values: Any = getattr(step, "kwargs", None)
        if kind == "sigmoid":
            found.append(torch.sigmoid)
        elif kind == "softmax" and str(values.axis) in ("channel", "c"):
            found.append(_softmax)
        elif kind == "clip" and values.min_percentile is None and values.max_percentile is None:
            found.append(_clipped(values.min, values.max))
        elif kind == "scale_linear":
            found.append(_scaled(_single(values.gain), _single(values.offset)))
        elif kind == "binarize":
            found.append(_above(_single(values.threshold)))
        elif kind == "ensure_dtype":
            continue  # probabilities are float32 here
        else:
            raise UnsupportedError(
                f"it wants {kind!r} behind the network, which is not known here."
            )
    return tuple(found)


def _softmax(answer: Tensor) -> Tensor:
    return answer.softmax(dim=0)


def _clipped(lowest: float | None, highest: float | None) -> Activation:
    return lambda answer: answer.clamp(lowest, highest)


def _scaled(gain: float, offset: float) -> Activation:
    return lambda answer: answer * gain + offset


def _above(threshold: float) -> Activation:
    return lambda answer: (answer > threshold).float()


def _single(value: Any) -> float:
    """A number that may stand in a list of one."""
    numbers = np.unique(np.asarray(value, float))
    if numbers.size != 1:
        raise UnsupportedError(f"it treats channels differently ({value}).")
    return float(numbers[0])

"""Pictures read between their pixels, without the patterns that skipped pixels would leave."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

Positions = tuple[Tensor, Tensor] | Tensor
"""Rows and columns, (h, w) each, or (h, 1) and (1, w): then those of a rectangle."""


def resample(
    planes: Tensor, positions: Positions, mode: str, *, beyond: str = "reflection"
) -> Tensor:
    """Return planes (C, H, W) read at positions (y, x), given in pixels from their centre.

    Parameters
    ----------
    planes
        What is read.
    positions
        Rows and columns. Those of a rectangle are read fastest where they come as (h, 1) and (1, w).
    mode
        ``nearest``, ``bilinear`` or ``bicubic``.
    beyond
        What lies beyond the border: its ``reflection``, or the nearest pixel (``border``).
    """
    y, x = positions[0], positions[1]
    if mode == "bilinear" and y.shape[1] == 1 and x.shape[0] == 1:
        return _rows_at(columns_at(planes, x[0], beyond), y[:, 0], beyond)
    height, width = planes.shape[-2:]
    shape = len(y), x.shape[1]
    y, x = y.expand(shape), x.expand(shape)
    grid = torch.stack([x * (2 / max(width - 1, 1)), y * (2 / max(height - 1, 1))], dim=-1)
    return functional.grid_sample(
        planes[None], grid[None], mode=mode, padding_mode=beyond, align_corners=True
    )[0]


def columns_at(planes: Tensor, positions: Tensor, beyond: str) -> Tensor:
    """Return the columns of planes (C, H, W) at positions from the middle, linearly interpolated.

    Parameters
    ----------
    planes, beyond
        See `resample`.
    positions
        In pixels from the middle, (w,).
    """
    # Whole rows are read: what lies side by side in memory comes ten times as fast.
    turned = _rows_at(planes.transpose(1, 2).contiguous(), positions, beyond)
    return turned.transpose(1, 2).contiguous()


def _rows_at(planes: Tensor, positions: Tensor, beyond: str) -> Tensor:
    """Return the rows of planes (C, H, W) at positions from the middle, linearly interpolated."""
    last = planes.shape[1] - 1
    place = positions + last / 2
    if beyond == "reflection" and last:
        place = last - (place % (2 * last) - last).abs()
    place = place.clamp(0, last)
    low = place.floor().long().clamp(max=max(last - 1, 0))
    share = (place - low).to(planes.dtype)[:, None]
    above, below = planes.index_select(1, low), planes.index_select(1, (low + 1).clamp(max=last))
    return above.lerp_(below, share)


def antialiasing_deviation(step: float) -> float:
    """Return the deviation of the blur that goes before reading every `step`-th pixel.

    Half of what is skipped, as in scikit-image's ``rescale``; 0 where nothing is skipped.
    """
    return max(0.0, (step - 1) / 2)


def blurred(planes: Tensor, deviation: float) -> Tensor:
    """Return planes (C, H, W) after a Gaussian blur of this standard deviation, in pixels."""
    if deviation < 0.1:
        return planes
    radius = min(math.ceil(3 * deviation), min(planes.shape[-2:]) - 1)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (distance / deviation) ** 2)
    shares = (kernel / kernel.sum()).tolist()
    # A sum of moved planes takes a tenth of the time of a convolution of single channels.
    for axis, sides in ((2, (radius, radius, 0, 0)), (1, (0, 0, radius, radius))):
        padded = functional.pad(planes[:, None], sides, mode="reflect")[:, 0]
        length = planes.shape[axis]
        planes = padded.narrow(axis, 0, length) * shares[0]
        for number in range(1, len(shares)):
            planes.add_(padded.narrow(axis, number, length), alpha=shares[number])
    return planes

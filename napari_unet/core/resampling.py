"""Pictures read between their pixels, without the patterns that skipped pixels would leave."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def resample(planes: Tensor, positions: Tensor, mode: str, *, beyond: str = "reflection") -> Tensor:
    """Return planes (C, H, W) read at positions (2, h, w), given in pixels from their centre.

    Parameters
    ----------
    planes
        What is read.
    positions
        As (y, x).
    mode
        ``nearest``, ``bilinear`` or ``bicubic``.
    beyond
        What lies beyond the border: its ``reflection``, or the nearest pixel (``border``).
    """
    height, width = planes.shape[-2:]
    grid = torch.stack(
        [positions[1] * (2 / max(width - 1, 1)), positions[0] * (2 / max(height - 1, 1))], dim=-1
    )
    return functional.grid_sample(
        planes[None], grid[None], mode=mode, padding_mode=beyond, align_corners=True
    )[0]


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
    distance = torch.arange(-radius, radius + 1, device=planes.device, dtype=planes.dtype)
    kernel = torch.exp(-0.5 * (distance / deviation) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(planes[:, None], (radius,) * 4, mode="reflect")
    along_rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(along_rows, kernel.view(1, 1, -1, 1))[:, 0]

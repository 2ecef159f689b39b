"""Shift, rotation, mirror image, scale, elastic deformation and grey variation, in torch.

All spatial changes make up one displacement field, so that a patch is interpolated once. It
is computed on the device of the patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.core.config import AugmentationConfig


def elastic_displacements(
    size: int, deviation: float, nodes: int, generator: torch.Generator
) -> Tensor:
    """Return smooth random displacements (2, size, size), in pixels, as (y, x).

    Gaussian vectors with the given standard deviation on a coarse grid of `nodes` by `nodes`
    over the patch, interpolated bicubically (paper, section 3.1).
    """
    coarse = torch.randn((1, 2, nodes, nodes), generator=generator, device=generator.device)
    fine = functional.interpolate(
        coarse * deviation, size=(size, size), mode="bicubic", align_corners=True
    )
    return fine[0]


def sampling_positions(size: int, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Return where each pixel of a patch is read, (2, size, size) as (y, x) from its centre."""
    device = generator.device
    draw = torch.rand(4, generator=generator, device=device)
    angle = math.radians(config.rotation) * (2 * float(draw[0]) - 1)
    scale = (1 + config.scale) ** (2 * float(draw[1]) - 1)
    flip_y = -1.0 if config.mirror and draw[2] < 0.5 else 1.0
    flip_x = -1.0 if config.mirror and draw[3] < 0.5 else 1.0
    axis = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(axis * flip_y, axis * flip_x, indexing="ij")
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    positions = torch.stack([cos * y - sin * x, sin * y + cos * x])
    if config.elastic > 0:
        positions = positions + elastic_displacements(
            size, config.elastic, config.elastic_grid, generator
        )
    return positions


def reach(size: int, config: AugmentationConfig) -> int:
    """Return the side of the piece of a section from which a patch of this size is drawn."""
    turned = size * (math.sqrt(2) if config.rotation % 90 or config.rotation else 1.0)
    return math.ceil(turned * (1 + config.scale) + 4 * config.elastic) + 2


def resample(planes: Tensor, positions: Tensor, mode: str) -> Tensor:
    """Read planes (C, H, W) at positions (2, h, w), in pixels from the centre of the planes."""
    height, width = planes.shape[-2:]
    grid = torch.stack(
        [positions[1] * (2 / (width - 1)), positions[0] * (2 / (height - 1))], dim=-1
    )
    return functional.grid_sample(
        planes[None], grid[None], mode=mode, padding_mode="reflection", align_corners=True
    )[0]


def vary_grey(grey: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Return normalised grey values with another brightness, contrast, gamma and noise."""
    draw = 2 * torch.rand(3, generator=generator, device=generator.device) - 1
    contrast = (1 + config.contrast) ** float(draw[0])
    gamma = (1 + config.contrast) ** float(draw[1])
    # Gamma is defined on 0 .. 1; two and a half deviations either side hold nearly all pixels.
    unit = (grey / 5 + 0.5).clamp(0, 1)
    grey = torch.where((unit > 0) & (unit < 1), (unit**gamma - 0.5) * 5, grey)
    grey = grey * contrast + config.brightness * float(draw[2])
    if config.noise > 0:
        level = config.noise * float(torch.rand(1, generator=generator, device=generator.device))
        grey = grey + level * torch.randn(grey.shape, generator=generator, device=generator.device)
    return grey


def augment(
    grey: Tensor,
    painted: Tensor,
    weights: Tensor,
    size: int,
    config: AugmentationConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a varied patch of side `size` from the centre of a larger piece.

    Parameters
    ----------
    grey
        Normalised grey values (C, H, W).
    painted
        Class numbers (H, W), 0 = not painted; read at the nearest pixel.
    weights
        Pixel weights (H, W).
    size
        Side of the patch, in pixels.
    config, generator
        How much is varied, and the source of chance; its device must be that of the piece.

    Returns
    -------
    tuple of Tensor
        Grey values (C, size, size), class numbers int64 (size, size) and weights (size, size).
    """
    positions = sampling_positions(size, config, generator)
    new_grey = vary_grey(resample(grey, positions, "bilinear"), config, generator)
    new_painted = resample(painted[None].float(), positions, "nearest")[0].long()
    new_weights = resample(weights[None], positions, "bilinear")[0]
    return new_grey, new_painted, new_weights

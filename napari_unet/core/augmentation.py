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
from napari_unet.core.resampling import antialiasing_deviation, blurred, resample


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


def sampling_positions(
    size: int, config: AugmentationConfig, generator: torch.Generator, magnification: float = 1.0
) -> Tensor:
    """Return where each pixel of a patch is read, (2, size, size) as (y, x) from its centre.

    Parameters
    ----------
    size
        Side of the patch, in pixels of the network.
    config, generator
        How much is varied, and the source of chance.
    magnification
        Pixels of the network per pixel of the image; positions are in pixels of the image.
    """
    device = generator.device
    draw = torch.rand(6, generator=generator, device=device)
    angle = math.radians(config.rotation) * (2 * float(draw[0]) - 1)
    scale = (1 + config.scale) ** (2 * float(draw[1]) - 1)
    if draw[4] < 0.5:
        scale *= config.coarser ** float(draw[5])
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
    return positions / magnification


def mean_step(positions: Tensor) -> float:
    """Return how many pixels lie between two neighbours of a patch, on average."""
    rows = positions.diff(dim=1).square().sum(dim=0).sqrt().mean()
    columns = positions.diff(dim=2).square().sum(dim=0).sqrt().mean()
    return float((rows + columns) / 2)


def vary_grey(grey: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Return normalised grey values with another sharpness, polarity, contrast, gamma and noise."""
    unit_draws = torch.rand(6, generator=generator, device=generator.device)
    draw = 2 * unit_draws[:3] - 1
    if config.blur > 0 and unit_draws[3] < 0.5:
        grey = blurred(grey, config.blur * float(unit_draws[4]))
    if unit_draws[5] < config.inversion:
        grey = -grey
    contrast = (1 + config.contrast) ** float(draw[0])
    gamma = (1 + config.gamma) ** float(draw[1])
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
    positions: Tensor,
    config: AugmentationConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a varied patch of a larger piece.

    Parameters
    ----------
    grey
        Normalised grey values (C, H, W).
    painted
        Class numbers (H, W), 0 = not painted; read at the nearest pixel.
    weights
        Pixel weights (H, W).
    positions
        Where each pixel of the patch is read, (2, size, size), from the centre of the piece
        (see `sampling_positions`).
    config, generator
        How much the grey values are varied, and the source of chance; its device must be that
        of the piece.

    Returns
    -------
    tuple of Tensor
        Grey values (C, size, size), class numbers int64 (size, size) and weights (size, size).
    """
    smooth = blurred(grey, antialiasing_deviation(mean_step(positions)))
    new_grey = vary_grey(resample(smooth, positions, "bilinear"), config, generator)
    new_painted = resample(painted[None].float(), positions, "nearest")[0].long()
    new_weights = resample(weights[None], positions, "bilinear")[0]
    return new_grey, new_painted, new_weights

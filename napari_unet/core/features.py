"""What a network and some filters see in a tile: the features on which the live head decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.config import LiveConfig
from napari_unet.core.devices import computing
from napari_unet.core.image import Normalisation
from napari_unet.core.network import UNet, centre_crop
from napari_unet.core.resampling import antialiasing_deviation, blurred, columns_at
from napari_unet.core.tiles import View, piece_around
from napari_unet.core.tiling import Tile

FILTER_SCALES = (0.7, 1.6, 3.5)
"""Standard deviations, in pixels of the network, of the filters on the image itself."""

SPACE_PIXELS = 6000
"""Pixels from which a feature space is made."""


@dataclass(frozen=True, eq=False)
class FeatureTile:
    """Features of a rectangle of a section, each at its own resolution.

    Parameters
    ----------
    tile
        Where it lies in the section.
    own_scores
        What the network says of its classes, before the softmax: (known classes, h, w), at full
        resolution. Only their differences count; none is above 0.
    levels
        Maps (channels, h, w): first at full resolution, and each twice as coarse as the one
        before. All have their centre in common with what the network saw, and so have the scores.
    first
        Row and column of the tile's first pixel from that centre, in pixels of the network.
    magnification
        Pixels of the network per pixel of the image.
    """

    tile: Tile
    own_scores: Tensor
    levels: tuple[Tensor, ...]
    first: tuple[float, float]
    magnification: float

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return self.own_scores.nbytes + sum(level.nbytes for level in self.levels)

    def at(
        self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return scores and features, of each level, of pixels of the section.

        Both float32, (pixels, known classes) and (pixels, channels).
        """
        place = self._from_centre(rows, columns)
        return _read_points(self.own_scores, place), tuple(
            _read_points(level, place / 2**number) for number, level in enumerate(self.levels)
        )

    def own_scores_at(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> Tensor:
        """Return what the network says of pixels of the section, float32 (pixels, known)."""
        return _read_points(self.own_scores, self._from_centre(rows, columns))

    def _from_centre(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> Tensor:
        """Return where pixels of the section lie, (2, pixels), in pixels of the network."""
        return torch.from_numpy(
            np.stack(
                [
                    self.first[0] + (rows - self.tile.top) * self.magnification,
                    self.first[1] + (columns - self.tile.left) * self.magnification,
                ]
            )
        ).float()

    def rows_between(self, number: int, rows: range) -> tuple[range, Tensor | None]:
        """Return which rows of a level some rows of the tile lie between, and their shares in them.

        Linear interpolation commutes with linear maps of the channels: so these may be brought
        down to a few before. The shares (rows, rows of the level) are those to multiply the
        latter with; None where pixels of both coincide.
        """
        side = self.levels[number].shape[1]
        places = self._places(number, 0, rows)
        if self.magnification == 1 and number == 0:
            low = round(float(places[0]))
            return range(low, low + len(rows)), None
        needed = range(math.floor(places[0]), min(side, math.floor(places[-1]) + 2))
        grid = torch.arange(needed.start, needed.stop)
        return needed, (1 - (places[:, None] - grid).abs()).clamp_(min=0)

    def at_columns(self, planes: Tensor, number: int) -> Tensor:
        """Return maps (K, h, W), of the resolution of a level, at the tile's columns: (K, h, w)."""
        places = self._places(number, 1, range(self.tile.width))
        if self.magnification == 1 and number == 0:
            return planes.narrow(2, round(float(places[0])), len(places))
        return columns_at(planes, places - (planes.shape[2] - 1) / 2, "border")

    def _places(self, number: int, axis: int, pixels: range) -> Tensor:
        """Return where rows (axis 0) or columns of the tile lie, in pixels of a level."""
        side = self.levels[number].shape[1 + axis]
        here = torch.arange(pixels.start, pixels.stop)
        places: Tensor = (self.first[axis] + self.magnification * here) / 2**number
        return (places + (side - 1) / 2).clamp(0, side - 1)


def _read_points(planes: Tensor, positions: Tensor) -> Tensor:
    """Return float32 (points, C) of planes (C, H, W) at positions (2, points) from their centre.

    Only the pixels around the points are touched, of planes that may be large. That is quickest
    where the channels of a pixel lie side by side.
    """
    flat = planes.movedim(0, -1).flatten(0, 1)
    sides = torch.tensor(planes.shape[-2:])[:, None]
    place = (positions + (sides - 1) / 2).clamp(min=0).minimum(sides - 1)
    low = place.floor()
    share = place - low
    rows, columns = torch.stack([low, (low + 1).minimum(sides - 1)], dim=1).long()  # (2, points)
    row_shares, column_shares = torch.stack([1 - share, share], dim=1)
    corners = (rows[:, None] * planes.shape[-1] + columns).flatten(0, 1)
    shares = (row_shares[:, None] * column_shares).flatten(0, 1)
    used = shares.any(dim=1)  # only one corner of pixels that the points lie on
    corners, shares = corners[used], shares[used]
    near = flat.index_select(0, corners.flatten()).view(*corners.shape, len(planes))
    return near.float().mul_(shares[..., None]).sum(dim=0)


def _half(planes: Tensor) -> Tensor:
    """Return planes as float16. Around a hot pixel they may leave its range, but stay finite."""
    largest = torch.finfo(torch.float16).max
    return planes.clamp(-largest, largest).half()


@torch.inference_mode()
def tile_features(
    network: UNet,
    section: Any,
    tile: Tile,
    statistics: Normalisation,
    *,
    magnification: float = 1.0,
    device: torch.device,
    precision: str = "auto",
) -> FeatureTile:
    """Return all features of a tile: filters on the image, and the maps of the expansive path.

    Parameters
    ----------
    network, section, tile, statistics, magnification, device, precision
        See `tile_probabilities`.

    Returns
    -------
    FeatureTile
        float16, on the CPU. The finest level holds the filters and the network's last map.
    """
    view = View(magnification)
    seen = piece_around(network.sight, section, tile, statistics, view, device)
    found = piece_features(network, seen.grey, device=device, precision=precision)
    rows, columns = seen.positions(Tile(tile.top, tile.left, 1, 1), view)
    first = float(rows), float(columns)
    found = replace(found, tile=tile, first=first, magnification=magnification)
    # Where the image has larger pixels than the network, some of the network's are skipped.
    smoothing = antialiasing_deviation(magnification)
    if not smoothing:
        return found
    return replace(
        found,
        own_scores=blurred(found.own_scores.float(), smoothing).half(),
        levels=tuple(
            blurred(level.float(), smoothing / 2**number).half()
            for number, level in enumerate(found.levels)
        ),
    )


@torch.inference_mode()
def piece_features(
    network: UNet, grey: Tensor, *, device: torch.device, precision: str = "auto"
) -> FeatureTile:
    """Return all features of what a network sees, at its own pixels.

    Parameters
    ----------
    network
        In evaluation mode, on the device.
    grey
        Normalised grey values (h, w), on the device.
    device, precision
        Where and how precisely to compute (see `computing`).

    Returns
    -------
    FeatureTile
        Of the pixels for which the network has an answer; float16, on the CPU.
    """
    batch = grey[None, None].contiguous(memory_format=torch.channels_last)
    with computing(device, precision):
        maps = list(network.decoder_maps(batch))[::-1]
        scores = network.classifier(maps[0])[0].float()
    filters = centre_crop(filter_maps(grey), maps[0])
    levels = [torch.cat([filters, maps[0][0].float()]), *(found[0].float() for found in maps[1:])]
    height, width = maps[0].shape[-2:]
    return FeatureTile(
        Tile(0, 0, height, width),
        _half(scores - scores.amax(dim=0)).cpu(),  # the same to the softmax
        tuple(_half(level).cpu() for level in levels),
        (-(height - 1) / 2, -(width - 1) / 2),
        1.0,
    )


def filter_maps(grey: Tensor) -> Tensor:
    """Return what filters see in a picture (h, w): float32 (4 per scale, h, w).

    Of each scale the smoothed grey value, the length of the gradient, and the two eigenvalues of
    the Hessian matrix; derivatives are multiplied by the scale (Lindeberg 1998, "Feature detection
    with automatic scale selection").
    """
    found = []
    for scale in FILTER_SCALES:
        smooth = blurred(grey[None], scale)[0]
        dy, dx = torch.gradient(smooth)
        dyy, dyx = torch.gradient(dy)
        _, dxx = torch.gradient(dx)
        middle = (dyy + dxx) / 2
        root = (((dyy - dxx) / 2).square() + dyx.square()).sqrt()
        gradient = (dy.square() + dx.square()).sqrt()
        found += [smooth, scale * gradient, scale**2 * (middle + root), scale**2 * (middle - root)]
    return torch.stack(found)


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """The principal components of each level's channels, brought to one variance.

    Parameters
    ----------
    means, bases
        Of each level, float32 (channels,) and (channels, dimensions).
    """

    means: tuple[Tensor, ...]
    bases: tuple[Tensor, ...]

    def reduce(self, features: FeatureTile) -> FeatureTile:
        """Return a tile with the few features of this space, float16.

        Those of a pixel lie side by side in memory, where examples are read from.
        """
        levels = []
        for level, mean, basis in zip(features.levels, self.means, self.bases, strict=True):
            reduced = (level.float().flatten(1) - mean[:, None]).T @ basis
            levels.append(_half(reduced).view(*level.shape[1:], -1).movedim(-1, 0))
        return replace(features, levels=tuple(levels))


def feature_space(features: FeatureTile, config: LiveConfig | None = None) -> FeatureSpace:
    """Return the space of the most important features of a network, as seen in one tile.

    Parameters
    ----------
    features
        All features of a tile (`tile_features`).
    config
        How many features, and how much coarse ones count.
    """
    config = config or LiveConfig()
    chance = np.random.default_rng(config.seed)
    tile = features.tile
    _, levels = features.at(
        tile.top + chance.integers(tile.height, size=SPACE_PIXELS),
        tile.left + chance.integers(tile.width, size=SPACE_PIXELS),
    )
    means, bases = [], []
    for number, values in enumerate(levels):
        mean = values.mean(dim=0)
        # The scale of a channel is of no meaning; one that never changes tells nothing.
        deviation = values.std(dim=0)
        deviation[deviation < 1e-3] = torch.inf
        _, singular, axes = torch.linalg.svd((values - mean) / deviation, full_matrices=False)
        kept = int((singular[: config.dimensions] > 1e-4 * singular[0]).sum())
        scale = config.coarser**number * SPACE_PIXELS**0.5 / singular[:kept]
        means.append(mean)
        bases.append(axes[:kept].T / deviation[:, None] * scale)
    return FeatureSpace(tuple(means), tuple(bases))

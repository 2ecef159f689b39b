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
from napari_unet.core.resampling import antialiasing_deviation, blurred, resample
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
        place = torch.from_numpy(
            np.stack(
                [
                    self.first[0] + (rows - self.tile.top) * self.magnification,
                    self.first[1] + (columns - self.tile.left) * self.magnification,
                ]
            )
        ).float()
        return _read_points(self.own_scores, place), tuple(
            _read_points(level, place / 2**number) for number, level in enumerate(self.levels)
        )

    def spread(self, planes: Tensor, number: int = 0, rows: range | None = None) -> Tensor:
        """Return maps (K, h, w), of the resolution of a level, at all pixels of the tile.

        Linear interpolation commutes with linear maps of the channels: so these may be brought
        down to a few before.

        Parameters
        ----------
        planes
            The maps, all of their pixels.
        number
            Of the level that has their resolution.
        rows
            Only these rows of the tile, if given; h is how many there are.
        """
        height, width = self.tile.height, self.tile.width
        top, left = self.first
        times = 2**number
        if rows is not None:
            planes, top = self._around(planes, number, rows)
            height = len(rows)
        if self.magnification == 1:
            for axis in (2, 1) if number else ():
                planes = _enlarged(planes, axis, times)
            first_row, first_column = (
                round(start + (side - 1) / 2)
                for start, side in zip((top, left), planes.shape[-2:], strict=True)
            )
            return planes[:, first_row : first_row + height, first_column : first_column + width]
        y, x = (
            (start + self.magnification * torch.arange(side)) / times
            for start, side in zip((top, left), (height, width), strict=True)
        )
        return resample(planes.float(), (y[:, None], x[None]), "bilinear", beyond="border")

    def _around(self, planes: Tensor, number: int, rows: range) -> tuple[Tensor, float]:
        """Return what some rows of the tile need of planes, and where the first of them lies.

        That is counted in pixels of the network from the centre of what is returned.
        """
        times, side = 2**number, planes.shape[1]
        first = self.first[0] + self.magnification * rows.start
        last = first + self.magnification * (len(rows) - 1)
        # With a row more at both ends, for those that lie between two.
        low = max(0, math.floor(first / times + (side - 1) / 2) - 1)
        high = min(side, math.ceil(last / times + (side - 1) / 2) + 2)
        return planes[:, low:high], first - times * (low + high - side) / 2


def _read_points(planes: Tensor, positions: Tensor) -> Tensor:
    """Return float32 (points, C) of planes (C, H, W) at positions (2, points) from their centre.

    Only the pixels around the points are touched, of planes that may be large. That is quickest
    where the channels of a pixel lie side by side.
    """
    flat = planes.movedim(0, -1).flatten(0, 1)
    corners, shares = [], []
    for axis, side in enumerate(planes.shape[-2:]):
        place = (positions[axis] + (side - 1) / 2).clamp(0, side - 1)
        low = place.floor()
        corners.append((low.long(), (low.long() + 1).clamp(max=side - 1)))
        shares.append((1 - (place - low), place - low))
    found = torch.zeros(positions.shape[1], len(planes))
    for row, row_share in zip(corners[0], shares[0], strict=True):
        for column, column_share in zip(corners[1], shares[1], strict=True):
            share = (row_share * column_share)[:, None]
            if share.any():  # not so between pixels that all points lie on
                near = flat.index_select(0, row * planes.shape[-1] + column)
                found += near.float() * share
    return found


def _enlarged(planes: Tensor, axis: int, times: int) -> Tensor:
    """Return planes with so many pixels along an axis for each, linearly interpolated.

    The same as `torch.nn.functional.interpolate`, in a quarter of its time: all pixels at one
    place between two others are computed at once, since these have the same shares in them.
    """
    side = planes.shape[axis]
    first, last = planes.narrow(axis, 0, 1), planes.narrow(axis, side - 1, 1)
    padded = torch.cat([first, planes, last], dim=axis)
    found = planes.new_empty(*planes.shape[: axis + 1], times, *planes.shape[axis + 1 :])
    for number in range(times):
        place = (number + 0.5) / times - 0.5  # from the middle of the larger pixel
        start = 0 if place < 0 else 1
        torch.lerp(
            padded.narrow(axis, start, side),
            padded.narrow(axis, start + 1, side),
            place % 1,
            out=found.select(axis + 1, number),
        )
    return found.flatten(axis, axis + 1)


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

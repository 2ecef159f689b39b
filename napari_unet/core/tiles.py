"""What a network says of one tile: read it, enlarge it, turn it, ask, and put it back.

The grid of the network is fixed to the section, not to the tile, so that the result does not
depend on how the section is cut: pixel ``q`` of the network lies at ``q / magnification`` of the
image, turned about the first pixel where the view is rotated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.devices import computing
from napari_unet.core.image import Normalisation
from napari_unet.core.network import Sight, rounded_up
from napari_unet.core.resampling import antialiasing_deviation, blurred, resample
from napari_unet.core.tiling import Tile, read_mirrored

ROTATIONS = 7
"""The paper averages over seven rotated versions of the input (section 4)."""


class Network(Protocol):
    """What answers: from (1, 1, H, W) to scores or probabilities (1, classes, h, w)."""

    @property
    def sight(self) -> Sight: ...

    def __call__(self, batch: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class View:
    """How the network looks at a section."""

    magnification: float
    angle: float = 0.0

    @property
    def is_plain(self) -> bool:
        return self.magnification == 1 and self.angle == 0

    def to_network(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (h, 1) and columns (1, w) of the image as those of the network.

        Where the view is rotated, both are (h, w).
        """
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        # Pixels are squares: their centres, not their corners, lie at whole numbers.
        y, x = ((axis + 0.5) * self.magnification for axis in (rows, columns))
        if self.angle:
            y, x = cos * y - sin * x, sin * y + cos * x
        return y - 0.5, x - 0.5

    def to_image(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (h, 1) and columns (1, w) of the network as those of the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        y, x = ((axis + 0.5) / self.magnification for axis in (rows, columns))
        if self.angle:
            y, x = cos * y + sin * x, cos * x - sin * y
        return y - 0.5, x - 0.5


@torch.inference_mode()
def tile_probabilities(
    network: Network,
    section: Any,
    tile: Tile,
    statistics: Normalisation,
    *,
    magnification: float = 1.0,
    test_time_augmentation: str = "none",
    ask: Callable[[Tensor], Tensor] | None = None,
    device: torch.device,
    precision: str = "auto",
) -> npt.NDArray[np.float32]:
    """Return the probability of each class in a tile, float32 (classes, height, width).

    The network sees as much around the tile as it needs: a section is mirrored beyond its
    border (overlap-tile strategy, paper, figure 2). Only a zero-padded network sees the border of
    the section as it saw that of its training patches, unless it lies aslant.

    Parameters
    ----------
    network
        In evaluation mode, on the device.
    section
        Grey values (Y, X), maybe on disk.
    tile
        Which part of it.
    statistics
        What brings grey values to the network's range.
    magnification
        Pixels of the network per pixel of the image.
    test_time_augmentation
        ``none``, ``symmetries`` (mirror images and quarter turns) or ``rotations`` (paper,
        section 4), over which probabilities are averaged.
    ask
        Says what is in a piece that the network sees: from normalised grey values (h, w) to
        probabilities (classes, h', w') of its inner part. The softmax of the network by default.
    device, precision
        Where and how precisely to compute (see `computing`).
    """

    def ask_network(grey: Tensor) -> Tensor:  # (h, w) -> (classes, h', w')
        batch = grey[None, None].contiguous(memory_format=torch.channels_last)
        with computing(device, precision):
            answer: Tensor = network(batch)[0]
        return answer.float().softmax(dim=0)

    def ask_all_symmetries(grey: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns in range(4):
            for mirrored in (False, True):
                seen = torch.rot90(grey.flip(-1) if mirrored else grey, turns, (-2, -1))
                found = torch.rot90(ask_once(seen), -turns, (-2, -1))
                found = found.flip(-1) if mirrored else found
                total = found if total is None else total.add_(found)
        assert total is not None
        return total / 8

    ask_once = ask or ask_network
    asked = ask_all_symmetries if test_time_augmentation == "symmetries" else ask_once
    count = ROTATIONS if test_time_augmentation == "rotations" else 1
    total: Tensor | None = None
    for number in range(count):
        view = View(magnification, 2 * math.pi * number / count)
        look = _plain_look if view.is_plain else _resampled_look
        found = look(asked, network.sight, section, tile, statistics, view, device)
        total = found if total is None else total.add_(found)
    assert total is not None
    probabilities: npt.NDArray[np.float32] = (total / count).cpu().numpy()
    return probabilities


def _plain_look(
    ask: Callable[[Tensor], Tensor],
    sight: Sight,
    section: Any,
    tile: Tile,
    statistics: Normalisation,
    view: View,
    device: torch.device,
) -> Tensor:
    """The network's pixels are those of the image: nothing is interpolated."""
    seen = piece_around(sight, section, tile, statistics, view, device)
    answer = ask(seen.grey)
    row, column = (
        start - first - (side - found) // 2
        for start, first, side, found in zip(
            (tile.top, tile.left), seen.first, seen.grey.shape, answer.shape[-2:], strict=True
        )
    )
    return answer[:, row : row + tile.height, column : column + tile.width]


def _resampled_look(
    ask: Callable[[Tensor], Tensor],
    sight: Sight,
    section: Any,
    tile: Tile,
    statistics: Normalisation,
    view: View,
    device: torch.device,
) -> Tensor:
    """The network's pixels lie between those of the image."""
    seen = piece_around(sight, section, tile, statistics, view, device)
    answer = blurred(ask(seen.grey), antialiasing_deviation(view.magnification))
    found = resample(answer, seen.positions(tile, view), "bilinear")
    return found / found.sum(dim=0)


@dataclass(frozen=True, eq=False)
class Piece:
    """What the network sees in order to judge a tile.

    Parameters
    ----------
    grey
        Normalised grey values (h, w).
    first
        Where its first pixel lies on the network's grid.
    """

    grey: Tensor
    first: tuple[int, int]

    def positions(self, tile: Tile, view: View) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the tile's pixels from the centre of the piece, float32."""
        y, x = (
            (axis - (start + (side - 1) / 2)).float()
            for axis, start, side in zip(
                _network_positions(tile, view, self.grey.device),
                self.first,
                self.grey.shape,
                strict=True,
            )
        )
        return y, x


def _network_positions(tile: Tile, view: View, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = _rectangle((tile.top, tile.left), (tile.height, tile.width), device)
    return view.to_network(rows, columns)


def _rectangle(
    first: Sequence[int], sides: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return its rows (h, 1) and columns (1, w)."""
    rows, columns = (
        torch.arange(start, start + side, device=device, dtype=torch.float64)
        for start, side in zip(first, sides, strict=True)
    )
    return rows[:, None], columns[None]


def piece_around(
    sight: Sight,
    section: Any,
    tile: Tile,
    statistics: Normalisation,
    view: View,
    device: torch.device,
) -> Piece:
    """Read a tile, with as much around it as the network needs to judge it.

    A zero-padded network sees the border of the section as it saw that of its training patches,
    unless it lies aslant; else the section is mirrored there.
    """
    margin, multiple = sight.margin, sight.step
    beyond = 0 if view.is_plain else 1 + math.ceil(3 * antialiasing_deviation(view.magnification))
    first, sides = [], []
    for wanted, whole in zip(
        _network_positions(tile, view, device), section.shape[-2:], strict=True
    ):
        # The part of the network's grid that holds the tile, begun at a multiple, so that poolings
        # fall on the same pixels in every plan.
        start = (math.floor(float(wanted.min())) - beyond) // multiple * multiple
        stop = math.ceil(float(wanted.max())) + beyond + 1
        if sight.padded and not view.angle:
            low = max(0, start - margin)
            high = min(
                rounded_up(stop, multiple) + margin,
                rounded_up(math.ceil(whole * view.magnification), multiple),
            )
            side = sight.side(high - low)
            # What is more than needed is looked at before the tile, where there still is image.
            first.append(max(0, low - (side - (high - low)) // multiple * multiple))
            sides.append(side)
        else:
            first.append(start - margin)
            sides.append(sight.side(stop - start + 2 * margin))
    if view.is_plain:
        grey = torch.from_numpy(statistics.normalise(read_mirrored(section, *first, *sides)))
        return Piece(grey.to(device), (first[0], first[1]))
    positions = view.to_image(*_rectangle(first, sides, device))
    seen = _read_between(section, positions, statistics, view, device)
    return Piece(seen, (first[0], first[1]))


def _read_between(
    section: Any,
    positions: tuple[Tensor, Tensor],
    statistics: Normalisation,
    view: View,
    device: torch.device,
) -> Tensor:
    """Normalised grey values at rows and columns of the section, mirrored beyond its border."""
    deviation = antialiasing_deviation(1 / view.magnification)
    beyond = 2 + math.ceil(3 * deviation)
    lowest = [math.floor(float(axis.min())) - beyond for axis in positions]
    highest = [math.ceil(float(axis.max())) + beyond + 1 for axis in positions]
    sides = [stop - start for start, stop in zip(lowest, highest, strict=True)]
    grey = torch.from_numpy(statistics.normalise(read_mirrored(section, *lowest, *sides)))
    smooth = blurred(grey[None].to(device), deviation)
    y, x = (
        (axis - (start + (n - 1) / 2)).float()
        for axis, start, n in zip(positions, lowest, sides, strict=True)
    )
    return resample(smooth, (y, x), "bilinear")[0]

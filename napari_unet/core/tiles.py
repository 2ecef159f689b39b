"""What a network says of one tile: read it, enlarge it, turn it, ask, and put it back.

The grid of the network is fixed to the section, not to the tile, so that the result does not
depend on how the section is cut: pixel ``q`` of the network lies at ``q / magnification`` of the
image, turned about the first pixel where the view is rotated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.config import NetworkConfig
from napari_unet.core.devices import computing
from napari_unet.core.image import GreyStatistics
from napari_unet.core.network import UNet, context, rounded_up, smallest_input
from napari_unet.core.resampling import antialiasing_deviation, blurred, resample
from napari_unet.core.tiling import Tile, read_mirrored

ROTATIONS = 7
"""The paper averages over seven rotated versions of the input (section 4)."""


@dataclass(frozen=True)
class _View:
    """How the network looks at a section."""

    magnification: float
    angle: float = 0.0

    @property
    def is_plain(self) -> bool:
        return self.magnification == 1 and self.angle == 0

    def to_network(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Positions of the image as positions of the network, stacked (2, ...)."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        # Pixels are squares: their centres, not their corners, lie at whole numbers.
        y, x = (axis + 0.5 for axis in (rows, columns))
        turned = torch.stack([cos * y - sin * x, sin * y + cos * x])
        return turned * self.magnification - 0.5

    def to_image(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Positions of the network as positions of the image, stacked (2, ...)."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        y, x = ((axis + 0.5) / self.magnification for axis in (rows, columns))
        return torch.stack([cos * y + sin * x, cos * x - sin * y]) - 0.5


@torch.inference_mode()
def tile_probabilities(
    network: UNet,
    section: Any,
    tile: Tile,
    statistics: GreyStatistics,
    *,
    magnification: float = 1.0,
    test_time_augmentation: str = "none",
    device: torch.device,
    precision: str = "auto",
) -> npt.NDArray[np.float32]:
    """Return the probability of each class in a tile, float32 (classes, height, width).

    The network sees as much around the tile as it needs: a section is mirrored beyond its
    border (overlap-tile strategy, paper, figure 2). Only where a zero-padded network looks at the
    pixels as they are, it sees the border of the section as it saw that of its training patches.

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
    device, precision
        Where and how precisely to compute (see `computing`).
    """

    def ask(grey: Tensor) -> Tensor:  # (h, w) -> (classes, h', w')
        batch = grey[None, None].contiguous(memory_format=torch.channels_last)
        with computing(device, precision):
            answer: Tensor = network(batch)[0]
        return answer.float().softmax(dim=0)

    def ask_all_symmetries(grey: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns in range(4):
            for mirrored in (False, True):
                seen = torch.rot90(grey.flip(-1) if mirrored else grey, turns, (-2, -1))
                found = torch.rot90(ask(seen), -turns, (-2, -1))
                found = found.flip(-1) if mirrored else found
                total = found if total is None else total.add_(found)
        assert total is not None
        return total / 8

    asked = ask_all_symmetries if test_time_augmentation == "symmetries" else ask
    count = ROTATIONS if test_time_augmentation == "rotations" else 1
    total: Tensor | None = None
    for number in range(count):
        view = _View(magnification, 2 * math.pi * number / count)
        look = _plain_look if view.is_plain else _resampled_look
        found = look(asked, network.config, section, tile, statistics, view, device)
        total = found if total is None else total.add_(found)
    assert total is not None
    probabilities: npt.NDArray[np.float32] = (total / count).cpu().numpy()
    return probabilities


def _plain_look(
    ask: Callable[[Tensor], Tensor],
    config: NetworkConfig,
    section: Any,
    tile: Tile,
    statistics: GreyStatistics,
    view: _View,
    device: torch.device,
) -> Tensor:
    """The network's pixels are those of the image: nothing is interpolated."""
    margin, multiple = context(config), 2**config.depth
    spans, insets = [], []
    for start, length, whole in zip(
        (tile.top, tile.left), (tile.height, tile.width), section.shape[-2:], strict=True
    ):
        if config.padding == "valid":
            spans.append((start - margin, smallest_input(config, length)))
            insets.append(0)
        else:
            first = max(0, start - margin)
            last = min(rounded_up(start + length, multiple) + margin, rounded_up(whole, multiple))
            spans.append((first, last - first))
            insets.append(start - first)
    (top, height), (left, width) = spans
    grey = statistics.normalise(read_mirrored(section, top, left, height, width))
    answer = ask(torch.from_numpy(grey).to(device))
    row, column = insets
    return answer[:, row : row + tile.height, column : column + tile.width]


def _resampled_look(
    ask: Callable[[Tensor], Tensor],
    config: NetworkConfig,
    section: Any,
    tile: Tile,
    statistics: GreyStatistics,
    view: _View,
    device: torch.device,
) -> Tensor:
    """The network's pixels lie between those of the image."""
    margin, multiple = context(config), 2**config.depth
    wanted = view.to_network(
        *torch.meshgrid(
            torch.arange(tile.top, tile.top + tile.height, device=device, dtype=torch.float64),
            torch.arange(tile.left, tile.left + tile.width, device=device, dtype=torch.float64),
            indexing="ij",
        )
    )
    smoothing = antialiasing_deviation(view.magnification)
    beyond = 1 + math.ceil(3 * smoothing)
    # The part of the network's grid that holds the tile, begun at a multiple, so that poolings
    # fall on the same pixels in every plan.
    first = [(math.floor(float(axis.min())) - beyond) // multiple * multiple for axis in wanted]
    length = [
        math.ceil(float(axis.max())) + beyond + 1 - start
        for axis, start in zip(wanted, first, strict=True)
    ]
    inputs = [
        smallest_input(config, n) + (2 * margin if config.padding == "same" else 0) for n in length
    ]
    grid = torch.meshgrid(
        *(
            torch.arange(start - margin, start - margin + n, device=device, dtype=torch.float64)
            for start, n in zip(first, inputs, strict=True)
        ),
        indexing="ij",
    )
    grey = _read_between(section, view.to_image(*grid), statistics, view, device)
    answer = ask(grey)
    if config.padding == "same":
        answer = answer[:, margin:-margin, margin:-margin]
    answer = blurred(answer, smoothing)
    origin = torch.tensor(first, device=device, dtype=torch.float64)
    centre = torch.tensor(answer.shape[-2:], device=device, dtype=torch.float64).sub(1) / 2
    found = resample(answer, (wanted - (origin + centre)[:, None, None]).float(), "bilinear")
    return found / found.sum(dim=0)


def _read_between(
    section: Any, positions: Tensor, statistics: GreyStatistics, view: _View, device: torch.device
) -> Tensor:
    """Normalised grey values at positions (2, h, w) of the section, mirrored beyond its border."""
    deviation = antialiasing_deviation(1 / view.magnification)
    beyond = 2 + math.ceil(3 * deviation)
    lowest = [math.floor(float(axis.min())) - beyond for axis in positions]
    highest = [math.ceil(float(axis.max())) + beyond + 1 for axis in positions]
    sides = [stop - start for start, stop in zip(lowest, highest, strict=True)]
    grey = torch.from_numpy(statistics.normalise(read_mirrored(section, *lowest, *sides)))
    centre = torch.tensor(
        [start + (n - 1) / 2 for start, n in zip(lowest, sides, strict=True)],
        device=device,
        dtype=torch.float64,
    )
    smooth = blurred(grey[None].to(device), deviation)
    return resample(smooth, (positions - centre[:, None, None]).float(), "bilinear")[0]

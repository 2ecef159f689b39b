"""Training patches, drawn around what was painted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.annotations import BACKGROUND, Annotations, class_number
from napari_unet.core.augmentation import augment, reach
from napari_unet.core.config import NetworkConfig, TrainingConfig
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.losses import border_weights, cells_between, class_weights
from napari_unet.core.network import lost, output_size, smallest_input
from napari_unet.core.tiling import read_mirrored

POSITIONS_KEPT = 20_000
"""Painted pixels remembered per class and section as places to draw patches around."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches for one training step, on the device."""

    grey: Tensor  # (N, 1, input, input)
    painted: Tensor  # (N, output, output) int64, 0 = not painted
    weights: Tensor  # (N, output, output)


@dataclass(frozen=True, eq=False)
class _PaintedSection:
    """What the sampler knows of one painted section."""

    painted: npt.NDArray[np.uint8]
    border: npt.NDArray[np.float32] | None
    positions: dict[int, npt.NDArray[np.int64]]
    counts: npt.NDArray[np.int64]


class PatchSampler:
    """Draws augmented patches around painted pixels, every painted class equally often.

    Parameters
    ----------
    image
        Grey image whose axes end with (Y, X).
    statistics
        Its grey statistics.
    annotations
        What was painted; `update` brings news of it.
    config, network
        How patches are made, and for which network.
    device
        Where patches are augmented and delivered.
    """

    def __init__(
        self,
        image: ImageArray,
        statistics: GreyStatistics,
        annotations: Annotations,
        config: TrainingConfig,
        network: NetworkConfig,
        device: torch.device,
    ) -> None:
        self._image = image
        self._statistics = statistics
        self._config = config
        self._network = network
        self._device = device
        self._places = np.random.default_rng(config.seed)
        self._generator = torch.Generator(device=device).manual_seed(config.seed)
        self._sections: dict[SectionIndex, _PaintedSection] = {}
        self.patch_size = config.patch_size
        self.update(annotations)

    def update(self, annotations: Annotations) -> None:
        """Learn from these annotations from now on; only changed sections cost time."""
        known = self._sections
        self._sections = {
            index: known[index]
            if index in known and known[index].painted is painted
            else self._look_at(painted, annotations)
            for index, painted in annotations.sections.items()
        }
        if self._config.border_weight and all(s.border is None for s in self._sections.values()):
            warnings.warn(
                "No section is annotated completely, so there are no border weights: the "
                "distances to all cells must be known.",
                stacklevel=2,
            )
        counts = sum((s.counts for s in self._sections.values()), np.zeros(256, np.int64))
        self._painted_classes = [n for n in range(1, 256) if counts[n]]
        weights = np.zeros(256, np.float32)
        weights[1:] = class_weights(counts[1:], self._config.class_balance)
        self._class_weights = torch.from_numpy(weights).to(self._device)

    def _look_at(self, painted: npt.NDArray[np.uint8], annotations: Annotations) -> _PaintedSection:
        flat = painted.ravel()
        counts = np.bincount(flat, minlength=256)
        counts[0] = 0
        positions = {}
        for number in np.flatnonzero(counts):
            where = np.flatnonzero(flat == number)
            if len(where) > POSITIONS_KEPT:
                where = self._places.choice(where, POSITIONS_KEPT, replace=False)
            positions[int(number)] = where
        return _PaintedSection(painted, self._border(painted, annotations), positions, counts)

    def _border(
        self, painted: npt.NDArray[np.uint8], annotations: Annotations
    ) -> npt.NDArray[np.float32] | None:
        """The border weights of a section; they need to know every border, so all of it."""
        if not self._config.border_weight or not painted.all():
            return None
        names = [c.name for c in annotations.classes]
        # As in the paper, cells lie in a background, unless a class of its own parts them.
        border = BACKGROUND
        if self._config.border_class in names:
            border = class_number(annotations.classes, self._config.border_class)
        cells = cells_between(painted, border)
        return border_weights(cells, self._config.border_weight, self._config.border_sigma)

    def draw(self, count: int) -> Batch:
        """Return the next `count` patches."""
        wanted = max(1, self.patch_size - lost(self._network))
        size = smallest_input(self._network, wanted)
        inset = (size - output_size(self._network, size)) // 2
        patches = [self._patch(size, inset) for _ in range(count)]
        grey, painted, border = (torch.stack(part) for part in zip(*patches, strict=True))
        return Batch(grey, painted, self._class_weights[painted] + border)

    def _patch(self, size: int, inset: int) -> tuple[Tensor, Tensor, Tensor]:
        index, row, column = self._place()
        section = self._sections[index]
        output = size - 2 * inset
        row, column = (int(p + self._places.integers(-output // 3, output // 3 + 1))
                       for p in (row, column))  # fmt: skip
        side = reach(size, self._config.augmentation)
        corner = (row - side // 2, column - side // 2, side, side)
        grey = read_mirrored(self._image.data[index] if index else self._image.data, *corner)
        painted = read_mirrored(section.painted, *corner)
        border = (
            np.zeros((side, side), np.float32)
            if section.border is None
            else read_mirrored(section.border, *corner)
        )
        varied = augment(
            torch.from_numpy(self._statistics.normalise(grey))[None].to(self._device),
            torch.from_numpy(painted).to(self._device),
            torch.from_numpy(border).to(self._device),
            size,
            self._config.augmentation,
            self._generator,
        )
        kept = slice(inset, size - inset)
        return varied[0], varied[1][kept, kept], varied[2][kept, kept]

    def _place(self) -> tuple[SectionIndex, int, int]:
        """A painted pixel at random: first the class, then the section by its share, then the pixel."""
        number = int(self._places.choice(self._painted_classes))
        indices = [i for i, s in self._sections.items() if number in s.positions]
        share = np.array([self._sections[i].counts[number] for i in indices], np.float64)
        index = indices[int(self._places.choice(len(indices), p=share / share.sum()))]
        flat = int(self._places.choice(self._sections[index].positions[number]))
        row, column = divmod(flat, self._sections[index].painted.shape[1])
        return index, row, column

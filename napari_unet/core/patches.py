"""Training patches, drawn around what was painted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from napari_unet.core.annotations import BACKGROUND, UNPAINTED, Annotations, class_number
from napari_unet.core.augmentation import augment, mean_step, sampling_positions
from napari_unet.core.config import NetworkConfig, TrainingConfig
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.losses import (
    border_reach,
    border_weights,
    cells_between,
    class_weights,
)
from napari_unet.core.network import lost, output_size, smallest_input
from napari_unet.core.notices import tell
from napari_unet.core.resampling import antialiasing_deviation
from napari_unet.core.tiling import read_mirrored

POSITIONS_KEPT = 20_000
"""Painted pixels remembered per class and section as places to draw patches around."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image to learn from, or to be judged by.

    Parameters
    ----------
    image
        Grey image whose axes end with (Y, X).
    annotations
        What was painted.
    unlabelled
        Numbers of classes that nobody looked for in this image: where the background is painted,
        they may be there as well.
    share
        How often patches are drawn from this image, relative to the others.
    statistics
        Grey statistics of the image, if they are known already.
    name
        What it is called in reports.
    """

    image: ImageArray
    annotations: Annotations
    unlabelled: frozenset[int] = frozenset()
    share: float = 1.0
    statistics: GreyStatistics | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"The share of {self.name!r} must be positive; got {self.share}.")
        if BACKGROUND in self.unlabelled:
            raise ValueError(
                f"The background of {self.name!r} cannot be unlabelled: it is where no "
                "labelled class is."
            )
        if not self.unlabelled:
            return
        painted = zip(self.annotations.classes, self.annotations.counts(), strict=True)
        for number, (each, count) in enumerate(painted, start=1):
            if count and number in self.unlabelled:
                raise ValueError(
                    f"{self.name!r} holds {count} pixels of {each.name!r}, which is said to be "
                    "unlabelled there. Leave it out of the unlabelled classes, or set those "
                    "pixels to 0."
                )


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches for one training step, on the device."""

    grey: Tensor  # (N, 1, input, input)
    painted: Tensor  # (N, output, output) int64, 0 = not painted
    weights: Tensor  # (N, output, output)
    unlabelled: Tensor | None = None  # (N, 255) bool: class n + 1 may hide in the background


@dataclass(frozen=True, eq=False)
class _PaintedSection:
    """What the sampler knows of one painted section."""

    painted: npt.NDArray[np.uint8]
    border: npt.NDArray[np.float32] | None
    positions: dict[int, npt.NDArray[np.int64]]
    counts: npt.NDArray[np.int64]


class PatchSampler:
    """Draws augmented patches around painted pixels, every painted class equally often.

    Some are drawn from anywhere instead, if they are to be.

    Parameters
    ----------
    sources
        What to draw from; `update` brings news of the first one. Their statistics must be known.
    magnifications
        Pixels of the network per pixel of the image, for each source.
    config, network
        How patches are made, and for which network.
    device
        Where patches are augmented and delivered.
    replay
        Share of the patches that are drawn from anywhere.
    """

    def __init__(
        self,
        sources: Sequence[LabelledImage],
        magnifications: Sequence[float],
        config: TrainingConfig,
        network: NetworkConfig,
        device: torch.device,
        replay: float = 0.0,
    ) -> None:
        self._config = config
        self._replay = replay
        self._network = network
        self._device = device
        self.places = np.random.default_rng(config.seed)
        self.generator = torch.Generator(device=device).manual_seed(config.seed)
        self.patch_size = config.patch_size
        self._sources = [
            _PaintedImage(source, magnification, config, self.places, device)
            for source, magnification in zip(sources, magnifications, strict=True)
        ]
        self._shares = np.array([source.share for source in sources], np.float64)
        unlabelled = torch.zeros((len(sources), 255), dtype=torch.bool, device=device)
        for row, source in zip(unlabelled, sources, strict=True):
            row[[number - 1 for number in source.unlabelled]] = True
        self._unlabelled = unlabelled if bool(unlabelled.any()) else None

    def update(self, annotations: Annotations) -> None:
        """Learn from these annotations of the first source; only changed sections cost time."""
        self._sources[0].update(annotations)

    def draw(self, count: int) -> Batch:
        """Return the next `count` patches."""
        wanted = max(1, self.patch_size - lost(self._network))
        size = smallest_input(self._network, wanted)
        inset = (size - output_size(self._network, size)) // 2
        kept = slice(inset, size - inset)
        shares = self._shares * [source.is_painted for source in self._sources]
        drawn = self.places.choice(len(self._sources), count, p=shares / shares.sum())
        anywhere = self.places.random(count) < self._replay if self._replay else [False] * count
        patches = [
            self._sources[i].patch(size, inset, self.generator, far)
            for i, far in zip(drawn, anywhere, strict=True)
        ]
        grey, painted, weights = (torch.stack(part) for part in zip(*patches, strict=True))
        return Batch(
            grey,
            painted[:, kept, kept],
            weights[:, kept, kept],
            None if self._unlabelled is None else self._unlabelled[torch.from_numpy(drawn)],
        )


class _PaintedImage:
    """One source of patches."""

    def __init__(
        self,
        source: LabelledImage,
        magnification: float,
        config: TrainingConfig,
        places: np.random.Generator,
        device: torch.device,
    ) -> None:
        if source.statistics is None:
            raise ValueError(f"The grey statistics of {source.name!r} must be known.")
        self._image = source.image
        self._statistics = source.statistics
        self._magnification = magnification
        self._config = config
        self._places = places
        self._device = device
        self._sections: dict[SectionIndex, _PaintedSection] = {}
        self.update(source.annotations)

    def update(self, annotations: Annotations) -> None:
        known = self._sections
        self._sections = {
            index: known[index]
            if index in known and known[index].painted is painted
            else self._look_at(painted, annotations)
            for index, painted in annotations.sections.items()
        }
        if self._config.border_weight and all(s.border is None for s in self._sections.values()):
            reach = border_reach(self._border_sigma)
            tell(
                "There are no border weights: all within "
                f"{reach} pixels of a border must be annotated, and not be held out.",
                stacklevel=2,
            )
        counts = sum((s.counts for s in self._sections.values()), np.zeros(256, np.int64))
        self._painted_classes = [n for n in range(1, 256) if counts[n]]
        weights = np.zeros(256, np.float32)
        weights[1:] = class_weights(counts[1:], self._config.class_balance)
        self._class_weights = torch.from_numpy(weights).to(self._device)

    @property
    def is_painted(self) -> bool:
        return bool(self._painted_classes)

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
        """The border weights of a section, 0 where nobody said which borders are near."""
        if not self._config.border_weight:
            return None
        unknown = painted == UNPAINTED
        if unknown.any():
            distance = ndimage.distance_transform_edt(~unknown)
            unknown = distance <= border_reach(self._border_sigma)
        if unknown.all():
            return None
        names = [c.name for c in annotations.classes]
        # As in the paper, cells lie in a background, unless a class of its own parts them.
        border = BACKGROUND
        if self._config.border_class in names:
            border = class_number(annotations.classes, self._config.border_class)
        cells = cells_between(painted, border)
        weights = border_weights(cells, self._config.border_weight, self._border_sigma)
        weights[unknown] = 0
        return weights

    @property
    def _border_sigma(self) -> float:
        """In pixels of the image."""
        return self._config.border_sigma / self._magnification

    def patch(
        self, size: int, inset: int, generator: torch.Generator, anywhere: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return grey values (1, size, size), classes and weights (size, size) of a new patch."""
        index, *place = self._anywhere() if anywhere else self._place()
        section = self._sections.get(index)
        positions = sampling_positions(
            size, self._config.augmentation, generator, self._magnification
        )
        step = mean_step(positions)
        shift = (size - 2 * inset) // 3
        row, column = (
            p + round(step * int(self._places.integers(-shift, shift + 1))) for p in place
        )
        # Read just what the positions and the blur before skipping pixels need.
        beyond = 2 + math.ceil(3 * antialiasing_deviation(step))
        half = [math.ceil(float(axis.abs().max())) + beyond for axis in positions]
        # An even patch has its centre between pixels, and so must the piece.
        sides = [2 * each + size % 2 for each in half]
        corner = (row - half[0], column - half[1], *sides)
        grey = read_mirrored(self._image.data[index] if index else self._image.data, *corner)
        painted = np.zeros(grey.shape, np.uint8)
        border = np.zeros(grey.shape, np.float32)
        if section is not None:
            painted = read_mirrored(section.painted, *corner)
            if section.border is not None:
                border = read_mirrored(section.border, *corner)
        varied = augment(
            torch.from_numpy(self._statistics.normalise(grey))[None].to(self._device),
            torch.from_numpy(painted).to(self._device),
            torch.from_numpy(border).to(self._device),
            positions,
            self._config.augmentation,
            generator,
        )
        return varied[0], varied[1], self._class_weights[varied[1]] + varied[2]

    def _place(self) -> tuple[SectionIndex, int, int]:
        """A painted pixel at random: first the class, then the section by its share, then the pixel."""
        number = int(self._places.choice(self._painted_classes))
        indices = [i for i, s in self._sections.items() if number in s.positions]
        share = np.array([self._sections[i].counts[number] for i in indices], np.float64)
        index = indices[int(self._places.choice(len(indices), p=share / share.sum()))]
        flat = int(self._places.choice(self._sections[index].positions[number]))
        row, column = divmod(flat, self._sections[index].painted.shape[1])
        return index, row, column

    def _anywhere(self) -> tuple[SectionIndex, int, int]:
        """Any pixel of the image at random."""
        *index, row, column = (int(self._places.integers(side)) for side in self._image.shape)
        return tuple(index), row, column

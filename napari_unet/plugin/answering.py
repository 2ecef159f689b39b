"""What the threads of the live head compute: features of tiles, and answers to strokes.

No Qt and no napari: values come in and go out. `plugin.live.Live` asks, and shows what it is told.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.annotations import ClassTable
from napari_unet.core.config import LiveConfig
from napari_unet.core.devices import is_out_of_memory
from napari_unet.core.features import FeatureSpace, FeatureTile, feature_space, tile_features
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.live import Examples, LiveHead, fit_head, most_probable, tile_examples
from napari_unet.core.model import UNetModel
from napari_unet.core.network import UNet
from napari_unet.core.tiling import Tile

Place = tuple[SectionIndex, Tile]
"""A tile of a section."""

MEMORY = 2**30
"""Bytes of features that are kept."""


class FeatureCache:
    """Features of tiles, as many as fit into the memory; those not used for longest go first."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._tiles: OrderedDict[Place, FeatureTile] = OrderedDict()
        self._bytes = 0

    def get(self, place: Place) -> FeatureTile | None:
        """Return the features of a tile, if they are there."""
        found = self._tiles.get(place)
        if found is not None:
            self._tiles.move_to_end(place)
        return found

    def __contains__(self, place: Place) -> bool:
        return place in self._tiles

    def add(self, place: Place, features: FeatureTile) -> None:
        """Keep the features of a tile; others may have to go for them."""
        earlier = self._tiles.pop(place, None)
        self._bytes -= earlier.bytes if earlier else 0
        self._tiles[place] = features
        self._bytes += features.bytes
        while self._bytes > self._memory and len(self._tiles) > 1:
            _, gone = self._tiles.popitem(last=False)
            self._bytes -= gone.bytes

    @property
    def is_full(self) -> bool:
        """Whether another tile would push one out."""
        each = self._bytes / max(len(self._tiles), 1)
        return self._bytes + each > self._memory


@dataclass(eq=False)
class Basis:
    """All that rests on one set of weights."""

    model: UNetModel
    device: torch.device
    space: FeatureSpace | None = None
    features: FeatureCache = field(default_factory=FeatureCache)
    examples: dict[Place, PaintedExamples] = field(default_factory=dict)
    """Of every tile that holds paint."""
    head: LiveHead | None = None

    @cached_property
    def network(self) -> UNet:
        """The network, on the device."""
        folded = self.model.folded
        return folded if self.device.type == "cpu" else copy.deepcopy(folded).to(self.device)


@dataclass(frozen=True, eq=False)
class PaintedExamples:
    """What is learnt from a tile."""

    painted: npt.NDArray[np.uint8]
    """The section (Y, X) as it was painted then."""
    examples: Examples


@dataclass(frozen=True, eq=False)
class Computed:
    """Features of a tile, and the examples there if it is painted."""

    basis: Basis
    place: Place
    space: FeatureSpace
    features: FeatureTile
    examples: PaintedExamples | None


@dataclass(frozen=True, eq=False)
class Question:
    """What the head is to learn, and of what it is to say what it sees."""

    basis: Basis
    classes: ClassTable
    changed: dict[Place, tuple[npt.NDArray[np.uint8], FeatureTile]]
    """Painted sections and features of tiles whose paint is new."""
    kept: dict[Place, PaintedExamples]
    """What is known already and still holds."""
    shown: dict[Place, FeatureTile]
    """Features of what is in view."""
    learns: bool
    """Whether anything was painted or erased since the head was fitted."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the head has learnt, and what it sees."""

    question: Question
    examples: dict[Place, PaintedExamples]
    head: LiveHead
    classes: dict[Place, npt.NDArray[np.uint8]]


def compute(
    basis: Basis,
    image: ImageArray,
    statistics: GreyStatistics,
    place: Place,
    painted: npt.NDArray[np.uint8] | None,
    config: LiveConfig,
) -> Computed:
    """Return the features of a tile."""
    index, tile = place
    try:
        features = tile_features(
            basis.network,
            image.data[index] if index else image.data,
            tile,
            statistics,
            magnification=basis.model.magnification(image),
            device=basis.device,
        )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"The device has not enough memory for the features of {tile.height} x {tile.width} "
            "pixels, so strokes are not answered at once. Choose a lighter model, or the CPU."
        ) from error
    space = basis.space or feature_space(features, config)
    reduced = space.reduce(features)
    examples = None
    if painted is not None:
        examples = PaintedExamples(painted, tile_examples(painted, reduced, config))
    return Computed(basis, place, space, reduced, examples)


def answer(question: Question, config: LiveConfig) -> Answer:
    """Learn what was painted, and say what is seen."""
    head, examples = question.basis.head, dict(question.kept)
    if question.learns or head is None:
        for place, (painted, features) in question.changed.items():
            examples[place] = PaintedExamples(painted, tile_examples(painted, features, config))
        together = Examples.together([each.examples for each in examples.values()])
        head = fit_head(together, len(question.classes), config, head)
    classes = {place: most_probable(head.scores(seen)) for place, seen in question.shown.items()}
    return Answer(question, examples, head, classes)

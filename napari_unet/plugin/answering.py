"""What the threads of the live head compute: features of tiles, and answers to strokes.

No Qt and no napari: values come in and go out. `plugin.live.Live` asks, and shows what it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.annotations import ClassTable
from napari_unet.core.config import LiveConfig
from napari_unet.core.devices import in_one_thread, is_out_of_memory
from napari_unet.core.feature_cache import FeatureCache
from napari_unet.core.features import FeatureSpace, FeatureTile, feature_space, tile_features
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.live import Examples, LiveHead, learnt_head, tile_examples
from napari_unet.core.measuring import Rivals, measure_head
from napari_unet.core.model import UNetModel
from napari_unet.core.network import UNet
from napari_unet.core.tiling import Tile

Place = tuple[SectionIndex, Tile]
"""A tile of a section."""


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
    begun: bool = False
    """Whether features of it are being computed, or are there."""

    @cached_property
    def network(self) -> UNet:
        """The network, on the device."""
        return self.model.on_device(self.device)


@dataclass(frozen=True, eq=False)
class Paint:
    """The paint of a section (Y, X): what is learnt from, and what is only measured, if any."""

    learnt: npt.NDArray[np.uint8] | None
    held_out: npt.NDArray[np.uint8] | None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Paint)
            and self.learnt is other.learnt
            and self.held_out is other.held_out
        )

    def teaches(self, tile: Tile) -> bool:
        """Tell whether there is anything to learn in a tile."""
        return self.learnt is not None and bool(self.learnt[tile.slices].any())

    def is_in(self, tile: Tile) -> bool:
        """Tell whether there is any in a tile."""
        return self.teaches(tile) or (
            self.held_out is not None and bool(self.held_out[tile.slices].any())
        )

    def is_like(self, other: Paint, tile: Tile) -> bool:
        """Tell whether it is the same in a tile."""
        return _same(self.learnt, other.learnt, tile) and _same(self.held_out, other.held_out, tile)


def _same(one: npt.NDArray[np.uint8] | None, two: npt.NDArray[np.uint8] | None, tile: Tile) -> bool:
    if one is two:
        return True
    if one is None or two is None:
        there = one if two is None else two
        return there is not None and not there[tile.slices].any()
    return bool(np.array_equal(one[tile.slices], two[tile.slices]))


@dataclass(frozen=True, eq=False)
class PaintedExamples:
    """What is learnt from a tile, and what is measured there."""

    paint: Paint
    """The section as it was painted then."""
    learnt: Examples | None
    held_out: Examples | None


def painted_examples(paint: Paint, features: FeatureTile, config: LiveConfig) -> PaintedExamples:
    """Return what the paint of a section says of a tile."""
    learnt, held_out = (
        tile_examples(part, features, config)
        if part is not None and part[features.tile.slices].any()
        else None
        for part in (paint.learnt, paint.held_out)
    )
    return PaintedExamples(paint, learnt, held_out)


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
    changed: dict[Place, tuple[Paint, FeatureTile]]
    """Painted sections and features of tiles whose paint is new."""
    kept: dict[Place, PaintedExamples]
    """What is known already and still holds."""
    shown: dict[Place, FeatureTile]
    """Features of what is in view."""
    painted: Mapping[SectionIndex, npt.NDArray[np.uint8]]
    """All paint, that is learnt from or held out."""
    learns: bool
    """Whether anything was painted or erased since the head was fitted."""

    def painted_in(self, place: Place) -> npt.NDArray[np.uint8] | None:
        """The paint of a tile, if there is any in its section."""
        index, tile = place
        section = self.painted.get(index)
        return None if section is None else section[tile.slices]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the head has learnt, and what it sees."""

    question: Question
    examples: dict[Place, PaintedExamples]
    head: LiveHead
    classes: dict[Place, npt.NDArray[np.uint8]]
    rivals: Rivals
    """How the head, and the network alone, do on strokes that are held out."""


def compute(
    basis: Basis,
    image: ImageArray,
    statistics: GreyStatistics,
    place: Place,
    paint: Paint | None,
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
    examples = painted_examples(paint, reduced, config) if paint is not None else None
    return Computed(basis, place, space, reduced, examples)


@in_one_thread()  # others draw, predict and learn meanwhile
def answer(question: Question, config: LiveConfig) -> Answer:
    """Learn what was painted, and say what is seen."""
    head, examples = question.basis.head, dict(question.kept)
    for place, (paint, features) in question.changed.items():
        examples[place] = painted_examples(paint, features, config)
    learnt = [each.learnt for each in examples.values() if each.learnt is not None]
    if question.learns or head is None:
        added = question.basis.model.added
        head = learnt_head(learnt, len(question.classes), config, head, added=added)
    classes = {
        place: head.most_probable(seen, question.painted_in(place))
        for place, seen in question.shown.items()
    }
    held_out = [each.held_out for each in examples.values() if each.held_out is not None]
    rivals = measure_head(head, held_out, question.classes, learnt)
    return Answer(question, examples, head, classes, rivals)

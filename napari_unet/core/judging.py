"""Who tells how well a network does on held-out strokes: alone, or with a live head, as shown."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from napari_unet.core.annotations import Annotations
from napari_unet.core.config import LiveConfig
from napari_unet.core.devices import choose_device, in_one_thread, is_out_of_memory
from napari_unet.core.feature_cache import FeatureCache
from napari_unet.core.features import FeatureSpace, feature_space, tile_features
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.live import Examples, LiveModel, learnt_head, tile_examples
from napari_unet.core.measuring import measure, measure_head
from napari_unet.core.metrics import Scores
from napari_unet.core.model import UNetModel
from napari_unet.core.network import StoppedError, UNet, stoppable
from napari_unet.core.prediction import SMALLEST_TILE, never
from napari_unet.core.tiling import Tile, plan_tiles

TILE = 512
"""Side of the tiles whose features are computed at once."""

MOST_LEARNT = 8
"""To choose between networks, so many of the tiles without held-out paint are learnt from, and those
without which a class would be missing."""

MEMORY = 2**27
"""Bytes of features that are kept of each network."""


@dataclass(eq=False)
class _Contender:
    """What is known of a network."""

    network: UNet
    space: FeatureSpace | None = None
    features: FeatureCache = field(default_factory=lambda: FeatureCache(MEMORY))


class Judge(Protocol):
    """Measures networks on held-out strokes."""

    minds_learnt: bool
    """Whether scores change with what is learnt from, and not with what is held out only."""

    def scores(
        self, model: UNetModel, strokes: Strokes, should_stop: Callable[[], bool] = never
    ) -> Scores:
        """Return the scores on held-out pixels, of every class that is held out.

        Parameters
        ----------
        model
            Whose network is measured.
        strokes
            What is learnt from, and what is held out.
        should_stop
            Asked before each tile, and while the network looks at it (see `stoppable`).

        Raises
        ------
        StoppedError
            If it was to stop.
        """

    def keep_only(self, models: Collection[UNetModel]) -> None:
        """Forget what was computed of all other networks."""


class NetworkJudge:
    """Measures what networks find themselves (`measure`).

    Parameters
    ----------
    image, statistics, device
        See `ShownJudge`.
    """

    minds_learnt = False

    def __init__(self, image: ImageArray, statistics: GreyStatistics, device: str = "auto") -> None:
        self._image = image
        self._statistics = statistics
        self._device = device

    def scores(
        self, model: UNetModel, strokes: Strokes, should_stop: Callable[[], bool] = never
    ) -> Scores:
        """See `Judge.scores`."""
        return measure(
            model,
            self._image,
            strokes.held_out,
            statistics=self._statistics,
            device=self._device,
            should_stop=should_stop,
        )

    def keep_only(self, models: Collection[UNetModel]) -> None:
        """Do nothing: nothing is kept."""


class ShownJudge:
    """Measures networks together with heads that learn from the same strokes.

    What is shown of a network is what the live head makes of its features, so this is what tells
    whether it became better: it may have learnt what helps the head long before it finds anything
    itself. Where it does clearly better without the head, it is shown alone, and its own scores
    count (`Rivals.network_is_better`).

    Features are kept, so that the same network is soon measured again after another stroke.

    Parameters
    ----------
    image
        Grey image whose axes end with (Y, X).
    statistics
        Grey statistics of the image.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    config
        How the head learns.
    in_full
        Learn from all painted tiles, as answers to strokes do; else, to be soon done, from some of
        them (`MOST_LEARNT`), the same of all networks.
    """

    minds_learnt = True

    def __init__(
        self,
        image: ImageArray,
        statistics: GreyStatistics,
        device: str = "auto",
        config: LiveConfig | None = None,
        *,
        in_full: bool = False,
    ) -> None:
        self._alone = NetworkJudge(image, statistics, device)
        self._image = image
        self._statistics = statistics
        self._device = choose_device(device)
        self._config = config or LiveConfig()
        self._in_full = in_full
        self._tile = TILE
        self._known: dict[UNetModel, _Contender] = {}

    def keep_only(self, models: Collection[UNetModel]) -> None:
        """Forget the features of all other networks."""
        self._known = {model: each for model, each in self._known.items() if model in models}

    def scores(
        self, model: UNetModel, strokes: Strokes, should_stop: Callable[[], bool] = never
    ) -> Scores:
        """See `Judge.scores`."""
        if not strokes.held_out.counts().any():
            return {}
        return self.shown(model, strokes, should_stop)[1]

    def shown(
        self, model: UNetModel, strokes: Strokes, should_stop: Callable[[], bool] = never
    ) -> tuple[UNetModel | LiveModel, Scores]:
        """Return what is shown of a network, and its scores on held-out pixels.

        Parameters
        ----------
        model, strokes, should_stop
            See `Judge.scores`.

        Raises
        ------
        StoppedError
            If it was to stop.
        """
        if not strokes.learnt.counts().any():
            return model, self._alone.scores(model, strokes, should_stop)
        try:
            learnt, held_out = self._examples(model, strokes, should_stop)
        except RuntimeError as error:
            smallest = max(SMALLEST_TILE, 2**model.network.config.depth)
            if not is_out_of_memory(error) or self._tile // 2 < smallest:
                raise
            self._tile //= 2
            self._known.clear()
            return self.shown(model, strokes, should_stop)
        painted, space = strokes.learnt.classes, self._known[model].space
        assert space is not None
        classes = (*painted, *model.classes[len(painted) :])
        if should_stop():
            raise StoppedError
        with in_one_thread():  # as when strokes are answered
            head = learnt_head(learnt, len(classes), self._config, added=model.added)
        rivals = measure_head(head, held_out, classes, learnt)
        if rivals.network_is_better:
            return model, rivals.network
        return LiveModel(model, classes, space, head, strokes.painted), rivals.head

    def _examples(
        self, model: UNetModel, strokes: Strokes, should_stop: Callable[[], bool]
    ) -> tuple[list[Examples], list[Examples]]:
        """Return what is learnt from, and what is held out, of each tile."""
        if model not in self._known:
            self._known[model] = _Contender(model.on_device(self._device))
        contender = self._known[model]
        learnt: list[Examples] = []
        held_out: list[Examples] = []
        places = _places(strokes, self._tile, 2**model.network.config.depth, self._in_full)
        for number, (index, tile) in enumerate(places):
            if should_stop():
                raise StoppedError
            features = contender.features.get((index, tile))
            if features is None:
                section = self._image.data[index] if index else self._image.data
                with stoppable(should_stop):
                    found = tile_features(
                        contender.network,
                        section,
                        tile,
                        self._statistics,
                        magnification=model.magnification(self._image),
                        device=self._device,
                    )
                contender.space = contender.space or feature_space(found, self._config)
                features = contender.space.reduce(found)
                # Of more than fit, always the same ones: these would push each other out for ever.
                if number < contender.features.fits(len(places)):
                    contender.features.add((index, tile), features)
            for examples, painted in ((learnt, strokes.learnt), (held_out, strokes.held_out)):
                if _is_painted(painted, index, tile):
                    section = painted.sections[index]
                    examples.append(tile_examples(section, features, self._config))
        return learnt, held_out


def _is_painted(annotations: Annotations, index: SectionIndex, tile: Tile) -> bool:
    section = annotations.sections.get(index)
    return section is not None and bool(section[tile.slices].any())


def _places(
    strokes: Strokes, size: int, multiple: int, in_full: bool
) -> list[tuple[SectionIndex, Tile]]:
    """Return all tiles with held-out paint, and all or evenly some of the others with paint.

    Some are enough that no painted class is missing.
    """
    held_out, others = [], []
    for index in sorted({**strokes.held_out.sections, **strokes.learnt.sections}):
        painted = strokes.held_out.sections.get(index, strokes.learnt.sections.get(index))
        assert painted is not None
        for tile in plan_tiles(len(painted), painted.shape[1], size, multiple):
            if _is_painted(strokes.held_out, index, tile):
                held_out.append((index, tile))
            elif _is_painted(strokes.learnt, index, tile):
                others.append((index, tile))
    if in_full or len(others) <= MOST_LEARNT:
        return held_out + others

    def classes(place: tuple[SectionIndex, Tile]) -> set[int]:
        index, tile = place
        section = strokes.learnt.sections.get(index)
        return set() if section is None else set(np.unique(section[tile.slices]).tolist())

    chosen = held_out + others[:: -(-len(others) // MOST_LEARNT)]
    known = set().union(*map(classes, chosen))
    for place in others:
        if not classes(place) <= known:
            chosen.append(place)
            known |= classes(place)
    return chosen

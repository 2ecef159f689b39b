"""The live head: a light classifier on the features of a network, refitted at every stroke.

It starts from what the network itself says of its classes, and moves away from that only as far
as the strokes ask for. Classes that the network has never heard of start improbable everywhere,
and are then found about as often as their probabilities let expect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, optimize
from torch import Tensor

from napari_unet.core.annotations import ClassTable
from napari_unet.core.config import LiveConfig
from napari_unet.core.features import FeatureSpace, FeatureTile
from napari_unet.core.image import SectionIndex
from napari_unet.core.losses import DOUBT_RADIUS, SURE
from napari_unet.core.model import UNetModel
from napari_unet.core.obeying import obey
from napari_unet.core.tiling import Tile

NEW_CLASS_SCORE = 3.0
"""By how much the score of a new class lies below that of all classes the network knows."""

AMONG_KNOWN = 2.0
"""How much more it counts which of its classes the network was sure of than that none is new.

The former it has learnt; that a pixel nobody painted is of no new class is a guess.
"""

FOUND = 0.1
"""A network that finds less of a class than this, beside what is painted of it, does not know it."""

NO_BETTER = 3e-8
"""A step that gains less than this is the last one: what is less is rounding, of float32."""

SMALLEST = np.finfo(np.float32).tiny
"""A sum of probabilities is at least this, so that it has a logarithm."""

PIECE = 2**14
"""Pixels whose features are brought to float32 at once."""

STRIP = 128
"""Rows whose classes are decided at once."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Pixels from which the head learns.

    Parameters
    ----------
    features
        float32 (pixels, features).
    own_scores
        What the network says of its own classes, before the softmax: float32 (pixels, known).
    painted
        Class numbers, int64 (pixels,); 0 where nobody painted.
    counts
        How many pixels each of these stands for, float32 (pixels,).
    """

    features: Tensor
    own_scores: Tensor
    painted: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.painted)

    @classmethod
    def together(cls, parts: Sequence[Examples]) -> Examples:
        """Return the examples of several tiles or sections as one."""
        return cls(
            *(
                torch.cat([getattr(part, name) for part in parts])
                for name in ("features", "own_scores", "painted", "counts")
            )
        )

    def fewer(self, pixels: int, chance: np.random.Generator) -> Examples:
        """Return at most so many examples, drawn at random, of every class alike."""
        numbers, amounts = torch.unique(self.painted, return_counts=True)
        each = max(1, pixels // len(numbers))
        if len(self) <= pixels or int(amounts.max()) <= each:
            return self
        kept = []
        counts = self.counts.clone()
        for number, amount in zip(numbers.tolist(), amounts.tolist(), strict=True):
            places = np.flatnonzero(self.painted.numpy() == number)
            if amount > each:
                places = chance.choice(places, each, replace=False)
                counts[places] *= amount / each
            kept.append(torch.from_numpy(places))
        return replace(self, counts=counts).only(torch.cat(kept))

    def only(self, chosen: Tensor) -> Examples:
        """Return those with these indices, or where this mask is true."""
        return Examples(
            self.features[chosen],
            self.own_scores[chosen],
            self.painted[chosen],
            self.counts[chosen],
        )


@dataclass(frozen=True, eq=False)
class LiveHead:
    """Multinomial logistic regression on features, added to the network's own scores.

    Parameters
    ----------
    weights
        float32 (features, classes).
    bias
        float32 (classes,).
    known
        The numbers of those of the network's own classes that it begins with the scores of; the
        others are new to it. All if not given.
    """

    weights: Tensor
    bias: Tensor
    known: tuple[int, ...] | None = None

    def scores(self, features: FeatureTile, rows: range | None = None) -> Tensor:
        """Return scores before the softmax of the pixels of a tile, float32 (classes, h, w).

        Parameters
        ----------
        features
            Of the tile.
        rows
            Of the tile, counted from its first one; all of them if not given.
        """
        return self._scores(features, rows or range(features.tile.height), lambda each: each)

    def most_probable(
        self, features: FeatureTile, painted: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return the class numbers with the highest scores of a tile: uint8 (h, w).

        Computed in strips that fit into the processor's cache: else most of the time goes into
        memory that is touched for the first time.

        Parameters
        ----------
        features
            Of the tile.
        painted
            Class numbers of its pixels (h, w), 0 = not painted, to be obeyed (see `obey`).
        """
        height = features.tile.height
        strips = [range(top, min(top + STRIP, height)) for top in range(0, height, STRIP)]
        ahead = (self._ahead(features, rows) for rows in strips)
        if painted is not None and painted.any():
            whole = np.concatenate(list(ahead), axis=1)
            obey(whole, painted)
            ahead = (whole[:, rows.start : rows.stop] for rows in strips)
        return np.concatenate([most_probable(strip) for strip in ahead])

    def _ahead(self, features: FeatureTile, rows: range) -> npt.NDArray[np.float32]:
        """Return by how much scores lie above that of the first class: (classes, rows, w)."""
        # Only differences count, and there is one less of them.
        found = self._scores(features, rows, lambda each: each[1:] - each[:1]).numpy()
        return np.concatenate([np.zeros_like(found, shape=(1, *found.shape[1:])), found])

    def _scores(
        self, features: FeatureTile, rows: range, part: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return what a linear map of the classes, which come first, makes of the scores."""
        known, classes = _indices(self.known, len(features.own_scores)), len(self.bias)
        between = [features.rows_between(number, rows) for number in range(len(features.levels))]
        shares = [share for _, share in between]
        own = features.own_scores[:, between[0][0].start : between[0][0].stop]
        if len(known) < len(own):
            own = own[known]
        weights = part(self.weights.T)
        weighed, first = [], 0
        for number, (level, (needed, _)) in enumerate(zip(features.levels, between, strict=True)):
            planes = _weighed(
                level[:, needed.start : needed.stop], weights[:, first : first + len(level)]
            )
            if number == 0:
                planes += part(self.bias[:, None, None])
                if classes == len(known):  # then all is linear, and interpolated at once
                    planes += part(own.float())
            weighed.append(features.at_columns(planes, number))
            first += len(level)
        found = _together(weighed, shares)
        if classes > len(known):
            own = _together([features.at_columns(own.float(), 0)], shares[:1])
            found += part(_with_new_classes(own, known, classes))
        return found

    def point_scores(self, features: Tensor, own_scores: Tensor) -> Tensor:
        """Return scores before the softmax of single pixels, float32 (pixels, classes).

        Parameters
        ----------
        features, own_scores
            See `Examples`.
        """
        known = _indices(self.known, own_scores.shape[1])
        own = _with_new_classes(own_scores[:, known].T, known, len(self.bias)).T
        return own + features @ self.weights + self.bias

    def knows(self, number: int) -> bool:
        """Tell whether anything has been learnt of a class."""
        return number <= len(self.bias) and bool(self.weights[:, number - 1].any())

    def grown(self, classes: int) -> LiveHead:
        """Return a head for more classes, of which the new ones have not been learnt yet."""
        more = classes - len(self.bias)
        if more <= 0:
            return self
        return replace(
            self,
            weights=torch.cat(
                [self.weights, self.weights.new_zeros(len(self.weights), more)], dim=1
            ),
            bias=torch.cat([self.bias, self.bias.new_zeros(more)]),
        )


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A model whose classes are told apart by a live head.

    Parameters
    ----------
    model
        Its network gives the features.
    classes
        What the head tells apart: the classes of the model, and maybe more.
    space
        What the features are reduced to.
    head
        Decides on them.
    painted
        Class numbers (Y, X) of sections that hold paint, 0 = not painted: what is shown there
        obeys it (see `obey`).
    """

    model: UNetModel
    classes: ClassTable
    space: FeatureSpace
    head: LiveHead
    painted: Mapping[SectionIndex, npt.NDArray[np.uint8]] = field(default_factory=dict, repr=False)


def _weighed(level: Tensor, weights: Tensor) -> Tensor:
    """Return the sums (K, h, w) of the maps (C, h, w) of a level, weighed (K, C)."""
    pixels = level.flatten(1)
    found = weights.new_empty(len(weights), pixels.shape[1])
    weights = weights.contiguous()  # else it takes four times as long
    # Piece by piece: as float32, the maps of a large tile are new memory of 100 MB, the first
    # touch of which takes longer than the sums.
    for first in range(0, pixels.shape[1], PIECE):
        piece = slice(first, first + PIECE)
        torch.mm(weights, pixels[:, piece].float(), out=found[:, piece])
    return found.view(-1, *level.shape[1:])


def _together(planes: Sequence[Tensor], shares: Sequence[Tensor | None]) -> Tensor:
    """Return the sum (K, rows, w) of planes (K, h, w), each multiplied by its shares (rows, h).

    Planes without shares have the rows that are wanted.
    """
    pairs = list(zip(planes, shares, strict=True))
    found = [each for each, share in pairs if share is None]
    between = [(each, share) for each, share in pairs if share is not None]
    if between:
        found.append(
            torch.cat([share for _, share in between], dim=1)
            @ torch.cat([each for each, _ in between], dim=1)
        )
    return sum(found[1:], start=found[0])


def most_probable(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the class numbers with the highest scores: uint8 (h, w), 1 = background.

    Parameters
    ----------
    scores
        Of each class: (classes, h, w).
    """
    # Class by class, NumPy takes a fifth of its own time for argmax, and a thirtieth of torch's.
    highest = scores[0].copy()
    found = np.ones(highest.shape, np.uint8)
    for number, plane in enumerate(scores[1:], start=2):
        np.copyto(found, np.uint8(number), where=plane > highest)
        np.maximum(highest, plane, out=highest)
    return found


def _indices(known: Sequence[int] | None, classes: int) -> list[int]:
    """Return which of a network's classes are known, counted from 0; all if `known` is None."""
    return list(range(classes)) if known is None else [number - 1 for number in known]


def _with_new_classes(own_scores: Tensor, known: list[int], classes: int) -> Tensor:
    """Return scores (classes, ...) with those of classes that a network does not know.

    The scores (known, ...) are of those that it knows, whose indices `known` are.
    """
    if len(known) == classes:
        return own_scores
    own = dict(zip(known, own_scores, strict=True))
    improbable = own_scores.logsumexp(dim=0) - NEW_CLASS_SCORE
    return torch.stack([own.get(index, improbable) for index in range(classes)])


def tile_examples(
    painted: npt.NDArray[np.uint8], features: FeatureTile, config: LiveConfig
) -> Examples:
    """Return the painted pixels of a tile, and unpainted ones for comparison.

    Beside paint that contradicts the network, no unpainted pixels are taken: the mistake does not
    end where the brush stopped.

    Parameters
    ----------
    painted
        Class numbers of the whole section (Y, X), 0 = not painted.
    features
        Reduced features of a tile of it.
    config
        How many pixels are taken at most; which ones is drawn with its seed.
    """
    chance = np.random.default_rng(config.seed)
    tile = features.tile
    part = painted[tile.slices].ravel()
    there = np.flatnonzero(part != 0)
    numbers = part[there]
    of_class = [there[numbers == number] for number in np.unique(numbers)]
    # More of a class would not be learnt from (`Examples.fewer`), and takes time to read.
    most = max(1, config.pixels // (len(of_class) + 1))
    chosen = [
        chance.choice(places, most, replace=False) if len(places) > most else places
        for places in of_class
    ]
    seen = np.concatenate([there[:0], *chosen])
    opinion = features.own_scores_at(*_position(seen, tile)).argmax(dim=1).numpy() + 1
    contradicted = seen[opinion != part[seen]]
    # Unpainted pixels are many: enough are drawn from all, instead of looking for them.
    drawn = chance.choice(len(part), min(config.pixels + len(there), len(part)), replace=False)
    unpainted = drawn[part[drawn] == 0][: config.pixels]
    for_each = (len(part) - len(there)) / max(len(unpainted), 1)
    unpainted = unpainted[~_beside(unpainted, contradicted, tile)]
    for_each *= len(unpainted) / max(1, min(len(unpainted), most))
    chosen = [unpainted[:most], *chosen]
    counts = [for_each, *(len(places) / min(len(places), most) for places in of_class)]
    places = np.concatenate(chosen)
    own_scores, levels = features.at(*_position(places, tile))
    return Examples(
        torch.cat(levels, dim=1),
        own_scores,
        torch.from_numpy(part[places].astype(np.int64)),
        torch.from_numpy(np.repeat(counts, [len(each) for each in chosen]).astype(np.float32)),
    )


def _position(
    places: npt.NDArray[np.int64], tile: Tile
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns in the section, of pixels counted in a tile."""
    rows, columns = np.divmod(places, tile.width)
    return tile.top + rows, tile.left + columns


def _beside(
    places: npt.NDArray[np.int64], mistakes: npt.NDArray[np.int64], tile: Tile
) -> npt.NDArray[np.bool_]:
    """Return which pixels lie beside mistakes, all counted in a tile.

    That is, in the same square of `DOUBT_RADIUS` pixels a side, or in one next to it: distances
    from all paint would take longer.
    """

    def squares(of: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        return tuple(each // DOUBT_RADIUS for each in np.divmod(of, tile.width))

    doubtful = np.zeros([side // DOUBT_RADIUS + 1 for side in (tile.height, tile.width)], bool)
    doubtful[squares(mistakes)] = True
    doubtful = ndimage.binary_dilation(doubtful, np.ones((3, 3)))
    beside: npt.NDArray[np.bool_] = doubtful[squares(places)]
    return beside


def fit_head(
    examples: Examples,
    classes: int,
    config: LiveConfig | None = None,
    start: LiveHead | None = None,
    known: tuple[int, ...] | None = None,
) -> LiveHead:
    """Return the head that agrees best with the painted pixels.

    Minimises the mean cross-entropy of the painted pixels, plus ``config.memory`` times that of
    the unpainted ones with what the network is sure of (and among the classes that it knows
    `AMONG_KNOWN` times more), plus ``config.penalty / 2`` times the squared weights, with L-BFGS.
    The bias of classes that the network knows is held like a weight: the first strokes are often
    of one class, which does not make it more frequent. The problem is convex; `start` only saves
    time.

    Parameters
    ----------
    examples
        What was painted, and some of what was not.
    classes
        How many classes there are by now; at least those that the network knows.
    config
        How strongly the head is held back.
    start
        An earlier head on the same features.
    known
        See `LiveHead`.
    """
    config = config or LiveConfig()
    chosen = examples.fewer(config.pixels, np.random.default_rng(config.seed))
    own = _indices(known, chosen.own_scores.shape[1])
    # Pixels lie side by side: sums over so few classes take most of the time where these do.
    own_scores = _with_new_classes(chosen.own_scores[:, own].T.contiguous(), own, classes)
    wanted, importance, held = (each.numpy() for each in _targets(chosen, own_scores, own, config))
    wanted_known = own_scores[own].softmax(dim=0).numpy()
    held_known = np.float32(AMONG_KNOWN) * held
    importance += held
    features, offsets = chosen.features, own_scores.numpy()
    penalty = np.float32(config.penalty)
    bias_penalty = np.where(np.isin(np.arange(classes), own), penalty, np.float32(0))
    fits = start is not None and len(start.weights) == features.shape[1]
    if start is None or not fits or len(start.bias) > classes:
        start = LiveHead(torch.zeros(features.shape[1], classes), torch.zeros(classes))
    start = start.grown(classes)
    shape = (classes, features.shape[1] + 1)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        parameters = flat.reshape(shape).astype(np.float32)
        weights, bias = np.ascontiguousarray(parameters[:, :-1]), parameters[:, -1]
        scores = torch.mm(torch.from_numpy(weights), features.T).numpy()
        scores += offsets
        scores += bias[:, None]
        scores -= scores.max(axis=0)
        powers = np.exp(scores)
        total = powers.sum(axis=0)
        # Summed in float64: near the minimum, rounding would send the line search astray.
        value = (wanted * (np.log(total) - scores)).sum(axis=0, dtype=np.float64) @ importance
        value += (penalty * weights**2).sum(dtype=np.float64) / 2
        value += (bias_penalty * bias**2).sum(dtype=np.float64) / 2
        surplus = (powers / total - wanted) * importance
        powers = powers[own]
        total = np.maximum(powers.sum(axis=0), SMALLEST)
        of_known = (wanted_known * (np.log(total) - scores[own])).sum(axis=0)
        value += of_known.astype(np.float64) @ held_known
        surplus[own] += (powers / total - wanted_known) * held_known
        gradient = np.empty(shape, np.float32)
        gradient[:, :-1] = torch.mm(torch.from_numpy(surplus), features).numpy()
        gradient[:, :-1] += penalty * weights
        gradient[:, -1] = surplus.sum(axis=1) + bias_penalty * bias
        return float(value), gradient.ravel().astype(np.float64)

    result = optimize.minimize(
        loss,
        torch.cat([start.weights.T, start.bias[:, None]], dim=1).numpy().ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": config.iterations, "maxcor": 8, "ftol": NO_BETTER},
    )
    found = torch.from_numpy(result.x.reshape(shape).astype(np.float32))
    if not bool(torch.isfinite(found).all()):
        return replace(start, known=known)
    return LiveHead(found[:, :-1].T.contiguous(), found[:, -1].contiguous(), known)


def learnt_head(
    learnt: Sequence[Examples],
    classes: int,
    config: LiveConfig,
    start: LiveHead | None = None,
    *,
    added: int = 0,
) -> LiveHead:
    """Return the head that answers strokes: of all tiles that hold paint, in expected shares.

    Classes that the network has only begun to learn are new to it (see `known_classes`).

    Parameters
    ----------
    learnt
        The examples of each tile.
    classes, config, start
        See `fit_head`.
    added
        See `UNetModel`.
    """
    chance = np.random.default_rng(config.seed)
    examples = Examples.together(learnt)
    known = known_classes(examples, added)
    chosen = examples.fewer(config.pixels, chance)
    return with_expected_shares(fit_head(chosen, classes, config, start, known), chosen)


def known_classes(examples: Examples, added: int) -> tuple[int, ...]:
    """Return the numbers of those of the network's classes that it knows by what it finds.

    A network that has just begun to learn a class is sure that there is none of it anywhere. Held
    to that, a head would find hardly any of it either, less than on a network that has never heard
    of it. So each class that was added does not count as long as the network finds less than
    `FOUND` of what is painted of it; one of which nothing is painted does.

    Parameters
    ----------
    examples
        Painted and unpainted pixels of all tiles that hold paint.
    added
        See `UNetModel`. Those that it has learnt from the beginning always count: there may be
        many of them on other sections.
    """
    found_in = examples.own_scores.argmax(dim=1) + 1
    classes = examples.own_scores.shape[1]

    def is_found(number: int) -> bool:
        found, painted = (
            float(examples.counts[there == number].sum()) for there in (found_in, examples.painted)
        )
        return found >= FOUND * painted

    added_ones = range(classes - added + 1, classes + 1)
    return tuple(
        number for number in range(1, classes + 1) if number not in added_ones or is_found(number)
    )


def with_expected_shares(head: LiveHead, examples: Examples) -> LiveHead:
    """Return a head that finds as much of new classes as their probabilities let expect, or more.

    A rare class, of which little is painted, is somewhat probable in many places and the most
    probable in few: decided by the highest score alone, most of it is missed, the more so the more
    background is painted. Its probabilities add up to a better estimate of how much of it there is
    (A. Bella et al. 2010, "Quantification via Probability Estimators", section III). Of these only
    what lies above the probability that a new class has anywhere to begin with speaks for it, else
    one that is very rare would be found in several percent of all pixels. Its bias is raised until
    it is found in as many pixels as that adds up to. Where it is found in more, nothing changes.

    Parameters
    ----------
    head
        As it was fitted. Classes that the network knows, and those that are not painted, stay as
        they are.
    examples
        Painted and unpainted pixels of all tiles that hold paint; unpainted ones tell how frequent
        classes are, each for as many pixels as it stands for.
    """
    scores = head.point_scores(examples.features, examples.own_scores)
    probable = scores.softmax(dim=1)
    bias, known = head.bias.clone(), _indices(head.known, examples.own_scores.shape[1])
    improbable = math.exp(-NEW_CLASS_SCORE)
    to_begin_with = improbable / (1 + (len(bias) - len(known)) * improbable)
    for number in torch.unique(examples.painted).tolist():
        here = number - 1
        if here < 0 or here in known:
            continue
        others = torch.cat([scores[:, :here], scores[:, number:]], dim=1)
        ahead, order = (scores[:, here] - others.amax(dim=1)).sort(descending=True)
        counts = examples.counts[order]
        surplus = (probable[order, here] - to_begin_with).clamp(min=0)
        expected = float(surplus @ counts)
        if expected == 0:
            continue
        last = int(torch.searchsorted(counts.cumsum(dim=0), expected))
        behind = -ahead[min(last, len(ahead) - 1)]
        if behind.isfinite():  # not so with features beyond all measure
            bias[here] += behind.clamp(min=0)
    return replace(head, bias=bias)


def _targets(
    examples: Examples, own_scores: Tensor, known: list[int], config: LiveConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the wanted probabilities (classes, pixels), and how much each pixel counts.

    The latter of what is painted, and of what is held to the opinion of the network.
    """
    wanted = own_scores.softmax(dim=0)
    # However many classes are new, it is as sure of its own.
    sure = own_scores[known].softmax(dim=0).amax(dim=0) > SURE
    painted, numbers = examples.painted > 0, torch.arange(len(own_scores))[:, None] + 1
    wanted = torch.where(painted, (numbers == examples.painted).float(), wanted)
    amounts = torch.zeros(len(own_scores) + 1)
    amounts.index_add_(0, examples.painted, examples.counts)
    of_class = amounts[examples.painted]
    importance = examples.counts * torch.where(painted, of_class**-config.class_balance, 0.0)
    importance /= importance.sum().clamp(min=1e-9)
    held = torch.where(~painted & sure, examples.counts, 0.0)
    return wanted, importance, config.memory * held / amounts[0].clamp(min=1e-9)

"""Where to paint next: places at which a model is unsure of a whole region, spread over sections.

Asking a person about what the model is least sure of is uncertainty sampling (B. Settles, "Active
Learning Literature Survey", University of Wisconsin-Madison 2009, section 3.1), with the entropy of
the class probabilities as the measure.

Tried beside it on real stacks, with short strokes and the live head, and not better by more than
chance: entropy without thin bands (grey opening) or beyond what is usual along boundaries, the
margin between the two likeliest classes, disagreement of the live head with the network, and places
that are drawn by their uncertainty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.feature import peak_local_max

from napari_unet.core.config import PredictionConfig
from napari_unet.core.foreign import Model
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.live import LiveModel
from napari_unet.core.prediction import known_statistics, nearest_first, never, predict
from napari_unet.core.reading import read
from napari_unet.core.tiling import Tile

LARGEST = 2048
"""Of larger sections only a square of so many pixels a side is looked at, around the view."""

STROKE_DEVIATION = 6.0
"""Standard deviation, in pixels, of the window over which doubt is averaged: that of a stroke of
20 pixels. Without it the borders of all structures, which are thin and always uncertain, win."""

DONE_RADIUS = 20
"""A place is done where there is paint within so many pixels, or where somebody was led before."""

SPREAD = 48
"""Places lie at least so many pixels apart, across sections as well: neighbours show the same."""

BORDER = 32
"""Near the border of what was looked at, a network sees too little and is unsure for that."""

LOWEST_DOUBT = 0.02
"""Where doubt is less than this on average, there is nothing to ask."""

PER_SECTION = 6
"""Places that are kept of each section."""

MOST_SECTIONS = 8
"""Sections that are looked at, those in view first."""

MOST_PLACES = 20
"""Places that are suggested at most."""

AGAIN = 0.7
"""What doubt counts for each place that was taken from the same section before."""


@dataclass(frozen=True)
class Place:
    """A place worth painting.

    Parameters
    ----------
    section, row, column
        Where it lies, in pixels of the image.
    doubt
        Mean uncertainty of the model around it, from 0 to 1.
    between
        Numbers of the two classes between which the doubt is, the more probable first.
    """

    section: SectionIndex
    row: int
    column: int
    doubt: float
    between: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Doubt:
    """How unsure a model is of each pixel in a part of a section.

    Parameters
    ----------
    tile
        Which part.
    uncertainty
        See `uncertainty`: float32 (height, width), from 0 to 1.
    likeliest
        Numbers of the two most probable classes, uint8 (2, height, width).
    """

    tile: Tile
    uncertainty: npt.NDArray[np.float32]
    likeliest: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Suggestions:
    """The places that are most worth painting, and how far the search has come."""

    places: tuple[Place, ...]
    done: float
    """Sections that were looked at, with fractions."""
    total: int


def suggest(
    model: Model | LiveModel,
    image: ImageArray,
    *,
    sections: Sequence[SectionIndex],
    centre: tuple[float, float] | None = None,
    painted: Mapping[SectionIndex, npt.NDArray[np.uint8]] | None = None,
    seen: Iterable[Place] = (),
    statistics: GreyStatistics | None = None,
    config: PredictionConfig | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
) -> Generator[Suggestions, None, Suggestions]:
    """Find the places most worth painting in some sections, one section after the other.

    Only a few places of each section are kept.

    Parameters
    ----------
    model
        What is unsure.
    image
        Grey image whose axes end with (Y, X).
    sections
        Which sections, in this order.
    centre
        Row and column where somebody looks; of large sections, the part around it is searched.
    painted
        Class numbers (Y, X) of sections that hold paint, 0 = not painted.
    seen
        Places that were suggested before.
    statistics, config, device, should_stop
        See `predict`.

    Yields
    ------
    Suggestions
        After every tile; its places are those of all sections that are finished.

    Returns
    -------
    Suggestions
        Places with the one to begin with first.
    """
    statistics = statistics or known_statistics(image)
    painted = painted or {}
    seen = list(seen)
    spacing = section_spacing(image)
    found: list[Place] = []
    best = Suggestions((), 0.0, len(sections))
    for number, index in enumerate(sections):
        doubting = section_doubt(
            model,
            image,
            index,
            centre=centre,
            statistics=statistics,
            config=config,
            device=device,
            should_stop=should_stop,
        )
        while True:
            try:
                share = next(doubting)
            except StopIteration as end:
                doubt: Doubt | None = end.value
                break
            yield replace(best, done=number + share)
        if doubt is None:
            break
        candidates = places_in(index, doubt, painted.get(index))
        candidates = far_from(seen, candidates, DONE_RADIUS, spacing)
        found += most_worth(candidates, spacing, PER_SECTION)
        best = Suggestions(tuple(most_worth(found, spacing)), number + 1.0, len(sections))
        yield best
    return best


def section_doubt(
    model: Model | LiveModel,
    image: ImageArray,
    index: SectionIndex,
    *,
    centre: tuple[float, float] | None = None,
    statistics: GreyStatistics | None = None,
    config: PredictionConfig | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
) -> Generator[float, None, Doubt | None]:
    """Find out how unsure a model is of a section, or of the part around a pixel of a large one.

    Parameters
    ----------
    index
        Which section.
    model, image, centre, statistics, config, device, should_stop
        See `suggest`.

    Yields
    ------
    float
        Which share of it is done, after every tile.

    Returns
    -------
    Doubt or None
        None if it was stopped.
    """
    statistics = statistics or known_statistics(image)
    section = image.data[index] if index else image.data
    part = part_around(image.shape[-2], image.shape[-1], centre)
    grey = ImageArray(
        read(section[..., part.slices[0], part.slices[1]]),
        "YX",
        image.scale[-2:],
        image.units[-2:],
        image.name,
    )
    if isinstance(model, LiveModel):
        model = replace(model, painted={})  # what it says itself, and of a part of the section
    unsure = np.zeros(grey.shape, np.float32)
    likeliest = np.zeros((2, *grey.shape), np.uint8)
    tiles = predict(
        model, grey, config, statistics=statistics, device=device, should_stop=should_stop
    )
    complete = False
    for done in tiles:
        unsure[done.tile.slices] = uncertainty(done.probabilities)
        likeliest[(slice(None), *done.tile.slices)] = two_likeliest(done.probabilities)
        complete = done.finishes_section
        yield done.done
    return Doubt(part, unsure, likeliest) if complete else None


def part_around(height: int, width: int, centre: tuple[float, float] | None) -> Tile:
    """Return what is looked at of a section: all of it, or a square around a pixel if it is large.

    It does not reach beyond the section; without a pixel it lies in the middle.
    """
    corner, sides = [], []
    for axis, length in enumerate((height, width)):
        middle = length / 2 if centre is None else centre[axis]
        side = min(LARGEST, length)
        corner.append(int(np.clip(round(middle - side / 2), 0, length - side)))
        sides.append(side)
    return Tile(corner[0], corner[1], sides[0], sides[1])


def uncertainty(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how unsure a model is of each pixel: the entropy of its classes, normalised.

    Parameters
    ----------
    probabilities
        Of each class, (classes, height, width), two or more classes.

    Returns
    -------
    float32 (height, width)
        From 0 where one class is certain to 1 where all are equally probable.
    """
    total = np.zeros(probabilities.shape[1:], np.float32)
    for each in probabilities:  # class by class: a large tile of many classes is not copied
        total -= each * np.log(np.maximum(each, 1e-12))
    found: npt.NDArray[np.float32] = np.clip(total / math.log(len(probabilities)), 0, 1)
    return found


def two_likeliest(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the numbers (from 1) of the two most probable classes, uint8 (2, height, width)."""
    order = np.argsort(-probabilities, axis=0, kind="stable")[:2]
    return order.astype(np.uint8) + np.uint8(1)


def places_in(
    index: SectionIndex,
    doubt: Doubt,
    painted: npt.NDArray[np.uint8] | None = None,
) -> list[Place]:
    """Return the places of a section where doubt, averaged over a stroke, is greatest around.

    Parameters
    ----------
    index
        Which section.
    doubt
        Of the section or a part of it.
    painted
        Class numbers of the whole section, 0 = not painted.

    Returns
    -------
    list of Place
        The most doubtful first; none where something is painted already.
    """
    tile = doubt.tile
    mean = ndimage.gaussian_filter(doubt.uncertainty, STROKE_DEVIATION, mode="nearest")
    done = np.zeros(mean.shape, bool)
    if painted is not None and painted[tile.slices].any():
        done = ndimage.distance_transform_edt(painted[tile.slices] == 0) <= DONE_RADIUS
    peaks = peak_local_max(
        mean,
        min_distance=SPREAD // 2,
        threshold_abs=LOWEST_DOUBT,
        exclude_border=tuple(min(BORDER, side // 8) for side in mean.shape),  # small images
    )
    return [
        Place(
            index,
            tile.top + row,
            tile.left + column,
            float(mean[row, column]),
            _between(doubt, row, column),
        )
        for row, column in peaks.tolist()
        if not done[row, column]
    ]


def _between(doubt: Doubt, row: int, column: int) -> tuple[int, int]:
    """The two classes of which most of the doubt around a pixel is."""
    reach = round(2 * STROKE_DEVIATION)
    part = (
        slice(max(0, row - reach), row + reach + 1),
        slice(max(0, column - reach), column + reach + 1),
    )
    first, second = doubt.likeliest[(slice(None), *part)].astype(np.int64)
    weights = doubt.uncertainty[part].ravel() + 1e-6
    pairs = np.minimum(first, second) * 256 + np.maximum(first, second)
    low, high = divmod(int(np.bincount(pairs.ravel(), weights).argmax()), 256)
    chosen = pairs == low * 256 + high
    return (low, high) if (first[chosen] == low).mean() >= 0.5 else (high, low)


def most_worth(
    places: Iterable[Place], spacing: Sequence[float], count: int = MOST_PLACES
) -> list[Place]:
    """Return the most doubtful places, with the one to begin with first.

    What lies next to a place that was taken, in its section or in those around it, is left out.
    Each place that was taken from a section makes its others count less.

    Parameters
    ----------
    places
        Of all sections that were looked at.
    spacing
        Distance of neighbours along each axis before (Y, X), in pixels.
    count
        How many places at most.
    """
    left, taken = list(places), list[Place]()
    used: Counter[SectionIndex] = Counter()
    while left and len(taken) < count:
        best = max(left, key=lambda each: each.doubt * AGAIN ** used[each.section])
        taken.append(best)
        used[best.section] += 1
        left = far_from([best], left, SPREAD, spacing)
    return taken


def far_from(
    others: Iterable[Place], places: Iterable[Place], distance: float, spacing: Sequence[float]
) -> list[Place]:
    """Return the places that lie at least so many pixels from all others."""
    others = list(others)
    return [
        place
        for place in places
        if all(_distance(place, other, spacing) >= distance for other in others)
    ]


def _distance(one: Place, other: Place, spacing: Sequence[float]) -> float:
    """In pixels."""
    between = [
        (a - b) * distance
        for a, b, distance in zip(one.section, other.section, spacing, strict=True)
    ]
    return float(np.linalg.norm([*between, one.row - other.row, one.column - other.column]))


def section_spacing(image: ImageArray) -> tuple[float, ...]:
    """Return how far neighbours lie apart along each axis before (Y, X), in pixels.

    Where that is not known, or the axis is none of length, one pixel.
    """
    side = float(np.sqrt(image.scale[-1] * image.scale[-2]))
    return tuple(
        scale / side if unit == image.units[-1] else 1.0
        for scale, unit in zip(image.scale[:-2], image.units[:-2], strict=True)
    )


def sections_to_search(
    image: ImageArray, centre: SectionIndex, count: int = MOST_SECTIONS
) -> list[SectionIndex]:
    """Return the sections in which to look for places: the one in view, then outwards.

    Thin sections are not looked at one by one, since neighbours show the same: those that are
    lie a stroke's width apart, where the stack is deep enough for that.

    Parameters
    ----------
    image
        Which image.
    centre
        The section in view.
    count
        How many sections at most.
    """
    if not centre:
        return [()]
    wanted = round(DONE_RADIUS / section_spacing(image)[-1])
    step = max(1, min(wanted, image.shape[-3] // count))
    near = [index for index in image.sections() if (index[-1] - centre[-1]) % step == 0]
    return nearest_first(near, centre)[:count]

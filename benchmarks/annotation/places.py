"""Where the annotator looks for something to correct: strategies, each for itself.

A strategy is a function that yields regions of the section in view, one look after the other. The
annotator paints the largest mistake in the first region that holds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish
from napari_unet.core.suggestions import Place, suggest

LOOK = 96
"""Side of what is looked at around a place, in pixels."""

Region = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class View:
    """What a strategy may know.

    Parameters
    ----------
    image, section
        The stack, and the index of the section in view.
    painted
        Class numbers that are painted there (Y, X), 0 = not painted.
    model
        What the overlay is predicted with; None where the tool cannot say.
    chance
        For what is drawn at random.
    seen
        Suggested places that somebody looked at, on any section; to be continued.
    """

    image: ImageArray
    section: int
    painted: npt.NDArray[np.uint8]
    model: UNetModel | LiveModel | None
    chance: np.random.Generator
    seen: list[Place]


Places = Callable[[View], Iterator[Region]]


def largest_error(view: View) -> Iterator[Region]:
    """Look at all of the section, and see the largest mistake at once."""
    yield slice(None), slice(None)


def random_places(view: View) -> Iterator[Region]:
    """Look at one place after the other, drawn evenly from the section."""
    height, width = view.painted.shape
    while True:
        yield around(view.chance.uniform(0, height), view.chance.uniform(0, width), view)


def suggested_places(view: View) -> Iterator[Region]:
    """Look at the places that the plugin suggests for this section, the first one first.

    As in the plugin, nobody is led to the same place twice, and others are searched for when all
    were seen. Where none is left, people look for themselves.
    """
    assert view.model is not None
    while True:
        found = finish(
            suggest(
                view.model,
                view.image,
                sections=[(view.section,)],
                painted={(view.section,): view.painted},
                seen=view.seen,
            )
        )
        if not found.places:
            yield from largest_error(view)
            return
        for place in found.places:
            view.seen.append(place)
            yield around(place.row, place.column, view)


def around(row: float, column: float, view: View) -> Region:
    """Return what is looked at around a place."""
    rows, columns = (
        slice(max(0, int(centre) - LOOK // 2), int(centre) + LOOK // 2) for centre in (row, column)
    )
    return rows, columns


PLACES: dict[str, Places] = {
    "largest error": largest_error,
    "random": random_places,
    "suggested": suggested_places,
}

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
    """

    image: ImageArray
    section: int
    painted: npt.NDArray[np.uint8]
    model: UNetModel | LiveModel | None
    chance: np.random.Generator


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

    Raises
    ------
    RuntimeError
        If this version of the plugin suggests no places.
    """
    try:
        from napari_unet.core.suggestions import suggest
    except ImportError as error:
        raise RuntimeError(
            "This version suggests no places: napari_unet.core.suggestions is not there."
        ) from error
    found = finish(
        suggest(
            view.model,
            view.image,
            sections=[(view.section,)],
            painted={(view.section,): view.painted},
        )
    )
    for place in found.places:
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

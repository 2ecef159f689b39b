"""What is to be found, on which sections it is painted, and on which it is scored.

No section here was learnt from by the base network (`base`), which has seen ISBI 0-19 only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tifffile

from benchmarks.train_bundled import DATA, MEMBRANE, class_mask, epfl, gala, isbi2012
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.core.synthetic import synthetic_stack

KNOWN = ("background", "membrane")
"""The classes of the base network; a target of another name becomes class 3."""

NEW = 3

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Task:
    """A class to be found in a stack.

    Parameters
    ----------
    grey, truth
        All sections, (Z, Y, X); class numbers 1 = background, 2 = membrane, 3 = a new class.
    target
        Number of the class that is to be found.
    target_name
        What it is called.
    painted, scored
        Indices of the sections; none is in both.
    pixel_size
        In nanometres.
    known
        An image (Z, Y, X) with its classes, where the base network knew membranes before.
    """

    grey: Pixels
    truth: Pixels
    target: int
    target_name: str
    painted: tuple[int, ...]
    scored: tuple[int, ...]
    pixel_size: float
    known: tuple[ImageArray, Pixels]

    def __post_init__(self) -> None:
        if set(self.painted) & set(self.scored):
            raise ValueError("A section that is painted cannot be scored.")

    @property
    def image(self) -> ImageArray:
        """The stack with its pixel size."""
        return image_from_array(self.grey, "stack", self.pixel_size)


@dataclass(frozen=True)
class Described:
    """A task before its data is read."""

    title: str
    sections: str
    """Which sections are painted and which are scored, in words."""
    load: Callable[[], Task]


def _isbi_known() -> tuple[ImageArray, Pixels]:
    grey, truth = isbi2012()
    return image_from_array(grey[22:23], "isbi", 4.0), truth[22:23]


def _isbi_mitochondria() -> Task:
    grey, truth = isbi2012()
    return Task(
        grey[20:23], truth[20:23], NEW, "mitochondrion", (0, 1), (2,), 4.0, _isbi_known()
    )  # fmt: skip


EPFL_Z = range(90, 200)
"""Pages of the EPFL stack with these z: 90, 91, 104, 105 and 106."""


def _epfl_vesicles() -> Task:
    grey, truth = epfl(EPFL_Z)
    vesicles = tifffile.imread(DATA / "epfl-ca1" / "vesicles.tif")[-len(grey) :] > 0
    truth = class_mask(truth == MEMBRANE, vesicles)
    return Task(grey, truth, NEW, "vesicle", (0, 1), (2, 3, 4), 5.0, _isbi_known())


def _epfl_membranes() -> Task:
    grey, truth = epfl(EPFL_Z)
    truth = class_mask(truth == MEMBRANE)
    return Task(grey, truth, MEMBRANE, "membrane", (0, 1), (2, 3, 4), 5.0, _isbi_known())


def _gala_boundaries() -> Task:
    grey, truth = gala("test")
    return Task(grey, truth, MEMBRANE, "membrane", (5, 15), (30, 37, 44), 10.0, _isbi_known())


def _synthetic() -> Task:
    grey, truth = synthetic_stack(4, 128, seed=3)
    truth = np.where(truth > NEW, 1, truth).astype(np.uint8)
    known = image_from_array(grey[3:], "synthetic", 4.0), truth[3:]
    return Task(grey, truth, NEW, "mitochondrion", (0, 1), (2, 3), 4.0, known)


TASKS = {
    "isbi-mitochondria": Described(
        "Mitochondria in ISBI 2012, by a network that has only seen membranes",
        "painted on sections 20 and 21, scored on section 22",
        _isbi_mitochondria,
    ),
    "epfl-vesicles": Described(
        "Vesicles in EPFL CA1, a new class in another tissue",
        "painted on z = 90 and 91, scored on z = 104, 105 and 106",
        _epfl_vesicles,
    ),
    "epfl-membranes": Described(
        "Membranes in EPFL CA1, by a network that has only seen ISBI 2012",
        "painted on z = 90 and 91, scored on z = 104, 105 and 106",
        _epfl_membranes,
    ),
    "gala-boundaries": Described(
        "Boundaries of cells in the gala FIB-SEM crop *test*",
        "painted on sections 5 and 15, scored on sections 30, 37 and 44",
        _gala_boundaries,
    ),
    "synthetic": Described(
        "Rehearsal: mitochondria in a small synthetic stack",
        "painted on sections 0 and 1, scored on sections 2 and 3",
        _synthetic,
    ),
}

REHEARSALS = ("synthetic",)
"""Tasks that are done only where they are asked for."""

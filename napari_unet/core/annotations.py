"""What was painted: classes and the sections that hold paint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import SectionIndex

UNPAINTED = 0
"""Value of a pixel that nobody painted; it is never learnt from."""

BACKGROUND = 1
"""Value of the background class. Structures are 2 and up."""

_COLOURS = (
    "#8d99ae", "#ff4d6d", "#2ec4b6", "#ffbf00", "#7b5cff", "#8ac926", "#ff7f11", "#4cc9f0",
)  # fmt: skip


@dataclass(frozen=True)
class SegmentationClass:
    """Name and colour (``#rrggbb``) of a class. Its number is its place in the table, from 1."""

    name: str
    colour: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("A class needs a name.")


ClassTable = tuple[SegmentationClass, ...]


def class_table(names: Sequence[str]) -> ClassTable:
    """Return classes with distinct colours; the first is the background.

    Raises
    ------
    ValueError
        If there are fewer than two names, more than 255, or one appears twice.
    """
    if not 2 <= len(names) <= 255:
        raise ValueError(f"A class table holds 2 to 255 classes; got {len(names)}.")
    if len(set(names)) != len(names):
        raise ValueError(f"Class names must differ: {', '.join(names)}.")
    return tuple(
        SegmentationClass(name, _COLOURS[i % len(_COLOURS)]) for i, name in enumerate(names)
    )


def extended(classes: ClassTable, count: int) -> ClassTable:
    """Return the table with at least `count` classes; new ones are called ``class 4`` and so on."""
    names = [c.name for c in classes]
    added = class_table([*names, *(f"class {n}" for n in range(len(names) + 1, count + 1))])
    return (*classes, *added[len(classes) :])


def class_number(classes: ClassTable, name: str) -> int:
    """Return the number (from 1) of the class with this name.

    Raises
    ------
    ValueError
        If there is no such class; the message lists those there are.
    """
    for number, each in enumerate(classes, start=1):
        if each.name == name:
            return number
    raise ValueError(
        f"There is no class {name!r}; the classes are {', '.join(c.name for c in classes)}."
    )


@dataclass(frozen=True, eq=False)
class Annotations:
    """Painted sections, as a snapshot that nobody changes.

    Parameters
    ----------
    classes
        What the values 1, 2, ... mean.
    sections
        uint8 arrays of shape (Y, X) by section index; only sections that hold paint.
    """

    classes: ClassTable
    sections: Mapping[SectionIndex, npt.NDArray[np.uint8]] = field(default_factory=dict)
    _counts: dict[SectionIndex, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False)
    # counted once per section, since only one of many changes with a stroke

    def with_sections(
        self, changed: Mapping[SectionIndex, npt.NDArray[np.uint8]], classes: ClassTable
    ) -> Annotations:
        """Return annotations in which some sections were painted anew; empty ones are dropped."""
        merged = {**self.sections, **changed}
        sections = {k: v for k, v in merged.items() if k not in changed or v.any()}
        known = {k: n for k, n in self._counts.items() if k in sections and k not in changed}
        return Annotations(classes, sections, known)

    def counts(self) -> npt.NDArray[np.int64]:
        """Return how many pixels each class has, shape (classes,); background comes first."""
        total = np.zeros(256, np.int64)
        for index, section in self.sections.items():
            if index not in self._counts:
                self._counts[index] = np.bincount(section.ravel(), minlength=256)
            total += self._counts[index]
        return total[1 : len(self.classes) + 1]

    @property
    def highest(self) -> int:
        """The highest number of a class that is painted; 0 if none is."""
        return int((np.flatnonzero(self.counts()) + 1).max(initial=0))


def box_of(found: npt.NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Return the smallest rows and columns that hold all that is true; None where nothing is."""
    filled = np.flatnonzero(found.any(axis=1))
    if not len(filled):
        return None
    rows = slice(int(filled[0]), int(filled[-1]) + 1)
    columns = np.flatnonzero(found[rows].any(axis=0))
    return rows, slice(int(columns[0]), int(columns[-1]) + 1)


def annotations_from_array(
    painted: Any, classes: ClassTable, sections: Iterable[SectionIndex] | None = None
) -> Annotations:
    """Return the painted sections of an array of shape (..., Y, X), copied.

    Classes beyond the table get names of their own (`extended`).

    Parameters
    ----------
    painted
        The array.
    classes
        What its values mean.
    sections
        Those that may hold paint, where that is known; all of them by default.

    Raises
    ------
    ValueError
        If the array is not made of whole numbers from 0 to 255.
    """
    if np.dtype(painted.dtype).kind not in "bui":
        raise ValueError(
            f"Annotations must be whole numbers (0 = not painted, 1 = background, 2.. = "
            f"structures); got values of type {painted.dtype}."
        )
    found: dict[SectionIndex, npt.NDArray[np.uint8]] = {}
    highest = 0
    for index in np.ndindex(tuple(painted.shape[:-2])) if sections is None else sections:
        section = np.asarray(painted[index])
        if not section.any():
            continue
        if section.min() < 0 or section.max() > 255:
            raise ValueError(
                f"Annotations must lie between 0 and 255; section {index} holds values from "
                f"{section.min()} to {section.max()}. Are these object IDs rather than classes?"
            )
        found[index] = section.astype(np.uint8)  # a copy: the painter goes on painting
        highest = max(highest, int(section.max()))
    return Annotations(extended(classes, highest), found)

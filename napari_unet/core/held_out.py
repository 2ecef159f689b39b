"""Strokes that are kept from learning, so that they can tell whether learning helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label

from napari_unet.core.annotations import UNPAINTED, Annotations, ClassTable, box_of
from napari_unet.core.image import SectionIndex

EVERY, FIRST = 5, 3
"""Of the pieces of paint of a class, the third is held out, and every fifth after it."""

RULE = (
    "Of every class the third piece of paint is held out, and every fifth after it: it is never "
    "learnt from, only measured. Paint that touches a piece goes with it."
)

_LEARNT, _HELD_OUT = 1, 2
_EVERYWHERE = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Strokes:
    """What is painted, parted into what is learnt from and what is only measured.

    Parameters
    ----------
    learnt, held_out
        Annotations that have no pixel in common.
    painted
        Both together, uint8 arrays of shape (Y, X) by section index.
    pieces
        How many pieces of paint each class number had so far, int64 of shape (256,).
    sides
        By section index, on which side each pixel is that ever was painted, also if it was erased
        since then; uint8 arrays of shape (Y, X), 0 = none, 1 = learnt from, 2 = held out.
    """

    learnt: Annotations
    held_out: Annotations
    painted: Mapping[SectionIndex, npt.NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    pieces: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(256, np.int64), repr=False
    )
    sides: Mapping[SectionIndex, npt.NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    _held_out_pieces: dict[SectionIndex, int] = field(default_factory=dict, repr=False)
    # counted once per section, since only one of many changes with a stroke

    @property
    def held_out_pieces(self) -> int:
        """How many connected pieces of paint are only measured."""
        for index, section in self.held_out.sections.items():
            if index not in self._held_out_pieces:
                box = box_of(section != UNPAINTED)
                assert box is not None
                found = label(section[box], connectivity=2, return_num=True)
                self._held_out_pieces[index] = int(found[1])
        return sum(self._held_out_pieces.values())


def all_learnt(annotations: Annotations, earlier: Strokes | None = None) -> Strokes:
    """Return strokes of which none is held out, and none of them will be.

    Parameters
    ----------
    annotations
        All that is painted.
    earlier
        How it was parted before.
    """
    parts = dict(earlier.sides) if earlier else {}
    for index, painted in annotations.sections.items():
        same = earlier is not None and earlier.painted.get(index) is painted
        if same and earlier and index not in earlier.held_out.sections:
            continue
        part = parts.get(index, np.zeros_like(painted))
        parts[index] = np.where(painted != UNPAINTED, _LEARNT, part).astype(np.uint8)
    return Strokes(
        annotations,
        Annotations(annotations.classes),
        annotations.sections,
        earlier.pieces if earlier else np.zeros(256, np.int64),
        parts,
    )


def parted(annotations: Annotations, earlier: Strokes | None = None) -> Strokes:
    """Return what is learnt from and what is held out of what is painted.

    Parameters
    ----------
    annotations
        All that is painted.
    earlier
        How it was parted before the latest strokes. What was learnt from once is not held out
        later, nor the other way round, also if it was erased meanwhile and painted again.
    """
    earlier = earlier or all_learnt(Annotations(annotations.classes))
    pieces = earlier.pieces.copy()
    parts = dict(earlier.sides)
    sides: dict[int, dict[SectionIndex, npt.NDArray[np.uint8]]] = {_LEARNT: {}, _HELD_OUT: {}}
    known = {_LEARNT: earlier.learnt.sections, _HELD_OUT: earlier.held_out.sections}
    for index, painted in annotations.sections.items():
        if earlier.painted.get(index) is painted:
            continue
        before = _or_empty(earlier.painted.get(index), painted)
        box = box_of(painted != before)
        if box is None:
            continue
        part = parts[index] = _or_empty(parts.get(index), painted).copy()
        _decide(painted, before, part, pieces, box)
        for side, sections in sides.items():
            # Elsewhere it is as it was; this is done at every stroke.
            sections[index] = _or_empty(known[side].get(index), painted).copy()
            is_here = (part[box] == _HELD_OUT) == (side == _HELD_OUT)
            sections[index][box] = np.where(is_here, painted[box], UNPAINTED)
    for index in earlier.painted.keys() - annotations.sections.keys():
        for sections in sides.values():
            sections[index] = np.zeros((1, 1), np.uint8)
    held_out = _changed(earlier.held_out, sides[_HELD_OUT], annotations.classes)
    return Strokes(
        _changed(earlier.learnt, sides[_LEARNT], annotations.classes),
        held_out,
        annotations.sections,
        pieces,
        parts,
        {
            index: count
            for index, count in earlier._held_out_pieces.items()
            if held_out.sections.get(index) is earlier.held_out.sections[index]
        },
    )


def restored(
    annotations: Annotations,
    sides: Mapping[SectionIndex, npt.NDArray[np.uint8]],
    pieces: npt.NDArray[np.int64],
) -> Strokes:
    """Return strokes as they were parted before, from `Strokes.sides` and `Strokes.pieces`.

    Paint that is on no side is learnt from.
    """

    def part(held_out: bool) -> Annotations:
        sections = {
            index: np.where((sides[index] == _HELD_OUT) == held_out, painted, UNPAINTED)
            for index, painted in annotations.sections.items()
        }
        kept = {index: section for index, section in sections.items() if section.any()}
        return Annotations(annotations.classes, kept)

    return Strokes(part(False), part(True), annotations.sections, pieces, sides)


def _changed(
    before: Annotations,
    sections: Mapping[SectionIndex, npt.NDArray[np.uint8]],
    classes: ClassTable,
) -> Annotations:
    """Annotations with other sections; the very same ones where nothing is other."""
    changed = {
        index: section
        for index, section in sections.items()
        if not np.array_equal(before.sections.get(index, np.zeros_like(section)), section)
        and (section.any() or index in before.sections)
    }
    if not changed and before.classes == classes:
        return before
    return before.with_sections(changed, classes)


def _or_empty(
    section: npt.NDArray[np.uint8] | None, like: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    return np.zeros_like(like) if section is None else section


def _grown(box: Sequence[slice]) -> tuple[slice, ...]:
    """A box and one pixel around it, for what touches."""
    return tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)


def _decide(
    painted: npt.NDArray[np.uint8],
    before: npt.NDArray[np.uint8],
    part: npt.NDArray[np.uint8],
    pieces: npt.NDArray[np.int64],
    changed: tuple[slice, slice],
) -> None:
    """Put the new paint of a section, all of it in a box, on one side or the other."""
    around = _grown(changed)
    painted, before, part = painted[around], before[around], part[around]
    new = (painted != before) & (painted != UNPAINTED)
    known = np.where(new, 0, part)
    for number in np.unique(painted[new]):
        labelled, count = ndimage.label(new & (painted == number), _EVERYWHERE)
        for which, box in enumerate(ndimage.find_objects(labelled, count), start=1):
            box = _grown(box)
            piece = labelled[box] == which
            beside = ndimage.binary_dilation(piece, _EVERYWHERE) & (painted[box] == number)
            sides = set(np.unique(known[box][beside])) | set(np.unique(part[box][piece]))
            if _LEARNT in sides:
                side = _LEARNT
            elif _HELD_OUT in sides:
                side = _HELD_OUT
            else:
                pieces[number] += 1
                side = _HELD_OUT if pieces[number] % EVERY == FIRST else _LEARNT
            part[box][piece] = side

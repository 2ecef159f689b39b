"""The warping error: what stays wrong after the truth is bent, but not torn, to the proposal.

Sections are arrays of truth values (Y, X): True inside a cell, False on a membrane. Cells hang
together over the sides of pixels (4-connected), membranes over their corners too (8-connected);
outside of the image all is membrane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Cells = npt.NDArray[np.bool_]

SPLIT_RADIUS = 20
"""Pixels around a mistake in which the challenge looks whether a cell falls apart."""

_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Steps (Y, X) to the eight neighbours of a pixel."""

_SIDES = ndimage.generate_binary_structure(2, 1)


def warped_truth(
    truth: Cells, proposal: Cells, confidence: npt.NDArray[Any] | None = None
) -> Cells:
    """Return the truth, changed towards the proposal as far as it can keep its topology.

    Pixels that differ are flipped one after the other where they are simple points, that is
    where the flip neither joins, parts, makes nor removes a cell or a piece of membrane, until no
    simple point differs. Shifted and thickened membranes are thus forgiven; cells that are merged
    or split, holes and islands are not.

    Parameters
    ----------
    truth, proposal
        Cells, of the same shape (Y, X).
    confidence
        How far each pixel of the proposal is from the threshold; surer ones are flipped first.

    Notes
    -----
    V. Jain et al., *Boundary Learning by Optimization with Topological Constraints*, CVPR 2010:
    the warping error is the number of pixels in which the result differs from the proposal. Its
    mask, outside of which nothing may be flipped, is the whole image here. The order of the flips
    can change the result a little; this one (the surest first, again and again) is that of the
    scorer of the ISBI 2012 challenge.
    """
    warped, goal = np.pad(truth, 1), np.pad(proposal, 1)  # the padding is membrane
    wrong = np.flatnonzero(warped != goal)
    if confidence is not None:
        sureness = np.pad(confidence, 1).ravel()[wrong]
        wrong = wrong[np.argsort(-sureness, kind="stable")]
    width = warped.shape[1]
    a, b, c, d, e, f, g, h = (y * width + x for y, x in _AROUND)
    # Each flip changes whether the next point is simple. A list beats an array at single pixels.
    pixels = warped.astype(np.uint8).ravel().tolist()
    todo = wrong.tolist()
    while todo:
        left = []
        for i in todo:
            around = (
                pixels[i + a]
                | pixels[i + b] << 1
                | pixels[i + c] << 2
                | pixels[i + d] << 3
                | pixels[i + e] << 4
                | pixels[i + f] << 5
                | pixels[i + g] << 6
                | pixels[i + h] << 7
            )
            if _SIMPLE[around]:
                pixels[i] ^= 1
            else:
                left.append(i)
        if len(left) == len(todo):
            break
        todo = left
    return np.array(pixels, bool).reshape(warped.shape)[1:-1, 1:-1]


def splits_and_mergers(warped: Cells, proposal: Cells) -> int:
    """Return how many of the pixels that stayed wrong split a cell or merge two.

    Parameters
    ----------
    warped
        What `warped_truth` returned.
    proposal
        The cells that it was warped to.

    Notes
    -----
    The challenge scored the warping error by these pixels alone ("minimum splits and mergers
    warping error"). As in its scorer, a pixel merges if it is membrane and two cells touch
    it, corners included; it splits if it is cell and without it two cells would touch it, seen in
    the 41 x 41 pixels around it.
    """
    margin = SPLIT_RADIUS
    padded = np.pad(warped, margin)
    cells, _ = ndimage.label(padded)
    places = np.argwhere(warped != proposal)
    rows, columns = (places + margin).T
    around = np.stack([cells[rows + y, columns + x] for y, x in _AROUND])
    several = _several(around)
    count = int(several.sum())
    parts = np.empty((2 * margin + 1, 2 * margin + 1), np.int32)
    middle = parts[margin - 1 : margin + 2, margin - 1 : margin + 2]
    for y, x in places[~several & padded[rows, columns]]:
        window = padded[y : y + 2 * margin + 1, x : x + 2 * margin + 1]
        window[margin, margin] = False
        ndimage.label(window, _SIDES, output=parts)
        window[margin, margin] = True
        count += bool(_several(middle.reshape(9, 1))[0])
    return count


def _several(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each column holds more than one number besides 0."""
    largest = labels.max(axis=0, initial=0)
    several: npt.NDArray[np.bool_] = ((labels > 0) & (labels != largest)).any(axis=0)
    return several


def _simple_points() -> list[bool]:
    """Return whether a point is simple, for each set of neighbours that are cell.

    The sets are numbers of eight bits, in the order of _AROUND. A point is simple if exactly one
    4-connected piece of cell in this neighbourhood touches one of its sides, and there is membrane
    (topological numbers T_4 = 1 and T_8 of the membrane = 1; G. Bertrand, G. Malandain, *A new
    characterization of three-dimensional simple points*, Pattern Recognition Letters 15, 1994,
    page 172).
    """
    simple = []
    for bits in range(256):
        near = np.zeros((3, 3), bool)
        for bit, (y, x) in enumerate(_AROUND):
            near[y + 1, x + 1] = bits >> bit & 1
        pieces, _ = ndimage.label(near)
        sides = {int(pieces[y + 1, x + 1]) for y, x in _AROUND if not (y and x)} - {0}
        simple.append(len(sides) == 1 and bits != 255)
    return simple


_SIMPLE = _simple_points()

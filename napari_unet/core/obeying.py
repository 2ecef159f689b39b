"""What was painted is what is shown: at its own pixels, and where the same mistake goes on.

A head that learns from a few strokes is held to what the network knows, and often too strongly to
take over a stroke where it was painted. Elsewhere that is wanted, here it is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

REACH = 8
"""So many pixels from paint it has no effect any more.

Of 8, 16 and 32, what was best on sections that were painted (see `docs/benchmarks.md`).
"""

MARGIN = 1.0
"""By how much the score of the painted class lies above the others, where it did not before."""


def obey(scores: npt.NDArray[np.float32], painted: npt.NDArray[np.uint8]) -> None:
    """Raise the scores of painted classes, in place, where they are not the highest.

    At a painted pixel by what its class lacks, and `MARGIN`; around it by less and less of that,
    to nothing at a distance of `REACH`. So its surroundings follow where they look as the pixel
    does, or where the scores are undecided, and stay where another class is clear. Every pixel
    follows the painted pixel nearest to it. Paint that needs no help changes nothing.

    Parameters
    ----------
    scores
        Before the softmax, or logarithms of probabilities: (classes, height, width), contiguous.
    painted
        Class numbers of the same pixels, (height, width), 0 = not painted.
    """
    there = painted > 0
    places = np.flatnonzero(there)
    numbers = painted.ravel()[places].astype(np.intp) - 1
    others = scores.reshape(len(scores), -1)[:, places]
    own = others[numbers, np.arange(len(places))]
    others[numbers, np.arange(len(places))] = -np.inf
    lack = others.max(axis=0) - own
    surplus = np.zeros(painted.shape, np.float32)
    surplus.flat[places] = np.where(lack >= 0, lack + np.float32(MARGIN), 0)
    pieces, _ = ndimage.label(there, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        if not (surplus[box] * (pieces[box] == number)).any():
            continue
        # Beyond the reach of this piece by another one, so that all are there that may be nearer.
        wide = tuple(slice(max(0, part.start - 2 * REACH), part.stop + 2 * REACH) for part in box)
        distance, (rows, columns) = ndimage.distance_transform_edt(
            ~there[wide], return_indices=True
        )
        follows = (distance < REACH) & (pieces[wide][rows, columns] == number)
        nearest = rows[follows], columns[follows]
        raised = surplus[wide][nearest] * (1 - distance[follows] / REACH)
        row, column = np.nonzero(follows)
        scores[:, wide[0], wide[1]][painted[wide][nearest] - 1, row, column] += raised

"""How well a mask agrees with the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassScores:
    """Agreement of one class, from counts of pixels.

    With true positives TP, false positives FP and false negatives FN: precision is
    TP / (TP + FP), recall TP / (TP + FN), F1 (equal to the Dice coefficient)
    2 TP / (2 TP + FP + FN) and IoU (Jaccard index) TP / (TP + FP + FN). A ratio without a
    denominator (the class is neither there nor predicted) is None.
    """

    f1: float | None
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    pixels: int
    """Pixels of the class in the truth."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Scores = dict[str, ClassScores]
"""Scores by the name of the class."""


def confusion_counts(
    predicted: npt.NDArray[Any], truth: npt.NDArray[Any], classes: int
) -> npt.NDArray[np.int64]:
    """Return how many pixels of each true class got each predicted class.

    Pixels where the truth is 0 (not annotated) do not count.

    Parameters
    ----------
    predicted, truth
        Class numbers of the same shape, whole numbers from 0 to `classes`.

    Returns
    -------
    int64 array (classes + 1, classes + 1)
        Rows are true classes, columns predicted ones.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"The prediction has the shape {predicted.shape}, the truth {truth.shape}; they must "
            "be the same."
        )
    known = truth > 0
    pairs = truth[known].astype(np.int64) * (classes + 1) + predicted[known]
    counts = np.bincount(pairs, minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


def scores_from_counts(counts: npt.NDArray[np.int64]) -> dict[int, ClassScores]:
    """Return the scores of every class that is in the truth or in the prediction."""
    scores = {}
    for number in range(1, len(counts)):
        hit = int(counts[number, number])
        truly, found = int(counts[number].sum()), int(counts[:, number].sum())
        if truly or found:
            f1 = _ratio(2 * hit, truly + found)
            scores[number] = ClassScores(
                f1=f1,
                iou=_ratio(hit, truly + found - hit),
                dice=f1,
                precision=_ratio(hit, found),
                recall=_ratio(hit, truly),
                pixels=truly,
            )
    return scores


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def class_scores(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[int, ClassScores]:
    """Return the scores per class number of a class mask; where the truth is 0 nothing counts."""
    classes = int(max(predicted.max(initial=0), truth.max(initial=0)))
    return scores_from_counts(confusion_counts(predicted, truth, classes))


def mean_iou(scores: Scores) -> float | None:
    """Return the mean IoU over classes; None of fewer than two.

    With one class alone, a model that sees it everywhere would be perfect.
    """
    if len(scores) < 2:
        return None
    return float(np.mean([each.iou or 0.0 for each in scores.values()]))

"""How well cells behind membranes, or numbered objects, agree with the truth.

Pixel scores do not see that one missing pixel of membrane makes one cell of two. These do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import entr
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information
from skimage.segmentation import watershed

from napari_unet.core.warping import splits_and_mergers, warped_truth

THRESHOLDS = tuple(tenths / 10 for tenths in range(1, 11))
"""Probabilities from which on a pixel is taken as membrane.

The challenge takes those as cell whose probability of being cell is over 0.0, 0.1, ... 0.9: the
same ten segmentations. (Its 1.0 leaves no cell.)
"""


@dataclass(frozen=True)
class BoundaryScores:
    """Agreement of the cells that a membrane map parts, each figure at its best threshold.

    Figures that the truth leaves undefined (it has no cells) are None.
    """

    v_rand: float | None
    """Rand F-score after border thinning, mean over sections; 1 is best (`rand_score`)."""
    v_info: float | None
    """Information F-score after border thinning, mean over sections; 1 is best."""
    rand_error: float | None
    """1 - Rand F-score without border thinning, pairs of all sections together; 0 is best."""
    warping_error: float
    """Share of pixels that stay wrong when the truth is warped; 0 is best (`warped_truth`)."""
    challenge_warping_error: float
    """The same, but only pixels that split or merge cells count (`splits_and_mergers`)."""
    pixel_error: float
    """Share of wrong pixels; 0 is best."""
    challenge_pixel_error: float | None
    """1 - F1 of the cell pixels; 0 is best."""
    thresholds: dict[str, float | None] = field(default_factory=dict)
    """The best threshold of each figure; None where there was nothing to choose (a mask)."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RandPairs:
    """Ordered pairs of pixels that share a segment; a pixel and itself are a pair, too."""

    both: int
    """In the proposal as well as in the truth."""
    proposed: int
    true: int

    @property
    def f_score(self) -> float | None:
        """Harmonic mean of the pairs' precision and recall; None without pairs."""
        pairs = self.proposed + self.true
        return 2 * self.both / pairs if pairs else None


@dataclass(frozen=True)
class SectionAgreement:
    """How one section agrees with the truth at one threshold."""

    threshold: float | None
    v_rand: float | None
    v_info: float | None
    pairs: RandPairs
    """Without border thinning."""
    pixels: int
    wrong: int
    """Pixels in which cell and membrane are confused."""
    cell_pixels: int
    """Pixels of cell in the truth, and in the proposal, added."""
    common_cell_pixels: int
    unwarped: int
    """Pixels that stay wrong when the truth is warped."""
    splits_and_mergers: int
    """Those of them that split or merge cells."""


def compare_section(
    membrane: npt.NDArray[Any], true_membrane: npt.NDArray[np.bool_]
) -> tuple[SectionAgreement, ...]:
    """Return how a membrane map agrees with the true membranes, for each threshold.

    Parameters
    ----------
    membrane
        Shape (Y, X): probabilities from 0 to 1 of being membrane, which are cut at `THRESHOLDS`,
        or a mask of truth values, which is taken as it is.
    true_membrane
        Mask of the same shape.
    """
    if membrane.dtype == bool:
        return (_agreement(membrane, true_membrane, None, None),)
    return tuple(
        _agreement(membrane >= threshold, true_membrane, threshold, abs(membrane - threshold))
        for threshold in THRESHOLDS
    )


def boundary_scores(sections: Sequence[Sequence[SectionAgreement]]) -> BoundaryScores:
    """Return the figures of a stack, each at the threshold where it is best.

    Parameters
    ----------
    sections
        What `compare_section` returned for each section; at least one.

    Notes
    -----
    V_rand and V_info are those of I. Arganda-Carreras et al., *Crowdsourcing the creation of image
    segmentation algorithms for connectomics*, Frontiers in Neuroanatomy 9:142, 2015, after border
    thinning: averaged over the sections at each threshold, then maximised, as the challenge's
    scorer for Fiji does.

    The others are from the first scoring of that challenge (ISBI 2012), which the U-Net paper
    reports (O. Ronneberger, P. Fischer, T. Brox, MICCAI 2015, Table 1: warping error 0.000353,
    Rand error 0.0382, pixel error 0.0611). To be compared with that table are `rand_error`,
    `challenge_warping_error` and `challenge_pixel_error`: its warping error leaves out holes and
    islands, and its pixel error is 1 - F1 of the cell pixels. `warping_error` and `pixel_error`
    are the plain ones of V. Jain et al., CVPR 2010.
    """
    candidates = [_scores_at_one_threshold(each) for each in zip(*sections, strict=True)]
    best: dict[str, float | None] = {}
    thresholds: dict[str, float | None] = {}
    for name, choose in _BEST.items():
        known = [(each[name], at) for each, at in candidates if each[name] is not None]
        best[name], thresholds[name] = (
            choose(known, key=lambda pair: pair[0]) if known else (None, None)
        )
    return BoundaryScores(**best, thresholds=thresholds)  # type: ignore[arg-type]


_BEST: dict[str, Callable[..., Any]] = {
    "v_rand": max,
    "v_info": max,
    "rand_error": min,
    "warping_error": min,
    "challenge_warping_error": min,
    "pixel_error": min,
    "challenge_pixel_error": min,
}
"""Whether the largest or the smallest value of a figure is the best."""


def _scores_at_one_threshold(
    sections: Sequence[SectionAgreement],
) -> tuple[dict[str, float | None], float | None]:
    pairs = RandPairs(
        *(sum(getattr(s.pairs, name) for s in sections) for name in ("both", "proposed", "true"))
    )
    pixels = sum(s.pixels for s in sections)
    cell_pixels = sum(s.cell_pixels for s in sections)
    cell_f1 = 2 * sum(s.common_cell_pixels for s in sections) / cell_pixels if cell_pixels else None
    scores = {
        "v_rand": _mean([s.v_rand for s in sections]),
        "v_info": _mean([s.v_info for s in sections]),
        "rand_error": None if pairs.f_score is None else 1 - pairs.f_score,
        "warping_error": sum(s.unwarped for s in sections) / pixels,
        "challenge_warping_error": sum(s.splits_and_mergers for s in sections) / pixels,
        "pixel_error": sum(s.wrong for s in sections) / pixels,
        "challenge_pixel_error": None if cell_f1 is None else 1 - cell_f1,
    }
    return scores, sections[0].threshold


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _agreement(
    membrane: npt.NDArray[np.bool_],
    true_membrane: npt.NDArray[np.bool_],
    threshold: float | None,
    confidence: npt.NDArray[Any] | None,
) -> SectionAgreement:
    cells, true_cells = ~membrane, ~true_membrane
    segments, true_segments = _components(cells), _components(true_cells)
    thinned = thinned_segments(cells)
    warped = warped_truth(true_cells, cells, confidence)
    return SectionAgreement(
        threshold=threshold,
        v_rand=rand_pairs(thinned, true_segments).f_score,
        v_info=information_score(thinned, true_segments),
        pairs=rand_pairs(segments, true_segments),
        pixels=cells.size,
        wrong=int((cells != true_cells).sum()),
        cell_pixels=int(cells.sum() + true_cells.sum()),
        common_cell_pixels=int((cells & true_cells).sum()),
        unwarped=int((warped != cells).sum()),
        splits_and_mergers=splits_and_mergers(warped, cells),
    )


def thinned_segments(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return cells that have grown until thin lines of membrane part them.

    Each 4-connected cell becomes a segment and is flooded into the membrane, all at the same
    speed; where two meet, a line (0) stays. A section without a cell is one segment, as it has no
    line to stay.

    Notes
    -----
    Border thinning of the ISBI 2012 challenge (Arganda-Carreras et al. 2015), whose scorer runs
    the watershed transform of P. Soille and L. Vincent, 4-connected, on the thresholded map. Where
    fronts meet, the lines of two implementations may differ by a pixel.
    """
    segments = _components(cells)
    if not segments.any():
        return np.ones(cells.shape, np.int32)
    flooded: npt.NDArray[np.int32] = watershed(
        np.zeros(cells.shape, np.uint8), segments, connectivity=1, watershed_line=True
    )
    return flooded


def _components(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    labels, _ = ndimage.label(cells)  # over sides, not over corners
    segments: npt.NDArray[np.int32] = labels
    return segments


def rand_pairs(segments: npt.NDArray[Any], truth: npt.NDArray[Any]) -> RandPairs:
    """Return the pairs of pixels that share segments; their F-score is V_rand.

    Only pixels that are in a cell of the truth count (foreground restriction). A pixel of theirs
    that is membrane in the proposal is a segment of its own.

    Parameters
    ----------
    segments, truth
        Numbers of segments, of the same shape; 0 = membrane.

    Notes
    -----
    Arganda-Carreras et al. 2015, equation 3: V_rand = sum p_ij^2 / (alpha sum s_k^2 +
    (1 - alpha) sum t_k^2), with alpha = 0.5; p_ij is the probability that a pixel is in segment i
    of the proposal and j of the truth, s and t are its sums. The article does not say what
    membrane inside a true cell counts as; its scorer takes single pixels, and so does this.
    """
    table = _overlaps(segments, truth)
    return RandPairs(
        both=_squares(table.data),
        proposed=_squares(table.sum(axis=0)),
        true=_squares(table.sum(axis=1)),
    )


def information_score(segments: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float | None:
    """Return V_info: what the segments and the truth tell of each other, over their mean entropy.

    Which pixels count is as in `rand_pairs`. Without any, the score is None; it is 1 where both
    are the same one segment.

    Notes
    -----
    Arganda-Carreras et al. 2015, equation 6: V_info = I(S;T) / ((1 - alpha) H(S) + alpha H(T)),
    with alpha = 0.5; I is the mutual information, H the entropy.
    """
    table = _overlaps(segments, truth)
    pixels = table.sum()
    if not pixels:
        return None
    proposed, true, joint = (
        float(entr(np.asarray(counts) / pixels).sum())
        for counts in (table.sum(axis=0), table.sum(axis=1), table.data)
    )
    if proposed + true == 0:
        return 1.0
    mutual = proposed + true - joint
    return min(max(2 * mutual / (proposed + true), 0.0), 1.0)  # rounding must not lead outside


def _overlaps(segments: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Any:
    """Sparse table of pixels, by segment of the truth (rows) and of the proposal (columns)."""
    single = (segments == 0) & (truth > 0)
    numbers = segments.astype(np.int64)
    numbers[single] = numbers.max(initial=0) + 1 + np.arange(single.sum())
    return contingency_table(truth, numbers, ignore_labels=(0,))


def _squares(counts: Any) -> int:
    return int((np.asarray(counts).astype(np.int64) ** 2).sum())


@dataclass(frozen=True)
class ObjectScores:
    """Agreement of numbered objects. Ratios without a denominator are None."""

    arand: float | None
    """Adapted Rand error: 1 - harmonic mean of `precision` and `recall`; 0 is best."""
    precision: float | None
    """Share of the pairs of pixels in one predicted object that are in one true object."""
    recall: float | None
    """Share of the pairs of pixels in one true object that are in one predicted object."""
    voi: float | None
    """Variation of information, `voi_split` + `voi_merge`; 0 is best."""
    voi_split: float | None
    """H(predicted | true) in bits: how far true objects are split."""
    voi_merge: float | None
    """H(true | predicted) in bits: how far true objects are merged."""
    predicted_objects: int
    true_objects: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def object_scores(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> ObjectScores:
    """Return how well objects agree, in all dimensions of the arrays together.

    Pixels where the truth is 0 (no object) do not count. Where only the prediction is 0, these
    pixels are taken as one more object, as scikit-image does.

    Parameters
    ----------
    predicted, truth
        Numbers of objects, of the same shape; 0 = none.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Adapted Rand error: Arganda-Carreras et al. 2015, equation 3, over pairs of different pixels.
    Variation of information: M. Meilă, *Comparing clusterings - an information based distance*,
    Journal of Multivariate Analysis 98, 2007.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"The prediction has the shape {predicted.shape}, the truth {truth.shape}; they must "
            "be the same."
        )
    found = len(np.unique(predicted[predicted != 0]))
    known = truth != 0
    # Tables are as large as the largest number, which may be in the billions: number anew.
    true_names, true = np.unique(truth[known], return_inverse=True)
    _, segments = np.unique(predicted[known], return_inverse=True)
    if not true.size:
        return ObjectScores(None, None, None, None, None, None, found, 0)
    true, segments = true.ravel() + 1, segments.ravel() + 1
    table = contingency_table(true, segments)
    both, in_predicted, in_true = (
        _squares(counts) - true.size  # a pixel is no pair with itself
        for counts in (table.data, table.sum(axis=0), table.sum(axis=1))
    )
    split, merge = (abs(float(v)) for v in variation_of_information(true, segments))  # no -0.0
    with np.errstate(divide="ignore", invalid="ignore"):  # its precision or recall may be 0 / 0
        arand = float(adapted_rand_error(true, segments)[0])
    return ObjectScores(
        arand=arand if in_predicted + in_true else None,
        # Taken from the table, since adapted_rand_error gives each of them for the other.
        precision=both / in_predicted if in_predicted else None,
        recall=both / in_true if in_true else None,
        voi=split + merge,
        voi_split=split,
        voi_merge=merge,
        predicted_objects=found,
        true_objects=len(true_names),
    )

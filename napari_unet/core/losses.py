"""What a network is punished for: losses on painted pixels and the paper's border weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.measure import label as connected_components
from torch import Tensor
from torch.nn import functional

SURE = 0.7
"""Probability from which on the earlier opinion of a network is worth remembering."""

DOUBT_RADIUS = 16
"""Pixels around a contradiction in which nothing is remembered."""


def border_reach(sigma: float) -> int:
    """Return from which sum of distances on, in pixels, border weights are left out.

    There they are under a thousandth of ``w0``.
    """
    return int(np.ceil(3.8 * sigma))


def border_weights(
    cells: npt.NDArray[np.integer], w0: float = 10.0, sigma: float = 5.0
) -> npt.NDArray[np.float32]:
    """Return ``w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))`` outside the cells, 0 inside them.

    Parameters
    ----------
    cells
        Array (Y, X); every cell has a number of its own, 0 is what lies between them.
    w0, sigma
        Height, and width in pixels, of the weight (10 and about 5 in the paper).

    Returns
    -------
    float32 array (Y, X). ``d1`` and ``d2`` are the distances, in pixels, to the nearest and the
    second nearest cell; with fewer than two cells the weight is 0 everywhere.

    Notes
    -----
    Ronneberger et al. 2015, equation 2, second term.
    """
    weights = np.zeros(cells.shape, np.float32)
    # Only cells in the neighbourhood of a pixel need to be looked at.
    reach = border_reach(sigma)
    nearest = np.full(cells.shape, np.inf, np.float32)
    second = np.full(cells.shape, np.inf, np.float32)
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        around = tuple(
            slice(max(0, s.start - reach), min(n, s.stop + reach))
            for s, n in zip(box, cells.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(cells[around] != number).astype(np.float32)
        best, next_best = nearest[around], second[around]
        next_best[...] = np.minimum(next_best, np.maximum(best, distance))
        best[...] = np.minimum(best, distance)
    known = np.isfinite(second) & (cells == 0)
    weights[known] = w0 * np.exp(-((nearest[known] + second[known]) ** 2) / (2 * sigma**2))
    return weights


def cells_between(painted: npt.NDArray[np.uint8], border: int) -> npt.NDArray[np.int64]:
    """Return the numbered regions that a border class leaves between it, 0 on the border."""
    numbered: npt.NDArray[np.int64] = connected_components(painted != border, connectivity=1)
    return numbered


def class_weights(counts: npt.NDArray[np.int64], balance: float) -> npt.NDArray[np.float32]:
    """Return ``w_c``: class weights that fall with frequency, 1 on average over painted pixels.

    Parameters
    ----------
    counts
        Painted pixels per class, shape (classes,).
    balance
        0: every pixel counts alike; 1: every painted class counts alike.
    """
    weights = np.zeros(len(counts), np.float64)
    painted = counts > 0
    if painted.any():
        frequency = counts[painted] / counts.sum()
        raw = frequency**-balance
        weights[painted] = raw / (raw * frequency).sum()
    return weights.astype(np.float32)


def painted_loss(
    kind: str,
    logits: Tensor,
    painted: Tensor,
    weights: Tensor,
    unlabelled: Tensor | None = None,
) -> Tensor:
    """Return the loss over the painted pixels; unpainted ones have no influence.

    Parameters
    ----------
    kind
        ``cross-entropy`` (paper, equation 1), ``dice`` or ``cross-entropy+dice``.
    logits
        Scores before the softmax, (N, classes, H, W).
    painted
        Class numbers, int64 (N, H, W): 0 = not painted, class 1 is channel 0.
    weights
        Weight of each pixel, float (N, H, W).
    unlabelled
        bool (N, at least classes): which classes nobody looked for in which patch. Their
        probability counts as background there, so that finding them is no mistake.
    """
    mask = painted > 0
    target = (painted - 1).clamp(min=0)
    logits = logits.float()
    if unlabelled is not None:
        logits = _with_background(logits, unlabelled[:, : logits.shape[1]])
    loss = logits.new_zeros(())
    if "cross-entropy" in kind:
        each = functional.cross_entropy(logits, target, reduction="none")
        weight = weights * mask
        loss = loss + (each * weight).sum() / weight.sum().clamp(min=1e-6)
    if "dice" in kind:
        loss = loss + _dice_loss(logits, target, mask)
    return loss


def _with_background(logits: Tensor, unlabelled: Tensor) -> Tensor:
    """Return logits (N, classes, H, W) in which unlabelled classes are part of the background.

    The exponentials of logits add up as probabilities do.
    """
    impossible = torch.finfo(logits.dtype).min
    merged = unlabelled.clone()
    merged[:, 0] = True
    background = logits.masked_fill(~merged[:, :, None, None], impossible).logsumexp(dim=1)
    others = logits.masked_fill(unlabelled[:, :, None, None], impossible)
    return torch.cat([background[:, None], others[:, 1:]], dim=1)


def memory_loss(logits: Tensor, remembered: Tensor, painted: Tensor) -> Tensor:
    """Return how far a network has moved from what it was sure of before, where nobody painted.

    Cross-entropy with the probabilities of the earlier network (Li and Hoiem 2016, "Learning
    without forgetting"), over pixels of which it was sure. Around paint that contradicts it
    nothing is remembered, since the mistake does not end where the brush stopped.

    Parameters
    ----------
    logits, remembered
        Scores before the softmax of the network that learns and of the earlier one,
        (N, classes, H, W).
    painted
        Class numbers, int64 (N, H, W): 0 = not painted.
    """
    probabilities = remembered.float().softmax(dim=1)
    sureness, opinion = probabilities.max(dim=1)
    contradicted = (painted > 0) & (painted - 1 != opinion)
    doubtful = functional.max_pool2d(
        contradicted[:, None].float(), 2 * DOUBT_RADIUS + 1, stride=1, padding=DOUBT_RADIUS
    )[:, 0]
    kept = (painted == 0) & (sureness > SURE) & (doubtful == 0)
    each = functional.cross_entropy(logits.float(), probabilities, reduction="none")
    floor = functional.cross_entropy(remembered.float(), probabilities, reduction="none")
    return ((each - floor) * kept).sum() / kept.sum().clamp(min=1)


def _dice_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the painted classes."""
    probabilities = logits.softmax(dim=1) * mask[:, None]
    truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1) * mask[:, None]
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    total = (probabilities + truth).sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    dice = (2 * overlap + 1e-6) / (total + 1e-6)
    return 1 - dice[present].mean() if bool(present.any()) else logits.sum() * 0

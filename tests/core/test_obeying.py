"""Painted pixels are shown as they were painted, and what looks the same beside them, too."""

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.obeying import MARGIN, REACH, obey


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def obeying(scores, painted):
    found = scores.copy()
    obey(found, painted)
    return found


def strokes(seed=0, side=96, classes=3):
    """Short lines in all directions, some of which touch, and some at the edge."""
    chance = np.random.default_rng(seed)
    painted = np.zeros((side, side), np.uint8)
    for number in range(14):
        along = np.linspace(chance.uniform(0, side - 1, 2), chance.uniform(0, side - 1, 2), 90)[:20]
        row, column = along.round().astype(int).T
        painted[row, column] = number % classes + 1
    return painted


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_whatever_the_scores_painted_pixels_get_their_class(classes):
    painted = strokes(classes=classes)
    scores = noise(classes, *painted.shape)
    assert (scores.argmax(axis=0) + 1 != painted)[painted > 0].any()

    found = obeying(scores, painted).argmax(axis=0) + 1

    assert (found == painted)[painted > 0].all()


def test_painted_pixels_get_their_class_where_nothing_is_decided():
    painted = strokes()
    found = obeying(np.zeros((3, *painted.shape), np.float32), painted).argmax(axis=0) + 1
    assert (found == painted)[painted > 0].all()


def test_far_from_paint_nothing_changes():
    painted = strokes()
    scores = noise(3, *painted.shape)
    far = ndimage.distance_transform_edt(painted == 0) >= REACH

    found = obeying(scores, painted)

    assert far.any()
    np.testing.assert_array_equal(found[:, far], scores[:, far])
    assert (found != scores).any(axis=0)[~far & (painted == 0)].any()


def test_paint_that_needs_no_help_changes_nothing():
    scores = noise(3, 40, 40)
    painted = np.zeros((40, 40), np.uint8)
    painted[10:20, 10:20] = (scores.argmax(axis=0) + 1)[10:20, 10:20]

    np.testing.assert_array_equal(obeying(scores, painted), scores)
    np.testing.assert_array_equal(obeying(scores, np.zeros_like(painted)), scores)


def test_what_looks_as_the_mistake_does_follows_and_what_is_clear_stays():
    scores = np.zeros((2, 1, 40), np.float32)
    scores[0, :, :20], scores[0, :, 20:] = 0.5, 5.0
    painted = np.zeros((1, 40), np.uint8)
    painted[0, 18] = 2

    found = obeying(scores, painted)[:, 0].argmax(axis=0) + 1

    assert found[18] == found[17] == found[19] == 2
    assert (found[:10] == 1).all()
    assert (found[20:] == 1).all()


def test_one_class_painted_beside_another_ends_halfway():
    scores = np.zeros((3, 1, 40), np.float32)
    scores[0] = 0.1
    painted = np.zeros((1, 40), np.uint8)
    painted[0, 15], painted[0, 20] = 2, 3

    found = obeying(scores, painted)[:, 0].argmax(axis=0) + 1

    assert found[13:23].tolist() == [2] * 5 + [3] * 5


@pytest.mark.parametrize("turned", [False, True])
def test_only_the_nearest_paint_has_an_effect(turned):
    painted = np.zeros((1, 60), np.uint8)
    painted[0, 20], painted[0, 20 + 2 * REACH - 3] = 2, 3
    between = 20 + REACH - 1  # in reach of both, and nearer to the second
    scores = np.zeros((3, 1, 60), np.float32)
    if turned:
        painted, between = painted[:, ::-1].copy(), 59 - between

    found = obeying(scores, painted)[:, 0, between]

    assert found[1] == 0
    assert found[2] > 0


@pytest.mark.parametrize("seed", range(5))
def test_piece_by_piece_all_is_as_from_the_nearest_of_all_paint(seed):
    painted = strokes(seed)
    scores = noise(3, *painted.shape, seed=seed)
    distance, (row, column) = ndimage.distance_transform_edt(painted == 0, return_indices=True)
    there = np.maximum(painted, 1)[None].astype(int) - 1
    lack = scores.max(axis=0) - np.take_along_axis(scores, there, axis=0)[0]
    surplus = np.where(lack > 0, lack + MARGIN, 0)[row, column] * (1 - distance / REACH).clip(0)
    raised = np.arange(1, 4)[:, None, None] == painted[row, column]

    found = obeying(scores, painted)

    # Of paint that is equally near, either may be followed.
    alike = np.isclose(found, scores + raised * surplus, atol=1e-4).all(axis=0)
    assert alike.mean() > 0.99

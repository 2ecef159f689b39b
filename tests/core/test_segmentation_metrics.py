import json
from dataclasses import replace
from math import log2

import numpy as np
import pytest
import tifffile
from skimage.metrics import adapted_rand_error

from napari_unet.core.segmentation_metrics import (
    THRESHOLDS,
    BoundaryScores,
    RandPairs,
    boundary_scores,
    compare_section,
    information_score,
    object_scores,
    rand_pairs,
    thinned_segments,
)


def row(*numbers):
    return np.array([numbers])


# V_rand and V_info of segments


def test_merged_cells_lose_precision():
    truth, found = row(1, 1, 1, 1, 2, 2, 2, 2), row(7, 7, 7, 7, 7, 7, 7, 7)

    # overlaps 4 and 4: 16 + 16 pairs; one segment of 8: 64; true cells of 4 and 4: 16 + 16
    assert rand_pairs(found, truth) == RandPairs(both=32, proposed=64, true=32)
    # in shares of the 8 pixels: (1/4 + 1/4) / (1/2 * 1 + 1/2 * (1/4 + 1/4)) = 2/3
    assert rand_pairs(found, truth).f_score == pytest.approx(2 / 3)
    # H(S) = 0, so S tells nothing
    assert information_score(found, truth) == 0


def test_a_split_cell_loses_recall():
    truth, found = row(1, 1, 1, 1), row(1, 1, 2, 2)

    # overlaps 2 and 2; segments 2 and 2; true cell 4. F = 2 * 8 / (8 + 16)
    assert rand_pairs(found, truth) == RandPairs(both=8, proposed=8, true=16)
    assert rand_pairs(found, truth).f_score == pytest.approx(2 / 3)
    assert information_score(found, truth) == 0  # H(T) = 0


def test_v_info_is_mutual_information_over_mean_entropy():
    truth, found = row(1, 1, 2, 2), row(1, 1, 2, 3)

    # H(T) = 1 bit; H(S) = 1/2 * 1 + 2 * 1/4 * 2 = 1.5; S tells T wholly, so I = H(T) = 1.
    # V_info = 1 / (1.5/2 + 1/2) = 0.8
    assert information_score(found, truth) == pytest.approx(0.8)


def test_independent_segments_tell_nothing():
    assert information_score(row(1, 2, 1, 2), row(1, 1, 2, 2)) == pytest.approx(0)


def test_pixels_that_are_membrane_in_the_truth_do_not_count():
    truth = row(1, 1, 0, 0, 2, 2)

    for found in (row(1, 1, 0, 0, 2, 2), row(1, 1, 1, 1, 2, 2), row(1, 1, 5, 6, 2, 2)):
        assert rand_pairs(found, truth) == RandPairs(both=8, proposed=8, true=8)
        assert information_score(found, truth) == pytest.approx(1)


def test_membrane_inside_a_true_cell_is_a_segment_of_its_own_per_pixel():
    truth, found = row(1, 1, 1, 1, 1, 1), row(1, 1, 0, 0, 2, 2)

    # segments of 2, 1, 1 and 2 pixels: 4 + 1 + 1 + 4 pairs
    assert rand_pairs(found, truth) == RandPairs(both=10, proposed=10, true=36)
    assert rand_pairs(found, row(1, 1, 3, 3, 2, 2)).f_score == pytest.approx(20 / 22)
    # T: three cells of 1/3, log2(3) bits. S: 2/3 * log2(3) + 1/3 * log2(6) = log2(3) + 1/3.
    # S tells T wholly: I = log2(3).
    assert information_score(found, row(1, 1, 3, 3, 2, 2)) == pytest.approx(
        log2(3) / (log2(3) + 1 / 6)
    )


def test_the_same_single_cell_is_agreement():
    assert rand_pairs(row(3, 3), row(1, 1)).f_score == 1
    assert information_score(row(3, 3), row(1, 1)) == 1


def test_a_truth_without_cells_has_no_score():
    assert rand_pairs(row(1, 2), row(0, 0)).f_score is None
    assert information_score(row(1, 2), row(0, 0)) is None


# border thinning


def test_cells_grow_until_a_line_of_one_pixel_parts_them():
    for width in range(1, 6):
        section = np.array([[True, *[False] * width, True]] * 3)

        thinned = thinned_segments(section)

        assert ((thinned == 0).sum(axis=1) == 1).all()
        assert (thinned[:, 0] == 1).all()
        assert (thinned[:, -1] == 2).all()


def test_a_membrane_that_parts_nothing_vanishes():
    section = np.ones((5, 5), bool)
    section[2, :4] = False

    assert (thinned_segments(section) == 1).all()


def test_a_section_without_a_cell_is_one_segment():
    assert (thinned_segments(np.zeros((3, 3), bool)) == 1).all()


def test_cells_that_touch_at_corners_only_are_not_joined():
    section = np.array([[True, False], [False, True]])

    assert thinned_segments(section)[0, 0] != thinned_segments(section)[1, 1]


# membrane maps


def map_of(middle, membrane=0.9, cell=0.05):
    """Three rows, two cells of 2 x 3 pixels and a membrane between them with a weak pixel."""
    section = np.full((3, 5), cell)
    section[:, 2] = membrane
    section[1, 2] = middle
    return section


TRUTH = map_of(1, 1, 0) > 0


def scores(*sections, truth=TRUTH):
    return boundary_scores([compare_section(each, truth) for each in sections])


def test_scores_of_a_mask_with_a_gap_are_those_worked_out_by_hand():
    found = scores(map_of(0, 1, 0) > 0)

    # The cells are one: overlaps 6 and 6, F = 2 * 72 / (144 + 72).
    assert found.v_rand == pytest.approx(2 / 3)
    assert found.v_info == 0
    assert found.rand_error == pytest.approx(1 / 3)
    # The gap is one pixel of 15, and may not be flipped.
    assert found.pixel_error == pytest.approx(1 / 15)
    assert found.warping_error == found.challenge_warping_error == pytest.approx(1 / 15)
    # Cell pixels: 13 found, 12 true, 12 in common: F1 = 24 / 25.
    assert found.challenge_pixel_error == pytest.approx(1 / 25)
    assert set(found.thresholds.values()) == {None}


def test_a_map_is_judged_at_its_best_threshold():
    found = scores(map_of(middle=0.35))

    # Up to 0.3 the membrane is whole, above there is a gap, at 1.0 there is none.
    assert (found.v_rand, found.v_info, found.rand_error) == (1, 1, 0)
    assert found.warping_error == found.pixel_error == found.challenge_pixel_error == 0
    assert found.thresholds["v_rand"] == THRESHOLDS[0] == 0.1


def test_each_threshold_is_reached_by_probabilities_equal_to_it():
    agreements = compare_section(map_of(middle=0.5), TRUTH)

    assert [a.threshold for a in agreements if a.wrong == 0] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_thick_membrane_costs_nothing_after_thinning():
    thick = TRUTH.copy()
    thick[:, 1:4] = True

    found = scores(thick)

    assert (found.v_rand, found.v_info) == (1, 1)
    assert found.warping_error == 0
    # Without thinning, each cell is 3 pixels and 3 single ones: both = proposed = 2 * (9 + 3),
    # true = 2 * 36; F = 2 * 24 / (24 + 72).
    assert found.rand_error == pytest.approx(1 / 2)
    assert found.pixel_error == pytest.approx(6 / 15)


def test_v_rand_is_averaged_over_sections_and_the_rand_error_pools_their_pairs():
    found = scores(TRUTH, map_of(0, 1, 0) > 0)

    assert found.v_rand == pytest.approx((1 + 2 / 3) / 2)
    assert found.v_info == pytest.approx((1 + 0) / 2)
    # both 72 + 72, proposed 72 + 144, true 72 + 72: F = 2 * 144 / (216 + 144)
    assert found.rand_error == pytest.approx(1 - 0.8)
    assert found.pixel_error == pytest.approx(1 / 30)
    assert found.challenge_pixel_error == pytest.approx(1 - 2 * 24 / (25 + 24))


def test_the_best_threshold_is_that_of_the_stack_and_not_of_each_section():
    weak, dirty = map_of(0.35), map_of(0.9, cell=0.55)

    # weak is right up to 0.3, dirty from 0.6 on: no threshold suits both
    assert scores(weak).v_rand == scores(dirty).v_rand == 1
    assert scores(weak, dirty).v_rand < 1


def test_the_truth_agrees_with_itself():
    chance = np.random.default_rng(0)
    truth = chance.random((20, 20)) > 0.6

    found = scores(truth, truth=truth)

    assert (found.v_rand, found.v_info) == (pytest.approx(1), pytest.approx(1))
    assert found.rand_error == pytest.approx(0)
    assert found.warping_error == found.challenge_warping_error == found.pixel_error == 0
    assert found.challenge_pixel_error == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, False, True])
def test_a_constant_prediction_gets_finite_scores(value):
    found = scores(np.full((3, 5), value))

    for name, score in found.to_dict().items():
        assert name == "thresholds" or 0 <= score <= 1
    assert found.v_rand == pytest.approx(2 / 3)  # one segment, whichever the constant
    assert found.v_info == 0


def test_a_truth_without_cells_leaves_cell_scores_open():
    found = scores(np.ones((3, 5), bool), truth=np.ones((3, 5), bool))

    assert found.v_rand is found.v_info is found.rand_error is found.challenge_pixel_error is None
    assert found.warping_error == found.pixel_error == 0


def test_sections_without_cells_do_not_count_in_the_mean():
    blank = compare_section(np.ones((3, 5), bool), np.ones((3, 5), bool))

    assert boundary_scores([blank, compare_section(TRUTH, TRUTH)]).v_rand == 1


def test_boundary_scores_can_be_written_as_json():
    found = json.loads(json.dumps(scores(map_of(0.35)).to_dict()))

    assert BoundaryScores(**found) == scores(map_of(0.35))


def test_true_membranes_of_real_tissue_agree_with_themselves(real_data):
    path = real_data / "isbi2012" / "train-labels.tif"
    membrane = tifffile.imread(path, key=20)[:256, :256] == 0

    found = scores(membrane, truth=membrane)

    assert found.v_rand == pytest.approx(1)
    assert found.v_info == pytest.approx(1)
    assert found.warping_error == 0


# objects


def test_object_scores_of_a_split_are_those_worked_out_by_hand():
    found = object_scores(row(1, 1, 2, 2, 9), row(1, 1, 1, 1, 0))

    # Ordered pairs of different pixels: in both 2 + 2, predicted 2 + 2, true 4 * 3.
    assert (found.precision, found.recall) == (1, pytest.approx(4 / 12))
    assert found.arand == pytest.approx(1 - 2 * 4 / (4 + 12))
    # H(predicted | true): two halves, one bit
    assert (found.voi_split, found.voi_merge, found.voi) == (pytest.approx(1), 0, pytest.approx(1))
    assert (found.predicted_objects, found.true_objects) == (3, 1)


def test_object_scores_of_a_merger_are_those_worked_out_by_hand():
    found = object_scores(row(5, 5, 5, 5, 5), row(1, 1, 2, 2, 0))

    assert (found.precision, found.recall) == (pytest.approx(4 / 12), 1)
    assert found.arand == pytest.approx(0.5)
    assert (found.voi_split, found.voi_merge) == (0, pytest.approx(1))


def test_pixels_without_a_true_object_do_not_count():
    truth = row(1, 1, 2, 2, 0, 0)

    assert object_scores(row(3, 3, 4, 4, 8, 3), truth).arand == 0
    assert object_scores(row(3, 3, 4, 4, 0, 0), truth).voi == 0


def test_pixels_that_no_predicted_object_has_are_one_more():
    truth = row(1, 1, 2, 2)
    none, one = object_scores(row(0, 0, 0, 0), truth), object_scores(row(9, 9, 9, 9), truth)

    assert none.predicted_objects == 0
    assert none == replace(one, predicted_objects=0)


def test_objects_hang_together_over_sections():
    truth = np.array([[[1, 1]], [[1, 1]]])
    found = np.array([[[1, 1]], [[2, 2]]])

    # one object of 4 voxels, split between the sections
    assert object_scores(found, truth).recall == pytest.approx(4 / 12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_whole_numbers_name_objects(dtype):
    largest = np.iinfo(dtype).max
    truth = np.array([0, largest, largest, 3, 3], dtype)
    found = np.array([1, largest - 1, largest - 1, 7, 7], dtype)

    assert object_scores(found, truth).arand == 0


def test_the_adapted_rand_error_is_that_of_scikit_image():
    chance = np.random.default_rng(0)
    truth, found = chance.integers(0, 5, (2, 6, 20, 20))

    assert object_scores(found, truth).arand == pytest.approx(adapted_rand_error(truth, found)[0])


def test_precision_and_recall_make_the_adapted_rand_error():
    chance = np.random.default_rng(1)
    truth, found = chance.integers(0, 5, (2, 400))
    scores = object_scores(found, truth)

    f_score = 2 * scores.precision * scores.recall / (scores.precision + scores.recall)
    assert scores.arand == pytest.approx(1 - f_score)


def test_without_true_objects_there_are_no_object_scores():
    found = object_scores(row(1, 2), row(0, 0))

    assert found.arand is found.precision is found.voi is found.voi_merge is None
    assert (found.predicted_objects, found.true_objects) == (2, 0)


def test_objects_of_one_pixel_have_no_pairs():
    found = object_scores(row(1, 2), row(3, 4))

    assert found.arand is found.precision is found.recall is None
    assert found.voi == 0
    assert object_scores(row(1, 1), row(3, 4)).arand == 1


def test_objects_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 2\), the truth \(1, 3\)"):
        object_scores(row(1, 2), row(1, 2, 3))


def test_object_scores_can_be_written_as_json():
    assert json.loads(json.dumps(object_scores(row(1), row(1)).to_dict()))["voi"] == 0

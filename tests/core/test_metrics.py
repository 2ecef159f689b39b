import json

import numpy as np
import pytest

from napari_unet.core.metrics import class_scores, confusion_counts


def test_scores_are_those_worked_out_by_hand():
    truth = np.array([[2, 2, 2, 1], [1, 1, 1, 1]])
    found = np.array([[2, 2, 1, 2], [1, 1, 1, 1]])

    scores = class_scores(found, truth)

    # class 2: 2 right, 1 too many, 1 missed; class 1: 4 right, 1 too many, 1 missed
    assert scores[2].to_dict() == pytest.approx(
        {"f1": 2 / 3, "iou": 1 / 2, "dice": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "pixels": 3}
    )
    assert scores[1].f1 == pytest.approx(0.8)
    assert scores[1].iou == pytest.approx(4 / 6)
    assert scores[1].pixels == 5


def test_precision_and_recall_tell_too_much_from_too_little():
    truth, found = np.array([2, 1, 1, 1]), np.array([2, 2, 2, 1])

    scores = class_scores(found, truth)

    assert (scores[2].precision, scores[2].recall) == (pytest.approx(1 / 3), 1.0)
    assert (scores[1].precision, scores[1].recall) == (1.0, pytest.approx(1 / 3))


def test_pixels_that_nobody_annotated_do_not_count():
    truth, found = np.array([2, 1, 0, 0]), np.array([2, 1, 2, 1])

    scores = class_scores(found, truth)

    assert scores[2].f1 == scores[1].f1 == 1
    assert scores[1].pixels == scores[2].pixels == 1


def test_pixels_that_nobody_predicted_count_as_missed():
    scores = class_scores(np.array([0, 2]), np.array([2, 2]))

    assert (scores[2].recall, scores[2].precision) == (0.5, 1.0)


def test_a_class_that_was_not_predicted_has_no_precision():
    scores = class_scores(np.array([1, 1]), np.array([1, 2]))

    assert (scores[2].precision, scores[2].recall, scores[2].f1) == (None, 0, 0)


def test_a_class_that_is_not_in_the_truth_has_no_recall():
    scores = class_scores(np.array([1, 3]), np.array([1, 1]))

    assert (scores[3].recall, scores[3].precision, scores[3].pixels) == (None, 0, 0)
    assert set(scores) == {1, 3}


def test_without_annotated_pixels_there_are_no_scores():
    assert class_scores(np.array([1, 2]), np.array([0, 0])) == {}


def test_confusion_is_counted_by_true_and_predicted_class():
    found, truth = np.array([1, 2, 2, 0], np.uint8), np.array([1, 1, 2, 2], np.uint8)

    assert confusion_counts(found, truth, 2).tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), the truth \(3, 2\)"):
        class_scores(np.ones((2, 3), int), np.ones((3, 2), int))


def test_scores_can_be_written_as_json():
    scores = class_scores(np.array([1, 2], np.uint8), np.array([1, 1], np.uint8))

    assert json.loads(json.dumps(scores[1].to_dict()))["pixels"] == 2

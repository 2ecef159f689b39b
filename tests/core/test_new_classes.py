"""Classes that are new to the live head: rare ones, and those a network has only begun to learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.config import LiveConfig
from napari_unet.core.live import (
    NEW_CLASS_SCORE,
    Examples,
    LiveHead,
    fit_head,
    known_classes,
    learnt_head,
    with_expected_shares,
)
from tests.core.test_live import (
    PATIENT,
    drawn_examples,
    drawn_head,
    made,
    noise,
    probabilities,
    winning,
)


def denied(pixels=2000, seed=0):
    """A class of which a network is sure that there is none anywhere, and what is painted of it.

    Its pixels, a tenth, are brighter; class 2 lies in a third of the others, and is known.
    """
    chance = np.random.default_rng(seed)
    is_new = chance.random(pixels) < 0.1
    own = torch.tensor([[4.0, 0.0, -8.0]]).repeat(pixels, 1)
    own[chance.random(pixels) < 0.3] = torch.tensor([0.0, 4.0, -8.0])
    painted = torch.zeros(pixels, dtype=torch.long)
    painted[np.flatnonzero(is_new)[:60]] = 3
    painted[np.flatnonzero(~is_new)[:60]] = 1
    features = torch.from_numpy(chance.normal(3.0 * is_new)).float()[:, None]
    return Examples(features, own, painted, torch.ones(pixels)), is_new


def test_an_added_class_that_the_network_does_not_find_yet_is_new_to_the_head():
    examples, is_new = denied()

    of_all, of_two = (learnt_head([examples], 3, LiveConfig(), added=added) for added in (0, 1))

    assert (of_all.known, of_two.known) == ((1, 2, 3), (1, 2))
    recall = [called_new(head, examples)[is_new].mean() for head in (of_all, of_two)]
    assert recall[1] > recall[0] + 0.3
    unheard = replace(examples, own_scores=examples.own_scores[:, :2])
    never = learnt_head([unheard], 3, LiveConfig())
    torch.testing.assert_close(never.weights, of_two.weights)
    torch.testing.assert_close(
        never.point_scores(unheard.features, unheard.own_scores),
        of_two.point_scores(examples.features, examples.own_scores),
    )


def with_classes_swapped(examples):
    """The same, with the numbers of the third and the fourth class swapped."""
    order = torch.tensor([0, 1, 3, 2])
    numbers = torch.tensor([0, 1, 2, 4, 3])[examples.painted]
    return replace(examples, own_scores=examples.own_scores[:, order], painted=numbers)


def test_any_added_class_may_be_new_to_the_head_whichever_was_added_first():
    denied_one, is_new = denied()
    own = torch.cat([denied_one.own_scores, torch.full((len(is_new), 1), -8.0)], dim=1)
    others = np.flatnonzero(~is_new & (denied_one.painted.numpy() == 0))[:80]
    own[others, 3] = 8.0  # a fourth class, which the network finds
    painted = denied_one.painted.clone()
    painted[others[:40]] = 4
    examples = replace(denied_one, own_scores=own, painted=painted)

    first, last = (
        learnt_head([each], 4, LiveConfig(), added=2)
        for each in (examples, with_classes_swapped(examples))
    )

    assert (first.known, last.known) == ((1, 2, 4), (1, 2, 3))
    torch.testing.assert_close(first.weights[:, [0, 1, 3, 2]], last.weights, atol=1e-3, rtol=0)
    torch.testing.assert_close(first.bias[[0, 1, 3, 2]], last.bias, atol=1e-3, rtol=0)
    of_all = learnt_head([examples], 4, LiveConfig())
    recall = [called_new(head, examples)[is_new].mean() for head in (of_all, first)]
    assert recall[1] > recall[0] + 0.3


@pytest.mark.parametrize(
    ("painted", "found", "added", "known"),
    [
        ((40, 40), (40, 40), 2, (1, 2, 3, 4)),
        ((40, 40), (40, 4), 2, (1, 2, 3, 4)),
        ((40, 40), (40, 3), 2, (1, 2, 3)),
        ((40, 40), (3, 3), 2, (1, 2)),
        ((40, 40), (3, 3), 1, (1, 2, 3)),  # the third was learnt from the beginning
        ((40, 40), (3, 3), 0, (1, 2, 3, 4)),
        ((40, 40), (3, 4), 2, (1, 2, 4)),
        ((40, 0), (0, 0), 2, (1, 2, 4)),  # nothing is painted of the fourth by which to tell
        ((0, 40), (0, 0), 2, (1, 2, 3)),
    ],
)
def test_added_classes_are_known_once_a_tenth_of_what_is_painted_of_them_is_found(
    painted, found, added, known
):
    numbers = torch.zeros(200, dtype=torch.long)
    own = torch.zeros(200, 4)
    own[:, 0] = 1
    for column, (of_paint, of_network, place) in enumerate(
        zip(painted, found, (0, 100), strict=True)
    ):
        numbers[place : place + of_paint] = column + 3
        own[place + 50 : place + 50 + of_network, column + 2] = 2
    examples = Examples(torch.zeros(200, 1), own, numbers, torch.ones(200))

    assert known_classes(examples, added) == known
    # As often, if each stands for three of which one is painted.
    thrice = replace(examples, counts=examples.counts * 3)
    assert known_classes(thrice, added) == known


@pytest.mark.parametrize("magnification", [1.0, 0.8])
def test_it_makes_no_difference_which_class_of_a_network_is_new_to_the_head(magnification):
    features = replace(
        made(noise(4, 20, 24), noise(5, 20, 24), noise(2, 10, 12, seed=1)),
        magnification=magnification,
    )
    order = [0, 1, 3, 2]
    head = replace(drawn_head(features, 4), known=(1, 2, 4))
    other = LiveHead(head.weights[:, order], head.bias[order], (1, 2, 3))
    swapped = replace(features, own_scores=features.own_scores[order])
    rows, columns = (each.ravel() for each in np.mgrid[:20, :24])
    own, levels = features.at(rows, columns)

    scores = head.scores(features)

    torch.testing.assert_close(scores[order], other.scores(swapped))
    assert not torch.allclose(scores, replace(head, known=None).scores(features))
    torch.testing.assert_close(
        head.point_scores(torch.cat(levels, dim=1), own)[:, order],
        other.point_scores(torch.cat(levels, dim=1), own[:, order]),
    )


@pytest.mark.parametrize("classes", [3, 4])
def test_classes_that_are_new_to_the_head_are_drawn_as_it_learnt_them(classes):
    features = made(noise(3, 20, 24), noise(5, 20, 24), noise(2, 10, 12, seed=1))
    head = replace(drawn_head(features, classes), known=(1, 2))
    unheard = replace(features, own_scores=features.own_scores[:2])
    rows, columns = (each.ravel() for each in np.mgrid[:20, :24])
    own, levels = features.at(rows, columns)

    scores = head.scores(features)

    torch.testing.assert_close(scores, replace(head, known=None).scores(unheard))
    np.testing.assert_array_equal(head.most_probable(features), winning(scores))
    torch.testing.assert_close(
        head.point_scores(torch.cat(levels, dim=1), own).T,
        scores.flatten(1),
        atol=1e-4,
        rtol=1e-3,
    )
    assert head.grown(6).known == (1, 2)


TO_BEGIN_WITH = float(np.exp(-NEW_CLASS_SCORE) / (1 + np.exp(-NEW_CLASS_SCORE)))
"""How probable one new class is anywhere, before anything was painted."""


def rare_class(share=0.1, brighter=1.5, pixels=4000, seed=0):
    """Pixels of which a share is of class 3 and somewhat brighter, and a head that knows by how much.

    Its probabilities are right: those of two bells, one of which is as frequent as the share.
    """
    chance = np.random.default_rng(seed)
    is_new = chance.random(pixels) < share
    painted = torch.zeros(pixels, dtype=torch.long)
    painted[:10] = torch.tensor([1, 3] * 5)
    examples = Examples(
        torch.from_numpy(chance.normal(brighter * is_new)).float()[:, None],
        torch.tensor([[0.0, -20.0]]).repeat(pixels, 1),
        painted,
        torch.ones(pixels),
    )
    offset = np.log(share / (1 - share)) - brighter**2 / 2 + NEW_CLASS_SCORE
    bias = torch.tensor([0.0, 0.0, float(offset)])
    return examples, LiveHead(torch.tensor([[0.0, 0.0, brighter]]), bias), is_new


def called_new(head, examples):
    """Which pixels a head calls class 3."""
    scores = head.point_scores(examples.features, examples.own_scores)
    return scores.argmax(dim=1).numpy() + 1 == 3


def test_a_rare_class_is_found_as_often_as_its_probabilities_let_expect():
    examples, head, is_new = rare_class()
    before = called_new(head, examples)
    more_than_anywhere = (probabilities(head, examples)[:, 2] - TO_BEGIN_WITH).clamp(min=0)
    expected = float(more_than_anywhere.mean())
    assert before.mean() < expected - 0.01

    found = called_new(with_expected_shares(head, examples), examples)

    assert found[before].all()
    assert found.mean() == pytest.approx(expected, abs=0.01)
    f1_before, f1 = (2 * (x & is_new).sum() / (x.sum() + is_new.sum()) for x in (before, found))
    assert f1 > f1_before + 0.05


def test_pixels_that_stand_for_others_tell_as_much_of_how_frequent_a_class_is():
    examples, head, _ = rare_class()
    bright = examples.features[:, 0] > 1.5
    twice = replace(examples, counts=torch.where(bright, 2.0, 1.0))

    of_counts = with_expected_shares(head, twice)
    of_pixels = with_expected_shares(head, Examples.together([examples, examples.only(bright)]))

    torch.testing.assert_close(of_counts.bias, of_pixels.bias)
    assert of_counts.bias[2] != with_expected_shares(head, examples).bias[2]


def test_a_class_that_is_told_apart_without_doubt_stays_as_it_is():
    examples, head, is_new = rare_class(brighter=12.0)

    found = with_expected_shares(head, examples)

    assert torch.equal(found.bias, head.bias)
    np.testing.assert_array_equal(called_new(found, examples), is_new)


@pytest.mark.parametrize("classes", [3, 5])
def test_of_a_very_rare_class_no_more_is_found_because_new_classes_begin_probable(classes):
    pixels, rare = 4000, 8
    features = torch.from_numpy(noise(pixels, 1)) * 1e-3
    features[:rare] = 1
    painted = torch.zeros(pixels, dtype=torch.long)
    painted[: rare // 2] = 3
    examples = Examples(
        features, torch.tensor([[0.0, -20.0]]).repeat(pixels, 1), painted, torch.ones(pixels)
    )
    # It stands out by so much where it is, and is as probable as ever elsewhere.
    head = LiveHead(torch.tensor([[0.0, 0.0, 6.0]]), torch.zeros(3)).grown(classes)

    found = with_expected_shares(head, examples)

    assert float(probabilities(head, examples)[:, 2].mean()) > 10 * rare / pixels
    np.testing.assert_array_equal(called_new(found, examples), features[:, 0] == 1)


def test_classes_that_the_network_knows_or_nobody_painted_stay_as_frequent_as_they_are():
    examples, head, _ = rare_class()
    head = head.grown(5)
    examples.painted[10:20] = 2  # known; 4 and 5 are new and not painted

    found = with_expected_shares(head, examples)

    changed = (found.bias != head.bias).tolist()
    assert changed == [False, False, True, False, False]
    assert torch.equal(found.weights, head.weights)


def test_a_head_knows_the_classes_it_has_learnt_something_of():
    examples = drawn_examples(classes=3)
    head = fit_head(examples, 3, PATIENT)

    assert [head.grown(4).knows(number) for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert not head.knows(4)


def test_nothing_painted_of_a_new_class_changes_nothing():
    examples, head, _ = rare_class()
    examples.painted[:] = 0

    assert torch.equal(with_expected_shares(head, examples).bias, head.bias)


@pytest.mark.parametrize("value", [1e30, -1e30, float("nan")])
def test_features_beyond_all_measure_leave_the_bias_a_number(value):
    examples, head, _ = rare_class()
    examples.features[::3] = value

    assert with_expected_shares(head, examples).bias.isfinite().all()

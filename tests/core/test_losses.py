import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_unet.core.losses import (
    DOUBT_RADIUS,
    border_weights,
    cells_between,
    class_weights,
    memory_loss,
    painted_loss,
)


def three_cells():
    """Cells that nearly touch, another one further off, and space between them."""
    cells = np.zeros((40, 50), int)
    cells[5:20, 5:20] = 1
    cells[5:20, 23:40] = 2
    rows, columns = np.mgrid[:40, :50]
    cells[np.hypot(rows - 32, columns - 18) < 7] = 3
    return cells


def weights_by_the_formula(cells, w0, sigma):
    """Every distance measured one by one."""
    rows, columns = np.mgrid[: cells.shape[0], : cells.shape[1]]
    distances = []
    for number in np.unique(cells[cells > 0]):
        y, x = np.nonzero(cells == number)
        away = np.hypot(rows[..., None] - y, columns[..., None] - x)
        distances.append(away.min(axis=-1))
    d1, d2 = np.sort(distances, axis=0)[:2]
    return np.where(cells == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 2.0)])
def test_border_weights_are_those_of_the_formula(w0, sigma):
    cells = three_cells()

    found = border_weights(cells, w0, sigma)

    np.testing.assert_allclose(found, weights_by_the_formula(cells, w0, sigma), atol=1e-3 * w0)
    assert found.max() > 0.1 * w0


def test_border_weights_are_0_inside_cells():
    cells = three_cells()

    assert not border_weights(cells)[cells > 0].any()


def test_a_single_cell_has_no_border_to_another():
    assert not border_weights((three_cells() == 1).astype(int)).any()


def test_cells_are_what_the_border_class_leaves_between_it():
    painted = np.ones((5, 9), np.uint8)
    painted[:, 4] = 2

    cells = cells_between(painted, 2)

    assert not cells[:, 4].any()
    assert len(np.unique(cells[:, :4])) == len(np.unique(cells[:, 5:])) == 1
    assert cells[0, 0] != cells[0, 8]


def test_cells_that_touch_at_a_corner_only_are_two():
    painted = np.array([[1, 2], [2, 1]], np.uint8)

    assert len(np.unique(cells_between(painted, 2)[painted == 1])) == 2


@pytest.mark.parametrize(
    ("counts", "balance", "expected"),
    [
        ([3, 1], 0.0, [1, 1]),
        ([3, 1], 1.0, [2 / 3, 2]),
        ([1, 4], 0.5, [5**0.5 / (5**0.5 * 0.2 + 1.25**0.5 * 0.8), 1.25**0.5 / (
            5**0.5 * 0.2 + 1.25**0.5 * 0.8)]),
        ([3, 0, 1], 1.0, [2 / 3, 0, 2]),
        ([0, 0], 1.0, [0, 0]),
    ],
)  # fmt: skip
def test_class_weights_are_those_worked_out_by_hand(counts, balance, expected):
    np.testing.assert_allclose(class_weights(np.array(counts), balance), expected, rtol=1e-6)


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_class_weights_are_1_on_average_over_painted_pixels(balance):
    counts = np.array([500, 30, 0, 7])

    weights = class_weights(counts, balance)

    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def scores(seed=0):
    """Scores of 3 classes and painted pixels, a third of them not painted."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 6, 7), generator=generator)
    painted = torch.randint(0, 4, (2, 6, 7), generator=generator)
    return logits, painted


KINDS = ["cross-entropy", "dice", "cross-entropy+dice"]


@pytest.mark.parametrize("kind", KINDS)
def test_unpainted_pixels_change_neither_the_loss_nor_its_gradient(kind):
    logits, painted = scores()
    weights = torch.ones(painted.shape)
    unpainted = (painted == 0)[:, None].expand(logits.shape)
    other = torch.where(unpainted, 100 * torch.randn(logits.shape), logits)
    found = []
    for each in (logits, other):
        each = each.clone().requires_grad_()
        loss = painted_loss(kind, each, painted, weights)
        loss.backward()
        assert not each.grad[unpainted].any()
        assert each.grad[~unpainted].any()
        found.append((loss.detach(), each.grad))

    (loss, gradient), (other_loss, other_gradient) = found
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)


def test_on_fully_painted_pixels_the_loss_is_the_cross_entropy_of_torch():
    logits, painted = scores()
    painted = painted.clamp(min=1)

    found = painted_loss("cross-entropy", logits, painted, torch.ones(painted.shape))

    torch.testing.assert_close(found, functional.cross_entropy(logits, painted - 1))


def test_heavier_pixels_count_for_more():
    logits, painted = scores()
    painted = painted.clamp(min=1)
    class_weight = torch.tensor([0.0, 1.0, 5.0, 0.5])

    found = painted_loss("cross-entropy", logits, painted, class_weight[painted])

    expected = functional.cross_entropy(logits, painted - 1, weight=class_weight[1:])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_answer_costs_little_and_a_wrong_one_much(kind):
    _, painted = scores()
    weights = torch.ones(painted.shape)
    right = 20 * functional.one_hot((painted - 1).clamp(min=0), 3).movedim(-1, 1).float()

    assert painted_loss(kind, right, painted, weights) < 1e-3
    assert painted_loss(kind, -right, painted, weights) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_without_paint_costs_nothing(kind):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    nothing = torch.zeros(1, 4, 4)

    loss = painted_loss(kind, logits, nothing.long(), nothing)
    loss.backward()

    assert loss == 0
    assert not logits.grad.any()


def test_both_losses_together_are_their_sum():
    logits, painted = scores()
    weights = torch.ones(painted.shape)

    both, *each = (painted_loss(k, logits, painted, weights) for k in (KINDS[2], *KINDS[:2]))

    torch.testing.assert_close(both, sum(each))


def test_memory_loss_is_zero_while_nothing_has_changed() -> None:
    logits = torch.randn((1, 3, 40, 40), generator=torch.Generator().manual_seed(0)) * 5
    painted = torch.zeros((1, 40, 40), dtype=torch.int64)
    assert float(memory_loss(logits, logits, painted)) == pytest.approx(0, abs=1e-6)


def test_memory_loss_counts_only_sure_opinions_away_from_contradicting_paint() -> None:
    remembered = torch.zeros((1, 2, 1, 100))
    remembered[:, 0, :, :60] = 10.0  # sure of class 1; of the rest it is not sure
    painted = torch.zeros((1, 1, 100), dtype=torch.int64)
    painted[..., 50] = 2  # contradicts it
    logits = remembered.clone().requires_grad_()
    moved = logits + torch.tensor([0.0, 12.0])[None, :, None, None]
    (gradient,) = torch.autograd.grad(memory_loss(moved, remembered, painted), logits)
    held = gradient.abs().sum(dim=(0, 1, 2)) > 1e-6
    assert held[: 50 - DOUBT_RADIUS].all()
    assert not held[50 - DOUBT_RADIUS :].any()


def test_paint_that_agrees_with_the_network_casts_no_doubt_around_it() -> None:
    remembered = torch.zeros((1, 2, 1, 100))
    remembered[:, 0] = 10.0
    painted = torch.zeros((1, 1, 100), dtype=torch.int64)
    painted[..., 50] = 1
    logits = remembered.clone().requires_grad_()
    moved = logits + torch.tensor([0.0, 12.0])[None, :, None, None]
    (gradient,) = torch.autograd.grad(memory_loss(moved, remembered, painted), logits)
    held = gradient.abs().sum(dim=(0, 1, 2)) > 1e-6
    assert held[:50].all()
    assert held[51:].all()
    assert not held[50]


def logits_of(*probabilities):
    """Scores (1, classes, 1, 1) of one pixel with these probabilities, give or take a constant."""
    return (torch.tensor(probabilities).log() + 0.7)[None, :, None, None]


def one_pixel(number):
    return torch.tensor([[[number]]]), torch.ones(1, 1, 1)


MITOCHONDRIA_UNLABELLED = torch.zeros(1, 255, dtype=torch.bool)
MITOCHONDRIA_UNLABELLED[0, 2] = True


@pytest.mark.parametrize(
    ("painted", "probability"),
    [(1, 0.5 + 0.2), (2, 0.3)],
    ids=["background", "another class"],
)
def test_an_unlabelled_class_counts_as_background_as_worked_out_by_hand(painted, probability):
    found = painted_loss(
        "cross-entropy", logits_of(0.5, 0.3, 0.2), *one_pixel(painted), MITOCHONDRIA_UNLABELLED
    )

    assert found.item() == pytest.approx(-np.log(probability), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_finding_an_unlabelled_class_in_the_background_costs_nothing(kind):
    found = painted_loss(kind, logits_of(1e-4, 1e-6, 1.0), *one_pixel(1), MITOCHONDRIA_UNLABELLED)
    told = painted_loss(kind, logits_of(1e-4, 1e-6, 1.0), *one_pixel(1))

    assert found < 1e-5
    assert told > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_unlabelled_class_is_part_of_the_background_in_every_loss(kind):
    logits, painted = scores()
    painted[painted == 3] = 1
    weights = torch.rand(painted.shape)
    probabilities = logits.softmax(dim=1)
    merged = torch.stack([probabilities[:, 0] + probabilities[:, 2], probabilities[:, 1]], dim=1)

    found = painted_loss(kind, logits, painted, weights, MITOCHONDRIA_UNLABELLED.expand(2, -1))

    torch.testing.assert_close(found, painted_loss(kind, merged.log(), painted, weights))


@pytest.mark.parametrize("kind", KINDS)
def test_where_every_class_is_labelled_nothing_changes(kind):
    logits, painted = scores()
    weights = torch.rand(painted.shape)
    nothing = torch.zeros(2, 255, dtype=torch.bool)

    torch.testing.assert_close(
        painted_loss(kind, logits, painted, weights, nothing),
        painted_loss(kind, logits, painted, weights),
    )


def test_patches_in_which_a_class_is_labelled_are_judged_as_before():
    logits = logits_of(0.5, 0.3, 0.2).repeat(2, 1, 1, 1)
    painted, weights = (each.repeat(2, 1, 1) for each in one_pixel(1))
    unlabelled = torch.cat([MITOCHONDRIA_UNLABELLED, ~MITOCHONDRIA_UNLABELLED & False])

    found = painted_loss("cross-entropy", logits, painted, weights, unlabelled)

    assert found.item() == pytest.approx(-(np.log(0.7) + np.log(0.5)) / 2, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_with_unlabelled_classes_is_finite(kind, scale):
    logits, painted = scores()
    painted[painted == 3] = 1
    logits = (logits * scale).requires_grad_()

    loss = painted_loss(
        kind, logits, painted, torch.ones(painted.shape), MITOCHONDRIA_UNLABELLED.expand(2, -1)
    )
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_background_that_was_missed_may_be_found_as_the_unlabelled_class():
    logits = logits_of(0.1, 0.8, 0.1).requires_grad_()

    painted_loss("cross-entropy", logits, *one_pixel(1), MITOCHONDRIA_UNLABELLED).backward()

    background, membrane, mitochondrion = logits.grad.flatten()
    assert background == mitochondrion < 0 < membrane

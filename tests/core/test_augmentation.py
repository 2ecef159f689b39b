import numpy as np
import pytest
import torch

from napari_unet.core.augmentation import (
    augment,
    elastic_displacements,
    mean_step,
    sampling_positions,
    vary_grey,
)
from napari_unet.core.config import AugmentationConfig
from tests.examples import UNVARIED, bright_discs


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def patch(piece, size, config, generator, magnification=1.0):
    """A varied patch from the centre of a piece."""
    positions = sampling_positions(size, config, generator, magnification)
    return augment(*piece, positions, config, generator)


def piece(side, seed=0):
    """Grey values, classes and weights of a fully painted piece; grey is the class number."""
    labels = torch.from_numpy(bright_discs(1, side, seed)[1][0])
    return labels[None].float(), labels, torch.ones(labels.shape)


@pytest.mark.parametrize("nodes", [3, 5])
def test_elastic_displacements_have_the_set_deviation_at_their_nodes(nodes):
    size = 4 * (nodes - 1) + 1
    generator = chance()

    drawn = torch.stack(
        [elastic_displacements(size, 10.0, nodes, generator)[:, ::4, ::4] for _ in range(300)]
    )

    assert drawn.shape == (300, 2, nodes, nodes)
    assert drawn.std().item() == pytest.approx(10, rel=0.05)
    assert drawn.mean().item() == pytest.approx(0, abs=0.5)


def test_elastic_displacements_are_smooth():
    fine = elastic_displacements(129, 10.0, 3, chance())

    slope = fine.diff(dim=-1).abs().max()
    assert slope < 10 * 6 / 64  # nodes lie 64 pixels apart
    assert fine.diff(n=2, dim=-1).abs().max() < slope / 8


def test_the_same_seed_gives_the_same_patch():
    config = AugmentationConfig()

    first, same, other = (patch(piece(90), 32, config, chance(seed)) for seed in (1, 1, 2))

    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])


def test_without_variation_a_patch_is_the_centre_of_its_piece():
    grey, painted = torch.rand(1, 34, 34), torch.randint(0, 5, (34, 34))
    weights = torch.rand(34, 34)

    found = patch((grey, painted, weights), 32, UNVARIED, chance())

    inner = (slice(1, 33),) * 2
    torch.testing.assert_close(found[0][0], grey[0][inner], atol=1e-4, rtol=0)
    assert torch.equal(found[1], painted[inner])
    torch.testing.assert_close(found[2], weights[inner], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "spatial",
    [{"rotation": 180.0}, {"scale": 0.3}, {"elastic": 4.0}, {"mirror": True}],
    ids=lambda each: next(iter(each)),
)
def test_grey_values_and_classes_stay_aligned(spatial):
    config = UNVARIED.replace(**spatial)
    for seed in range(4):
        grey, painted, _ = patch(piece(100, seed), 48, config, chance(seed))
        # at the rim of a disc the grey value lies between the two classes
        assert (grey[0] - painted).abs().max() <= 0.75 + 1e-3
        assert (grey[0] - painted).abs().mean() < 0.1
        assert len(painted.unique()) == 2


def test_classes_only_take_values_that_were_there():
    config = AugmentationConfig()
    painted = torch.zeros(120, 120, dtype=torch.uint8)
    painted[::3] = 2
    painted[::7] = 200

    found = patch((torch.zeros(1, 120, 120), painted, torch.ones(120, 120)), 40, config, chance())

    assert found[1].dtype == torch.int64
    assert set(found[1].unique().tolist()) == {0, 2, 200}


def test_mirrored_patches_come_in_all_four_ways():
    config = UNVARIED.replace(mirror=True)
    grey = torch.arange(36.0).reshape(1, 6, 6)
    zeros = torch.zeros(6, 6)
    generator = chance()

    corners = {
        round(patch((grey, zeros, zeros), 4, config, generator)[0][0, 0, 0].item())
        for _ in range(40)
    }

    assert corners == {7, 10, 25, 28}


def test_rotation_stays_within_its_limits():
    config = UNVARIED.replace(rotation=90.0)
    generator = chance()
    angles = []
    for _ in range(200):
        right = sampling_positions(3, config, generator)[:, 1, 2].numpy()
        angles.append(np.degrees(np.arctan2(right[0], right[1])))

    assert -90 <= min(angles) < -80
    assert 80 < max(angles) <= 90


def test_scale_stays_within_its_limits():
    config = UNVARIED.replace(scale=0.25)
    generator = chance()

    steps = [
        (sampling_positions(3, config, generator)[0].diff(dim=0)[0, 0]).item() for _ in range(200)
    ]

    assert 1 / 1.25 <= min(steps) < 0.83
    assert 1.2 < max(steps) <= 1.25 + 1e-6


@pytest.mark.parametrize(
    "grey_change",
    [
        {"contrast": 0.5},
        {"gamma": 0.5},
        {"brightness": 0.5},
        {"noise": 0.5},
        {"blur": 4.0},
        {"inversion": 1.0},
    ],
    ids=lambda each: next(iter(each)),
)
def test_grey_variation_leaves_classes_and_weights_alone(grey_change):
    config = UNVARIED.replace(**grey_change)
    grey, painted, weights = piece(34)

    found = [patch((grey, painted, weights), 32, config, chance(seed)) for seed in range(4)]

    inner = (slice(1, 33),) * 2
    assert any(not torch.allclose(each[0][0], grey[0][inner], atol=1e-2) for each in found)
    for each in found:
        assert torch.equal(each[1], painted[inner].long())
        torch.testing.assert_close(each[2], weights[inner])


def test_changed_grey_values_keep_their_order():
    config = UNVARIED.replace(contrast=0.5, gamma=0.5, brightness=0.5)
    grey = torch.linspace(-3, 3, 34).expand(1, 34, 34)
    zeros = torch.zeros(34, 34)

    for seed in range(10):
        found = patch((grey, zeros, zeros), 32, config, chance(seed))[0][0, 0]
        assert (found.diff() >= -1e-5).all()


def steps_of(config, count, magnification=1.0):
    """How many pixels lie between two neighbours of each of many patches."""
    generator = chance()
    return np.array(
        [mean_step(sampling_positions(4, config, generator, magnification)) for _ in range(count)]
    )


def test_half_of_the_patches_are_coarser_within_the_limit():
    steps = steps_of(UNVARIED.replace(coarser=3.0), 400)

    assert steps.min() >= 1 - 1e-5
    assert 2.9 < steps.max() <= 3 + 1e-5
    touched = steps > 1 + 1e-5
    assert touched.mean() == pytest.approx(0.5, abs=0.08)
    # spread evenly over the ratio: as many below the root of the limit as above
    assert np.median(steps[touched]) == pytest.approx(3**0.5, rel=0.1)


def test_coarser_pixels_come_on_top_of_the_change_of_scale():
    steps = steps_of(UNVARIED.replace(coarser=2.0, scale=0.25), 400)

    assert 1 / 1.25 - 1e-5 <= steps.min() < 0.85
    assert 2.2 < steps.max() <= 2.5 + 1e-5


@pytest.mark.parametrize("magnification", [0.5, 1.7])
def test_magnification_divides_the_positions(magnification):
    config = AugmentationConfig(coarser=2.0)

    plain = sampling_positions(16, config, chance(3))
    magnified = sampling_positions(16, config, chance(3), magnification)

    torch.testing.assert_close(magnified, plain / magnification)


def test_the_mean_step_is_that_of_scale_and_magnification_alone():
    config = UNVARIED.replace(rotation=180.0, mirror=True)

    np.testing.assert_allclose(steps_of(config, 10, magnification=0.4), 2.5, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dark_and_bright_are_exchanged_in_the_set_share_of_patches(share):
    config = UNVARIED.replace(inversion=share)
    grey = torch.linspace(-3, 3, 9)[None, None]
    generator = chance()

    found = [vary_grey(grey, config, generator) for _ in range(300)]

    inverted = [torch.allclose(each, -grey, atol=1e-6) for each in found]
    kept = [torch.allclose(each, grey, atol=1e-6) for each in found]
    assert sum(inverted) + sum(kept) == 300
    assert np.mean(inverted) == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_half_of_the_patches_are_blurred_up_to_the_set_deviation():
    config = UNVARIED.replace(blur=2.0)
    grey = torch.zeros(1, 41, 41)
    grey[0, 20, 20] = 2.0  # a point, as wide as the blur afterwards
    away = (torch.arange(41) - 20.0).square()
    generator = chance()

    found = [vary_grey(grey, config, generator)[0] for _ in range(300)]

    deviations = np.array([((p.sum(dim=0) * away).sum() / p.sum()).sqrt() for p in found])
    touched = deviations > 0.01
    assert touched.mean() == pytest.approx(0.5, abs=0.08)
    assert 1.8 < deviations.max() <= 2.0
    assert np.median(deviations[touched]) == pytest.approx(1, abs=0.2)
    assert all(p.sum().item() == pytest.approx(2, rel=1e-4) for p in found)


def test_a_pattern_too_fine_for_coarse_steps_becomes_grey():
    rows, columns = torch.meshgrid(*[torch.arange(91)] * 2, indexing="ij")
    checkers = ((rows + columns) % 2 * 2 - 1)[None].float()
    zeros = torch.zeros(91, 91)

    for size in (16, 17):  # read on pixels, and between them
        found = patch((checkers, zeros, zeros), size, UNVARIED, chance(), magnification=0.25)[0]
        assert found.abs().max() < 0.01
    assert patch((checkers, zeros, zeros), 17, UNVARIED, chance())[0].abs().min() > 0.99


def test_what_is_coarse_enough_survives_coarse_steps():
    stripes = (torch.arange(131) // 16 % 2 * 2 - 1).expand(1, 131, 131).float()
    zeros = torch.zeros(131, 131)

    found = patch((stripes, zeros, zeros), 30, UNVARIED, chance(), magnification=0.25)[0]

    assert found.abs().mean() > 0.8

import numpy as np
import pytest
import torch

from napari_unet.core.augmentation import (
    augment,
    elastic_displacements,
    reach,
    sampling_positions,
)
from napari_unet.core.config import AugmentationConfig
from tests.examples import UNVARIED, bright_discs


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


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

    first, same, other = (augment(*piece(90), 32, config, chance(seed)) for seed in (1, 1, 2))

    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])


def test_without_variation_a_patch_is_the_centre_of_its_piece():
    grey, painted = torch.rand(1, 34, 34), torch.randint(0, 5, (34, 34))
    weights = torch.rand(34, 34)

    found = augment(grey, painted, weights, 32, UNVARIED, chance())

    inner = (slice(1, 33),) * 2
    torch.testing.assert_close(found[0][0], grey[0][inner], atol=1e-4, rtol=0)
    assert torch.equal(found[1], painted[inner])
    torch.testing.assert_close(found[2], weights[inner], atol=1e-4, rtol=0)
    assert reach(32, UNVARIED) == 34


@pytest.mark.parametrize(
    "spatial",
    [{"rotation": 180.0}, {"scale": 0.3}, {"elastic": 4.0}, {"mirror": True}],
    ids=lambda each: next(iter(each)),
)
def test_grey_values_and_classes_stay_aligned(spatial):
    config = UNVARIED.replace(**spatial)
    side = reach(48, config)
    for seed in range(4):
        grey, painted, _ = augment(*piece(side, seed), 48, config, chance(seed))
        # at the rim of a disc the grey value lies between the two classes
        assert (grey[0] - painted).abs().max() <= 0.75 + 1e-3
        assert (grey[0] - painted).abs().mean() < 0.1
        assert len(painted.unique()) == 2


def test_classes_only_take_values_that_were_there():
    config = AugmentationConfig()
    painted = torch.zeros(120, 120, dtype=torch.uint8)
    painted[::3] = 2
    painted[::7] = 200

    found = augment(torch.zeros(1, 120, 120), painted, torch.ones(120, 120), 40, config, chance())

    assert found[1].dtype == torch.int64
    assert set(found[1].unique().tolist()) == {0, 2, 200}


def test_mirrored_patches_come_in_all_four_ways():
    config = UNVARIED.replace(mirror=True)
    grey = torch.arange(36.0).reshape(1, 6, 6)
    zeros = torch.zeros(6, 6)
    generator = chance()

    corners = {
        round(augment(grey, zeros, zeros, 4, config, generator)[0][0, 0, 0].item())
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
    "config",
    [
        UNVARIED,
        UNVARIED.replace(rotation=45.0),
        UNVARIED.replace(rotation=180.0, scale=0.3),
        UNVARIED.replace(elastic=3.0),
    ],
)
def test_a_patch_is_read_from_within_its_piece(config):
    half = (reach(64, config) - 1) / 2
    for seed in range(20):
        beyond = sampling_positions(64, config, chance(seed)).abs() > half
        # Gaussian displacements have no limit; two deviations hold nearly all of them.
        assert beyond.float().mean() <= (0.05 if config.elastic else 0)


@pytest.mark.parametrize("what", ["contrast", "brightness", "noise"])
def test_grey_variation_leaves_classes_and_weights_alone(what):
    config = UNVARIED.replace(**{what: 0.5})
    grey, painted, weights = piece(34)

    found = augment(grey, painted, weights, 32, config, chance(3))

    assert not torch.allclose(found[0][0], grey[0, 1:33, 1:33], atol=1e-2)
    assert torch.equal(found[1], painted[1:33, 1:33].long())
    torch.testing.assert_close(found[2], weights[1:33, 1:33])


def test_changed_grey_values_keep_their_order():
    config = UNVARIED.replace(contrast=0.5, brightness=0.5)
    grey = torch.linspace(-3, 3, 34).expand(1, 34, 34)
    zeros = torch.zeros(34, 34)

    for seed in range(10):
        found = augment(grey, zeros, zeros, 32, config, chance(seed))[0][0, 0]
        assert (found.diff() >= -1e-5).all()

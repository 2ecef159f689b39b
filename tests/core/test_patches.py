import numpy as np
import pytest
import torch

from napari_unet.core.annotations import Annotations, annotations_from_array, class_table
from napari_unet.core.config import AugmentationConfig, NetworkConfig, TrainingConfig
from napari_unet.core.image import grey_statistics, image_from_array
from napari_unet.core.patches import PatchSampler
from tests.examples import TINY_NETWORK, UNVARIED

MEMBRANES = class_table(["background", "membrane"])
VALID = NetworkConfig(depth=2, width=4)


def sampler(painted, config=None, network=TINY_NETWORK, classes=MEMBRANES, grey=None):
    """Patches of a stack whose grey values are noise unless they are given."""
    if grey is None:
        grey = np.random.default_rng(0).integers(0, 256, painted.shape).astype(np.uint8)
    image = image_from_array(grey)
    return PatchSampler(
        image,
        grey_statistics(image),
        annotations_from_array(painted, classes),
        config or TrainingConfig(patch_size=32, augmentation=UNVARIED),
        network,
        torch.device("cpu"),
    )


def cells():
    """A fully painted section of four cells and a membrane between them."""
    painted = np.ones((64, 64), np.uint8)
    painted[31:33] = painted[:, 31:33] = 2
    return painted


def test_patches_have_the_set_size_and_types():
    batch = sampler(cells()).draw(3)

    assert batch.grey.shape == (3, 1, 32, 32)
    assert batch.painted.shape == batch.weights.shape == (3, 32, 32)
    assert (batch.grey.dtype, batch.painted.dtype) == (torch.float32, torch.int64)


def test_every_painted_class_is_drawn():
    painted = np.zeros((3, 80, 80), np.uint8)
    painted[0] = 1
    painted[1, 40, 40] = 2
    painted[2, :2, :2] = 3
    source = sampler(painted, TrainingConfig(patch_size=32, augmentation=AugmentationConfig()))

    seen = source.draw(30).painted

    with_class = {n: sum(bool((patch == n).any()) for patch in seen) for n in (1, 2, 3)}
    assert all(count >= 4 for count in with_class.values()), with_class


def test_every_patch_holds_paint():
    painted = np.zeros((200, 200), np.uint8)
    painted[20:23, 30] = 1
    painted[190, 190:193] = 2
    source = sampler(painted)

    assert all(bool(patch.any()) for patch in source.draw(20).painted)


def test_unpainted_pixels_stay_unpainted_and_have_no_weight():
    painted = np.zeros((80, 80), np.uint8)
    painted[:, 40:] = 1
    painted[:, 60:] = 2

    batch = sampler(painted).draw(10)

    assert (batch.painted == 0).any()
    assert not batch.weights[batch.painted == 0].any()
    assert (batch.weights[batch.painted > 0] > 0).all()


def test_patches_lie_where_their_grey_values_are():
    painted = cells()
    source = sampler(painted, grey=painted * 100)

    batch = source.draw(6)

    bright = batch.grey[:, 0] > 0
    assert torch.equal(bright, batch.painted == 2)


def test_a_network_without_padding_gets_more_grey_than_paint():
    config = TrainingConfig(patch_size=84, augmentation=UNVARIED)
    painted = cells()

    batch = sampler(painted, config, VALID, grey=painted * 100).draw(2)

    assert batch.grey.shape == (2, 1, 84, 84)
    assert batch.painted.shape == (2, 44, 44)
    # the painted part is the centre
    assert torch.equal(batch.grey[:, 0, 20:-20, 20:-20] > 0, batch.painted == 2)


def test_the_patch_size_is_fitted_to_the_network():
    config = TrainingConfig(patch_size=33, augmentation=UNVARIED)

    assert sampler(cells(), config).draw(1).grey.shape[-1] == 36
    assert sampler(cells(), config, VALID).draw(1).painted.shape[-1] >= 1


def test_borders_between_cells_weigh_more_on_fully_painted_sections_only():
    config = TrainingConfig(
        patch_size=64, augmentation=UNVARIED, class_balance=0.0, border_weight=10.0
    )
    painted = cells()

    full = sampler(painted, config).draw(4)
    painted[0, 0] = 0
    with pytest.warns(UserWarning, match="No section is annotated completely"):
        partly = sampler(painted, config).draw(4)

    # two pixels wide, each one or two pixels away from the two cells
    assert full.weights[full.painted == 2].min() > 5
    assert full.weights[full.painted == 1].max() < 1.01
    assert (partly.weights[partly.painted > 0] == 1).all()


def test_where_no_class_parts_the_cells_the_background_does():
    config = TrainingConfig(
        patch_size=64, augmentation=UNVARIED, class_balance=0.0, border_weight=10.0
    )
    inverted = 3 - cells()  # cells are class 2, what lies between them is the background

    found = sampler(inverted, config, classes=class_table(["background", "cell"])).draw(4)

    assert found.weights[found.painted == 1].min() > 5
    assert found.weights[found.painted == 2].max() < 1.01


def test_rare_classes_weigh_more_when_classes_are_balanced():
    config = TrainingConfig(patch_size=64, augmentation=UNVARIED, class_balance=1.0)

    batch = sampler(cells(), config).draw(2)

    share = (cells() == 2).mean()
    rare, frequent = (batch.weights[batch.painted == n].unique() for n in (2, 1))
    torch.testing.assert_close(rare, torch.tensor([0.5 / share], dtype=torch.float32))
    torch.testing.assert_close(frequent, torch.tensor([0.5 / (1 - share)], dtype=torch.float32))


def test_the_same_seed_draws_the_same_patches():
    first, same = (sampler(cells()).draw(3) for _ in range(2))
    other = sampler(cells(), TrainingConfig(seed=1, patch_size=32, augmentation=UNVARIED)).draw(3)

    assert torch.equal(first.grey, same.grey)
    assert torch.equal(first.painted, same.painted)
    assert not torch.equal(first.grey, other.grey)


def test_what_is_painted_later_is_drawn_after_an_update():
    painted = np.zeros((2, 64, 64), np.uint8)
    painted[0, :32], painted[0, 32:] = 1, 2
    source = sampler(painted)
    before = source.draw(8).painted
    painted[1] = 3

    source.update(annotations_from_array(painted, MEMBRANES))

    assert not (before == 3).any()
    assert (source.draw(8).painted == 3).any()


def test_what_was_erased_is_not_drawn_any_more():
    painted = np.zeros((2, 64, 64), np.uint8)
    painted[0, :32], painted[0, 32:], painted[1] = 1, 2, 3
    source = sampler(painted)
    kept = {(0,): painted[0]}

    source.update(Annotations(class_table(["a", "b", "c"]), kept))

    assert not (source.draw(8).painted == 3).any()

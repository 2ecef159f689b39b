import numpy as np
import pytest

from napari_unet.core.synthetic import CLASSES, synthetic_stack


@pytest.fixture(scope="module")
def stack():
    return synthetic_stack(3, 256, seed=0)


def test_a_synthetic_stack_has_the_set_size(stack):
    grey, labels = stack

    assert grey.shape == labels.shape == (3, 256, 256)
    assert grey.dtype == labels.dtype == np.uint8


def test_the_same_seed_gives_the_same_stack():
    first, same, other = (synthetic_stack(1, 96, seed) for seed in (3, 3, 4))

    assert np.array_equal(first[0], same[0])
    assert np.array_equal(first[1], same[1])
    assert not np.array_equal(first[0], other[0])


def test_every_pixel_has_a_class_and_every_class_is_there(stack):
    found, counts = np.unique(stack[1], return_counts=True)

    assert found.tolist() == [1, 2, 3, 4]
    assert len(CLASSES) == 4
    assert counts.min() > 500


def test_structures_are_darker_than_the_cell_around_them(stack):
    grey, labels = stack
    background, membrane, mitochondrion = (grey[labels == n].mean() for n in (1, 2, 3))

    assert membrane < background - 40
    assert mitochondrion < background - 20


def test_grey_values_are_noisy_and_seldom_saturated(stack):
    grey, labels = stack

    assert grey[labels == 1].std() > 8
    assert np.isin(grey, (0, 255)).mean() < 0.02


def test_neighbouring_sections_are_alike_but_not_the_same(stack):
    membranes = stack[1] == 2
    near = (membranes[0] & membranes[1]).sum() / membranes[0].sum()

    assert membranes.mean() + 0.1 < near < 0.98

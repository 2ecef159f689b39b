import numpy as np
import pytest
import torch

from napari_unet.core.annotations import Annotations, annotations_from_array, class_table
from napari_unet.core.config import AugmentationConfig, NetworkConfig, TrainingConfig
from napari_unet.core.held_out import parted
from napari_unet.core.image import GreyStatistics, grey_statistics, image_from_array
from napari_unet.core.patches import LabelledImage, PatchSampler
from tests.examples import TINY_NETWORK, UNVARIED

MEMBRANES = class_table(["background", "membrane"])
VALID = NetworkConfig(depth=2, width=4)


def sampler_of(sources, magnifications=None, config=None, network=TINY_NETWORK, replay=0.0):
    return PatchSampler(
        sources,
        magnifications or [1.0] * len(sources),
        config or TrainingConfig(patch_size=32, augmentation=UNVARIED),
        network,
        torch.device("cpu"),
        replay,
    )


def sampler(painted, config=None, network=TINY_NETWORK, classes=MEMBRANES, grey=None):
    """Patches of a stack whose grey values are noise unless they are given."""
    if grey is None:
        grey = np.random.default_rng(0).integers(0, 256, painted.shape).astype(np.uint8)
    image = image_from_array(grey)
    source = LabelledImage(
        image, annotations_from_array(painted, classes), statistics=grey_statistics(image)
    )
    return sampler_of([source], config=config, network=network)


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
    augmentation = AugmentationConfig(elastic=2.0)
    source = sampler(painted, TrainingConfig(patch_size=32, augmentation=augmentation))

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


def test_borders_between_cells_weigh_more_where_all_around_is_painted_only():
    config = TrainingConfig(
        patch_size=64, augmentation=UNVARIED, class_balance=0.0, border_weight=10.0
    )
    painted = cells()

    full = sampler(painted, config).draw(4)
    painted[0, 0] = 0  # farther from every border than the weights of another cell would reach
    but_a_corner = sampler(painted, config).draw(4)
    painted[31, 31] = 0
    but_the_middle = sampler(painted, config).draw(4)
    painted[::20, ::20] = 0
    with pytest.warns(UserWarning, match="all within 19 pixels of a border must be annotated"):
        nowhere = sampler(painted, config).draw(4)

    # two pixels wide, each one or two pixels away from the two cells
    for each in (full, but_a_corner):
        assert each.weights[each.painted == 2].min() > 5
        assert each.weights[each.painted == 1].max() < 1.01
    borders = but_the_middle.weights[but_the_middle.painted == 2]
    # at each of four ends, twelve of thirty-one pixels
    assert 0.2 < (borders > 5).float().mean() < 0.6
    assert (borders == 1).float().mean() > 0.4
    assert (nowhere.weights[nowhere.painted > 0] == 1).all()


def test_borders_weigh_more_also_where_a_cell_is_held_out():
    config = TrainingConfig(
        patch_size=64, augmentation=UNVARIED, class_balance=0.0, border_weight=10.0
    )
    strokes = parted(annotations_from_array(cells()[None], MEMBRANES))
    assert (0,) in strokes.held_out.sections

    batch = sampler(strokes.learnt.sections[0,], config).draw(4)

    assert batch.weights[batch.painted == 2].max() > 5


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


def test_a_share_of_the_patches_comes_from_anywhere():
    painted = np.zeros((4, 64, 64), np.uint8)
    painted[1, :4, :4], painted[1, 8:12, :4] = 1, 2
    grey = np.broadcast_to(np.arange(0, 256, 64)[:, None, None], painted.shape).astype(np.uint8)
    image = image_from_array(grey)
    statistics = GreyStatistics(0.0, 1.0, 0.0)
    source = LabelledImage(image, annotations_from_array(painted, MEMBRANES), statistics=statistics)

    batch = sampler_of([source], replay=0.4).draw(200)

    section = batch.grey[:, 0, 16, 16].round() / 64
    assert set(section.tolist()) == {0.0, 1.0, 2.0, 3.0}
    elsewhere = section != 1
    assert 0.2 < float(elsewhere.float().mean()) < 0.4  # of those from anywhere, 3 of 4
    assert not batch.painted[elsewhere].any()
    assert not batch.weights[elsewhere].any()


def test_what_was_erased_is_not_drawn_any_more():
    painted = np.zeros((2, 64, 64), np.uint8)
    painted[0, :32], painted[0, 32:], painted[1] = 1, 2, 3
    source = sampler(painted)
    kept = {(0,): painted[0]}

    source.update(Annotations(class_table(["a", "b", "c"]), kept))

    assert not (source.draw(8).painted == 3).any()


def source(painted, classes=MEMBRANES, grey=None, **more):
    """A labelled image whose grey values are its classes unless they are given."""
    image = image_from_array(painted.astype(np.float32) if grey is None else grey)
    return LabelledImage(
        image,
        annotations_from_array(painted, classes),
        statistics=GreyStatistics(1.5, 0.5, 0.0),
        **more,
    )


THREE = class_table(["background", "membrane", "mitochondrion"])


def membranes_and_mitochondria(**of_the_first):
    """Two sources: in the first only membranes are painted, in the second only mitochondria."""
    first, second = cells(), cells()
    second[second == 2] = 3
    return source(first, THREE, **of_the_first), source(second, THREE)


def test_patches_come_from_every_source_by_its_share():
    first, second = membranes_and_mitochondria(share=3.0)

    painted = sampler_of([first, second]).draw(300).painted

    from_first = (painted == 2).any(dim=2).any(dim=1)
    from_second = (painted == 3).any(dim=2).any(dim=1)
    assert not (from_first & from_second).any()
    assert from_first.sum() / (from_first.sum() + from_second.sum()) == pytest.approx(
        0.75, abs=0.07
    )


def test_a_class_that_a_source_does_not_label_is_told_with_its_patches():
    first, second = membranes_and_mitochondria(unlabelled=frozenset({3}))

    batch = sampler_of([first, second]).draw(24)

    assert batch.unlabelled.shape == (24, 255)
    told = batch.unlabelled[:, 2]
    assert torch.equal(batch.unlabelled.sum(dim=1), told.long())
    assert 0 < told.sum() < 24
    for patch, may_hide in zip(batch.painted, told, strict=True):
        assert not (patch == (3 if may_hide else 2)).any()


def test_where_all_sources_label_every_class_nothing_is_told():
    assert sampler_of(membranes_and_mitochondria()).draw(2).unlabelled is None


def test_nothing_is_drawn_from_a_source_while_all_its_paint_is_erased():
    first, second = membranes_and_mitochondria()
    sampler = sampler_of([first, second])

    sampler.update(Annotations(THREE))
    erased = sampler.draw(12).painted
    sampler.update(first.annotations)
    again = sampler.draw(12).painted

    assert set(erased.unique().tolist()) == {1, 3}
    assert 2 in again.unique()


def striped(side=330, width=4, painted_rows=8):
    """Bright and dark stripes, painted in the centre only, so that no patch leaves the section."""
    stripes = np.broadcast_to(np.arange(side) // width % 2 + 1, (side, side)).astype(np.uint8)
    painted = np.zeros_like(stripes)
    centre = slice(side // 2 - painted_rows // 2, side // 2 + painted_rows // 2)
    painted[centre, centre] = stripes[centre, centre]
    return source(painted, grey=stripes.astype(np.float32))


@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0, 3.0])
def test_a_magnified_source_shows_everything_larger_by_that_factor(magnification):
    config = TrainingConfig(patch_size=64, augmentation=UNVARIED)

    batch = sampler_of([striped()], [magnification], config).draw(6)

    for grey in batch.grey[:, 0]:
        rims = (grey > 0).int().diff(dim=1).abs()
        assert torch.equal(rims, rims[:1].expand(rims.shape))  # straight as before
        widths = rims[0].nonzero().flatten().diff().float()
        assert widths.mean().item() == pytest.approx(4 * magnification, rel=0.05)
        assert (widths - 4 * magnification).abs().max() <= 1


@pytest.mark.parametrize("magnification", [0.5, 0.7, 1.6, 2.0])
def test_labels_of_a_magnified_source_stay_on_their_grey_values(magnification):
    config = TrainingConfig(patch_size=64, augmentation=UNVARIED.replace(rotation=180.0, scale=0.2))

    batch = sampler_of([striped()], [magnification], config).draw(8)

    assert all(patch.any() for patch in batch.painted)
    painted = batch.painted > 0
    grey = batch.grey[:, 0][painted]  # -1 is class 1, 1 is class 2
    truth = 2.0 * batch.painted[painted] - 3
    # between two pixels the nearest one and their mean may differ
    assert ((grey * truth) > -0.2).float().mean() > 0.97


@pytest.mark.parametrize(
    "augmentation",
    [
        UNVARIED.replace(rotation=180.0),
        UNVARIED.replace(scale=0.5),
        UNVARIED.replace(coarser=4.0, rotation=45.0),
    ],
    ids=["turned", "scaled", "coarser"],
)
@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0])
def test_a_patch_is_read_from_a_piece_that_is_large_enough(augmentation, magnification):
    # On a plane that rises evenly a patch rises evenly, unless the piece ends and is mirrored.
    side = 801
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    painted = np.zeros((side, side), np.uint8)
    painted[400, 400:402] = 1, 2
    rising = LabelledImage(
        image_from_array(rows - 2 * columns),
        annotations_from_array(painted, MEMBRANES),
        statistics=GreyStatistics(-400.0, 1.0, 0.0),
    )
    config = TrainingConfig(patch_size=48, augmentation=augmentation)

    for grey in sampler_of([rising], [magnification], config).draw(12).grey[:, 0]:
        assert grey.diff(dim=0).std() + grey.diff(dim=1).std() < 0.01


@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0])
def test_border_weights_reach_as_far_as_set_in_pixels_of_the_network(magnification):
    config = TrainingConfig(
        patch_size=64, augmentation=UNVARIED, class_balance=0.0, border_weight=10.0
    )

    batch = sampler_of([source(cells())], [magnification], config).draw(4)

    # the membrane is two pixels wide: one pixel to the nearer cell and two to the other
    distance = 3 * magnification
    expected = 1 + 10 * np.exp(-(distance**2) / (2 * config.border_sigma**2))
    assert batch.weights.max().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("share", [0.0, -1.0, np.nan, np.inf])
def test_a_share_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="The share of 'cells' must be positive; got"):
        source(cells(), share=share, name="cells")


def test_the_background_cannot_be_unlabelled():
    with pytest.raises(ValueError, match="The background of 'cells' cannot be unlabelled"):
        source(cells(), unlabelled=frozenset({1, 2}), name="cells")


def test_a_painted_class_cannot_be_unlabelled():
    with pytest.raises(ValueError, match="'cells' holds 252 pixels of 'membrane', which is said"):
        source(cells(), unlabelled=frozenset({2}), name="cells")


def test_sources_without_grey_statistics_are_refused():
    image = image_from_array(cells())
    unknown = LabelledImage(image, annotations_from_array(cells(), MEMBRANES), name="cells")

    with pytest.raises(ValueError, match="grey statistics of 'cells' must be known"):
        sampler_of([unknown])

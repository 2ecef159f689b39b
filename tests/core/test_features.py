import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from napari_unet.core.config import LiveConfig
from napari_unet.core.features import (
    FILTER_SCALES,
    SPACE_PIXELS,
    FeatureTile,
    feature_space,
    filter_maps,
    tile_features,
)
from napari_unet.core.image import GreyStatistics
from napari_unet.core.network import lost, output_size, smallest_input
from napari_unet.core.resampling import resample
from napari_unet.core.tiles import View, piece_around
from napari_unet.core.tiling import Tile
from tests.examples import tiny_model, with_lived_in_statistics

AS_IT_IS = GreyStatistics(0.0, 1.0, 0.0)
FILTERS = 4 * len(FILTER_SCALES)


def features_of(model, grey, tile=None, **more):
    """All features of a tile, or of a whole section."""
    return tile_features(
        model.network,
        grey,
        tile or Tile(0, 0, *grey.shape),
        AS_IT_IS,
        **{"device": torch.device("cpu"), "precision": "float32", **more},
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pixels_of(tile):
    """Rows and columns of all pixels of a tile."""
    rows, columns = np.mgrid[tile.slices]
    return rows.ravel(), columns.ravel()


def spread_out(features, rows=None):
    """Scores and levels at all pixels of some rows of a tile, or of all."""
    rows = range(features.tile.height) if rows is None else rows
    numbers = (0, *range(len(features.levels)))
    found = []
    for number, maps in zip(numbers, (features.own_scores, *features.levels), strict=True):
        needed, shares = features.rows_between(number, rows)
        planes = maps[:, needed.start : needed.stop].float()
        found.append(features.at_columns(planes if shares is None else shares @ planes, number))
    return found


def read_out(features, tile=None):
    """Scores and levels at each pixel of a tile, as `at` says."""
    tile = tile or features.tile
    scores, levels = features.at(*pixels_of(tile))
    return [found.T.unflatten(1, (tile.height, tile.width)) for found in (scores, *levels)]


# --- the maps of the expansive path ------------------------------------------------------


@pytest.mark.parametrize("normalisation", ["none", "batch"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.inference_mode()
def test_what_a_network_says_is_read_from_the_last_of_its_maps(depth, padding, normalisation):
    model = tiny_model(depth=depth, padding=padding, normalisation=normalisation)
    size = smallest_input(model.network.config, 12)
    grey = torch.from_numpy(noise(2, 1, size, size + 2**depth))
    for network in (model.network, model.folded):
        maps = list(network.decoder_maps(grey))

        assert torch.equal(network.classifier(maps[-1]), network(grey))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.inference_mode()
def test_each_map_is_twice_as_fine_as_the_one_before_and_no_smaller_than_what_comes_out(
    depth, padding
):
    network = tiny_model(depth=depth, padding=padding).network
    size = smallest_input(network.config, 12)

    maps = list(network.decoder_maps(torch.zeros(1, 1, size, size)))

    assert len(maps) == depth + 1
    for number, found in enumerate(reversed(maps)):
        side = found.shape[-1] << number
        assert found.shape[1] == network.config.width << number
        assert size - lost(network.config) <= side <= size
        assert (size - side) % 2 == 0  # so that it lies on the centre of the input
        if padding == "same":
            assert side == size


@torch.inference_mode()
def test_a_map_stays_as_it_is_while_the_next_ones_are_computed():
    network = tiny_model(depth=3).folded
    kept, copies = [], []

    for found in network.decoder_maps(torch.from_numpy(noise(1, 1, 32, 32))):
        kept.append(found)
        copies.append(found.clone())

    assert all(torch.equal(*both) for both in zip(kept, copies, strict=True))


def test_beyond_the_border_of_a_plane_its_nearest_pixel_may_be_read():
    grey = torch.from_numpy(noise(2, 6, 8))
    axes = (torch.arange(-4, 11) - 2.5, torch.arange(-7, 11) - 3.5)

    found = resample(
        grey, torch.stack(torch.meshgrid(*axes, indexing="ij")), "bilinear", beyond="border"
    )

    expected = np.pad(grey.numpy(), ((0, 0), (4, 5), (7, 3)), mode="edge")
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- filters -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 31), (3, 3), (2, 2), (2, 40)])
def test_filters_see_nothing_but_the_grey_value_where_a_picture_is_flat(shape):
    found = filter_maps(torch.full(shape, 1.5)).unflatten(0, (-1, 4))

    torch.testing.assert_close(found[:, 0], torch.full((3, *shape), 1.5))
    torch.testing.assert_close(found[:, 1:], torch.zeros(3, 3, *shape), atol=1e-4, rtol=0)


def test_filters_see_the_slope_and_the_curvatures_of_a_paraboloid():
    hessian = np.array([[0.03, -0.02], [-0.02, -0.01]])
    places = np.stack(np.mgrid[-24:25, -30:31]).astype(float)
    grey = 2 + np.einsum("iyx,ij,jyx->yx", places, hessian, places) / 2
    slope = np.linalg.norm(np.einsum("ij,jyx->iyx", hessian, places), axis=0)
    lowest, highest = np.linalg.eigvalsh(hessian)
    inner = np.s_[16:-16, 16:-16]  # where the smoothing does not reach the border

    found = filter_maps(torch.from_numpy(grey).float()).unflatten(0, (-1, 4)).numpy()

    assert len(found) == len(FILTER_SCALES)
    for scale, (smooth, gradient, high, low) in zip(FILTER_SCALES, found, strict=True):
        # smoothing lifts a paraboloid by its mean curvature times the variance
        lift = (smooth - grey)[inner]
        np.testing.assert_allclose(lift, 0.01 * scale**2, rtol=0.1)
        np.testing.assert_allclose(gradient[inner], scale * slope[inner], atol=1e-3)
        np.testing.assert_allclose(high[inner], scale**2 * highest, atol=2e-3)
        np.testing.assert_allclose(low[inner], scale**2 * lowest, atol=2e-3)


def test_filters_see_a_turned_picture_as_they_saw_it_before():
    grey = torch.from_numpy(noise(30, 41))
    seen = filter_maps(grey)

    for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT, lambda x: x.rot90(1)):
        if turn(grey).shape == grey.mT.shape:  # planes lie along the first axis
            expected = torch.stack([turn(plane) for plane in seen])
        else:
            expected = turn(seen)
        torch.testing.assert_close(filter_maps(turn(grey)), expected, atol=1e-4, rtol=1e-4)


def test_coarse_filters_see_coarse_spots():
    rows, columns = np.mgrid[-30:31, -30:31]
    for number, scale in enumerate(FILTER_SCALES):
        spot = np.exp(-(rows**2 + columns**2) / (2 * scale**2)).astype(np.float32)

        lowest = filter_maps(torch.from_numpy(spot)).unflatten(0, (-1, 4))[:, 3, 30, 30]

        # of the curvatures there, those count most that were measured at the scale of the spot
        assert int(lowest.argmin()) == number
        assert float(lowest[number]) < 0


# --- features lie where they should ------------------------------------------------------


def looking_at_single_pixels(depth, padding):
    """A model whose levels show, in their first channel, the brightest pixel of each square."""
    model = tiny_model(depth=depth, width=2, padding=padding, normalisation="none")
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block in (*network.contracting, network.bottleneck, *network.expanding):
            for layer in block:
                if isinstance(layer, nn.Conv2d):
                    layer.weight[0, 0, 1, 1] = 1.0  # what came first: the grey, or what skipped
        network.classifier.weight[1, 0] = 1.0
    return replace(model, network=network)


TILES = {
    "all of it": Tile(0, 0, 90, 101),
    "in the middle": Tile(24, 32, 27, 30),
    "at the border": Tile(56, 72, 34, 29),
}


@pytest.mark.parametrize("tile", TILES.values(), ids=TILES.keys())
@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6, 2.0])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [2, 3])
def test_features_of_every_level_lie_where_they_were_seen(depth, padding, magnification, tile):
    rows, columns = np.mgrid[:90, :101]
    grey = (2 * rows + columns + 1).astype(np.float32)  # rises evenly, but for its mirrored border
    far = np.hypot(2**depth, 8) / min(magnification, 1) + 2
    inner = (np.minimum(rows, 89 - rows) >= far) & (np.minimum(columns, 100 - columns) >= far)
    inner = inner[tile.slices]

    features = features_of(
        looking_at_single_pixels(depth, padding), grey, tile, magnification=magnification
    )

    assert inner.sum() > 20
    for scores, *levels in (spread_out(features), read_out(features)):
        for number, level in enumerate(levels):
            # the brightest pixel of a square lies at a corner of it
            corner = (2 + 1) * (2**number - 1) / 2 / magnification
            seen = level[0 if number else FILTERS].numpy()
            off = (seen - corner - grey[tile.slices])[inner]
            np.testing.assert_allclose(off, 0, atol=0.25)  # float16; half a pixel would be 0.5
            assert abs(off.mean()) < 0.05
        off = (scores[1] - scores[0]).numpy() - grey[tile.slices]
        assert abs(off[inner].mean()) < 0.05
        for smooth in levels[0][: FILTERS - 4 : 4]:
            off = smooth.numpy() - grey[tile.slices]
            assert abs(off[inner].mean()) < 0.05


def the_same_in_the_mirror(model):
    """A model that sees in a mirror image what it sees in the image, mirrored."""
    model = with_lived_in_statistics(model)
    with torch.no_grad():
        for layer in model.network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.copy_((layer.weight + layer.weight.flip(-1)) / 2)
    return model


@pytest.mark.parametrize("magnification", [1.0, 2.0, 0.5])
@pytest.mark.parametrize(("padding", "side"), [("same", 64), ("valid", 60)])
def test_features_of_a_mirror_image_are_the_mirrored_features(padding, side, magnification):
    model = the_same_in_the_mirror(tiny_model(padding=padding, normalisation="batch"))
    grey = 4 * noise(side, 64)
    config = model.network.config
    assert output_size(config, smallest_input(config, side)) == side
    if padding == "valid" or magnification != 1:
        assert (64 * magnification) % 4 == 0  # so that poolings fall on the same pixels

    found = read_out(features_of(model, grey, magnification=magnification))
    mirrored = read_out(features_of(model, grey[:, ::-1].copy(), magnification=magnification))

    for one, other in zip(found, mirrored, strict=True):
        torch.testing.assert_close(other.flip(-1), one, atol=0.01, rtol=2e-3)
        assert (other - one).abs().max() > 0.1


@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [2, 3])
def test_features_do_not_depend_on_how_a_section_is_cut(depth, padding, magnification):
    model = with_lived_in_statistics(
        tiny_model("a", "b", "c", depth=depth, padding=padding, seed=3, normalisation="batch")
    )
    grey = noise(90, 101)
    whole = features_of(model, grey, magnification=magnification)

    for tile in TILES.values():
        cut = features_of(model, grey, tile, magnification=magnification)

        for found, expected in zip(read_out(cut), read_out(whole, tile), strict=True):
            torch.testing.assert_close(found, expected, atol=4e-3, rtol=2e-3)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
@given(
    depth=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    top=st.integers(0, 4),
    left=st.integers(0, 4),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_what_is_read_at_pixels_is_what_is_spread_to_them(
    padding, magnification, depth, height, width, top, left
):
    tile = Tile(top * 2**depth, left * 2**depth, height, width)
    grey = noise(tile.top + height + top, tile.left + width + left)
    features = features_of(
        tiny_model(depth=depth, width=2, padding=padding), grey, tile, magnification=magnification
    )

    spread = spread_out(features)

    for found, read in zip(spread, read_out(features), strict=True):
        torch.testing.assert_close(found, read, atol=2e-4, rtol=1e-4)
    for rows in (range(1), range(height // 3, height // 2 + 1), range(height - 1, height)):
        for part, whole in zip(spread_out(features, rows), spread, strict=True):
            torch.testing.assert_close(part, whole[:, rows.start : rows.stop], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("magnification", [1.0, 1.5])
def test_features_in_half_precision_are_close_to_those_in_full_precision(magnification):
    model, grey = tiny_model(), noise(40, 40)

    half, full = (
        features_of(model, grey, magnification=magnification, precision=precision)
        for precision in ("bfloat16", "float32")
    )

    for one, other in zip(read_out(half), read_out(full), strict=True):
        torch.testing.assert_close(one, other, atol=0.02 * float(other.abs().max()), rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
def test_the_gpu_sees_the_features_that_the_cpu_sees(magnification):
    model, grey, device = tiny_model(), noise(40, 40), torch.device("cuda")
    on_gpu = replace(model, network=copy.deepcopy(model.network).to(device))

    there = features_of(on_gpu, grey, magnification=magnification, device=device)

    here = features_of(model, grey, magnification=magnification)
    for one, other in zip(read_out(there), read_out(here), strict=True):
        assert one.device.type == "cpu"
        torch.testing.assert_close(one, other, atol=0.01 * float(other.abs().max()), rtol=0)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_features_are_blurred_by_half_of_what_is_skipped_at_their_own_resolution(padding):
    model, grey, tile = tiny_model(padding=padding), noise(30, 24), Tile(0, 0, 30, 24)
    device = torch.device("cpu")
    seen = piece_around(model.network.sight, grey, tile, AS_IT_IS, View(3.0), device).grey
    with torch.no_grad():
        *coarse, finest = model.network.decoder_maps(seen[None, None])
        scores = model.network.classifier(finest)[0]

    features = features_of(model, grey, magnification=3.0)

    own = features.own_scores
    for found, sharp, deviation in (
        (own[1] - own[0], scores[1] - scores[0], 1.0),
        (features.levels[0][FILTERS], finest[0, 0], 1.0),
        (features.levels[1][0], coarse[1][0, 0], 0.5),
        (features.levels[2][0], coarse[0][0, 0], 0.25),
    ):
        radius = int(np.ceil(3 * deviation))
        expected = ndimage.gaussian_filter(sharp.numpy(), deviation, mode="mirror", radius=radius)
        np.testing.assert_allclose(found.float(), expected, atol=5e-3)
        if deviation > 0.25:
            assert np.abs(expected - sharp.numpy()).max() > 0.05


def test_pixels_are_read_in_the_order_asked_for():
    features = features_of(tiny_model(), noise(30, 40), Tile(8, 12, 20, 20))
    rows, columns = pixels_of(features.tile)
    order = np.random.default_rng(0).permutation(len(rows))

    (scores, levels), (all_scores, all_levels) = (
        features.at(rows[order], columns[order]),
        features.at(rows, columns),
    )

    assert torch.equal(scores, all_scores[order])
    assert all(torch.equal(a, b[order]) for a, b in zip(levels, all_levels, strict=True))
    assert {x.dtype for x in (scores, *levels)} == {torch.float32}


def test_features_are_kept_in_half_precision_and_say_how_much_memory_they_take():
    model = tiny_model("a", "b", "c", depth=2, width=4)

    features = features_of(model, noise(32, 48))

    assert {x.dtype for x in (features.own_scores, *features.levels)} == {torch.float16}
    assert [tuple(level.shape) for level in features.levels] == [
        (FILTERS + 4, 32, 48),
        (8, 16, 24),
        (16, 8, 12),
    ]
    assert features.bytes == 2 * (
        (3 + FILTERS + 4) * 32 * 48 + 8 * 16 * 24 + 16 * 8 * 12
    )  # two bytes for each number


def test_around_a_hot_pixel_features_are_still_numbers():
    model, grey = tiny_model("a", "b", "c"), noise(40, 40)
    grey[20, 20] = 1e6  # deviations of the grey values
    with torch.no_grad():
        expected = model.network(torch.from_numpy(grey)[None, None])[0].argmax(dim=0)

    features = features_of(model, grey)
    reduced = feature_space(features).reduce(features)

    for plane in (features.own_scores, *features.levels, *reduced.levels):
        assert plane.isfinite().all()
    # the scores are far beyond float16 there, but which is the highest is still known
    assert torch.equal(features.own_scores.argmax(dim=0)[17:24, 17:24], expected[17:24, 17:24])


# --- the space of features ---------------------------------------------------------------


@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_linear_map_of_reduced_features_is_one_of_all_features(padding, magnification):
    features = features_of(
        tiny_model(padding=padding, depth=3), noise(50, 45), magnification=magnification
    )
    space = feature_space(features, LiveConfig(dimensions=6))
    chance = torch.Generator().manual_seed(0)

    reduced = space.reduce(features)

    _, all_levels = features.at(*pixels_of(features.tile))
    _, few_levels = reduced.at(*pixels_of(features.tile))
    assert reduced.tile == features.tile
    assert torch.equal(reduced.own_scores, features.own_scores)
    assert all(level.stride(0) == 1 for level in reduced.levels)  # quick to read, pixel by pixel
    for every, few, mean, basis in zip(
        all_levels, few_levels, space.means, space.bases, strict=True
    ):
        assert few.shape[1] == basis.shape[1] == 6
        weights = torch.randn(6, 3, generator=chance)
        expected = (every - mean) @ (basis @ weights)
        torch.testing.assert_close(
            few @ weights, expected, atol=4e-3 * float(expected.abs().max()), rtol=0
        )


def test_reduced_features_are_uncorrelated_and_count_less_the_coarser_they_are():
    features = features_of(tiny_model(depth=3), noise(48, 40))
    space = feature_space(features, LiveConfig(dimensions=10, coarser=0.3))

    _, levels = space.reduce(features).at(*pixels_of(features.tile))

    for number, values in enumerate(levels):
        scaled = values / 0.3**number
        covariance = scaled.T.cov()
        torch.testing.assert_close(
            covariance, torch.eye(len(covariance)), atol=0.3, rtol=0
        )  # of other pixels than those it was made from
        assert scaled.mean(dim=0).abs().max() < 0.2


def test_the_first_features_are_those_in_which_most_channels_change_together():
    chance = np.random.default_rng(0)
    common, other = chance.normal(size=(2, 40, 40))
    maps = [common + 0.1 * chance.normal(size=(40, 40)) for _ in range(5)] + [other]

    space = feature_space(made([np.stack(maps)]), LiveConfig(dimensions=1))

    found = space.reduce(made([np.stack(maps)])).levels[0][0].float().numpy()
    assert abs(np.corrcoef(found.ravel(), common.ravel())[0, 1]) > 0.99


def made(maps, own_scores=None):
    """A tile with these features, each level half as large as the one before."""
    levels = tuple(torch.as_tensor(np.asarray(level)).half() for level in maps)
    height, width = levels[0].shape[-2:]
    own = np.zeros((2, height, width)) if own_scores is None else own_scores
    return FeatureTile(
        Tile(0, 0, height, width),
        torch.as_tensor(own).half(),
        levels,
        (-(height - 1) / 2, -(width - 1) / 2),
        1.0,
    )


def test_the_scale_and_the_mean_of_a_channel_are_of_no_meaning():
    # Powers of two, which float16 knows exactly.
    maps = noise(5, 32, 32)
    scaled = maps * np.array([1, 16, 1 / 8, 64, 2], np.float32)[:, None, None]

    one, other = (feature_space(made([each])).reduce(made([each])) for each in (maps, scaled))

    # The direction of an axis is not defined.
    same = (one.levels[0].float() * other.levels[0].float()).mean(dim=(1, 2)).sign()
    torch.testing.assert_close(
        one.levels[0].float(),
        other.levels[0].float() * same[:, None, None],
        atol=0.02,
        rtol=0.01,
    )


@pytest.mark.parametrize("constant", [0.0, 3.0, -1000.0])
def test_a_channel_that_never_changes_tells_nothing(constant):
    maps = noise(4, 32, 32)
    maps[2] = constant
    space = feature_space(made([maps]))
    elsewhere = noise(4, 32, 32, seed=1)
    changed = elsewhere.copy()
    changed[2] += 100

    one, other = (space.reduce(made([each])).levels[0] for each in (elsewhere, changed))

    assert len(one) == 3
    assert one.abs().max() < 10
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("grey", [0.0, 1.3, -50.0])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_space_made_where_an_image_is_flat_gives_numbers_elsewhere(padding, grey):
    model = tiny_model(padding=padding)
    space = feature_space(features_of(model, np.full((40, 40), grey, np.float32)))

    reduced = space.reduce(features_of(model, noise(40, 52)))

    assert len(reduced.levels) == len(space.bases) == 3
    for level, basis in zip(reduced.levels, space.bases, strict=True):
        assert len(level) == basis.shape[1]
        assert level.isfinite().all()
        assert not len(level) or level.abs().max() < 1e4
    assert [len(read) for read in read_out(reduced)[1:]] == [len(x) for x in reduced.levels]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (9, 7)])
def test_a_tile_of_few_pixels_gives_a_space(shape, padding):
    assert np.prod(shape) < SPACE_PIXELS
    features = features_of(tiny_model(padding=padding), noise(*shape))

    reduced = feature_space(features).reduce(features)

    for level in reduced.levels:
        assert len(level) <= LiveConfig().dimensions
        assert level.isfinite().all()


def test_the_same_seed_gives_the_same_space():
    features = features_of(tiny_model(), noise(40, 40))

    one, same, other = (feature_space(features, LiveConfig(seed=n)) for n in (1, 1, 2))

    assert all(torch.equal(a, b) for a, b in zip(one.bases, same.bases, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one.means, other.means, strict=True))

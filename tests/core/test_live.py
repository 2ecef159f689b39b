from dataclasses import fields

import numpy as np
import pytest
import torch

from napari_unet.core.config import LiveConfig
from napari_unet.core.features import FeatureTile, feature_space, tile_features
from napari_unet.core.image import GreyStatistics, grey_statistics
from napari_unet.core.live import (
    AMONG_KNOWN,
    NEW_CLASS_SCORE,
    Examples,
    LiveHead,
    fit_head,
    most_probable,
    tile_examples,
)
from napari_unet.core.losses import SURE
from napari_unet.core.tiles import tile_probabilities
from napari_unet.core.tiling import Tile
from tests.examples import disc_image, tiny_model, with_lived_in_statistics

AS_IT_IS = GreyStatistics(0.0, 1.0, 0.0)
PATIENT = LiveConfig(iterations=400)
EXACT = {"device": torch.device("cpu"), "precision": "float32"}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def untrained(features, classes):
    """A head that has learnt nothing."""
    count = sum(len(level) for level in features.levels)
    return LiveHead(torch.zeros(count, classes), torch.zeros(classes))


def winning(scores):
    """The numbers of the classes with the highest scores."""
    return scores.argmax(dim=0).numpy() + 1


def drawn_head(features, classes, seed=0):
    """A head that decides by chance."""
    chance = torch.Generator().manual_seed(seed)
    count = sum(len(level) for level in features.levels)
    return LiveHead(
        torch.randn(count, classes, generator=chance), torch.randn(classes, generator=chance)
    )


def made(own_scores, *levels):
    """A tile with these scores and features, each level half as large as the one before."""
    height, width = np.shape(own_scores)[-2:]
    return FeatureTile(
        Tile(0, 0, height, width),
        torch.as_tensor(own_scores).half(),
        tuple(torch.as_tensor(level).half() for level in levels),
        (-(height - 1) / 2, -(width - 1) / 2),
        1.0,
    )


def drawn_examples(pixels=60, features=5, known=2, classes=3, unpainted=0.5, seed=0):
    """Examples of pixels of which the network is sure, or not, and that overlap in features."""
    chance = np.random.default_rng(seed)
    painted = chance.integers(1, classes + 1, pixels)
    centres = chance.normal(size=(classes + 1, features))
    painted[chance.random(pixels) < unpainted] = 0
    return Examples(
        torch.from_numpy(centres[painted] + chance.normal(size=(pixels, features))).float(),
        torch.from_numpy(2 * chance.normal(size=(pixels, known))).float(),
        torch.from_numpy(painted),
        torch.from_numpy(chance.uniform(1, 5, pixels)).float(),
    )


def objective(parameters, examples, config):
    """What a head minimises, as its documentation says; float64, with a gradient."""
    weights, bias = parameters[:-1], parameters[-1]
    own, features, counts = (
        x.double() for x in (examples.own_scores, examples.features, examples.counts)
    )
    known, classes = own.shape[1], len(bias)
    improbable = own.exp().sum(dim=1, keepdim=True).log() - NEW_CLASS_SCORE
    start = torch.cat([own] + [improbable] * (classes - known), dim=1)
    scores = start + features @ weights + bias
    found = torch.log_softmax(scores, dim=1)
    painted, total = examples.painted, 0.0
    if painted.any():
        of_class = {
            int(number): counts[painted == number].sum() for number in painted.unique() if number
        }
        weight = torch.stack(
            [of_class[int(n)] ** -config.class_balance if n else counts[0] * 0 for n in painted]
        )
        weight = weight * counts
        each = -found[torch.arange(len(found)), painted - 1]  # where it is 0 the weight is, too
        total = total + (each * weight).sum() / weight.sum()
    if (painted == 0).any():
        sure = (own.softmax(dim=1).max(dim=1).values > SURE) & (painted == 0)
        among_known = own.softmax(dim=1) * torch.log_softmax(scores[:, :known], dim=1)
        cross_entropy = -(start.softmax(dim=1) * found).sum(dim=1)
        cross_entropy -= AMONG_KNOWN * among_known.sum(dim=1)
        total = total + config.memory * (cross_entropy * counts)[sure].sum() / (
            counts[painted == 0].sum()
        )
    held = weights.square().sum() + bias[:known].square().sum()
    return total + config.penalty / 2 * held


def gradient(head, examples, config):
    parameters = torch.cat([head.weights, head.bias[None]]).double().requires_grad_()
    objective(parameters, examples, config).backward()
    return parameters.grad


def probabilities(head, examples):
    """What a head says of examples, (pixels, classes)."""
    own = examples.own_scores
    new = own.logsumexp(dim=1, keepdim=True) - NEW_CLASS_SCORE
    own = torch.cat([own] + [new] * (len(head.bias) - own.shape[1]), dim=1)
    return (own + examples.features @ head.weights + head.bias).softmax(dim=1)


# --- what a head sees --------------------------------------------------------------------

TILES = {
    "all of it": Tile(0, 0, 61, 54),
    "in the middle": Tile(16, 24, 21, 18),
    "at the border": Tile(40, 32, 21, 22),
}


@pytest.mark.parametrize("tile", TILES.values(), ids=TILES.keys())
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_head_that_has_learnt_nothing_says_what_the_network_says(padding, depth, tile):
    model = with_lived_in_statistics(
        tiny_model("a", "b", "c", padding=padding, depth=depth, normalisation="batch")
    )
    grey = noise(61, 54)
    expected = tile_probabilities(model.network, grey, tile, AS_IT_IS, **EXACT)

    features = tile_features(model.network, grey, tile, AS_IT_IS, **EXACT)
    reduced = feature_space(features).reduce(features)

    for seen in (features, reduced):
        scores = untrained(seen, 3).scores(seen)
        assert scores.shape == (3, tile.height, tile.width)
        np.testing.assert_allclose(scores.softmax(dim=0), expected, atol=2e-3)
        highest = np.sort(expected, axis=0)
        clear = highest[-1] - highest[-2] > 4e-3
        assert clear.mean() > 0.9
        assert np.array_equal(winning(scores)[clear], (expected.argmax(axis=0) + 1)[clear])
    assert len(np.unique(expected.argmax(axis=0))) > 1


@pytest.mark.parametrize("tile", TILES.values(), ids=TILES.keys())
@pytest.mark.parametrize("magnification", [1.5, 0.6, 3.0])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_head_that_has_learnt_nothing_says_what_the_network_says_of_an_enlarged_image(
    padding, magnification, tile
):
    model = with_lived_in_statistics(
        tiny_model("a", "b", "c", padding=padding, normalisation="batch")
    )
    # Between pixels the scores are interpolated, not the probabilities: where these are near to
    # each other that is nearly the same.
    with torch.no_grad():
        for parameter in model.network.classifier.parameters():
            parameter.mul_(0.05)
    grey = noise(61, 54)
    more = {**EXACT, "magnification": magnification}
    expected = tile_probabilities(model.network, grey, tile, AS_IT_IS, **more)

    features = tile_features(model.network, grey, tile, AS_IT_IS, **more)
    found = untrained(features, 3).scores(features)

    off = np.abs(found.softmax(dim=0).numpy() - expected)
    assert np.mean(winning(found) == expected.argmax(axis=0) + 1) > 0.99
    # a fifth of a pixel beside its place it would be seen
    assert np.abs(np.diff(expected, axis=1)).mean() > 10 * off.mean()


def test_a_class_that_was_not_learnt_is_improbable_everywhere():
    features = made(3 * noise(2, 12, 16), noise(4, 12, 16))

    scores = untrained(features, 5).scores(features)

    own = features.own_scores.float()
    assert torch.equal(scores[:2], own)
    for new in scores[2:]:
        torch.testing.assert_close(new, own.logsumexp(dim=0) - NEW_CLASS_SCORE)
    assert winning(scores).max() == 2


@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("tile", TILES.values(), ids=TILES.keys())
def test_a_head_says_of_all_pixels_what_it_learnt_of_examples(tile, padding, magnification):
    features = tile_features(
        tiny_model(padding=padding).network,
        noise(61, 54),
        tile,
        AS_IT_IS,
        magnification=magnification,
        **EXACT,
    )
    features = feature_space(features, LiveConfig(dimensions=7)).reduce(features)
    painted = np.zeros((61, 54), np.uint8)
    painted[tile.slices] = 1 + np.arange(tile.height * tile.width).reshape(tile.height, -1) % 200
    head = drawn_head(features, 4)

    everywhere = head.scores(features).softmax(dim=0)
    examples = tile_examples(painted, features, LiveConfig(pixels=10**6))

    assert len(examples) == tile.height * tile.width
    assert (examples.counts == 1).all()
    # Examples come class by class.
    order = np.argsort(painted[tile.slices].ravel(), kind="stable")
    torch.testing.assert_close(
        probabilities(head, examples), everywhere.flatten(1).T[order], atol=1e-4, rtol=1e-3
    )


def test_the_most_probable_class_has_the_number_it_has_everywhere_else():
    scores = np.array([[[3.0, 0.0, -5.0]], [[1.0, 0.5, -2.0]], [[2.0, 0.2, -1.0]]], np.float32)

    found = most_probable(scores)

    assert found.tolist() == [[1, 2, 3]]
    assert found.dtype == np.uint8


@pytest.mark.parametrize("magnification", [1.0, 1.5, 0.6])
@pytest.mark.parametrize("classes", [3, 5])
def test_strip_by_strip_the_most_probable_classes_are_those_of_the_whole(
    monkeypatch, classes, magnification
):
    monkeypatch.setattr("napari_unet.core.live.STRIP", 7)
    model = with_lived_in_statistics(tiny_model("a", "b", "c", normalisation="batch"))
    features = tile_features(
        model.network, noise(61, 54), TILES["all of it"], AS_IT_IS,
        **{**EXACT, "magnification": magnification},
    )  # fmt: skip
    head = drawn_head(features, classes)
    scores = head.scores(features)
    highest = scores.sort(dim=0).values
    clear = (highest[-1] - highest[-2] > 1e-3).numpy()

    found = head.most_probable(features)

    assert found.dtype == np.uint8
    assert clear.mean() > 0.99
    assert np.array_equal(found[clear], winning(scores)[clear])
    assert len(np.unique(found)) > 1


def test_there_may_be_255_classes():
    found = most_probable(np.eye(255, dtype=np.float32)[:, None])

    assert found.tolist() == [list(range(1, 256))]


def test_a_head_for_more_classes_keeps_what_was_learnt_of_the_earlier_ones():
    features = made(noise(2, 8, 8), noise(4, 8, 8), noise(3, 4, 4))
    head = drawn_head(features, 3)

    grown = head.grown(5)

    assert torch.equal(grown.weights[:, :3], head.weights)
    assert torch.equal(grown.bias[:3], head.bias)
    assert not grown.weights[:, 3:].any()
    assert not grown.bias[3:].any()
    torch.testing.assert_close(grown.scores(features)[:3], head.scores(features))
    assert head.grown(3) is head


# --- examples ----------------------------------------------------------------------------


def painted_tile():
    """A tile in a larger section, its features, of which one is the place, and some paint.

    The network says what the paint says.
    """
    tile = Tile(8, 4, 40, 50)
    rows, columns = (x.astype(np.float32) for x in np.mgrid[:40, :50])
    painted = np.zeros((60, 60), np.uint8)
    painted[:12, :30] = 1
    painted[20:40, 10:40] = 4
    painted[30, 30] = 2
    painted[55:] = 3  # not in the tile
    own_scores = noise(4, 40, 50)
    for number, plane in enumerate(own_scores, start=1):
        plane[painted[tile.slices] == number] += 20
    features = FeatureTile(
        tile,
        torch.from_numpy(own_scores).half(),
        (torch.from_numpy(np.stack([rows, columns])).half(),),
        (-19.5, -24.5),
        1.0,
    )
    return painted, features


def test_examples_are_all_painted_pixels_of_a_tile_and_unpainted_ones():
    painted, features = painted_tile()

    examples = tile_examples(painted, features, LiveConfig(pixels=10**6))

    amounts = np.bincount(painted[features.tile.slices].ravel())
    assert len(examples) == 40 * 50
    assert torch.equal(examples.painted.bincount(), torch.from_numpy(amounts))
    rows, columns = (examples.features.round().long() + torch.tensor([8, 4])).T
    assert np.array_equal(painted[rows, columns], examples.painted)
    torch.testing.assert_close(
        examples.own_scores,
        features.own_scores[:, rows - 8, columns - 4].T.float(),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("pixels", [10, 150, 599, 6000])
def test_of_many_pixels_of_a_class_some_stand_for_all(pixels):
    painted, features = painted_tile()
    amounts = np.bincount(painted[features.tile.slices].ravel())

    examples = tile_examples(painted, features, LiveConfig(pixels=pixels))

    assert amounts.tolist() == [1296, 104, 1, 0, 599]
    most = max(1, pixels // 4)  # of each of three classes, and of what is not painted
    assert examples.painted.bincount().tolist() == np.minimum(amounts, most).tolist()
    standing_for = torch.zeros(5).index_add(0, examples.painted, examples.counts)
    np.testing.assert_allclose(standing_for, amounts, rtol=1e-5)
    rows, columns = (examples.features.round().long() + torch.tensor([8, 4])).T
    assert np.array_equal(painted[rows, columns], examples.painted)
    assert len(torch.unique(examples.features, dim=0)) == len(examples)  # none twice


def test_pixels_are_chosen_from_all_over_a_tile():
    painted, features = painted_tile()

    places = tile_examples(painted * 0, features, LiveConfig(pixels=400)).features

    for axis, side in enumerate((40, 50)):
        quarters = torch.histc(places[:, axis], 4, 0, side)
        assert quarters.min() > 60


@pytest.mark.parametrize("number", [3, 5], ids=["known class", "new class"])
def test_beside_paint_that_contradicts_the_network_no_unpainted_pixels_are_taken(number):
    painted, features = painted_tile()
    painted[36:38, 50] = number  # rows 28 and 29, column 46 of the tile

    examples = tile_examples(painted, features, LiveConfig(pixels=10**6))

    places = examples.features.round().long()[examples.painted == 0]
    taken = torch.zeros(40, 50, dtype=torch.bool)
    taken[places[:, 0], places[:, 1]] = True
    # Squares have 16 pixels a side; this one ends with the tile.
    expected = torch.from_numpy(painted[features.tile.slices] == 0)
    expected[:, 16:] = False
    assert torch.equal(taken, expected)
    assert examples.painted.bincount()[number] == 2


def same_examples(one, other):
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


def test_the_same_seed_chooses_the_same_pixels():
    painted, features = painted_tile()
    config = LiveConfig(pixels=50)

    one, same, other = (
        tile_examples(painted, features, config.replace(seed=seed)) for seed in (0, 0, 1)
    )

    assert same_examples(one, same)
    assert not same_examples(one, other)


def test_examples_of_several_tiles_come_together():
    one, other = drawn_examples(pixels=7), drawn_examples(pixels=4, seed=1)

    both = Examples.together([one, other])

    assert len(both) == 11
    for f in fields(Examples):
        assert torch.equal(getattr(both, f.name)[:7], getattr(one, f.name))
        assert torch.equal(getattr(both, f.name)[7:], getattr(other, f.name))


@pytest.mark.parametrize("pixels", [10, 60, 100, 399])
def test_fewer_examples_stand_for_as_many_pixels_of_every_class(pixels):
    examples = drawn_examples(pixels=400, classes=3)
    each = pixels // 4
    uniform = Examples(
        examples.features, examples.own_scores, examples.painted, torch.full((400,), 2.5)
    )

    fewer = uniform.fewer(pixels, np.random.default_rng(0))

    amounts = examples.painted.bincount()
    assert len(fewer) <= pixels
    assert fewer.painted.bincount().tolist() == amounts.clamp(max=each).tolist()
    standing_for = torch.zeros(4).index_add(0, fewer.painted, fewer.counts)
    torch.testing.assert_close(standing_for, 2.5 * amounts)
    assert (uniform.counts == 2.5).all()


def test_fewer_examples_are_some_of_those_there_were():
    examples = drawn_examples(pixels=300)
    examples.features[:, 0] = torch.arange(300)

    fewer = examples.fewer(60, np.random.default_rng(0))

    place = fewer.features[:, 0].long()
    assert len(place.unique()) == len(fewer)
    assert torch.equal(fewer.features, examples.features[place])
    assert torch.equal(fewer.own_scores, examples.own_scores[place])
    assert torch.equal(fewer.painted, examples.painted[place])


def test_on_average_fewer_examples_stand_for_what_all_do():
    examples = drawn_examples(pixels=300)  # some of them stand for more pixels than others
    wanted = torch.zeros(4).index_add(0, examples.painted, examples.counts)

    found = []
    for seed in range(200):
        fewer = examples.fewer(60, np.random.default_rng(seed))
        found.append(torch.zeros(4).index_add(0, fewer.painted, fewer.counts))

    torch.testing.assert_close(torch.stack(found).mean(dim=0), wanted, rtol=0.02, atol=0)


def test_few_examples_stay_as_they_are():
    examples = drawn_examples(pixels=50)

    assert examples.fewer(50, np.random.default_rng(0)) is examples


def test_a_rare_class_stays_whole_beside_a_frequent_one():
    examples = drawn_examples(pixels=1000, classes=1, unpainted=0.99)
    rare = int((examples.painted == 1).sum())

    fewer = examples.fewer(100, np.random.default_rng(0))

    assert 0 < rare < 50
    assert int((fewer.painted == 1).sum()) == rare
    assert int((fewer.painted == 0).sum()) == 50


# --- learning ----------------------------------------------------------------------------

CONFIGS = {
    "as it comes": LiveConfig(),
    "every class alike": LiveConfig(class_balance=1.0, memory=0.0),
    "every pixel alike": LiveConfig(class_balance=0.0, memory=5.0, penalty=0.01),
    "held": LiveConfig(penalty=3.0),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_head_is_the_minimum_of_what_it_is_said_to_minimise(config, classes):
    config = config.replace(iterations=400)
    if classes == 5:
        # A class without paint and memory could become ever less probable.
        config = config.replace(memory=max(config.memory, 0.1))
    examples = drawn_examples(classes=min(classes, 3), pixels=200)

    head = fit_head(examples, classes, config)

    steepest = max(1.0, config.penalty)
    assert gradient(head, examples, config).abs().max() < 1e-3 * steepest
    found = torch.cat([head.weights, head.bias[None]]).double()
    least = objective(found, examples, config)
    chance = torch.Generator().manual_seed(0)
    for size in (0.01, 0.1, 1.0):
        for _ in range(5):
            step = torch.randn(found.shape, generator=chance, dtype=torch.float64)
            assert objective(found + size * step, examples, config) > least
    assert least < objective(torch.zeros_like(found), examples, config) - 0.01


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_first_step_is_straight_down_what_a_head_minimises(config):
    # L-BFGS begins with a step of steepest descent.
    examples = drawn_examples(pixels=200)
    start = drawn_head(made(noise(2, 1, 1), noise(5, 1, 1)), 4)

    found = fit_head(examples, 4, config.replace(iterations=1), start)

    step = torch.cat([found.weights - start.weights, (found.bias - start.bias)[None]]).double()
    down = -gradient(start, examples, config)
    assert step.norm() > 1e-3
    torch.testing.assert_close(step / step.norm(), down / down.norm(), atol=1e-4, rtol=0)


def test_learning_goes_on_where_it_stopped_and_ends_in_the_same_head():
    examples = drawn_examples(pixels=300)
    few = LiveConfig(iterations=5)
    start = drawn_head(made(noise(2, 1, 1), noise(5, 1, 1)), 3)
    kept = LiveHead(start.weights.clone(), start.bias.clone())

    cold = fit_head(examples, 3, PATIENT)
    warm = fit_head(examples, 3, PATIENT, start)
    head = None
    for _ in range(40):
        head = fit_head(examples, 3, few, head)

    for other in (warm, head):
        torch.testing.assert_close(other.weights, cold.weights, atol=5e-3, rtol=0)
        difference = (probabilities(other, examples) - probabilities(cold, examples)).abs()
        assert difference.max() < 5e-3
    assert torch.equal(start.weights, kept.weights)  # nobody changes a head
    assert torch.equal(start.bias, kept.bias)


def test_the_same_examples_give_the_same_head():
    examples, config = drawn_examples(pixels=500), LiveConfig(pixels=100)

    one, same = (fit_head(examples, 3, config) for _ in range(2))

    assert torch.equal(one.weights, same.weights)
    assert torch.equal(one.bias, same.bias)


def test_examples_thinned_out_give_nearly_the_same_head():
    examples = drawn_examples(pixels=6000)

    every, some = (fit_head(examples, 3, PATIENT.replace(pixels=pixels)) for pixels in (6000, 1500))

    difference = (probabilities(every, examples) - probabilities(some, examples)).abs()
    assert 0 < difference.mean() < 0.03


def test_an_example_that_stands_for_three_counts_like_three():
    examples = drawn_examples(pixels=80)
    whole = Examples(
        examples.features, examples.own_scores, examples.painted, examples.counts.round()
    )
    times = whole.counts.long()
    repeated = Examples(
        *(getattr(whole, f.name).repeat_interleave(times, dim=0) for f in fields(Examples))
    )
    repeated.counts.fill_(1)

    one, other = (fit_head(each, 3, PATIENT) for each in (whole, repeated))

    assert times.max() > times.min() >= 1
    torch.testing.assert_close(one.weights, other.weights, atol=5e-3, rtol=0)


@pytest.mark.parametrize(("balance", "same"), [(1.0, True), (0.25, False)])
def test_classes_count_alike_however_much_of_them_is_painted(balance, same):
    examples = drawn_examples(pixels=200)
    more = Examples(
        examples.features,
        examples.own_scores,
        examples.painted,
        torch.where(examples.painted == 2, 30 * examples.counts, examples.counts),
    )
    config = PATIENT.replace(class_balance=balance)

    one, other = (fit_head(each, 3, config) for each in (examples, more))

    difference = (one.weights - other.weights).abs().max()
    assert difference < 5e-3 if same else difference > 0.05


def two_kinds(known=2, side=40, sureness=6.0):
    """A tile of which the network is sure; a disc in it looks different, in one feature only.

    The left half is class 1 to the network, the right half class 2.
    """
    rows, columns = np.mgrid[:side, :side]
    disc = np.hypot(rows - 20, columns - 12) < 7
    own = np.zeros((known, side, side), np.float32)
    own[0, :, : side // 2] = own[1, :, side // 2 :] = sureness
    fine = 0.3 * noise(4, side, side)
    fine[1] += np.where(disc, 4, 0)
    return made(own, fine, 0.1 * noise(3, side // 2, side // 2, seed=1)), disc


def learnt(painted, features, classes, config=PATIENT):
    """What is seen in a tile after its paint was learnt."""
    head = fit_head(tile_examples(painted, features, config), classes, config)
    return winning(head.scores(features)), head


@pytest.mark.parametrize("config", [LiveConfig(), PATIENT], ids=["quick", "patient"])
@pytest.mark.parametrize("new", [3, 5])
def test_a_new_class_is_found_where_it_looks_like_its_paint_and_nowhere_else(new, config):
    features, disc = two_kinds()
    painted = np.zeros(disc.shape, np.uint8)
    painted[18:22, 8:12] = new

    found, _ = learnt(painted, features, 5, config)

    assert (found[disc] == new).mean() > 0.98
    assert not (found[~disc] == new).any()
    left = np.arange(40)[None] < 20
    np.testing.assert_array_equal(found[~disc], np.where(left & ~disc, 1, 2)[~disc])


def test_painted_pixels_get_their_class_where_features_tell_them_apart():
    # The network says nothing; each class has a level in which it is bright.
    rows, columns = np.mgrid[:32, :32]
    truth = 1 + (rows // 8 + columns // 8) % 3
    fine = (truth == 2)[None] * 4.0 + 0.3 * noise(1, 32, 32)
    coarse = (truth == 3)[None, ::2, ::2] * 4.0 + 0.3 * noise(1, 16, 16)
    features = made(np.zeros((2, 32, 32)), fine, coarse)
    painted = np.zeros((32, 32), np.uint8)
    painted[::3, ::2] = truth[::3, ::2]

    found, _ = learnt(painted, features, 3, LiveConfig(penalty=0.001))

    assert (found == truth)[painted > 0].mean() > 0.9
    inner = ((rows % 8) // 2 % 3 > 0) & (
        (columns % 8) // 2 % 3 > 0
    )  # coarse pixels are read between
    assert (found == truth)[inner & (painted == 0)].mean() > 0.97


def test_a_mistake_of_the_network_is_put_right():
    features, disc = two_kinds()
    painted = np.zeros(disc.shape, np.uint8)
    painted[17:23, 8:14] = 2
    before = winning(untrained(features, 2).scores(features))

    found, _ = learnt(painted, features, 2, PATIENT.replace(penalty=0.01))

    assert (before[disc] == 1).mean() > 0.95
    assert (found[disc] == 2).mean() > 0.95
    assert (found == before)[~disc].mean() > 0.99


@pytest.mark.parametrize("painted_class", [1, 2, 3])
def test_one_painted_class_does_not_take_everything(painted_class):
    features, disc = two_kinds(sureness=4.0)
    painted = np.zeros(disc.shape, np.uint8)
    painted[18:22, 8:12] = painted_class
    before = winning(untrained(features, 3).scores(features))

    found, _ = learnt(painted, features, 3)

    assert (found == before)[~disc].mean() > 0.98
    # nor does the memory hold what was painted
    assert (found[painted > 0] == painted_class).mean() > 0.95


def test_without_memory_one_painted_class_takes_what_looks_no_different():
    features, disc = two_kinds(sureness=1.0)
    painted = np.zeros(disc.shape, np.uint8)
    painted[30:36, 4:16] = 2

    found, head = learnt(painted, features, 2, PATIENT.replace(memory=0.0))

    assert (found == 2).mean() > 0.95
    assert head.weights.isfinite().all()
    assert head.bias.isfinite().all()


def test_what_the_network_is_not_sure_of_is_not_remembered():
    examples = drawn_examples(pixels=200, unpainted=0.6)
    sure = examples.own_scores.softmax(dim=1).max(dim=1).values > SURE
    unsure = (examples.painted == 0) & ~sure
    other = Examples(
        torch.where(unsure[:, None], examples.features * 7 + 3, examples.features),
        examples.own_scores,
        examples.painted,
        examples.counts,
    )
    config = PATIENT.replace(memory=3.0)

    assert unsure.sum() > 10
    torch.testing.assert_close(
        fit_head(examples, 3, config).weights, fit_head(other, 3, config).weights
    )


def test_however_many_classes_are_new_the_network_is_as_sure_of_its_own():
    features, disc = two_kinds(sureness=2.0)
    painted = np.zeros(disc.shape, np.uint8)
    painted[17:23, 8:14] = 3
    config = PATIENT.replace(memory=3.0)
    assert torch.tensor([2.0, 0.0]).softmax(dim=0).max() > SURE

    for classes in (3, 20):
        found, _ = learnt(painted, features, classes, config)

        assert (found[~disc] <= 2).mean() > 0.98
        assert (found[disc] == 3).mean() > 0.9


def test_where_nobody_painted_the_network_is_believed():
    features, disc = two_kinds()

    found, head = learnt(np.zeros(disc.shape, np.uint8), features, 4)

    assert not head.weights.any()
    assert not head.bias.any()
    assert np.array_equal(found, winning(untrained(features, 2).scores(features)))


@pytest.mark.parametrize("memory", [0.0, 0.2])
def test_a_tile_that_is_painted_all_over_is_learnt_from(memory):
    features, disc = two_kinds()
    painted = np.where(disc, 3, 1).astype(np.uint8)

    found, head = learnt(painted, features, 4, LiveConfig(memory=memory, penalty=0.01))

    assert head.weights.isfinite().all()
    assert head.bias.isfinite().all()
    assert (found == painted).mean() > 0.95


@pytest.mark.parametrize("pixels", [10, 3000])
def test_a_class_of_which_nothing_is_painted_stays_improbable(pixels):
    features, disc = two_kinds()
    painted = np.zeros(disc.shape, np.uint8)
    painted[:5], painted[18:22, 8:12] = 1, 6  # 3, 4 and 5 are new, too

    found, head = learnt(painted, features, 7, LiveConfig(pixels=pixels))

    assert head.weights.shape == (7, 7)
    assert head.weights.isfinite().all()
    assert set(np.unique(found)) <= {1, 2, 6}


def test_one_painted_pixel_is_enough_to_learn_from():
    features, disc = two_kinds()
    painted = np.zeros(disc.shape, np.uint8)
    painted[20, 12] = 3

    found, _ = learnt(painted, features, 3)

    assert (found[disc] == 3).mean() > 0.5
    assert not (found[~disc] == 3).any()


def test_a_class_is_learnt_beside_the_earlier_ones():
    features, disc = two_kinds()
    painted = np.zeros(disc.shape, np.uint8)
    painted[18:22, 8:12] = 3
    _, head = learnt(painted, features, 3)
    painted[2:6, 30:36] = 4  # looks like the rest of its half
    examples = tile_examples(painted, features, PATIENT)

    warm = fit_head(examples, 4, PATIENT, head)
    cold = fit_head(examples, 4, PATIENT)

    assert warm.weights.shape == (7, 4)
    found = winning(warm.scores(features))
    assert (found[disc] == 3).mean() > 0.98
    torch.testing.assert_close(warm.weights, cold.weights, atol=5e-3, rtol=0)


def test_a_head_on_other_features_or_for_more_classes_is_no_start():
    examples = drawn_examples()
    expected = fit_head(examples, 3)

    for features, classes in ((4, 3), (6, 3), (5, 6)):
        start = LiveHead(torch.ones(features, classes), torch.ones(classes))
        found = fit_head(examples, 3, start=start)

        assert torch.equal(found.weights, expected.weights)
        assert torch.equal(found.bias, expected.bias)


@pytest.mark.parametrize("scale", [1e4, 1e18])
def test_features_beyond_all_measure_leave_a_head_of_numbers(scale):
    examples = drawn_examples()
    examples.features[::7] *= scale

    head = fit_head(examples, 4)

    assert head.weights.isfinite().all()
    assert head.bias.isfinite().all()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("magnification", [1.0, 1.5])
def test_from_a_few_pixels_discs_are_found_that_the_network_knows_nothing_of(
    padding, magnification
):
    image, annotations = disc_image(sections=2, size=64)
    truth = np.stack([annotations.sections[index] for index in image.sections()])
    model = tiny_model("a", "b", "c", padding=padding)  # untrained
    sections = [
        tile_features(
            model.network,
            section,
            Tile(0, 0, 64, 64),
            grey_statistics(image),
            magnification=magnification,
            **EXACT,
        )
        for section in image.data
    ]
    space = feature_space(sections[0])
    first, second = (space.reduce(features) for features in sections)
    painted = np.zeros((64, 64), np.uint8)
    for number, painted_class in ((1, 1), (2, 4)):
        rows, columns = np.nonzero(truth[0] == number)
        some = np.random.default_rng(number).choice(len(rows), 150, replace=False)
        painted[rows[some], columns[some]] = painted_class

    head = fit_head(tile_examples(painted, first, LiveConfig()), 4)

    for features, expected in ((first, truth[0]), (second, truth[1])):
        found, disc = winning(head.scores(features)) == 4, expected == 2
        assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.9


# --- options -----------------------------------------------------------------------------


def test_every_option_of_the_live_head_explains_itself():
    for each in fields(LiveConfig):
        assert each.metadata["explanation"].endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dimensions", 0, "dimensions must be at least 1; got 0"),
        ("dimensions", 2.5, "dimensions must be of type int; got 2.5"),
        ("coarser", 0.0, "coarser must be at least 0.01; got 0.0"),
        ("coarser", 1.5, "coarser must be at most 1.0; got 1.5"),
        ("penalty", 0.0, "penalty must be at least 1e-06; got 0.0"),
        ("memory", -0.1, "memory must be at least 0.0; got -0.1"),
        ("memory", float("nan"), "memory must be a finite number"),
        ("class_balance", 1.1, "class_balance must be at most 1.0; got 1.1"),
        ("pixels", 9, "pixels must be at least 10; got 9"),
        ("iterations", 0, "iterations must be at least 1; got 0"),
        ("seed", -1, "seed must be at least 0; got -1"),
    ],
)
def test_an_option_that_is_not_allowed_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        LiveConfig(**{name: value})
    with pytest.raises(ValueError, match=message):
        LiveConfig.from_dict({name: value})


def test_the_options_of_the_live_head_survive_being_written_down():
    config = LiveConfig(dimensions=7, memory=1.5, seed=3)

    assert LiveConfig.from_dict(config.to_dict()) == config

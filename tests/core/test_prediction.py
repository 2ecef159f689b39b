import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from napari_unet.core.config import PredictionConfig
from napari_unet.core.features import feature_space, tile_features
from napari_unet.core.image import ImageArray, grey_statistics, image_from_array
from napari_unet.core.live import LiveHead, LiveModel
from napari_unet.core.network import context, output_size, smallest_input
from napari_unet.core.prediction import finish, gather, nearest_first, only_class, predict
from napari_unet.core.tiling import Tile
from tests.examples import noise_image, short_of_memory, tiny_model, with_lived_in_statistics

EXACT = PredictionConfig(precision="float32")


def predicted(model, image, config=EXACT, *, probabilities=True, **more):
    """The whole prediction, put together."""
    tiles = predict(model, image, config, device="cpu", **more)
    return finish(gather(tiles, image, len(model.classes), probabilities=probabilities))


@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 75),
    width=st.integers(2, 75),
    depth=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
    normalisation=st.sampled_from(["none", "batch"]),
    tile_size=st.integers(16, 60),
)
@settings(max_examples=25, deadline=None)
def test_probabilities_do_not_depend_on_the_tile_size(
    seed, height, width, depth, padding, normalisation, tile_size
):
    model = tiny_model(
        "a", "b", "c", seed=seed, depth=depth, padding=padding, normalisation=normalisation
    )
    image = noise_image(height, width, seed=seed, dtype=np.float32)
    assume(np.ptp(image.data) > 0)  # two pixels may be alike by chance; that is refused

    whole = predicted(model, image)
    tiled = predicted(model, image, EXACT.replace(tile_size=tile_size))

    np.testing.assert_allclose(tiled.data, whole.data, atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_an_image_smaller_than_the_context_of_the_network_is_predicted(padding):
    found = predicted(tiny_model(depth=3, padding=padding), noise_image(3, 5))

    assert found.shape == (2, 3, 5)
    np.testing.assert_allclose(found.data.sum(axis=0), 1, atol=1e-5)


def test_a_network_without_padding_sees_mirrored_surroundings():
    model, image = tiny_model(padding="valid"), noise_image(24, 24)
    padded = image_from_array(np.pad(image.data, 64, mode="reflect"))

    inside = predicted(model, padded, statistics=grey_statistics(image))

    np.testing.assert_allclose(
        inside.data[:, 64:-64, 64:-64], predicted(model, image).data, atol=2e-5
    )


@pytest.mark.parametrize("tile_size", [16, 512])
def test_a_padded_network_sees_the_border_as_in_training(tile_size):
    model, image = with_lived_in_statistics(tiny_model()), noise_image(64, 48)
    grey = torch.from_numpy(grey_statistics(image).normalise(image.data))
    with torch.no_grad():
        expected = model.network(grey[None, None])[0].softmax(dim=0)

    found = predicted(model, image, EXACT.replace(tile_size=tile_size))

    np.testing.assert_allclose(found.data, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(20, 24), (3, 20, 24), (2, 3, 20, 24)])
def test_a_mask_has_the_shape_and_meaning_of_its_image(shape):
    data = noise_image(*shape).data
    scale = (1.5, 50.0, 4.0, 4.0)[-len(shape) :]
    units = ("s", "nm", "nm", "nm")[-len(shape) :]
    image = ImageArray(data, "TZYX"[-len(shape) :], scale, units, "stack")
    model = tiny_model()

    mask = predicted(model, image, probabilities=False)
    shares = predicted(model, image)

    assert (mask.shape, mask.dtype) == (shape, np.uint8)
    assert (mask.axes, mask.scale, mask.units, mask.name) == (
        image.axes,
        scale,
        units,
        "stack",
    )
    assert set(np.unique(mask.data)) <= {1, 2}
    assert (shares.axes, shares.dtype) == ("C" + image.axes, np.float32)
    assert shares.scale == (1.0, *scale)
    assert np.array_equal(shares.data.argmax(axis=0) + 1, mask.data)


class OnDisk:
    """A section that remembers which rows are read of it."""

    def __init__(self, grey):
        self.grey, self.shape, self.dtype, self.rows_read = grey, grey.shape, grey.dtype, []

    def __getitem__(self, rows):
        self.rows_read.append((rows.start, rows.stop))
        return self.grey[rows]


@pytest.mark.parametrize("averaging", ["none", "symmetries", "rotations"])
@pytest.mark.parametrize("magnification", [1.0, 1.3])
def test_of_a_section_on_disk_the_rows_of_a_row_of_tiles_are_read_together(
    averaging, magnification
):
    model = replace(tiny_model(), pixel_size=4.0)
    image = image_from_array(noise_image(90, 200).data, "a", 4.0 * magnification)
    config = EXACT.replace(tile_size=32, test_time_augmentation=averaging)
    section = OnDisk(image.data)

    found = predicted(model, image.with_data(section), config, statistics=grey_statistics(image))

    np.testing.assert_array_equal(found.data, predicted(model, image, config).data)
    turned = 2 if averaging == "rotations" else 1  # what is seen aslant needs some rows more
    assert len(section.rows_read) <= 3 * turned


def test_every_section_of_a_stack_is_predicted_by_itself():
    model, image = tiny_model(), noise_image(2, 2, 20, 24)
    statistics = grey_statistics(image)

    together = predicted(model, image)

    for index in image.sections():
        alone = predicted(model, image_from_array(image.data[index]), statistics=statistics)
        np.testing.assert_allclose(together.data[:, *index], alone.data, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_grey_values_of_every_type_give_the_same_probabilities(dtype):
    model, image = tiny_model(), noise_image(40, 40)
    stretched = image.with_data((image.data.astype(np.float64) * 100 + 500).astype(dtype))

    np.testing.assert_allclose(
        predicted(model, stretched).data, predicted(model, image).data, atol=1e-4
    )


def test_a_black_and_white_image_is_predicted():
    image = image_from_array(noise_image(20, 24).data > 128)

    assert set(np.unique(predicted(tiny_model(), image, probabilities=False).data)) <= {1, 2}


def test_missing_pixels_are_told_and_leave_a_finite_result():
    image = noise_image(20, 20, dtype=np.float32)
    image.data[:2] = np.nan
    image.data[2:4] = np.inf

    with pytest.warns(UserWarning, match=r"20\.0% of the pixels of 'noise' are not finite"):
        found = predicted(tiny_model(), image)

    assert np.isfinite(found.data).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "holds no finite grey value"), (7.0, "is constant: every pixel looked at is 7")],
)
def test_an_image_without_content_is_refused(value, message):
    image = image_from_array(np.full((20, 20), value), "nothing")

    with pytest.raises(ValueError, match=f"'nothing' {message}"):
        predicted(tiny_model(), image)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="Unknown device 'abacus'; choose auto, cpu, cuda or mps"):
        next(predict(tiny_model(), noise_image(20, 20), device="abacus"))


def test_sections_nearest_to_the_one_looked_at_come_first():
    assert nearest_first([(z,) for z in range(5)], (3,)) == [(3,), (2,), (4,), (1,), (0,)]


def test_sections_of_the_same_time_come_before_those_of_another():
    indices = [(t, z) for t in range(2) for z in range(3)]

    assert nearest_first(indices, (1, 2)) == [(1, 2), (1, 1), (1, 0), (0, 2), (0, 1), (0, 0)]


def test_sections_are_predicted_in_the_given_order():
    image = noise_image(4, 20, 20)

    tiles = predict(tiny_model(), image, sections=[(2,), (0,)], device="cpu")

    assert [tile.section for tile in tiles] == [(2,), (0,)]


def test_a_section_that_is_looked_at_goes_next():
    work = predict(tiny_model(), noise_image(6, 20, 20), device="cpu")

    order = [next(work).section, work.send((4,)).section, *(tile.section for tile in work)]

    assert order == [(0,), (4,), (3,), (5,), (2,), (1,)]


def test_a_section_sent_to_gathering_reaches_the_prediction():
    model, image = tiny_model(), noise_image(4, 20, 20)
    work = gather(predict(model, image, device="cpu"), image, 2)

    next(work)

    assert work.send((3,)).section == (3,)


def test_progress_counts_sections():
    config = PredictionConfig(tile_size=16)

    tiles = list(predict(tiny_model(), noise_image(2, 20, 20), config, device="cpu"))

    assert [tile.done for tile in tiles] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [tile.finishes_section for tile in tiles] == [False, False, False, True] * 2
    assert {tile.total for tile in tiles} == {2}


@pytest.mark.parametrize("tiles_wanted", [0, 1, 3])
def test_prediction_stops_between_tiles_when_asked(tiles_wanted):
    done = []
    work = predict(
        tiny_model(),
        noise_image(3, 20, 20),
        PredictionConfig(tile_size=16),
        device="cpu",
        should_stop=lambda: len(done) == tiles_wanted,
    )

    finish(work, done.append)

    assert len(done) == tiles_wanted


def test_a_stopped_prediction_leaves_the_rest_unpredicted():
    image, done = noise_image(3, 20, 20), []
    tiles = predict(tiny_model(), image, device="cpu", should_stop=lambda: len(done) == 1)

    mask = finish(gather(tiles, image, 2), done.append)

    assert mask.data[0].all()
    assert not mask.data[1:].any()


def test_short_memory_gives_smaller_tiles_the_same_result_and_one_warning():
    model, image = tiny_model(), noise_image(2, 256, 200)
    expected = predicted(model, image)
    # A tile of 64 and what it sees around it fits; one of 128 does not.
    limited = short_of_memory(model, 128 * 128)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = predicted(limited, image)

    np.testing.assert_allclose(found.data, expected.data, atol=2e-5)
    assert [str(w.message) for w in said] == [
        "Not enough memory for tiles of 256 pixels a side; going on with 64."
    ]


def test_memory_too_short_for_any_tile_is_an_error():
    model = short_of_memory(tiny_model(), 100)

    with pytest.raises(MemoryError, match="not enough memory even for tiles of 64"):
        predicted(model, noise_image(128, 128))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_gpu_finds_what_the_cpu_finds():
    model, image = tiny_model(), noise_image(2, 60, 60)

    on_gpu = finish(
        gather(predict(model, image, EXACT, device="cuda"), image, 2, probabilities=True)
    )

    np.testing.assert_allclose(on_gpu.data, predicted(model, image).data, atol=1e-3)


def test_half_precision_is_close_to_full_precision():
    model, image = tiny_model(), noise_image(40, 40)

    half = predicted(model, image, PredictionConfig(precision="bfloat16"))

    np.testing.assert_allclose(half.data, predicted(model, image).data, atol=0.1)


def test_the_mask_of_one_class_is_0_and_255():
    mask = image_from_array(np.array([[1, 2], [3, 2]], np.uint8))

    assert only_class(mask, 2).data.tolist() == [[0, 255], [0, 255]]
    assert only_class(mask, 2).dtype == np.uint8


LOOKS = {"none": 1, "symmetries": 8, "rotations": 7}


def seen_at(magnification, model, image):
    """A model and an image that it sees enlarged by this factor."""
    return replace(model, pixel_size=8.0), image.with_pixel_size(8.0 * magnification)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("augmentation", "magnification"),
    [(a, m) for a in LOOKS for m in (0.6, 1.0, 1.7)] + [("none", 3.7)],
)
def test_however_a_section_is_looked_at_the_tile_size_changes_nothing(
    padding, augmentation, magnification
):
    normalisation = "batch" if padding == "same" else "none"
    model = with_lived_in_statistics(
        tiny_model("a", "b", "c", padding=padding, normalisation=normalisation, seed=3)
    )
    model, image = seen_at(magnification, model, noise_image(105, 71, dtype=np.float32))
    config = EXACT.replace(test_time_augmentation=augmentation)

    whole = predicted(model, image, config)
    tiled = predicted(model, image, config.replace(tile_size=48))

    # Between pixels, positions are rounded differently in pieces of different sizes; noise
    # changes by its whole range from pixel to pixel, so that a millionth of a pixel is seen.
    np.testing.assert_allclose(tiled.data, whole.data, atol=1e-4)
    np.testing.assert_allclose(whole.data.sum(axis=0), 1, atol=1e-5)
    assert whole.data.std() > 0.05


@pytest.mark.parametrize("augmentation", LOOKS)
def test_each_tile_is_looked_at_as_often_as_promised(augmentation):
    model, image = tiny_model(normalisation="none"), noise_image(24, 40)
    seen = []
    model.network.register_forward_hook(lambda network, grey, scores: seen.append(grey[0].shape))
    config = EXACT.replace(test_time_augmentation=augmentation, tile_size=24)

    predicted(model, image, config)

    assert len(seen) == 2 * LOOKS[augmentation]


def test_rotations_are_spread_evenly_over_the_full_turn():
    model = tiny_model(normalisation="none")
    seen = []
    model.network.register_forward_hook(lambda network, grey, scores: seen.append(grey[0][0, 0]))
    rising = image_from_array(np.broadcast_to(np.arange(96.0), (96, 96)))

    predicted(model, rising, EXACT.replace(test_time_augmentation="rotations"))

    angles = []
    for grey in seen:
        row, column = (n // 2 for n in grey.shape)
        here, below, beside = (
            float(grey[row + y, column + x]) for y, x in ((0, 0), (1, 0), (0, 1))
        )
        angles.append(np.degrees(np.arctan2(below - here, beside - here)) % 360)
    np.testing.assert_allclose(np.diff(np.sort(angles)), 360 / 7, atol=0.1)


TURNS = {
    "mirrored": lambda data: data[..., ::-1],
    "upside down": lambda data: data[..., ::-1, :],
    "a quarter turn": lambda data: np.rot90(data, 1, (-2, -1)),
    "three quarter turns": lambda data: np.rot90(data, 3, (-2, -1)),
}


@pytest.mark.parametrize("tile_size", [32, 512])
@pytest.mark.parametrize(
    ("depth", "padding", "shape"),
    [(2, "same", (48, 64)), (3, "same", (64, 48)), (2, "valid", (48, 60)), (3, "valid", (44, 60))],
)
def test_averaged_over_symmetries_a_turned_image_gives_the_turned_prediction(
    depth, padding, shape, tile_size
):
    # This holds for sizes that the network can put out. Others are filled up at one side, and
    # in the mirror image at the other, so that the poolings fall on other pixels.
    model = with_lived_in_statistics(tiny_model(depth=depth, padding=padding))
    for side in shape:
        assert output_size(model.network.config, smallest_input(model.network.config, side)) == side
    image = noise_image(*shape, dtype=np.float32)
    more = {
        "config": EXACT.replace(test_time_augmentation="symmetries", tile_size=tile_size),
        "statistics": grey_statistics(image),
    }

    found = predicted(model, image, **more).data

    for turn in TURNS.values():
        turned = predicted(model, image_from_array(turn(image.data).copy()), **more).data
        np.testing.assert_allclose(turned, turn(found), atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_symmetries_are_the_mean_over_all_mirror_images_and_quarter_turns(padding):
    model, image = with_lived_in_statistics(tiny_model(padding=padding)), noise_image(40, 48)
    statistics = grey_statistics(image)
    looks = []
    for turns in range(4):
        for mirror in (1, -1):
            seen = np.rot90(image.data, turns, (-2, -1))[..., ::mirror]
            found = predicted(model, image_from_array(seen.copy()), statistics=statistics).data
            looks.append(np.rot90(found[..., ::mirror], -turns, (-2, -1)))

    together = predicted(
        model, image, EXACT.replace(test_time_augmentation="symmetries"), statistics=statistics
    )

    np.testing.assert_allclose(together.data, np.mean(looks, axis=0), atol=1e-5)
    assert np.std(looks, axis=0).mean() > 0.01


def model_of_single_pixels(padding):
    """A model that looks at no neighbours: the probability follows the grey value there."""
    model = tiny_model(depth=1, width=2, padding=padding, normalisation="none")
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, second = network.contracting[0][0], network.contracting[0][2]
        first.weight[:, 0, 1, 1] = torch.tensor([1.0, -1.0])  # what is above and below the mean
        for layer in (second, network.expanding[0][0], network.expanding[0][2]):
            layer.weight[[0, 1], [0, 1], 1, 1] = 1.0
        network.classifier.weight[1, :, 0, 0] = torch.tensor([1.0, -1.0])
    return replace(model, network=network)


@pytest.mark.parametrize("tile_size", [32, 512])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("augmentation", "magnification"),
    [("rotations", 1.0), ("symmetries", 1.0), ("none", 0.5), ("none", 1.7), ("rotations", 2.0)],
)
def test_what_was_turned_or_enlarged_comes_back_to_its_place(
    padding, augmentation, magnification, tile_size
):
    rows, columns = np.mgrid[:72, :60].astype(np.float32)
    image = image_from_array(rows - 2 * columns)  # rises evenly, but for the fold at its border
    model = model_of_single_pixels(padding)
    statistics = grey_statistics(image)
    expected = predicted(model, image, statistics=statistics).data

    found = predicted(
        *seen_at(magnification, model, image),
        EXACT.replace(test_time_augmentation=augmentation, tile_size=tile_size),
        statistics=statistics,
    ).data

    inner = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-3)
    # a tenth of a pixel beside its place it would be seen
    assert np.abs(np.diff(expected[inner], axis=2)).max() > 10 * 1e-3


@pytest.mark.parametrize(
    ("of_model", "of_image"), [(5.0, 5.2), (5.0, 4.8), (None, 20.0), (5.0, None), (None, None)]
)
def test_an_image_of_the_same_or_unknown_pixel_size_is_taken_as_it_is(of_model, of_image):
    model, image = tiny_model(), noise_image(30, 30)
    sized = replace(model, pixel_size=of_model)
    known = image if of_image is None else image.with_pixel_size(of_image)

    assert np.array_equal(predicted(sized, known).data, predicted(model, image).data)


def enlarged(data):
    """A stack (classes or sections, Y, X) with four pixels for each, interpolated."""
    return functional.interpolate(
        torch.as_tensor(data)[None], scale_factor=2, mode="bilinear", align_corners=False
    )[0].numpy()


def reduced(data):
    """A stack with a pixel for each four, the mean of what a small blur leaves of them."""
    blurred = ndimage.gaussian_filter(data, (0, 0.5, 0.5), mode="mirror", radius=(0, 2, 2))
    return functional.avg_pool2d(torch.as_tensor(blurred)[None], 2)[0].numpy()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("magnification", "there", "back"), [(2.0, enlarged, reduced), (0.5, reduced, enlarged)]
)
def test_another_pixel_size_gives_what_predicting_a_resized_image_and_resizing_back_gives(
    padding, magnification, there, back
):
    model, image = tiny_model(padding=padding), noise_image(160, 128, dtype=np.float32)
    resized = image_from_array(there(image.data[None])[0])
    more = {"statistics": grey_statistics(image)}

    found = predicted(*seen_at(magnification, model, image), **more)
    expected = back(predicted(model, resized, **more).data)
    as_it_is = predicted(model, image, **more)

    # The border is not resized but mirrored, which is seen as far as the network looks.
    far = int(context(model.network.config) / magnification) + 2
    inner = np.s_[:, far:-far, far:-far]
    assert found.shape == (2, 160, 128)
    np.testing.assert_allclose(found.data[inner], expected[inner], atol=1e-4)
    assert np.abs(found.data[inner] - as_it_is.data[inner]).max() > 0.1


def test_the_enlargement_has_a_limit():
    model, image = tiny_model(), noise_image(20, 24)

    assert np.array_equal(
        predicted(*seen_at(40.0, model, image)).data, predicted(*seen_at(4.0, model, image)).data
    )


@pytest.mark.parametrize("magnification", [0.25, 4.0])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_tiny_image_of_another_pixel_size_is_predicted(magnification, padding):
    found = predicted(*seen_at(magnification, tiny_model(padding=padding), noise_image(3, 5)))

    assert found.shape == (2, 3, 5)
    np.testing.assert_allclose(found.data.sum(axis=0), 1, atol=1e-5)


def test_short_memory_gives_smaller_tiles_of_an_enlarged_image_too():
    model, image = seen_at(2.0, tiny_model(), noise_image(128, 100))
    expected = predicted(model, image)
    limited = short_of_memory(model, 200 * 200)

    with pytest.warns(UserWarning, match="Not enough memory for tiles of 128 .* going on with 64"):
        found = predicted(limited, image)

    np.testing.assert_allclose(found.data, expected.data, atol=1e-4)


def untaught(model, image):
    """The model with a live head that has learnt nothing."""
    features = tile_features(
        model.folded,
        image.data[0] if image.data.ndim == 3 else image.data,
        Tile(0, 0, *image.shape[-2:]),
        grey_statistics(image),
        device=torch.device("cpu"),
    )
    space = feature_space(features)
    size = sum(basis.shape[1] for basis in space.bases)
    head = LiveHead(torch.zeros(size, len(model.classes)), torch.zeros(len(model.classes)))
    return LiveModel(model, model.classes, space, head)


@pytest.mark.parametrize("averaging", ["none", "symmetries", "rotations"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_head_that_has_learnt_nothing_predicts_what_its_network_does(averaging, padding):
    model = tiny_model("a", "b", "c", padding=padding)
    image = noise_image(40, 52)
    config = EXACT.replace(test_time_augmentation=averaging)

    found = predicted(untaught(model, image), image, config)

    np.testing.assert_allclose(found.data, predicted(model, image, config).data, atol=2e-3)


@pytest.mark.parametrize("averaging", ["none", "symmetries", "rotations"])
def test_what_was_painted_is_found_as_it_was_painted_in_its_section(averaging):
    model, image = tiny_model("a", "b", "c"), noise_image(3, 40, 52)
    painted = np.zeros((40, 52), np.uint8)
    painted[4:9, 5:20], painted[25:30, 10:50] = 2, 3
    config = EXACT.replace(test_time_augmentation=averaging, tile_size=16)
    live = untaught(model, image)
    before = predicted(live, image, config).data

    found = predicted(replace(live, painted={(1,): painted}), image, config).data

    assert (found.argmax(axis=0)[1] + 1 == painted)[painted > 0].all()
    assert (before.argmax(axis=0)[1] + 1 != painted)[painted > 0].any()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(found[:, [0, 2]], before[:, [0, 2]])


@pytest.mark.parametrize("averaging", ["none", "symmetries"])
def test_what_is_found_around_paint_does_not_depend_on_the_tile_size(averaging):
    model, image = tiny_model("a", "b", "c"), noise_image(64, 80)
    live = untaught(model, image)
    own = predicted(live, image, EXACT).data.argmax(axis=0) + 1
    painted = np.zeros((64, 80), np.uint8)
    for row in (14, 31, 49):  # beside borders of tiles of 16 pixels, and across others
        painted[row, 3:77:5] = own[row, 3:77:5] % 3 + 1
    live = replace(live, painted={(): painted})

    whole, small = (
        predicted(live, image, EXACT.replace(test_time_augmentation=averaging, tile_size=size)).data
        for size in (128, 16)
    )

    assert (whole.argmax(axis=0) + 1 != own)[painted == 0].mean() > 0.05
    # Of paint that is equally near, either may be followed.
    assert np.isclose(whole, small, atol=5e-3).all(axis=0).mean() > 0.98


def test_a_head_decides_in_every_look():
    model = tiny_model("a", "b", "c")
    image = noise_image(40, 52)
    live = untaught(model, image)
    head = LiveHead(live.head.weights, torch.tensor([0.0, 50.0, 0.0]))
    config = EXACT.replace(test_time_augmentation="symmetries")

    found = predicted(replace(live, head=head), image, config)

    assert (found.data.argmax(axis=0) == 1).all()

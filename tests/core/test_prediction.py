import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import ImageArray, grey_statistics, image_from_array
from napari_unet.core.prediction import finish, gather, nearest_first, only_class, predict
from tests.examples import noise_image, short_of_memory, tiny_model

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

    whole = predicted(model, image)
    tiled = predicted(model, image, EXACT.replace(tile_size=tile_size))

    np.testing.assert_allclose(tiled.data, whole.data, atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_an_image_smaller_than_the_context_of_the_network_is_predicted(padding):
    found = predicted(tiny_model(depth=3, padding=padding), noise_image(3, 5))

    assert found.shape == (2, 3, 5)
    np.testing.assert_allclose(found.data.sum(axis=0), 1, atol=1e-5)


def test_a_prediction_with_padding_sees_mirrored_surroundings():
    model, image = tiny_model(), noise_image(24, 24)
    padded = image_from_array(np.pad(image.data, 64, mode="reflect"))

    inside = predicted(model, padded, statistics=grey_statistics(image))

    np.testing.assert_allclose(
        inside.data[:, 64:-64, 64:-64], predicted(model, image).data, atol=2e-5
    )


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

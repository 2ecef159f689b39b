import numpy as np
import pytest

from napari_unet.core.image import ImageArray, as_grey, grey_statistics, image_from_array


def image(data, axes="YX", scale=None, units=None):
    n = len(axes)
    return ImageArray(data, axes, scale or (1.0,) * n, units or ("nm",) * n, "cells")


@pytest.mark.parametrize(
    ("data", "axes", "message"),
    [
        (np.zeros((0, 4)), "YX", r"'cells' is empty: its shape is \(0, 4\)"),
        (np.zeros(4), "X", r"shape \(4,\); an image needs at least two axes"),
        (np.zeros((2, 2), complex), "YX", "values of type complex128; grey values must be"),
        (np.zeros((2, 2), "U1"), "YX", "grey values must be integers or real numbers"),
        (np.zeros((2, 2)), "ZYX", r"has 2 axes \(2, 2\), but axes has 3 entries: 'ZYX'"),
        (np.zeros((2, 2)), "ZX", "must hold Y and X once each"),
        (np.zeros((2, 2, 2)), "YYX", "must hold Y and X once each"),
    ],
)
def test_an_array_that_is_no_image_is_refused(data, axes, message):
    with pytest.raises(ValueError, match=message):
        ImageArray(data, axes, (1.0,) * len(axes), ("nm",) * len(axes), "cells")


@pytest.mark.parametrize("scale", [(1.0,), (1.0, 1.0, 1.0)])
def test_a_scale_of_another_length_is_refused(scale):
    with pytest.raises(ValueError, match="but scale has"):
        image(np.zeros((2, 2)), scale=scale)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0)])
def test_a_scale_that_is_no_length_is_refused(scale):
    with pytest.raises(ValueError, match="must be positive"):
        image(np.zeros((2, 2)), scale=scale)


def test_units_of_another_length_are_refused():
    with pytest.raises(ValueError, match="but units has 1 entries"):
        image(np.zeros((2, 2)), units=("nm",))


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_an_array_becomes_an_image_with_the_last_of_its_axes(shape):
    made = image_from_array(np.zeros(shape), pixel_size=4)

    assert made.axes == "TZYX"[-len(shape) :]
    assert made.scale[-2:] == (4.0, 4.0)
    assert made.units[-2:] == ("nm", "nm")
    assert set(made.units[:-2]) <= {"pixel"}


def test_an_array_of_unknown_spacing_is_measured_in_pixels():
    assert image_from_array(np.zeros((2, 2))).units == ("pixel", "pixel")


def test_an_array_of_five_axes_is_refused():
    with pytest.raises(ValueError, match="has 5 axes; at most four"):
        image_from_array(np.zeros((1, 1, 1, 2, 2)))


def test_a_one_dimensional_array_is_refused():
    with pytest.raises(ValueError, match="at least two axes"):
        image_from_array(np.zeros(9))


def test_sections_are_counted_in_order():
    assert list(image(np.zeros((2, 2, 3, 3)), "TZYX").sections()) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert list(image(np.zeros((3, 3))).sections()) == [()]


def test_a_colour_image_becomes_its_luminance():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)

    grey = as_grey(image(colours, "YXS"))

    assert (grey.axes, grey.shape) == ("YX", (1, 4))
    np.testing.assert_allclose(grey.data[0] / 255, [0.2126, 0.7152, 0.0722, 1], atol=1e-5)


def test_transparency_is_left_out():
    colours = np.full((2, 2, 4), 100, np.uint8)
    colours[..., 3] = [[0, 50], [100, 255]]

    np.testing.assert_allclose(as_grey(image(colours, "YXS")).data, 100, atol=1e-3)


def test_several_channels_ask_for_a_choice():
    channels = image(np.zeros((3, 4, 4)), "CYX")

    with pytest.raises(ValueError, match=r"has 3 channels; .* Choose a channel from 0 to 2"):
        as_grey(channels)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"no channel {wrong}; its channels are 0 to 2"):
            as_grey(channels, wrong)


def test_the_chosen_channel_keeps_the_meaning_of_the_other_axes():
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    stack = ImageArray(data, "ZCYX", (50.0, 1.0, 4.0, 3.0), ("nm", "", "nm", "µm"))

    grey = as_grey(stack, 1)

    assert (grey.axes, grey.scale, grey.units) == ("ZYX", (50.0, 4.0, 3.0), ("nm", "nm", "µm"))
    assert np.array_equal(grey.data, data[:, 1])


def test_a_single_channel_needs_no_choice():
    assert as_grey(image(np.zeros((1, 4, 4)), "CYX")).axes == "YX"


def test_a_grey_image_is_passed_on_as_it_is():
    stack = image(np.zeros((2, 4, 4)), "ZYX")

    assert as_grey(stack) is stack


def test_an_image_with_y_and_x_in_front_asks_to_be_transposed():
    with pytest.raises(ValueError, match="must end with Y, X; transpose"):
        as_grey(image(np.zeros((4, 4, 2)), "YXZ"))


def test_normalised_grey_values_have_mean_0_and_deviation_1():
    grey = np.random.default_rng(0).normal(1000, 50, (4, 64, 64))

    found = grey_statistics(image_from_array(grey)).normalise(grey)

    assert found.dtype == np.float32
    assert abs(found.mean()) < 0.01
    assert found.std() == pytest.approx(1, abs=0.05)


def test_a_few_hot_pixels_do_not_change_the_statistics():
    grey = np.random.default_rng(0).normal(100, 10, (256, 256))
    hot = grey.copy()
    hot.flat[::700] = 65535

    plain, spoilt = (grey_statistics(image_from_array(each)) for each in (grey, hot))

    assert spoilt.mean == pytest.approx(plain.mean, rel=0.01)
    assert spoilt.deviation == pytest.approx(plain.deviation, rel=0.05)


def test_missing_pixels_are_counted_and_normalised_to_0():
    grey = np.random.default_rng(0).normal(100, 10, (40, 40))
    grey[:10] = np.nan

    statistics = grey_statistics(image_from_array(grey))

    assert statistics.missing == pytest.approx(0.25)
    assert statistics.mean == pytest.approx(100, abs=2)
    assert not statistics.normalise(grey)[:10].any()


def test_two_grey_values_are_enough():
    rare = np.zeros((100, 100), np.uint8)
    rare[0, 0] = 1

    assert grey_statistics(image_from_array(rare)).deviation > 0


def test_statistics_look_at_few_sections_of_a_long_stack():
    class Stack:
        shape = (500, 8, 8)
        dtype = np.dtype(np.uint8)
        read = 0

        def __getitem__(self, where):
            self.read += 1
            return np.random.default_rng(where[0]).integers(0, 9, (8, 8), np.uint8)

    stack = Stack()
    grey_statistics(image_from_array(stack), sections=5)

    assert stack.read == 5


def test_luminance_is_the_same_whichever_part_is_looked_at():
    colours = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
    image = as_grey(ImageArray(colours, "ZYXS", (1.0,) * 4, ("pixel",) * 3 + ("",)))
    whole = np.asarray(image.data)
    assert image.shape == (3, 6, 5)
    np.testing.assert_allclose(whole, colours @ [0.2126, 0.7152, 0.0722], rtol=1e-5)
    np.testing.assert_array_equal(image.data[1], whole[1])
    np.testing.assert_array_equal(image.data[..., 2:4, 1:3], whole[..., 2:4, 1:3])
    np.testing.assert_array_equal(image.data[2, ::2, ::3], whole[2, ::2, ::3])


def test_a_channel_of_an_image_without_channels_is_refused():
    with pytest.raises(ValueError, match="no channel 7"):
        as_grey(image_from_array(np.zeros((4, 4), np.uint8)), 7)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_grey_values_far_from_zero_keep_their_differences(dtype):
    small = np.arange(256).reshape(16, 16)
    far = (small + 1_000_000_000).astype(dtype)
    near = image_from_array(small.astype(dtype))
    image = image_from_array(far)
    np.testing.assert_allclose(
        grey_statistics(image).normalise(far),
        grey_statistics(near).normalise(small.astype(dtype)),
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("scale", "units", "pixel_size"),
    [
        ((4.0, 4.0), ("nm", "nm"), 4.0),
        ((0.004, 0.004), ("µm", "µm"), 4.0),
        ((0.004, 4.0), ("µm", "nm"), 4.0),
        ((40.0, 40.0), ("Å", "Å"), 4.0),
        ((2.0, 8.0), ("nm", "nm"), 4.0),  # a square pixel of the same area
        ((4.0, 4.0), ("pixel", "pixel"), None),
        ((4.0, 4.0), ("nm", "pixel"), None),
        ((4.0, 4.0), ("s", "s"), None),
    ],
)
def test_the_pixel_size_is_told_in_nanometres(scale, units, pixel_size):
    flat = image(np.zeros((3, 3)), scale=scale, units=units)
    stack = image(np.zeros((2, 3, 3)), "ZYX", (50.0, *scale), ("s", *units))

    for each in (flat, stack):
        assert each.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size))


def test_an_image_takes_another_pixel_size_along_y_and_x_only():
    stack = image(np.zeros((2, 3, 3)), "ZYX", (50.0, 0.004, 1.0), ("nm", "µm", "pixel"))

    changed = stack.with_pixel_size(7.5)

    assert (changed.scale, changed.units) == ((50.0, 7.5, 7.5), ("nm", "nm", "nm"))
    assert changed.pixel_size == 7.5
    assert (changed.axes, changed.name) == ("ZYX", "cells")
    assert changed.data is stack.data
    assert stack.scale == (50.0, 0.004, 1.0)


@pytest.mark.parametrize("pixel_size", [0.0, -4.0, np.nan])
def test_a_pixel_size_that_is_no_length_is_refused(pixel_size):
    with pytest.raises(ValueError, match="must be positive"):
        image(np.zeros((3, 3))).with_pixel_size(pixel_size)

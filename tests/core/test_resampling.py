import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_unet.core.resampling import antialiasing_deviation, blurred, resample


def planes(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def positions(rows, columns, height, width):
    """Pixels of a plane as positions from its centre, (2, rows, columns)."""
    return torch.stack(
        torch.meshgrid(
            torch.as_tensor(rows) - (height - 1) / 2,
            torch.as_tensor(columns) - (width - 1) / 2,
            indexing="ij",
        )
    )


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(9, 14), (8, 1), (1, 1)])
def test_at_whole_pixels_the_values_themselves_are_read(mode, height, width):
    grey = planes(3, height, width)

    found = resample(grey, positions(range(height), range(width), height, width), mode)

    torch.testing.assert_close(found, grey, atol=1e-5, rtol=0)


def test_between_pixels_lies_their_mean_or_the_nearer_one():
    grey = planes(1, 6, 7)
    half, quarter = (positions([2.0], [3 + f], 6, 7) for f in (0.5, 0.25))

    assert resample(grey, half, "bilinear").item() == pytest.approx(
        grey[0, 2, 3:5].mean().item(), abs=1e-6
    )
    assert resample(grey, quarter, "nearest").item() == grey[0, 2, 3]


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_beyond_the_border_a_plane_is_mirrored(mode):
    grey = planes(2, 6, 8)
    mirrored = np.pad(grey, ((0, 0), (4, 5), (7, 3)), mode="reflect")

    found = resample(grey, positions(range(-4, 11), range(-7, 11), 6, 8), mode)

    np.testing.assert_allclose(found, mirrored, atol=1e-5)


def test_a_blur_leaves_what_is_constant_as_it_is():
    for shape in ((2, 20, 30), (1, 3, 3), (1, 1, 5)):  # narrower than the blur, too
        torch.testing.assert_close(blurred(torch.full(shape, 7.0), 2.5), torch.full(shape, 7.0))


def test_a_blur_keeps_the_mean_and_lowers_the_variance():
    grey = torch.zeros(1, 60, 60)
    grey[:, 10:-10, 10:-10] = planes(1, 40, 40)

    found = blurred(grey, 2.0)

    assert found.mean().item() == pytest.approx(grey.mean().item(), rel=1e-5)
    assert found[:, 20:40, 20:40].var() < 0.1 * grey[:, 20:40, 20:40].var()


@pytest.mark.parametrize("deviation", [0.5, 1.5, 4.0])
def test_a_blur_is_that_of_scipy_mirrored_at_the_border(deviation):
    grey = planes(2, 40, 33)

    expected = [
        ndimage.gaussian_filter(
            plane.numpy(), deviation, mode="mirror", radius=int(np.ceil(3 * deviation))
        )
        for plane in grey
    ]

    np.testing.assert_allclose(blurred(grey, deviation), expected, atol=1e-5)


def test_less_than_a_tenth_of_a_pixel_is_no_blur():
    grey = planes(1, 8, 8)

    assert torch.equal(blurred(grey, 0.09), grey)


@pytest.mark.parametrize(
    ("step", "deviation"), [(0.25, 0.0), (1.0, 0.0), (1.5, 0.25), (2.0, 0.5), (4.0, 1.5)]
)
def test_skipped_pixels_are_blurred_by_half_of_what_is_skipped(step, deviation):
    assert antialiasing_deviation(step) == deviation

import struct

import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

IMAGES = np.random.default_rng(0).integers(0, 1000, (4, 5, 7)).astype(np.uint16)


def series(images, delta=2e-9, kind=0x4122, dimensions=None, valid=None):
    """The bytes of a SER file, written by its published layout."""
    count = len(images)
    head = struct.pack("<hhh", 0x4949, 0x0197, 0x0220)
    dimensions = dimensions or [(count, 1.0, b"")]
    body = b""
    for size, step, unit in dimensions:
        body += struct.pack("<iddi", size, 0.0, step, 0)
        body += struct.pack("<i", 6) + b"Number" + struct.pack("<i", len(unit)) + unit
    start = len(head) + 16 + 8 + 4 + len(body)
    offsets, elements = [], b""
    for image in images:
        offsets.append(start + 16 * count + len(elements))
        shape = image.shape[::-1]
        for _ in shape:
            elements += struct.pack("<ddi", 0.0, delta, 0)
        code = {"uint16": 2, "float32": 7, "complex64": 9}[str(image.dtype)]
        elements += struct.pack("<h", code) + struct.pack(f"<{len(shape)}i", *shape)
        elements += image[::-1].tobytes()
    head += struct.pack("<iiii", kind, 0x4152, count, count if valid is None else valid)
    head += struct.pack("<qi", start, len(dimensions)) + body
    return head + struct.pack(f"<{2 * count}q", *offsets, *offsets) + elements


def test_images_are_read_one_at_a_time_with_their_pixel_size(tmp_path):
    (tmp_path / "a b_1.ser").write_bytes(series(IMAGES))

    found = read_image(tmp_path / "a b_1.ser")

    assert (found.axes, found.units[1:]) == ("ZYX", ("nm", "nm"))
    assert found.scale[1:] == pytest.approx((2, 2))
    assert found.data.chunks[0] == (1, 1, 1, 1)
    assert np.array_equal(np.asarray(found.data), IMAGES)
    assert np.array_equal(np.asarray(found.data[2, 1:3, ::2]), IMAGES[2, 1:3, ::2])


def test_a_single_image_has_no_axis_for_the_series(tmp_path):
    (tmp_path / "a.ser").write_bytes(series(IMAGES[:1]))

    assert read_image(tmp_path / "a.ser").axes == "YX"


def test_a_grid_of_images_has_two_axes_before_the_image(tmp_path):
    grid = [(2, 1e-8, b"m"), (2, 2e-8, b"m")]
    (tmp_path / "a.ser").write_bytes(series(IMAGES, dimensions=grid))

    found = read_image(tmp_path / "a.ser")

    assert (found.axes, found.shape) == ("TZYX", (2, 2, 5, 7))
    assert np.array_equal(np.asarray(found.data).reshape(IMAGES.shape), IMAGES)


def test_a_diffraction_pattern_has_no_pixel_size(tmp_path):
    (tmp_path / "a.ser").write_bytes(series(IMAGES[:1], delta=3e7))

    assert read_image(tmp_path / "a.ser").units == ("pixel", "pixel")


def test_spectra_and_complex_numbers_are_refused(tmp_path):
    spectra = [np.zeros(9, np.float32)] * 3
    (tmp_path / "s.ser").write_bytes(series(spectra, kind=0x4120))
    (tmp_path / "c.ser").write_bytes(series(IMAGES.astype(np.complex64)))

    with pytest.raises(FileReadError, match=r"s\.ser .*3 spectra.*a spectrum is not an image"):
        read_image(tmp_path / "s.ser")
    with pytest.raises(FileReadError, match=r"c\.ser holds complex numbers"):
        read_image(tmp_path / "c.ser")


def test_an_emi_file_leads_to_the_first_images_beside_it(tmp_path):
    (tmp_path / "a.emi").write_bytes(b"JK\0\2")
    with pytest.raises(FileReadError, match=r"a_1\.ser and so on, and there are none"):
        read_image(tmp_path / "a.emi")
    (tmp_path / "a_1.ser").write_bytes(series([np.zeros(9, np.float32)], kind=0x4120))
    (tmp_path / "a_2.ser").write_bytes(series(IMAGES))

    assert read_image(tmp_path / "a.emi").shape == IMAGES.shape


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.8, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, share):
    whole = series(IMAGES)
    (tmp_path / "cut.ser").write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(FileReadError, match=r"Cannot read .*cut\.ser"):
        read_image(tmp_path / "cut.ser")

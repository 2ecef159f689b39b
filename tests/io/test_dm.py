import struct

import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

CODES = {"int16": (1, 2), "float32": (2, 6), "uint8": (6, 8), "complex64": (3, 6)}
"""Numbers of the types of pixels, and of the elements they are stored as."""


def group(entries):
    """A group of named tags or groups, as DM3 files store it."""
    content = b"\1\0" + struct.pack(">I", len(entries))
    for name, value in entries:
        kind = 20 if isinstance(value, list) else 21
        content += struct.pack(">BH", kind, len(name)) + name.encode("latin-1")
        content += group(value) if kind == 20 else b"%%%%" + value
    return content


def number(value):
    if isinstance(value, float):
        return struct.pack(">II", 1, 6) + struct.pack("<f", value)
    return struct.pack(">II", 1, 5) + struct.pack("<I", value)


def array(content, code, count):
    return struct.pack(">IIII", 3, 20, code, count) + content


def text(value):
    return array(value.encode("utf-16-le"), 4, len(value))


def entry(data, calibration, data_type=None):
    """An entry of the list of images; calibration goes from X on."""
    code, element = CODES.get(str(data.dtype), (data_type, 8))
    content = np.ascontiguousarray(data).tobytes()
    size = {2: 2, 6: 4, 8: 1}[element]
    axes = [[("Scale", number(s)), ("Units", text(u))] for s, u in calibration]
    lengths = data.shape[::-1] if data_type != 23 else data.shape[1::-1]
    return [
        (
            "ImageData",
            [
                ("Calibrations", [("Dimension", [("", axis) for axis in axes])]),
                ("Data", array(content, element, len(content) // size)),
                ("DataType", number(data_type or code)),
                ("Dimensions", [("", number(n)) for n in lengths]),
            ],
        )
    ]


THUMBNAIL = entry(np.zeros((3, 3, 4), np.uint8), [(1.0, "")] * 2, 23)


def written(path, *entries):
    tags = group(
        [
            ("ImageList", [("", each) for each in (THUMBNAIL, *entries)]),
            ("Thumbnails", [("", [("ImageIndex", number(0))])]),
        ]
    )
    path.write_bytes(struct.pack(">III", 3, len(tags), 1) + tags + b"\0" * 8)
    return path


IMAGE = np.random.default_rng(0).integers(0, 100, (3, 5, 7)).astype(np.int16)


def test_the_image_is_read_with_a_spacing_for_each_axis(tmp_path):
    calibration = [(2.0, "pm"), (3.0, "nm"), (4.0, "µm")]

    found = read_image(written(tmp_path / "ä b.dm3", entry(IMAGE, calibration)))

    assert (found.axes, found.name) == ("ZYX", "ä b")
    assert (found.scale, found.units) == ((4.0, 3.0, 2.0), ("µm", "nm", "pm"))
    assert np.array_equal(found.data, IMAGE)


def test_a_spectrum_before_the_image_is_passed_over(tmp_path):
    spectrum = entry(np.zeros(9, np.float32), [(0.1, "eV")])

    found = read_image(written(tmp_path / "a.dm3", spectrum, entry(IMAGE[0], [(1.0, "nm")] * 2)))

    assert found.shape == (5, 7)


def test_images_at_several_energies_are_a_stack_wherever_the_energy_is(tmp_path):
    last = [(1.0, "eV"), (3.0, "nm"), (4.0, "nm")]

    found = read_image(written(tmp_path / "a.dm3", entry(IMAGE, last)))

    assert (found.axes, found.units) == ("ZYX", ("pixel", "nm", "nm"))
    assert np.array_equal(found.data, IMAGE.transpose(2, 0, 1))


def test_reciprocal_lengths_are_no_pixel_size(tmp_path):
    found = read_image(written(tmp_path / "a.dm3", entry(IMAGE[0], [(0.5, "1/nm")] * 2)))

    assert (found.scale, found.units) == ((1.0, 1.0), ("pixel", "pixel"))


def test_colours_are_red_green_and_blue(tmp_path):
    colours = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)

    found = read_image(written(tmp_path / "a.dm3", entry(colours, [(1.0, "nm")] * 2, 23)))

    assert found.axes == "YXS"
    assert np.array_equal(found.data, colours[..., 2::-1])


def test_files_without_an_image_are_refused_with_what_they_hold(tmp_path):
    spectrum = entry(np.zeros((1, 9), np.float32), [(0.1, "eV"), (1.0, "")])
    transform = entry(IMAGE[0].astype(np.complex64), [(1.0, "nm")] * 2)

    with pytest.raises(FileReadError, match=r"a spectrum is not an image; .*complex numbers"):
        read_image(written(tmp_path / "a.dm3", spectrum, transform))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_a_file_that_was_cut_short_is_refused(tmp_path, share):
    whole = written(tmp_path / "a.dm3", entry(IMAGE, [(1.0, "nm")] * 3)).read_bytes()
    (tmp_path / "cut.dm3").write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(FileReadError, match=r"Cannot read .*cut\.dm3"):
        read_image(tmp_path / "cut.dm3")

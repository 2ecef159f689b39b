import json

import h5py
import numpy as np
import pytest

from napari_unet.core.image import ImageArray, as_grey
from napari_unet.io.images import read_grey, read_image, write_image

DATA = np.random.default_rng(0).integers(0, 200, (6, 20, 30), np.uint8)

PIXELS = ((1.0, "pixel"),) * 3


def lengths(image):
    return tuple(zip(image.scale, image.units, strict=True))


def stored(path, data=DATA, **attributes):
    with h5py.File(path / "a.h5", "w") as file:
        file["raw"] = data
        file["raw"].attrs.update(attributes)
    return path / "a.h5"


def tags(axes):
    return json.dumps({"axes": [{"key": each, "typeFlags": 2} for each in axes]})


@pytest.mark.parametrize(
    ("axes", "known"),
    [
        ("ZYX", ((1.0, "pixel"), (4.0, "nm"), (4.0, "nm"))),
        ("TYX", ((2.5, "s"), (1.0, "pixel"), (1.0, "pixel"))),
        ("ZYX", ((0.5, "µm"), (1.0, "pixel"), (4.0, "Å"))),
    ],
)
def test_what_is_known_of_some_axes_comes_back(tmp_path, axes, known):
    scale, units = zip(*known, strict=True)
    write_image(tmp_path / "a.h5", ImageArray(DATA, axes, scale, units))

    assert lengths(read_image(tmp_path / "a.h5")) == known


def test_a_time_step_comes_back_beside_the_size_of_pixels(tmp_path):
    image = ImageArray(DATA, "TYX", (2.5, 4.0, 4.0), ("second", "nm", "nm"))
    write_image(tmp_path / "a.h5", image)

    found = read_image(tmp_path / "a.h5")

    assert lengths(found)[0] == (2.5, "s")
    assert found.pixel_size == pytest.approx(4.0)


def test_spacing_is_written_as_ilastik_tells_it_and_as_fiji_does_where_all_is_known(tmp_path):
    write_image(
        tmp_path / "some.h5", ImageArray(DATA, "ZYX", (1.0, 4.0, 4.0), ("pixel", "nm", "nm"))
    )
    write_image(tmp_path / "all.h5", ImageArray(DATA, "TYX", (2.5, 4.0, 4.0), ("s", "nm", "nm")))

    with h5py.File(tmp_path / "some.h5") as file:
        told = dict(file["data"].attrs)
    assert "element_size_um" not in told
    assert [each["resolution"] for each in json.loads(told["axistags"])["axes"]] == [0, 4, 4]
    assert json.loads(told["axis_units"]) == {"z": "", "y": "nm", "x": "nm"}
    with h5py.File(tmp_path / "all.h5") as file:
        told = dict(file["data"].attrs)
    assert told["element_size_um"] == pytest.approx([0.004, 0.004])
    assert json.loads(told["axis_units"]) == {"t": "s", "y": "nm", "x": "nm"}


def test_spacing_that_ilastik_wrote_is_read(tmp_path):
    axes = [
        {"key": key, "resolution": size}
        for key, size in {"z": 0.05, "y": 4.0, "x": 0.0, "c": 0.0}.items()
    ]
    units = {"z": "micrometer", "y": "nm", "x": "nm", "c": ""}
    path = stored(
        tmp_path,
        DATA[..., np.newaxis],
        axistags=json.dumps({"axes": axes}),
        axis_units=json.dumps(units),
    )

    assert lengths(read_image(path)) == ((0.05, "µm"), (4.0, "nm"), (1.0, "pixel"), (1.0, ""))


@pytest.mark.parametrize("units", [["um", "nm", "nm"], "um nm nm", "um, nm, nm"])
@pytest.mark.parametrize("attribute", ["voxel_size", "resolution"])
def test_each_axis_has_its_own_unit(tmp_path, attribute, units):
    path = stored(tmp_path, **{attribute: [50.0, 4.0, 4.0], "units": units})

    assert lengths(read_image(path)) == ((50.0, "µm"), (4.0, "nm"), (4.0, "nm"))


def test_one_unit_is_that_of_all_axes(tmp_path):
    path = stored(tmp_path, voxel_size=[0.05, 0.004, 0.004], unit="um")

    assert read_image(path).units == ("µm",) * 3


def test_a_time_step_among_the_sizes_stays_with_its_axis(tmp_path):
    path = stored(
        tmp_path, DATA[np.newaxis], voxel_size=[2.5, 50, 4, 4], units=["s", "nm", "nm", "nm"]
    )

    assert lengths(read_image(path)) == ((2.5, "s"), (50.0, "nm"), (4.0, "nm"), (4.0, "nm"))


@pytest.mark.parametrize("units", [["um", "nm"], ["s", "s", "s"], ["um", "nm", "nm", "nm"]])
def test_units_that_do_not_fit_the_axes_tell_nothing(tmp_path, units):
    path = stored(tmp_path, voxel_size=[50, 4, 4], units=units)

    assert lengths(read_image(path)) == PIXELS


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("0,05 0,004 0,004", (0.05, 0.004, 0.004)),
        ("0,05, 0,004, 0,004", (0.05, 0.004, 0.004)),
        ("0,05;0,004;0,004", (0.05, 0.004, 0.004)),
        ("[0,05; 0,004; 0,004]", (0.05, 0.004, 0.004)),
        (["0,05", "0,004", "0,004"], (0.05, 0.004, 0.004)),
        ("0.05, 0.004, 0.004", (0.05, 0.004, 0.004)),
        ("(0.05,0.004,0.004)", (0.05, 0.004, 0.004)),
        ("[0.05 0.004 0.004]", (0.05, 0.004, 0.004)),
        (b"5e-2 4e-3 4e-3", (0.05, 0.004, 0.004)),
        ("50,4,4", (50.0, 4.0, 4.0)),
        ("50 ,4 ,4", (50.0, 4.0, 4.0)),
    ],
)
def test_sizes_in_a_text_have_decimal_points_or_commas(tmp_path, text, sizes):
    found = read_image(stored(tmp_path, element_size_um=text))

    assert lengths(found) == tuple((size, "µm") for size in sizes)


@pytest.mark.parametrize("text", ["0,05,0,004,0,004", "0,004", "0,05 0,004", "4", "wide"])
def test_sizes_in_a_text_that_can_be_read_in_several_ways_tell_nothing(tmp_path, text):
    assert lengths(read_image(stored(tmp_path, element_size_um=text))) == PIXELS


def test_of_a_single_section_two_numbers_or_one_with_a_comma_tell_nothing(tmp_path):
    assert read_image(stored(tmp_path, DATA[0], element_size_um="0,004")).pixel_size is None
    assert read_image(stored(tmp_path, DATA[0], element_size_um="0,05 0,004 0,004")).scale == (
        0.004,
        0.004,
    )


def test_sizes_of_all_axes_are_not_taken_for_those_of_the_last_ones(tmp_path):
    path = stored(tmp_path, DATA[..., np.newaxis], element_size_um=[0.05, 0.004, 0.003, 1.0])

    assert lengths(read_image(path)) == ((0.05, "µm"), (0.004, "µm"), (0.003, "µm"), (1.0, ""))


@pytest.mark.parametrize("chunks", [None, (10, 5, 2)])
def test_an_image_that_counts_x_first_is_turned_with_its_spacing(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("raw", data=DATA.T, chunks=chunks)
        data.attrs.update(
            axistags=tags("xyz"), voxel_size=[3.0, 4.0, 0.05], units=["nm", "nm", "um"]
        )

    found = read_grey(tmp_path / "a.h5")

    assert (found.axes, lengths(found)) == ("ZYX", ((0.05, "µm"), (4.0, "nm"), (3.0, "nm")))
    assert np.array_equal(np.asarray(found.data), DATA)


def test_a_turned_image_is_read_where_it_is_looked_at(tmp_path):
    path = stored(tmp_path, DATA.T, axistags=tags("xyz"))
    found = read_image(path)

    with h5py.File(path, "r+") as file:
        file["raw"][:, :, 2] = 7

    assert np.all(np.asarray(found.data[2]) == 7)


def test_channels_among_the_axes_come_before_sections(tmp_path):
    data = np.arange(2 * 4 * 5 * 3 * 2, dtype=np.uint8).reshape(2, 4, 5, 3, 2)
    path = stored(tmp_path, data, axistags=tags("tyxzc"))

    found = read_image(path)

    assert found.axes == "TCZYX"
    assert np.array_equal(np.asarray(as_grey(found, 1).data), data[..., 1].transpose(0, 3, 1, 2))

import json

import h5py
import numpy as np
import pytest

from napari_unet.core.image import as_grey
from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

DATA = np.random.default_rng(0).integers(0, 200, (6, 20, 30), np.uint8)


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        yield opened


def read(file, within=""):
    path = file.filename
    file.close()
    return read_image(f"{path}{within}")


def test_the_data_set_of_a_usual_name_goes_before_a_larger_one(file):
    file["other"] = np.zeros((10, 50, 50), np.uint8)
    file["volumes/raw"] = DATA

    found = read(file)

    assert (found.axes, found.name) == ("ZYX", "a")
    assert np.array_equal(np.asarray(found.data), DATA)


def test_without_a_usual_name_the_largest_is_taken(file):
    file["line"] = np.zeros(10**5)
    file["small"] = np.zeros((3, 3))
    file["large"] = DATA

    assert read(file).shape == DATA.shape


def test_a_data_set_is_named_after_the_file(file):
    file["raw"], file["volumes/labels/neurons"] = DATA, DATA[:2].astype(np.uint64)

    path = file.filename
    file.close()
    found = read_image(f"{path}/volumes/labels/neurons")

    assert (found.shape, found.dtype, found.name) == ((2, 20, 30), np.uint64, "a neurons")
    assert read_image(path, "/raw").shape == DATA.shape


def test_a_missing_data_set_is_told_with_those_that_are_there(file):
    file["raw"], file["labels"] = DATA, DATA

    with pytest.raises(FileReadError, match=r"no data set 'rew'.*labels \(6, 20, 30\) uint8, raw"):
        read(file, "/rew")


def test_nothing_is_read_before_it_is_looked_at_and_the_file_is_not_kept_open(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=DATA, chunks=(2, 10, 10), compression="gzip")
    found = read_image(tmp_path / "a.h5")

    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["raw"][0] = 7

    assert np.all(np.asarray(found.data[0]) == 7)


@pytest.mark.parametrize(
    ("attribute", "value", "scale", "unit"),
    [
        ("element_size_um", [0.05, 0.004, 0.004], (0.05, 0.004, 0.004), "µm"),
        ("resolution", [40.0, 4.0, 4.0], (40.0, 4.0, 4.0), "nm"),
        ("element_size_um", [0.0, 0.0, 0.0], (1.0, 1.0, 1.0), "pixel"),
    ],
)
def test_attributes_tell_the_spacing(file, attribute, value, scale, unit):
    file["raw"] = DATA
    file["raw"].attrs[attribute] = value

    found = read(file)

    assert (found.scale, found.units) == (scale, (unit,) * 3)


def test_axis_tags_of_ilastik_name_the_axes(file):
    file["exported_data"] = np.zeros((2, 20, 30, 5), np.float32)
    tags = {"axes": [{"key": k, "typeFlags": 2, "resolution": 0} for k in "tyxc"]}
    file["exported_data"].attrs["axistags"] = json.dumps(tags)

    found = read(file)

    assert found.axes == "TYXC"
    assert as_grey(found, 4).axes == "TYX"


def test_a_short_last_axis_is_channels_or_colours(file):
    file["raw"] = np.zeros((6, 20, 30, 1), np.uint8)
    file["colour"] = np.zeros((20, 30, 3), np.uint8)

    path = file.filename
    file.close()
    assert read_image(path).axes == "ZYXC"
    assert read_image(path, "colour").axes == "YXS"


def test_big_endian_numbers_come_in_the_order_of_this_machine(file):
    file.create_dataset("raw", data=DATA.astype(">u2"))

    found = read(file)

    assert found.dtype == np.dtype("=u2")
    assert np.array_equal(np.asarray(found.data), DATA)


def test_a_file_without_an_image_is_refused_with_what_it_holds(file):
    file["line"], file["text"] = np.zeros(9), "words"

    with pytest.raises(FileReadError, match=r"holds no image.*line \(9,\) float64"):
        read(file)


def test_complex_numbers_are_refused(file):
    file["raw"] = np.zeros((5, 5), np.complex64)

    with pytest.raises(FileReadError, match="complex64, no grey values"):
        read(file, "/raw")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, share):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=DATA, compression="gzip")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(FileReadError, match=r"Cannot read .*cut\.h5"):
        read_image(tmp_path / "cut.h5")

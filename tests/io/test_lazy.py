import os

import dask.array
import mrcfile
import nrrd
import numpy as np
import pytest
import tifffile

from napari_unet.io import lazy
from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

DATA = np.random.default_rng(0).integers(0, 1000, (4, 12, 15)).astype(np.int16)


def write_tiff(path):
    tifffile.imwrite(path, DATA, photometric="minisblack")


def write_mrc(path):
    mrcfile.write(path, DATA)


def write_nrrd(path):
    nrrd.write(str(path), DATA, {"encoding": "raw"}, index_order="C")


def cut(path):
    """Leave the file without its last section, but for the first row."""
    os.truncate(path, path.read_bytes().index(DATA.tobytes()) + DATA.nbytes - DATA[-1, 1:].nbytes)


WRITERS = {".tif": write_tiff, ".mrc": write_mrc, ".nrrd": write_nrrd}


@pytest.fixture(params=WRITERS)
def large(request, tmp_path, monkeypatch):
    """Path and image of a file that is too large to be read at once."""
    monkeypatch.setattr(lazy, "LARGEST_IN_MEMORY", 100)
    path = tmp_path / f"a{request.param}"
    WRITERS[request.param](path)
    return path, read_image(path)


def test_a_large_file_is_read_in_parts(large):
    _, image = large

    assert isinstance(image.data, dask.array.Array)
    for part in (
        np.s_[:],
        np.s_[2],
        np.s_[:, 5],
        np.s_[..., 3],
        np.s_[1:3, 4:9, 2:7],
        np.s_[::2, ::-3, 1::2],
        np.s_[3, 7, 8],
        np.s_[:, 5:5],
    ):
        assert np.array_equal(np.asarray(image.data[part]), DATA[part]), part


def test_a_file_that_is_cut_short_while_it_is_open_is_refused_and_the_process_lives(large):
    path, image = large
    cut(path)

    with pytest.raises(FileReadError, match="cut short"):
        np.asarray(image.data[-1])
    assert np.array_equal(np.asarray(image.data[-2]), DATA[-2])


def test_a_plane_across_sections_takes_only_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "LARGEST_IN_MEMORY", DATA[0].nbytes)
    path = tmp_path / "a.mrc"
    write_mrc(path)
    image = read_image(path)
    assert image.data.chunksize == (1, 12, 15)
    cut(path)

    assert np.array_equal(np.asarray(image.data[:, 0, 3:9]), DATA[:, 0, 3:9])
    with pytest.raises(FileReadError, match="cut short"):
        np.asarray(image.data[:, 1])


def test_a_file_that_vanishes_while_it_is_open_is_refused(large):
    path, image = large
    path.unlink()

    with pytest.raises(FileReadError, match="There is no file"):
        np.asarray(image.data[0])


@pytest.mark.parametrize("limit", [1, 2**26])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "i1", ">f4", "<f2"])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 5, 7), (2, 5, 7, 3)])
def test_raw_data_is_read_from_where_it_begins(tmp_path, monkeypatch, limit, dtype, shape):
    monkeypatch.setattr(lazy, "LARGEST_IN_MEMORY", limit)
    data = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    (tmp_path / "a.raw").write_bytes(b"12345" + data.tobytes())

    found = lazy.raw_array(tmp_path / "a.raw", dtype, 5, shape)

    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(np.asarray(found), data)
    assert np.array_equal(np.asarray(found[..., 2:4]), data[..., 2:4])

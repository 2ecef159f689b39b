import os
import shutil
from pathlib import Path

import h5py
import mrcfile
import nrrd
import numpy as np
import pytest
import tifffile
import yaml

from napari_unet.io.files import FileReadError
from napari_unet.io.images import READERS, is_known, read_image
from tests.conftest import REPOSITORY

DATA = np.random.default_rng(0).integers(0, 99, (3, 5, 7)).astype(np.int16)


def tiff(path):
    tifffile.imwrite(path, DATA, photometric="minisblack")


def mrc(path):
    mrcfile.write(path, DATA)


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["raw"] = DATA


def nearly_raw(path):
    nrrd.write(str(path), DATA, index_order="C")


WRITERS = {".tif": tiff, ".mrc": mrc, ".h5": hdf5, ".nrrd": nearly_raw}


@pytest.mark.parametrize("false_suffix", [".tif", ".mrc", ".h5", ".nrrd", ".dm3", ".ser", ".emd"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_the_content_goes_before_a_wrong_suffix(tmp_path, suffix, false_suffix):
    WRITERS[suffix](tmp_path / f"a{suffix}")
    path = tmp_path / f"b{false_suffix}"
    shutil.copy(tmp_path / f"a{suffix}", path)

    assert np.array_equal(np.asarray(read_image(path).data), DATA)


@pytest.mark.parametrize("suffix", READERS)
def test_bad_files_of_every_suffix_are_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"ü a{suffix}"
    for content in (b"", b"x", b"\0" * 5000, b"\xff" * 5000, b"some words\n" * 500):
        path.write_bytes(content)
        with pytest.raises(FileReadError, match=r"ü a"):
            read_image(path)
    path.unlink()
    with pytest.raises(FileReadError, match=r"There is no file .*ü a"):
        read_image(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_links_are_followed_and_broken_ones_told(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"a{suffix}")
    link = tmp_path / f"my link{suffix}"
    link.symlink_to(tmp_path / f"a{suffix}")
    assert read_image(link).name == "my link"

    (tmp_path / f"a{suffix}").unlink()

    with pytest.raises(FileReadError, match=r"my link.* is a link to .*, which is not there"):
        read_image(link)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root"
)
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_may_not_be_read_is_told(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path)
    path.chmod(0)

    with pytest.raises(FileReadError, match="permission denied"):
        read_image(path)


def test_napari_offers_every_suffix():
    manifest = yaml.safe_load((REPOSITORY / "napari_unet" / "napari.yaml").read_text("utf-8"))
    reader = next(
        each
        for each in manifest["contributions"]["readers"]
        if each["command"].endswith(".get_reader")
    )
    patterns = set(reader["filename_patterns"])

    assert reader["accepts_directories"]
    for suffix in READERS.keys() - {
        ".zip"
    }:  # most zip files are no stores; these end with .zarr.zip
        assert {f"*{suffix}", f"*{suffix.upper()}"} <= patterns


def test_what_is_known_is_told_without_opening(tmp_path):
    hdf5(tmp_path / "a.h5")

    assert is_known("gone.MRC.gz")
    assert is_known(tmp_path / "a.h5" / "raw")
    assert is_known(Path("sections") / "*.png")
    assert not is_known(tmp_path / "a.txt")
    assert not is_known(tmp_path)

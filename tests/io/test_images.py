import shutil
from pathlib import Path

import h5py
import mrcfile
import nrrd
import numpy as np
import pytest
import tifffile
import yaml
import zarr

from napari_unet.core.image import image_from_array
from napari_unet.io.files import FileReadError
from napari_unet.io.images import (
    READERS,
    file_of,
    images_in,
    is_known,
    read_image,
    write_image,
)
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


@pytest.mark.usefixtures("permissions_count")
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_may_not_be_read_is_told(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path)
    path.chmod(0)

    with pytest.raises(FileReadError, match="permission denied"):
        read_image(path)


@pytest.mark.usefixtures("permissions_count")
@pytest.mark.parametrize("name", ["a.zarr", "sections"])
@pytest.mark.parametrize("mode", [0, 0o400, 0o100])
def test_a_folder_that_may_not_be_looked_into_is_told(tmp_path, name, mode):
    path = tmp_path / name
    if name == "sections":
        path.mkdir()
        tifffile.imwrite(path / "1.tif", DATA[0])
    else:
        write_image(path, image_from_array(DATA, "a"))
    path.chmod(mode)

    with pytest.raises(FileReadError, match=rf"{name}: it may not be read by you"):
        read_image(path)

    path.chmod(0o700)


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


def test_the_images_of_an_hdf5_file_are_listed_the_one_that_is_read_first(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["large"] = np.zeros((9, 20, 30), np.uint8)
        file["volume/raw"], file["line"], file["text"] = DATA, np.zeros(99), "words"

    found = images_in(path)

    assert [(each.name, each.shape, each.dtype) for each in found] == [
        ("volume/raw", (3, 5, 7), "int16"),
        ("large", (9, 20, 30), "uint8"),
    ]
    assert images_in(f"{path}/large") == found
    for each in found:
        assert read_image(path / each.name).shape == each.shape
    assert read_image(path).shape == found[0].shape


def test_the_images_and_labels_of_a_store_are_listed_the_one_that_is_read_first(tmp_path):
    write_image(tmp_path / "em.zarr", image_from_array(DATA, "em"))
    write_image(tmp_path / "em.zarr" / "labels" / "cells", image_from_array(DATA, "cells"))
    group = zarr.open_group(tmp_path / "several.zarr", mode="w")
    for name in ("other", "raw"):
        group[name] = DATA[: len(name) - 2]

    assert [each.name for each in images_in(tmp_path / "em.zarr")] == [".", "labels/cells"]
    assert [each.name for each in images_in(tmp_path / "several.zarr")] == ["raw", "other"]
    assert images_in(tmp_path / "several.zarr" / "other")[0].name == "raw"
    for path in (tmp_path / "em.zarr", tmp_path / "several.zarr"):
        found = images_in(path)
        assert [read_image(path / each.name).shape for each in found] == [
            each.shape for each in found
        ]
        assert read_image(path).shape == found[0].shape
    assert file_of(tmp_path / "em.zarr" / "labels" / "cells") == tmp_path / "em.zarr"


def test_formats_of_one_image_have_none_to_choose_from(tmp_path):
    tiff(tmp_path / "a.tif")

    assert images_in(tmp_path / "a.tif") == []
    assert images_in(tmp_path) == []

"""Arrays in temporary files cost only what is used of them, and say so when a disk is full."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_unet.io import scratch
from napari_unet.io.files import FileWriteError
from napari_unet.io.scratch import (
    drop_from_memory,
    make_room,
    one_by_one,
    scratch_zeros,
    sections_in_use,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="sparse files are told of on Linux")
SHAPE = (2, 5, 300, 200)


def blocks(array: np.ndarray) -> int:
    """Bytes on the disk."""
    return Path(f"/proc/self/fd/{array.file.fileno()}").stat().st_blocks * 512


@pytest.mark.parametrize("shape", [(300, 200), (5, 300, 200), SHAPE])
def test_it_is_an_array_of_zeros_that_keeps_what_is_written(shape):
    array = scratch_zeros(shape)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    assert not array.any()
    expected = np.random.default_rng(0).integers(0, 9, shape, np.uint8)
    array[...] = expected
    drop_from_memory(array)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(np.asarray(one_by_one(array)), expected)


@LINUX
def test_only_sections_that_were_written_to_are_in_use_and_take_room():
    array = scratch_zeros((3, 1000, 1024, 1024))
    assert sections_in_use(array) == []
    array[0, 7] = 1
    array[2, 999, 1023, 1023] = 3
    assert int(array[1, 5].max()) == 0  # looking is no use
    assert sections_in_use(array) == [(0, 7), (2, 999)]
    assert blocks(array) < 2**21


def test_of_other_arrays_all_sections_may_be_in_use_and_they_stay_as_they_are():
    array = np.zeros(SHAPE, np.uint8)
    assert len(sections_in_use(array)) == 10
    assert one_by_one(array) is array
    make_room(array, (0, 1))
    drop_from_memory(array)


def test_parts_and_copies_are_ordinary_arrays():
    array = scratch_zeros(SHAPE)
    array[0, 1] = 4
    for part in (array[0], array[0, 1], array.copy(), copy.deepcopy(array), array + 1):
        assert one_by_one(part) is part
        make_room(part, (0,) * (part.ndim - 2))


@LINUX
def test_the_file_goes_with_the_last_part_of_the_array():
    array = scratch_zeros(SHAPE)
    file, part = array.file, array[1, 2]
    part[...] = 5
    del array
    assert (part == 5).all()
    assert not file.closed
    del part
    assert file.closed


@LINUX
def test_reading_section_by_section_does_not_touch_those_that_are_empty():
    array = scratch_zeros((2000, 1024, 1024))
    array[1500, 3] = 2
    lazy = one_by_one(array)
    found = [int(np.asarray(lazy[n : n + 1]).max()) for n in range(0, 2000, 100)]
    assert found == [0] * 15 + [2] + [0] * 4
    assert blocks(array) < 2**20


@LINUX
def test_a_full_disk_is_an_error_and_no_end_of_the_process():
    array = scratch_zeros((2**19, 4096, 4096))  # more than any disk here
    make_room(array, (5,))
    assert blocks(array) == 2**24
    with pytest.raises(FileWriteError, match="There is no room for 8796093 MB"):
        make_room(array)


def test_where_no_file_can_be_made_the_array_lies_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "_roomiest_folder", lambda: tmp_path / "nowhere")
    array = scratch_zeros(SHAPE)
    assert type(array) is np.ndarray
    assert array.shape == SHAPE
    with pytest.raises(MemoryError, match="There is no room for an array of"):
        scratch_zeros((2**30, 4096, 4096))


@LINUX
def test_nothing_is_left_behind_when_the_process_is_killed(tmp_path):
    text = (
        "import os, signal; from napari_unet.io.scratch import scratch_zeros\n"
        "array = scratch_zeros((4, 64, 64)); array[...] = 1\n"
        "assert str(array.folder) == os.environ['TMPDIR']\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", text], env=environment, check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []

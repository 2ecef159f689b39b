import subprocess
import sys
from pathlib import Path

import pytest

from napari_unet.io.files import FileWriteError, replacing, replacing_folder


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "mask.tif"

    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        temporary.write_text("new")
        assert not path.exists()

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write(path):
    with replacing(path) as temporary:
        temporary.write_text("new")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileWriteError, match=r"Cannot write .*mask\.tif: there is no folder .*gone"
    ):
        write(tmp_path / "gone" / "mask.tif")


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "mask.tif").mkdir()

    with pytest.raises(FileWriteError, match="it is a folder"):
        write(tmp_path / "mask.tif")

    assert (tmp_path / "mask.tif").is_dir()


def test_an_error_of_the_system_names_the_file_and_its_reason(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    def full():
        with replacing(path), Path("/dev/full").open("w") as device:
            device.write("x")

    with pytest.raises(FileWriteError, match=r"mask\.tif: No space left on device\. The file that"):
        full()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("permissions_count")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(FileWriteError, match="Permission denied"):
        write(tmp_path / "mask.tif")


def test_a_write_protected_file_is_not_replaced(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("precious")
    path.chmod(0o444)

    with pytest.raises(FileWriteError, match="is write-protected"):
        write(path)

    assert path.read_text() == "precious"


def test_a_link_stays_one_and_leads_to_what_was_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "mask.tif").symlink_to(tmp_path / "disk/mask.tif")
    (tmp_path / "mask.zarr").symlink_to(tmp_path / "disk/mask.zarr")

    for _ in range(2):
        write(tmp_path / "mask.tif")
        with replacing_folder(tmp_path / "mask.zarr") as folder:
            folder.mkdir()
            (folder / "zarr.json").write_text("{}")

    assert (tmp_path / "mask.tif").is_symlink()
    assert (tmp_path / "mask.zarr").is_symlink()
    assert (tmp_path / "disk/mask.tif").read_text() == "new"
    assert [each.name for each in (tmp_path / "disk/mask.zarr").iterdir()] == ["zarr.json"]


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    with path.open() as reader:
        write(path)
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_file_gets_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").write_text("")

    write(tmp_path / "mask.tif")

    assert (tmp_path / "mask.tif").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_while_exporting_leaves_the_old_file(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("old")
    program = """
import resource, signal, sys
import numpy as np
from napari_unet.core.image import image_from_array
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import write_image

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_image(sys.argv[1], image_from_array(np.ones((20, 200, 200), np.uint8)))
except FileWriteError as error:
    print(error)
"""

    said = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    ).stdout

    assert f"Cannot write {path}: " in said
    assert "The file that was there before is unchanged" in said
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

import os
import subprocess
import sys

import dask.array
import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from PIL import Image

from napari_unet.core.annotations import class_table
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import WRITERS, read_image, write_image
from napari_unet.io.streaming import sections_of
from tests.conftest import REPOSITORY

LENGTHS = {"T": 2, "C": 3, "Z": 4, "Y": 12, "X": 15, "S": 3}
SCALE = {"Z": 30.0, "Y": 3.0, "X": 4.0}
CLASSES = class_table(["background", "membrane"])


def example(axes="ZYX", dtype=np.uint8, high=200, unit="nm"):
    values = np.random.default_rng(0).integers(0, high, [LENGTHS[a] for a in axes])
    return ImageArray(
        values.astype(dtype),
        axes,
        tuple(SCALE.get(a, 1.0) for a in axes),
        tuple(unit if a in "ZYX" else "" for a in axes),
        "example",
    )


def as_mask(image):
    return image.with_data(image.data % 2 + np.uint8(1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, bool])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX", "CZYX", "TCZYX"])
def test_ome_zarr_comes_back_and_is_valid(tmp_path, axes, dtype):
    image = example(axes, dtype, high=2 if dtype is bool else 200)
    write_image(tmp_path / "a.zarr", image)

    found = read_image(tmp_path / "a.zarr")

    assert np.array_equal(np.asarray(found.data), image.data)
    assert (found.axes, found.scale) == (axes, image.scale)
    assert found.units[-2:] == ("nm", "nm")
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


@pytest.mark.parametrize("axes", ["ZTYX", "ZCYX", "XY", "ZYXS"])
def test_axes_of_ome_zarr_are_put_into_its_order(tmp_path, axes):
    image = example(axes)
    write_image(tmp_path / "a.zarr", image)

    found = read_image(tmp_path / "a.zarr")

    order = [axes.replace("S", "C").index(a) for a in found.axes]
    assert np.array_equal(np.asarray(found.data), image.data.transpose(order))
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


def test_large_sections_get_lower_resolutions(tmp_path):
    values = np.random.default_rng(0).integers(0, 200, (3, 1101, 1400)).astype(np.uint8)
    image = ImageArray(values, "ZYX", (30.0, 4.0, 4.0), ("nm",) * 3)
    write_image(tmp_path / "grey.zarr", image)
    write_image(tmp_path / "mask.zarr", as_mask(image), CLASSES)

    grey, mask = (read_image(tmp_path / f"{name}.zarr") for name in ("grey", "mask"))

    assert [level.shape for level in grey.levels] == [(3, 551, 700), (3, 276, 350)]
    means = values[:, :1100].reshape(3, 550, 2, 700, 2).mean(axis=(2, 4))
    assert np.array_equal(np.asarray(grey.levels[0])[:, :550], np.rint(means))
    for number, level in enumerate(mask.levels, start=1):
        step = 2**number
        assert np.array_equal(np.asarray(level), as_mask(image).data[:, ::step, ::step])
    level = zarr.open_group(tmp_path / "grey.zarr").attrs["ome"]["multiscales"][0]["datasets"][1]
    assert level["coordinateTransformations"][0]["scale"] == [30.0, 8.0, 8.0]
    assert level["coordinateTransformations"][1]["translation"] == [0.0, 2.0, 2.0]
    for name in ("grey", "mask"):
        yaozarrs.validate_zarr_store(str(tmp_path / f"{name}.zarr"))


def test_labels_lie_in_their_image_with_names_and_colours(tmp_path):
    image = example()
    write_image(tmp_path / "em.ome.zarr", image)
    for name in ("membranes", "cells", "membranes"):
        write_image(tmp_path / "em.ome.zarr/labels" / name, as_mask(image), CLASSES)

    labels = zarr.open_group(tmp_path / "em.ome.zarr/labels")
    told = labels["membranes"].attrs["ome"]["image-label"]
    assert labels.attrs["ome"]["labels"] == ["membranes", "cells"]
    assert told["source"] == {"image": "../../"}
    assert [each["name"] for each in told["properties"]] == ["background", "membrane"]
    assert told["colors"][1] == {"label-value": 2, "rgba": [255, 77, 109, 255]}
    assert np.array_equal(labels["cells/0"][:], as_mask(image).data)
    assert np.array_equal(np.asarray(read_image(tmp_path / "em.ome.zarr").data), image.data)
    for inside in ("", "labels", "labels/membranes"):
        yaozarrs.validate_zarr_store(str(tmp_path / "em.ome.zarr" / inside))


def test_labels_are_whole_numbers_and_lie_in_ome_zarr_0_5(tmp_path):
    write_image(tmp_path / "em.zarr", example())
    with pytest.raises(ValueError, match="Labels are whole numbers"):
        write_image(tmp_path / "em.zarr/labels/a", example(dtype=np.float32))
    zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    with pytest.raises(FileWriteError, match=r"it is no OME-Zarr 0\.5"):
        write_image(tmp_path / "old.zarr/labels/a", example())


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (np.uint8, np.uint16),
        (np.int8, np.int8),
        (np.int16, np.int16),
        (np.uint16, np.uint16),
        (np.float32, np.float32),
        (np.int32, np.float32),
        (bool, np.uint16),
    ],
)
@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX"])
def test_mrc_is_valid_and_keeps_values_and_voxel_size(tmp_path, axes, dtype, stored):
    image = example(axes, dtype, high=2 if dtype is bool else 100)
    write_image(tmp_path / "a.mrc", image)

    assert mrcfile.validate(tmp_path / "a.mrc", print_file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert file.data.dtype == stored
        assert np.array_equal(file.data, image.data)
        sizes = [float(file.voxel_size[a]) for a in "xyz"]
        assert sizes == pytest.approx([40.0, 30.0, 300.0 if "Z" in axes else 0.0])
        assert float(file.header.dmean) == pytest.approx(float(image.data.mean()))
        assert float(file.header.rms) == pytest.approx(float(image.data.std()), abs=1e-3)


def test_mrc_tells_what_the_classes_are(tmp_path):
    write_image(tmp_path / "a.mrc", as_mask(example()), CLASSES)

    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert "classes: 1 background, 2 membrane" in file.get_labels()


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TCZYX", "CZYX"])
def test_hdf5_keeps_values_axes_and_element_size(tmp_path, axes):
    image = example(axes)
    write_image(tmp_path / "a.h5", image, CLASSES)

    with h5py.File(tmp_path / "a.h5") as file:
        data = file["data"]
        assert np.array_equal(data[...], image.data)
        expected = [SCALE[a] / 1000 for a in axes if a in "ZYX"]
        assert list(data.attrs["element_size_um"]) == pytest.approx(expected)
        assert list(data.attrs["class_names"]) == ["background", "membrane"]
        assert '"key": "y", "typeFlags": 2' in data.attrs["axistags"]


def test_hdf5_does_not_invent_an_element_size(tmp_path):
    write_image(tmp_path / "a.h5", example(unit="pixel"))

    with h5py.File(tmp_path / "a.h5") as file:
        assert "element_size_um" not in file["data"].attrs


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 256), (np.uint16, 65536), (np.int64, 999)])
def test_a_stack_becomes_a_folder_of_numbered_pngs(tmp_path, dtype, high):
    image = example(dtype=dtype, high=high)
    write_image(tmp_path / "cells.png", image)

    names = sorted(each.name for each in (tmp_path / "cells.png").iterdir())
    assert names == [f"cells-000{n}.png" for n in range(4)]
    for number, name in enumerate(names):
        with Image.open(tmp_path / "cells.png" / name) as section:
            assert np.array_equal(np.asarray(section), image.data[number])
            size = [2.54e7 / dots for dots in section.info["dpi"]]
        assert size == pytest.approx([4.0, 3.0], rel=1e-3)


def test_one_section_becomes_one_png_and_channels_are_named(tmp_path):
    write_image(tmp_path / "one.png", example("YX"), CLASSES)
    write_image(tmp_path / "colour.png", example("YXS"))
    write_image(tmp_path / "many.png", example("CZYX"))

    with Image.open(tmp_path / "one.png") as section:
        assert np.array_equal(np.asarray(section), example("YX").data)
        assert section.text["classes"] == "1 background, 2 membrane"
    with Image.open(tmp_path / "colour.png") as section:
        assert np.array_equal(np.asarray(section), example("YXS").data)
    names = sorted(each.name for each in (tmp_path / "many.png").iterdir())
    assert names[4] == "many-c0001-z0000.png"


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("a.png", example(dtype=np.float32), "PNG files hold whole numbers"),
        ("a.png", example(dtype=np.int32, high=99999), "these go from"),
        ("a.mrc", example("TCZYX"), "MRC files hold stacks"),
        ("a.mrc", example(dtype=np.int64, high=2**40), "cannot hold exactly"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, name, image, reason):
    with pytest.raises(ValueError, match=reason):
        write_image(tmp_path / name, image)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zarr", "a.png"])
def test_folders_of_other_things_are_not_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("precious")

    with pytest.raises(FileWriteError, match="other files"):
        write_image(tmp_path / name, example())

    assert (tmp_path / name / "thesis.txt").read_text() == "precious"


def test_a_folder_of_other_pictures_is_not_replaced(tmp_path):
    path = tmp_path / "em.png"
    write_image(path, example())
    write_image(path, example())  # its own may be
    (path / "slice-0001.png").write_bytes(b"precious")

    with pytest.raises(FileWriteError, match="other files"):
        write_image(path, example())

    assert (path / "slice-0001.png").read_bytes() == b"precious"


@pytest.mark.parametrize("nanometres", [1e-5, 0.0178, 0.3, 4.0, 1e5, 1e12])
def test_png_tells_a_pixel_size_that_it_has_room_for(tmp_path, nanometres):
    image = image_from_array(np.ones((4, 5), np.uint8), "a", nanometres)

    write_image(tmp_path / "a.png", image)

    with Image.open(tmp_path / "a.png") as found:
        dpi = found.info.get("dpi")
    if 0.5 < nanometres < 1e6:
        assert dpi == pytest.approx((2.54e7 / nanometres,) * 2, rel=1e-3)
    assert dpi is None or dpi == pytest.approx((2.54e7 / nanometres,) * 2, rel=0.05)


class Counted:
    """An array that remembers the most pixels that anybody asked for at once."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.ndim, self.most = values.ndim, 0

    def __getitem__(self, selection):
        found = self.values[selection]
        self.most = max(self.most, found.size)
        return found


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_more_than_a_section_is_read_at_once(tmp_path, suffix):
    counted = Counted(example("TZYX").data)

    write_image(tmp_path / f"a{suffix}", example("TZYX").with_data(counted))

    assert counted.most == LENGTHS["Y"] * LENGTHS["X"]


@pytest.mark.parametrize("axes", ["ZYX", "TCZYX", "CZYX", "ZYXS"])
def test_sections_come_in_any_order_of_axes_and_chunks_are_read_once(axes):
    image = example(axes)
    lazy = image.with_data(dask.array.from_array(image.data, chunks=3))
    ends = "YXS" if "S" in axes else "YX"
    for order in {axes, "ZTC", "CZT"}:
        wanted = "".join(a for a in order if a in axes and a not in ends) + ends
        expected = image.data.transpose([axes.index(a) for a in wanted])
        for each in (image, lazy):
            for index, section in sections_of(each, wanted):
                assert np.array_equal(section, expected[index])


def test_a_lazy_stack_is_written_as_tiff_without_being_in_memory(tmp_path):
    lazy = dask.array.from_array(example("TZYX").data, chunks=(1, 2, 12, 15))

    write_image(tmp_path / "a.tif", example("TZYX").with_data(lazy), CLASSES)

    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert np.array_equal(file.asarray(), example("TZYX").data)
        assert file.imagej_metadata["classes"] == "1 background, 2 membrane"
        assert file.series[0].dataoffset is not None  # one piece, as ImageJ maps it


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    old = example()
    write_image(path, old)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    program = """
import resource, signal, sys
import numpy as np
from napari_unet.core.image import image_from_array
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import write_image

noise = np.random.default_rng(0).integers(0, 255, (20, 300, 300)).astype(np.uint8)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_image(sys.argv[1], image_from_array(noise))
except FileWriteError as error:
    print(error)
"""

    done = subprocess.run(
        [sys.executable, "-c", program, path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"Cannot write {path}: " in done.stdout, done
    assert "before is unchanged" in done.stdout
    assert done.returncode == 0
    after = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    assert after == before


def test_a_store_replaces_an_older_one_only_when_it_is_whole(tmp_path):
    write_image(tmp_path / "a.zarr", example())

    class Damaged(Counted):
        def __getitem__(self, selection):
            raise RuntimeError("damaged")

    with pytest.raises(RuntimeError):
        write_image(tmp_path / "a.zarr", example().with_data(Damaged(example().data)))
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.zarr").data), example().data)

    write_image(tmp_path / "a.zarr", image_from_array(np.ones((5, 5), np.uint8)))
    assert read_image(tmp_path / "a.zarr").shape == (5, 5)
    assert [each.name for each in tmp_path.iterdir()] == ["a.zarr"]


def test_memory_does_not_grow_with_the_volume_that_is_written(tmp_path):
    program = """
import resource, sys
import numpy as np
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image

class Zeros:
    def __init__(self, sections):
        self.shape, self.dtype, self.ndim = (sections, 1024, 1024), np.dtype(np.uint8), 3

    def __getitem__(self, selection):
        return np.zeros((1, 1024, 1024), np.uint8)

write_image(sys.argv[1], image_from_array(Zeros(5)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_image(sys.argv[1], image_from_array(Zeros(80)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    for suffix in WRITERS:
        grown = subprocess.run(
            [sys.executable, "-c", program, tmp_path / f"a{suffix}"],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert float(grown) < 40, suffix  # of 80 megabytes

import warnings

import mrcfile
import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image


def written(path, data, voxel_size=4.0, volume=True):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        if volume:
            file.set_volume()
        else:
            file.set_image_stack()
        file.voxel_size = voxel_size
    return path


def volume(dtype=np.int16):
    return np.random.default_rng(0).integers(0, 100, (3, 5, 7)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16])
def test_a_volume_is_read_with_its_voxel_size(tmp_path, dtype):
    data = volume(dtype)

    found = read_image(written(tmp_path / "é a.mrc", data, (1.0, 2.0, 3.0)))

    assert (found.axes, found.dtype, found.name) == ("ZYX", dtype, "é a")
    assert (found.scale, found.units) == (pytest.approx((3, 2, 1)), ("Å",) * 3)
    assert np.array_equal(found.data, data)


@pytest.mark.parametrize("compression", ["gz", "bz2"])
def test_compressed_files_are_read(tmp_path, compression):
    import bz2
    import gzip

    plain = written(tmp_path / "a.rec", volume())
    pack = {"gz": gzip.compress, "bz2": bz2.compress}[compression]
    packed = tmp_path / f"b.rec.{compression}"
    packed.write_bytes(pack(plain.read_bytes()))

    assert np.array_equal(read_image(packed).data, volume())


def test_a_voxel_size_of_0_is_unknown(tmp_path):
    found = read_image(written(tmp_path / "a.mrc", volume(), 0))

    assert (found.scale, found.units) == ((1.0,) * 3, ("pixel",) * 3)


def test_the_distance_of_images_in_a_stack_is_unknown(tmp_path):
    found = read_image(written(tmp_path / "a.st", volume(), volume=False))

    assert found.units == ("pixel", "Å", "Å")


def test_big_endian_files_come_in_the_order_of_this_machine(tmp_path):
    path = written(tmp_path / "a.mrc", volume())
    with mrcfile.open(path) as file:
        header = file.header.copy()
    swapped = header.astype(header.dtype.newbyteorder())
    swapped["machst"] = [0x11, 0x11, 0, 0]
    path.write_bytes(swapped.tobytes() + volume().byteswap().tobytes())

    found = read_image(path)

    assert found.dtype.isnative
    assert np.array_equal(np.asarray(found.data), volume())
    assert found.scale == pytest.approx((4, 4, 4))


def changed(path, offset, content):
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)
    return path


def test_bytes_that_imod_wrote_count_from_0_to_255(tmp_path):
    path = written(tmp_path / "a.mrc", np.full((1, 2, 2), -1, np.int8))

    changed(path, 152, (1146047817).to_bytes(4, "little") + b"\0\0\0\0")

    found = read_image(path)
    assert found.dtype == np.uint8
    assert np.all(found.data == 255)


def test_spacing_follows_the_axes_of_the_file(tmp_path):
    path = written(tmp_path / "a.map", volume(), (1.0, 2.0, 3.0))

    changed(path, 64, b"\3\0\0\0\1\0\0\0\2\0\0\0")  # columns are Z, rows X, sections Y

    assert read_image(path).scale == pytest.approx((2, 1, 3))


def test_a_file_without_the_mark_is_read_with_a_warning(tmp_path):
    path = changed(written(tmp_path / "a.mrc", volume()), 208, b"\0" * 8)

    with pytest.warns(UserWarning, match="no mark 'MAP '"):
        found = read_image(path)

    assert np.array_equal(found.data, volume())


@pytest.mark.parametrize("mode", [3, 4, 16, 101])
def test_complex_numbers_and_colours_are_refused(tmp_path, mode):
    path = changed(written(tmp_path / "a.mrc", volume()), 12, bytes([mode, 0, 0, 0]))

    with pytest.raises(FileReadError, match=rf"a\.mrc holds .* \(MRC mode {mode}\)"):
        read_image(path)


def test_volumes_that_do_not_fit_into_the_sections_are_refused(tmp_path):
    path = written(tmp_path / "a.mrc", np.zeros((5, 4, 6), np.int16))
    changed(path, 88, (401).to_bytes(4, "little"))
    assert read_image(path).shape == (1, 5, 4, 6)

    changed(path, 36, (2).to_bytes(4, "little"))

    with pytest.raises(FileReadError, match=r"volumes of 2 sections, and 5 sections in all"):
        read_image(path)


@pytest.mark.parametrize("length", [1, 10, 500, 1023, 1024, 1100, 1233])
def test_a_file_that_was_cut_short_is_refused_without_a_flood(tmp_path, length):
    whole = written(tmp_path / "a.mrc", volume()).read_bytes()
    path = tmp_path / "cut.mrc"
    path.write_bytes(whole[:length])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileReadError, match=r"Cannot read .*cut\.mrc: "):
            read_image(path)

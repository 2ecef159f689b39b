import csv
import errno
import os
import struct

import dask.array
import numpy as np
import pytest
import tifffile

from napari_unet.core.image import ImageArray, as_grey
from napari_unet.io import lazy, tiff
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.images import read_image, write_image, writer_for

LENGTHS = {"T": 2, "C": 3, "Z": 4, "Y": 12, "X": 15}
SCALE = {"T": 1.5, "C": 1.0, "Z": 50.0, "Y": 3.0, "X": 4.0}
UNIT = {"T": "s", "C": "", "Z": "nm", "Y": "nm", "X": "nm"}


def example(axes="ZYX", dtype=np.uint8, low=0, high=200):
    values = np.random.default_rng(0).integers(low, high, [LENGTHS[a] for a in axes])
    scale, units = tuple(SCALE[a] for a in axes), tuple(UNIT[a] for a in axes)
    return ImageArray(values.astype(dtype), axes, scale, units, "example")


def written(folder, image, name="example.tif"):
    write_image(folder / name, image)
    return folder / name


def assert_same_meaning(found, image):
    assert (found.axes, found.units) == (image.axes, image.units)
    assert found.scale == pytest.approx(image.scale)


AXES = ["YX", "ZYX", "TYX", "TZYX", "CYX", "CZYX", "ZCYX", "TCYX", "TCZYX", "TZCYX"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("axes", AXES)
def test_an_image_comes_back_as_it_was_written(tmp_path, axes, dtype):
    image = example(axes, dtype)

    found = read_image(written(tmp_path, image))

    assert (found.dtype, found.name) == (np.dtype(dtype), "example")
    assert np.array_equal(found.data, image.data)
    assert_same_meaning(found, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("axes", AXES)
def test_images_are_hyperstacks_of_imagej(tmp_path, axes, dtype):
    image = example(axes, dtype)
    path = written(tmp_path, image)

    assert np.array_equal(tifffile.imread(path), image.data)
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert not file.is_bigtiff
        assert file.series[0].axes == axes
        metadata, tags = file.imagej_metadata, file.pages[0].tags
        assert metadata["unit"] == "nm"
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == pytest.approx(1 / 4)
        assert tags["YResolution"].value[0] / tags["YResolution"].value[1] == pytest.approx(1 / 3)
        for axis, name, key in (("Z", "slices", "spacing"), ("T", "frames", "finterval")):
            if axis in axes:
                assert metadata[name] == LENGTHS[axis]
                assert metadata[key] == SCALE[axis]
        assert metadata.get("channels", 1) == (3 if "C" in axes else 1)


@pytest.mark.parametrize("axes", ["ZTYX", "CTZYX", "ZCTYX", "CTYX"])
def test_axes_in_an_order_that_imagej_does_not_have_are_transposed(tmp_path, axes):
    image = example(axes)

    found = read_image(written(tmp_path, image))

    back = [found.axes.index(a) for a in axes]
    assert np.array_equal(found.data.transpose(back), image.data)
    assert tuple(found.scale[i] for i in back) == pytest.approx(image.scale)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX", "TCZYX"])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint32, 2**16, 2**32),
        (np.int32, -100, 100),
        (np.int16, -100, 100),
        (np.int64, -(2**31), 2**31),
    ],
)
def test_numbers_that_imagej_does_not_know_are_written_as_ome(tmp_path, axes, dtype, low, high):
    image = example(axes, dtype, low, high)
    path = written(tmp_path, image)

    found = read_image(path)

    with tifffile.TiffFile(path) as file:
        assert file.is_ome
    assert np.array_equal(found.data, image.data)
    assert_same_meaning(found, image)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_numbers_beyond_32_bits_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match="whole numbers of up to 32 bits; these go from"):
        written(tmp_path, example(dtype=dtype, low=0, high=2**40))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int64, np.uint64])
def test_small_object_numbers_are_written_for_imagej(tmp_path, dtype):
    image = example(dtype=dtype, high=60_000)
    path = written(tmp_path, image)

    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
    found = read_image(path)
    assert found.dtype == np.uint16
    assert np.array_equal(found.data, image.data)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_real_numbers_are_written_in_single_precision(tmp_path, dtype):
    image = example(dtype=dtype)

    found = read_image(written(tmp_path, image))

    assert found.dtype == np.float32
    assert np.array_equal(found.data, image.data)


def test_truth_values_are_written_as_0_and_1(tmp_path):
    image = example(dtype=bool, high=2)

    found = read_image(written(tmp_path, image))

    assert found.dtype == np.uint8
    assert np.array_equal(found.data, image.data)


def test_an_unknown_pixel_size_stays_unknown(tmp_path):
    image = ImageArray(np.zeros((4, 4), np.uint8), "YX", (1.0, 1.0), ("pixel", "pixel"))

    assert_same_meaning(read_image(written(tmp_path, image)), image)


def test_units_that_differ_are_brought_to_that_of_x(tmp_path):
    image = ImageArray(
        np.zeros((2, 4, 4), np.uint8), "ZYX", (0.05, 4.0, 4.0), ("µm", "nm", "nm"), "mixed"
    )

    found = read_image(written(tmp_path, image))

    assert found.units == ("nm", "nm", "nm")
    assert found.scale == pytest.approx((50.0, 4.0, 4.0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("unit", ["µm", "Å", "mm"])
def test_units_other_than_nanometres_are_kept(tmp_path, unit, dtype):
    image = ImageArray(np.full((4, 4), -1).astype(dtype), "YX", (0.25, 0.5), (unit, unit))

    assert_same_meaning(read_image(written(tmp_path, image)), image)


@pytest.mark.parametrize("name", ["Schnitt 1 (größer).tif", "切片.tiff", "a b.c.TIF"])
def test_names_with_spaces_and_letters_of_all_languages_are_fine(tmp_path, name):
    image = example()

    found = read_image(str(written(tmp_path, image, name)))

    assert np.array_equal(found.data, image.data)
    assert found.name == name.split(".")[0]


def test_an_ome_tiff_of_another_program_is_read_with_its_pixel_size(tmp_path):
    data = example("CZYX", np.uint16).data
    tifffile.imwrite(
        tmp_path / "other.ome.tif",
        data,
        ome=True,
        metadata={
            "axes": "CZYX",
            "PhysicalSizeX": 0.004,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.004,
            "PhysicalSizeZ": 50.0,
            "PhysicalSizeZUnit": "nm",
        },
    )

    found = read_image(tmp_path / "other.ome.tif")

    assert np.array_equal(found.data, data)
    assert (found.axes, found.units) == ("CZYX", ("", "nm", "µm", "µm"))
    assert found.scale == pytest.approx((1, 50, 0.004, 0.004))


@pytest.mark.parametrize(
    ("unit", "per_unit", "nanometres"),
    [("CENTIMETER", 2.5e6, 4.0), ("INCH", 2.54e7 / 8, 8.0)],
)
def test_the_resolution_of_a_plain_tiff_is_its_pixel_size(tmp_path, unit, per_unit, nanometres):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(
        path, np.zeros((4, 4), np.uint8), resolution=(per_unit, per_unit), resolutionunit=unit
    )

    found = read_image(path)

    assert found.units == ("nm", "nm")
    assert found.scale == pytest.approx((nanometres, nanometres), rel=1e-4)


def test_the_resolution_of_a_printer_is_no_pixel_size(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), resolution=(72, 72), resolutionunit="INCH")

    assert read_image(path).units == ("pixel", "pixel")


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", "micrometer"])
def test_microns_of_imagej_are_read(tmp_path, unit):
    path = tmp_path / "imagej.tif"
    metadata = {"unit": unit, "spacing": 0.05, "axes": "ZYX"}
    tifffile.imwrite(
        path,
        example().data,
        imagej=True,
        resolution=(250, 200),
        metadata=metadata,
    )

    found = read_image(path)

    assert found.units == ("µm", "µm", "µm")
    assert found.scale == pytest.approx((0.05, 0.005, 0.004))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_big_endian_files_are_read_in_the_order_of_this_machine(tmp_path, dtype, compression):
    data = example(dtype=dtype).data
    tifffile.imwrite(
        tmp_path / "big.tif", data, byteorder=">", compression=compression, photometric="minisblack"
    )

    found = read_image(tmp_path / "big.tif")

    assert np.array_equal(found.data, data)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative


def test_a_colour_image_is_read_with_its_samples(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (12, 15, 3), np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", data, photometric="rgb")

    found = read_image(tmp_path / "colour.tif")

    assert (found.axes, found.shape) == ("YXS", (12, 15, 3))
    assert as_grey(found).shape == (12, 15)


def test_a_colour_image_comes_back_as_it_was_written(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (12, 15, 3), np.uint8)
    image = ImageArray(data, "YXS", (1.0, 1.0, 1.0), ("pixel", "pixel", ""))

    found = read_image(written(tmp_path, image))

    assert found.axes == "YXS"
    assert np.array_equal(found.data, data)


@pytest.mark.parametrize("axes", ["YXS", "ZYXS", "TZYXS", "CYXS", "CZYXS", "ZCYXS"])
def test_a_colour_image_is_written_with_its_spacing(tmp_path, axes):
    lengths, scale, unit = LENGTHS | {"S": 3}, SCALE | {"S": 1.0}, UNIT | {"S": ""}
    data = np.random.default_rng(0).integers(0, 255, [lengths[a] for a in axes], np.uint8)
    image = ImageArray(data, axes, tuple(scale[a] for a in axes), tuple(unit[a] for a in axes))
    path = written(tmp_path, image)

    found = read_image(path)

    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
    assert np.array_equal(found.data, data)
    assert_same_meaning(found, image)


def test_milliseconds_are_written_as_the_seconds_that_imagej_knows(tmp_path):
    image = ImageArray(np.zeros((3, 4, 4), np.uint8), "TYX", (250.0, 4.0, 4.0), ("ms", "nm", "nm"))
    path = written(tmp_path, image)

    found = read_image(path)

    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata["finterval"] == 0.25
    assert (found.scale[0], found.units[0]) == (0.25, "s")


@pytest.mark.parametrize("per_pixel", [1.0, 4.0])
def test_a_step_of_imagej_without_a_unit_keeps_its_ratio_to_the_pixel(tmp_path, per_pixel):
    tifffile.imwrite(
        tmp_path / "a.tif",
        example().data,
        imagej=True,
        resolution=(1 / per_pixel, 1 / per_pixel),
        metadata={"spacing": 3.0, "axes": "ZYX"},
    )

    found = read_image(tmp_path / "a.tif")

    assert found.units == ("pixel",) * 3
    assert found.scale == pytest.approx((3.0, per_pixel, per_pixel))


def test_the_resolution_of_a_printer_is_no_number_beside_a_step_of_imagej(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        example().data,
        photometric="minisblack",
        description="ImageJ=1.54f\nimages=4\nslices=4\nspacing=3.0\n",
        resolution=(72, 72),
        resolutionunit="INCH",
        metadata=None,
    )

    assert read_image(tmp_path / "a.tif").scale == pytest.approx((3.0, 1.0, 1.0))


def test_a_unit_that_is_no_length_has_no_ratio(tmp_path):
    metadata = {"spacing": 3.0, "axes": "ZYX", "unit": "1/nm"}
    tifffile.imwrite(tmp_path / "a.tif", example().data, imagej=True, metadata=metadata)

    assert read_image(tmp_path / "a.tif").scale == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_file_that_becomes_too_large_is_told_in_the_words_of_the_system(tmp_path, dtype):
    image = ImageArray(np.full((20, 100, 100), -1).astype(dtype), "ZYX", (1.0,) * 3, ("pixel",) * 3)
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(FileWriteError) as refused:
            written(tmp_path, image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    path = tmp_path / "example.tif"
    assert str(refused.value) == f"Cannot write {path}: {os.strerror(errno.EFBIG)}."
    assert list(tmp_path.iterdir()) == []


def test_pages_without_a_description_are_a_stack(tmp_path):
    data = example().data
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in data:
            file.write(page, contiguous=False, metadata=None)

    found = read_image(tmp_path / "pages.tif")

    assert found.axes == "ZYX"
    assert np.array_equal(found.data, data)


def test_more_axes_than_are_understood_are_refused(tmp_path):
    data = np.zeros((2, 2, 2, 2, 3, 8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "seven.tif", data, photometric="minisblack")

    with pytest.raises(FileReadError, match=r"more axes \(Q+YX\) than time, channel, Z, Y and X\."):
        read_image(tmp_path / "seven.tif")


KINDS = {
    "plain": {},
    "compressed": {"compression": "zlib"},
    "pages": {"metadata": None},
    "imagej": {"imagej": True},
    "ome": {"ome": True},
    "compressed-ome": {"ome": True, "compression": "zlib"},
    "big": {"bigtiff": True, "compression": "zlib"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, kind, share):
    data = np.random.default_rng(0).integers(0, 255, (6, 40, 50), np.uint8)
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    tifffile.imwrite(whole, data, **KINDS[kind])
    content = whole.read_bytes()
    assert np.array_equal(read_image(whole).data, data)
    cut.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(FileReadError, match=r"Cannot read .*cut\.tif"):
        read_image(cut)


def test_own_files_that_were_cut_short_are_refused(tmp_path):
    for image in (example("TZYX"), example(dtype=np.int32, low=-9)):
        content = written(tmp_path, image).read_bytes()
        for share in (0.1, 0.5, 0.9, 0.98):
            cut = tmp_path / "cut.tif"
            cut.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(FileReadError, match=r"Cannot read .*cut\.tif"):
                read_image(cut)


def test_spoilt_compressed_data_is_refused(tmp_path):
    path = tmp_path / "spoilt.tif"
    tifffile.imwrite(path, example().data, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)

    with pytest.raises(FileReadError, match=r"Cannot read .*spoilt\.tif"):
        read_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"II", b"II*\0", b"z, y, x\n1, 2, 3\n", struct.pack("<2sHI", b"II", 42, 8)]
)
def test_a_file_that_is_no_tiff_is_refused(tmp_path, content):
    path = tmp_path / "renamed.tif"
    path.write_bytes(content)

    with pytest.raises(FileReadError, match=r"Cannot read .*renamed\.tif"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileReadError, match=r"There is no file .*gone\.tif"):
        read_image(tmp_path / "gone.tif")


def test_an_unknown_format_is_told_with_those_that_are_known(tmp_path):
    (tmp_path / "image.bmp").write_bytes(b"BM")

    with pytest.raises(
        FileReadError, match=r"image\.bmp has no known image format; .*\.tif, \.tiff"
    ):
        read_image(tmp_path / "image.bmp")
    with pytest.raises(ValueError, match=r"'mask\.bmp' has no known image format"):
        writer_for("mask.bmp")


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "folder.tif").mkdir()

    with pytest.raises(FileReadError, match="no known image format"):
        read_image(tmp_path / "folder.tif")


def expected_spacing(line):
    """What a table of independent readings says of an ImageJ file: pixel size, step and unit."""
    if "'unit': 'micron'" not in line:
        return None, None
    pixel = 1_000_000 / 5_928_571 if "(5928571, 1000000)" in line else None
    return pixel, 2.5 if "'spacing': 2.5" in line else None


def test_files_that_imagej_wrote_have_the_pixel_size_an_independent_reader_saw(real_data):
    with (real_data / "formats" / "EXPECTED.tsv").open(encoding="utf-8") as table:
        rows = [row for row in csv.reader(table, delimiter="\t") if "tiff-imagej/" in row[0]]
    assert len(rows) >= 4
    for name, line in rows:
        found = read_image(real_data / "formats" / name)
        assert f"('{found.axes}', {found.shape}, '{found.dtype}')" in line
        pixel, step = expected_spacing(line)
        spacing = dict(zip(found.axes, zip(found.scale, found.units, strict=True), strict=True))
        if pixel is None:
            assert set(found.units) == {"pixel"}
            continue
        assert spacing["X"] == spacing["Y"] == (pytest.approx(pixel), "µm")
        if step is not None:
            assert spacing["Z"] == (pytest.approx(step), "µm")


def test_the_isbi_stack_has_pixels_of_4_nanometres(real_data):
    found = read_image(real_data / "isbi2012" / "train-volume.tif")

    assert (found.axes, found.shape, found.dtype) == ("ZYX", (23, 512, 512), np.uint8)
    assert found.units[1:] == ("nm", "nm")
    assert found.scale[1:] == pytest.approx((4.0, 4.0), rel=1e-3)


def test_every_real_tiff_is_read(real_data):
    names = ["tiff-imagej", "tiff-vendor", "tiff-dm"]
    paths = [p for n in names for p in sorted((real_data / "formats" / n).glob("*.tif"))]
    assert len(paths) >= 6
    for path in paths:
        assert min(read_image(path).shape) > 0


def test_an_unknown_section_distance_stays_unknown_beside_a_known_pixel_size(tmp_path):
    image = ImageArray(np.zeros((3, 4, 4), np.uint8), "ZYX", (1.0, 4.0, 4.0), ("pixel", "nm", "nm"))
    write_image(tmp_path / "a.tif", image)
    found = read_image(tmp_path / "a.tif")
    assert (found.scale, found.units) == (image.scale, image.units)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_large_stacks_stay_on_disk_and_are_read_by_section(
    tmp_path, monkeypatch, order, compression
):
    for module in (tiff, lazy):
        monkeypatch.setattr(module, "LARGEST_IN_MEMORY", 100)
    data = example(dtype=np.uint16).data
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        byteorder=order,
        compression=compression,
        photometric="minisblack",
    )

    found = read_image(tmp_path / "a.tif")

    assert isinstance(found.data, dask.array.Array)
    assert found.dtype == np.dtype("=u2")
    assert np.array_equal(np.asarray(found.data), data)
    assert np.array_equal(np.asarray(found.data[2, 1:5]), data[2, 1:5])


def test_tags_of_microscopes_go_before_the_resolution(real_data):
    expected = {
        "tiff-vendor/FEI-Helios-Ebeam-8bits.tif": 3372.4,
        "tiff-vendor/TVIPS_bin4.tif": 1.42080,
        "tiff-vendor/test_tiff_Zeiss_SEM_1k.tif": 2614.514,
        # Stored at half the resolution: its width of 5.965 µm over 512 pixels.
        "tiff-vendor/test_tiff_Zeiss_SEM_512pix.tif": 11.64998,
        "tiff-dm/test_loading_image_saved_with_DM.tif": 168.675,
    }
    for name, nanometres in expected.items():
        assert read_image(real_data / "formats" / name).pixel_size == pytest.approx(
            nanometres, rel=1e-4
        )


def test_a_series_in_time_of_digital_micrograph_has_its_own_lengths(real_data):
    path = real_data / "formats" / "tiff-dm" / "test_loading_image_saved_with_DM_stack.tif"

    found = read_image(path)

    assert (found.axes, found.units) == ("TYX", ("s", "µm", "µm"))
    assert found.scale == pytest.approx((2.5, 1.68674, 0.168674), rel=1e-4)


def test_a_decimal_comma_is_understood(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        example().data,
        photometric="minisblack",
        description="ImageJ=1.54f\nimages=4\nslices=4\nunit=micron\nspacing=0,5\n",
        resolution=(100, 100),
        metadata=None,
    )

    found = read_image(tmp_path / "a.tif")

    assert found.scale == pytest.approx((0.5, 0.01, 0.01))

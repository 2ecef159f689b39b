import nrrd
import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

DATA = np.random.default_rng(0).integers(0, 1000, (3, 5, 7)).astype(np.int16)


def written(path, data=DATA, **header):
    nrrd.write(str(path), data, header, index_order="C", detached_header=False)
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_encoding_gives_the_array(tmp_path, encoding, endian):
    data = DATA.astype(DATA.dtype.newbyteorder("<" if endian == "little" else ">"))

    found = read_image(written(tmp_path / "a b.nrrd", data, encoding=encoding))

    assert (found.axes, found.dtype) == ("ZYX", np.dtype(np.int16))
    assert found.dtype.isnative
    assert np.array_equal(np.asarray(found.data), DATA)


def test_hexadecimal_data_is_read(tmp_path):
    path = tmp_path / "hex.nrrd"
    path.write_text(
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: hex\n\n000102\nfdfeff\n"
    )

    assert np.array_equal(read_image(path).data, [[0, 1, 2], [253, 254, 255]])


def test_spacing_and_units_are_those_of_the_header(tmp_path):
    path = written(tmp_path / "a.nrrd", spacings=[4.0, 5.0, 50.0], units=["nm", "nm", "um"])

    found = read_image(path)

    assert (found.scale, found.units) == ((50.0, 5.0, 4.0), ("µm", "nm", "nm"))


def test_space_directions_give_the_spacing(tmp_path):
    directions = [[0, 3, 4], [0, 2, 0], [1, 0, 0]]
    header = {"space dimension": 3, "space directions": directions, "space units": ["um"] * 3}

    found = read_image(written(tmp_path / "a.nrrd", **header))

    assert (found.scale, found.units) == (pytest.approx((1, 2, 5)), ("µm",) * 3)


def test_detached_data_is_found_beside_the_header(tmp_path):
    path = tmp_path / "a.nhdr"
    nrrd.write(str(path), DATA, {"encoding": "raw"}, index_order="C")
    found = read_image(path)
    assert np.array_equal(found.data, DATA)

    (tmp_path / "a.raw").unlink()

    with pytest.raises(FileReadError, match=r"keeps its data in a\.raw, and there is no such file"):
        read_image(path)


def test_detached_data_may_have_any_name(tmp_path):
    header = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n"
    (tmp_path / "a.nhdr").write_text(header + "data file: größe é.raw\n", encoding="utf-8")
    (tmp_path / "größe é.raw").write_bytes(b"1234")

    assert bytes(np.asarray(read_image(tmp_path / "a.nhdr").data)) == b"1234"


@pytest.mark.parametrize("files", ["LIST\na.raw\nb.raw", "a%d.raw 1 2 1"])
def test_data_in_several_files_is_refused(tmp_path, files):
    header = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n"
    (tmp_path / "a.nhdr").write_text(f"{header}data file: {files}\n")

    with pytest.raises(FileReadError, match="keeps its data in several files"):
        read_image(tmp_path / "a.nhdr")


def test_spacings_may_have_decimal_commas(tmp_path):
    path = written(tmp_path / "a.nrrd", spacings=[4.5, 5.25, 50.0], units=["nm"] * 3)
    path.write_bytes(path.read_bytes().replace(b"4.5 5.25 50.0", b"4,5 5,25 50,0"))

    assert read_image(path).scale == (50.0, 5.25, 4.5)


def test_lines_and_bytes_before_the_data_are_skipped(tmp_path):
    header = b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n"
    (tmp_path / "lines.nrrd").write_bytes(header + b"line skip: 2\nbyte skip: 1\n\na\nb\nx1234")
    (tmp_path / "end.nrrd").write_bytes(header + b"byte skip: -1\n\nanything1234")

    for name in ("lines.nrrd", "end.nrrd"):
        assert bytes(np.asarray(read_image(tmp_path / name).data)) == b"1234"


def test_colours_and_time_keep_their_meaning(tmp_path):
    colours = written(
        tmp_path / "c.nrrd", np.zeros((4, 5, 3), np.uint8), kinds=["RGB-color", "domain", "domain"]
    )
    times = written(tmp_path / "t.nrrd", kinds=["domain", "domain", "time"])

    assert (read_image(colours).axes, read_image(times).axes) == ("YXS", "TYX")


def test_less_than_an_image_is_refused(tmp_path):
    with pytest.raises(FileReadError, match="holds no image"):
        read_image(written(tmp_path / "line.nrrd", np.arange(5, dtype=np.int16)))


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.4, 0.7, 0.9])
def test_a_file_that_was_cut_short_is_refused(tmp_path, encoding, share):
    whole = written(tmp_path / "a.nrrd", encoding=encoding).read_bytes()
    path = tmp_path / "cut.nrrd"
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(FileReadError, match=r"cut\.nrrd"):
        read_image(path)

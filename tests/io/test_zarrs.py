import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from imageio.v3 import imread

from napari_unet.core.image import as_grey
from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

VALUES = np.random.default_rng(0).integers(0, 200, (6, 20, 30)).astype(np.uint8)


def pixels(path):
    return np.asarray(read_image(path).data)


def stored(path, values=VALUES, **settings):
    """A Zarr array in small chunks."""
    settings.setdefault("chunks", tuple(min(n, 8) for n in values.shape))
    zarr.create_array(path, data=values, **settings)
    return path


def written_ome(path, version, axes="zyx", name="0", levels=1):
    """A small OME-Zarr image as its specification has it, without any library for it."""
    root = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    scale = {"t": 2.0, "c": 1.0, "z": 30.0, "y": 4.0, "x": 5.0}
    records = [
        {"name": a, "type": "space", "unit": "nanometer"}
        if a in "zyx"
        else {"name": a, "type": {"t": "time", "c": "channel"}[a]}
        for a in axes
    ]
    values = VALUES.reshape((1,) * (len(axes) - 3) + VALUES.shape)
    datasets = []
    for level in range(levels):
        key = f"{name}{level}" if level else name
        reduced = values[..., :: 2**level, :: 2**level]
        root.create_array(key, data=reduced, chunks=(1,) * (len(axes) - 2) + (8, 8))
        factors = [scale[a] * (2**level if a in "yx" else 1) for a in axes]
        datasets.append(
            {
                "path": key,
                "coordinateTransformations": [{"type": "scale", "scale": factors}],
            }
        )
    multiscale = {"version": version, "name": "em", "axes": records, "datasets": datasets}
    if version in ("0.1", "0.2"):
        del multiscale["axes"]
    if version == "0.3":
        multiscale["axes"] = list(axes)
    if version in ("0.1", "0.2", "0.3"):
        for each in datasets:
            del each["coordinateTransformations"]
    found = {"multiscales": [multiscale]}
    root.attrs.put({"ome": {**found, "version": "0.5"}} if version == "0.5" else found)
    return path


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5"])
def test_every_version_of_ome_zarr_is_read_with_its_axes(tmp_path, version):
    found = read_image(written_ome(tmp_path / "em.ome.zarr", version, "tczyx"))

    assert (found.axes, found.name) == ("TCZYX", "em")
    assert np.array_equal(np.asarray(found.data)[0, 0], VALUES)
    if version in ("0.4", "0.5"):
        assert found.scale == (2.0, 1.0, 30.0, 4.0, 5.0)
        assert found.units == ("pixel", "", "nm", "nm", "nm")


def test_full_resolution_is_the_image_and_the_others_are_its_levels(tmp_path):
    found = read_image(written_ome(tmp_path / "em.zarr", "0.5", levels=3))

    assert found.shape == (6, 20, 30)
    assert [level.shape for level in found.levels] == [(6, 10, 15), (6, 5, 8)]
    assert np.array_equal(np.asarray(found.levels[1]), VALUES[:, ::4, ::4])


def test_one_level_alone_keeps_the_meaning_that_its_group_tells(tmp_path):
    path = written_ome(tmp_path / "em.zarr", "0.4", levels=2)

    found = read_image(path / "01")

    assert (found.scale, found.units) == ((30.0, 8.0, 10.0), ("nm",) * 3)


def test_spacing_of_the_whole_image_and_of_a_level_are_multiplied(tmp_path):
    path = written_ome(tmp_path / "em.zarr", "0.5")
    root = zarr.open_group(path)
    ome = root.attrs["ome"]
    ome["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1, 0.5, 2]}]
    root.attrs["ome"] = ome

    assert read_image(path).scale == (30.0, 2.0, 10.0)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">i4", "<i8", "<f4", ">f8", "f2", "?"])
@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_every_number_type_are_read_in_the_order_of_this_machine(
    tmp_path, version, dtype
):
    values = VALUES.astype(dtype)

    found = read_image(stored(tmp_path / "em.zarr", values, zarr_format=version))

    assert found.axes == "ZYX"
    assert found.dtype.isnative
    assert np.array_equal(np.asarray(found.data), values)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("codec", ["blosc", "gzip", "zlib", "bz2", "lzma", "zstd", "lz4", "none"])
def test_every_usual_compression_of_zarr_2_is_read(tmp_path, codec, separator, order):
    import numcodecs

    compressor = None if codec == "none" else numcodecs.get_codec({"id": codec})
    path = stored(
        tmp_path / "em.zarr",
        zarr_format=2,
        compressors=compressor,
        order=order,
        chunk_key_encoding={"name": "v2", "separator": separator},
    )

    assert np.array_equal(pixels(path), VALUES)


def test_shards_are_read(tmp_path):
    path = stored(tmp_path / "em.zarr", chunks=(2, 5, 5), shards=(6, 20, 15))

    assert np.array_equal(pixels(path), VALUES)


def test_missing_chunks_hold_the_fill_value(tmp_path):
    path = stored(tmp_path / "em.zarr", chunks=(6, 10, 30), fill_value=7)
    (path / "c/0/1/0").unlink()

    found = pixels(path)

    assert np.array_equal(found[:, :10], VALUES[:, :10])
    assert (found[:, 10:] == 7).all()


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_is_enough_and_stale_one_does_no_harm(tmp_path, version):
    root = zarr.create_group(tmp_path / "em.zarr", zarr_format=version)
    root.create_array("raw", data=VALUES)
    zarr.consolidate_metadata(tmp_path / "em.zarr")
    root.create_array("later", data=VALUES + 1)

    assert np.array_equal(pixels(tmp_path / "em.zarr/later"), VALUES + 1)
    shutil.rmtree(tmp_path / "em.zarr/later")
    if version == 2:
        (tmp_path / "em.zarr/raw/.zarray").unlink()
    assert np.array_equal(pixels(tmp_path / "em.zarr"), VALUES)


def test_only_what_is_looked_at_is_read(tmp_path):
    path = stored(tmp_path / "em.zarr", chunks=(1, 20, 30))
    image = read_image(path)
    for chunk in path.glob("c/*/0/0"):
        if chunk.parts[-3] != "3":
            chunk.write_bytes(b"damaged")

    assert np.array_equal(np.asarray(image.data[3]), VALUES[3])


def test_axes_that_count_x_first_are_turned(tmp_path):
    path = stored(tmp_path / "em.zarr", VALUES.T, dimension_names=["x", "y", "z"])

    found = read_image(path)

    assert found.axes == "ZYX"
    assert np.array_equal(np.asarray(found.data), VALUES)


def test_a_nameless_array_of_colours_is_one_of_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)

    found = read_image(stored(tmp_path / "em.zarr", colours))

    assert found.axes == "YXS"
    assert as_grey(found).shape == (40, 50)


def test_a_single_nameless_axis_beyond_the_known_ones_is_dropped(tmp_path):
    found = read_image(stored(tmp_path / "em.zarr", VALUES[None, None, None, None, :]))

    assert found.shape[-3:] == VALUES.shape
    assert found.axes in ("TCZYX", "CTZYX")


def test_spacing_is_read_as_other_programs_write_it(tmp_path):
    stored(tmp_path / "a.zarr", attributes={"element_size_um": [0.2, 0.1, 0.1]})
    stored(tmp_path / "b.zarr", attributes={"resolution": [40, 4, 4]})

    assert read_image(tmp_path / "a.zarr").scale == (0.2, 0.1, 0.1)
    assert read_image(tmp_path / "a.zarr").units == ("µm",) * 3
    assert read_image(tmp_path / "b.zarr").scale == (40, 4, 4)
    assert read_image(tmp_path / "b.zarr").units == ("nm",) * 3


def test_of_several_images_the_raw_one_is_read_and_any_may_be_named(tmp_path):
    root = zarr.create_group(tmp_path / "em.zarr")
    for number, name in enumerate(("a", "raw", "sub/b")):
        root.create_array(name, data=VALUES + number)

    assert np.array_equal(pixels(tmp_path / "em.zarr"), VALUES + 1)
    assert np.array_equal(pixels(tmp_path / "em.zarr/sub/b"), VALUES + 2)
    assert np.array_equal(pixels(tmp_path / "em.zarr/sub"), VALUES + 2)
    with pytest.raises(FileReadError, match=r"holds no 'c'; its images are a, raw, sub/b\."):
        read_image(tmp_path / "em.zarr/c")


def test_of_several_images_without_a_telling_name_the_others_are_told_of(tmp_path):
    root = zarr.create_group(tmp_path / "em.zarr")
    for name in ("b10", "b2", "sub/c"):
        root.create_array(name, data=VALUES)

    with pytest.warns(UserWarning, match=r"'b2' is read\. .* of b10, sub/c\."):
        read_image(tmp_path / "em.zarr")


def test_a_zipped_store_is_read_and_a_path_may_lead_into_it(tmp_path):
    written_ome(tmp_path / "em.zarr", "0.5", levels=2)
    shutil.make_archive(str(tmp_path / "em.zarr"), "zip", tmp_path / "em.zarr")

    assert np.array_equal(pixels(tmp_path / "em.zarr.zip"), VALUES)
    assert read_image(tmp_path / "em.zarr.zip/01").shape == (6, 10, 15)


def damaged_chunk(path, content=b"damaged"):
    chunk = path / "c/0/1/0"
    chunk.write_bytes(content if content else chunk.read_bytes()[:-3])
    return chunk


@pytest.mark.parametrize(
    ("codec", "content"),
    [
        (codec, content)
        for codec in ("blosc", "gzip", "zstd", "none")
        for content in (b"", b"damaged")
    ],
)
def test_a_damaged_chunk_is_named_when_it_is_looked_at(tmp_path, codec, content):
    compressors = {
        "gzip": zarr.codecs.GzipCodec(),
        "zstd": zarr.codecs.ZstdCodec(),
        "blosc": zarr.codecs.BloscCodec(),
        "none": None,
    }
    path = stored(tmp_path / "em.zarr", chunks=(6, 10, 30), compressors=compressors[codec])
    damaged_chunk(path, content)
    image = read_image(path)

    assert np.array_equal(np.asarray(image.data[:, :10]), VALUES[:, :10])
    with pytest.raises(FileReadError, match=r"Cannot read .*em\.zarr: the chunk c/0/1/0 cannot be"):
        np.asarray(image.data[2])
    with pytest.raises(FileReadError, match="the chunk c/0/1/0"):
        np.asarray(image.data[..., 12:14, 3])


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kept", [0, 0.5, 1])
def test_a_chunk_or_shard_that_is_cut_short_is_named(tmp_path, sharded, kept):
    path = tmp_path / "em.zarr"
    zarr.create_array(
        path,
        data=VALUES,
        chunks=(3, 5, 15) if sharded else (6, 10, 30),
        shards=(6, 10, 30) if sharded else None,
        compressors=zarr.codecs.BloscCodec(),
    )
    chunk = path / "c/0/1/0"
    os.truncate(chunk, int(kept * (chunk.stat().st_size - 1)))
    image = read_image(path)

    assert np.array_equal(np.asarray(image.data[:, :10]), VALUES[:, :10])
    with pytest.raises(FileReadError, match="the chunk c/0/1/0 cannot be decoded"):
        np.asarray(image.data[2])


def test_a_zipped_store_that_is_cut_short_is_refused(tmp_path):
    written_ome(tmp_path / "em.zarr", "0.5", levels=2)
    archive = Path(shutil.make_archive(str(tmp_path / "em.zarr"), "zip", tmp_path / "em.zarr"))
    os.truncate(archive, archive.stat().st_size - 1)

    with pytest.raises(FileReadError, match=r"em\.zarr\.zip.*copy it anew"):
        read_image(archive)


def test_truncated_metadata_are_named(tmp_path):
    root = zarr.create_group(tmp_path / "em.zarr")
    root.create_array("raw", data=VALUES)
    (tmp_path / "em.zarr/raw/zarr.json").write_text('{"zarr_format": 3, "node')

    with pytest.raises(FileReadError, match=r"em\.zarr: raw/zarr\.json is no whole JSON"):
        read_image(tmp_path / "em.zarr")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"zarr_format": 3},
        {"zarr_format": 7, "node_type": "array"},
        {"zarr_format": 3, "node_type": "array", "shape": [3]},
    ],
)
def test_metadata_that_say_nothing_are_refused(tmp_path, content):
    (tmp_path / "em.zarr").mkdir()
    (tmp_path / "em.zarr/zarr.json").write_text(json.dumps(content))

    with pytest.raises(FileReadError, match=r"Cannot read .*em\.zarr"):
        read_image(tmp_path / "em.zarr")


def test_an_unknown_codec_is_named(tmp_path):
    path = stored(tmp_path / "em.zarr")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"].append({"name": "packed-by-magic", "configuration": {}})
    (path / "zarr.json").write_text(json.dumps(metadata))

    with pytest.raises(FileReadError, match="packed-by-magic"):
        np.asarray(read_image(path).data)


def test_stores_without_an_image_are_refused(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    zarr.create_group(tmp_path / "group.zarr")
    (tmp_path / "file.zarr").write_text("")
    (tmp_path / "not.zip").write_text("no archive")
    (tmp_path / "outer").mkdir()

    for name, reason in (
        ("empty.zarr", "there is no Zarr or N5 data in it. It may be empty"),
        ("group.zarr", "no arrays are in it"),
        ("file.zarr", "is a file; a Zarr or N5 store is a folder"),
        ("not.zip", "zip"),
        ("gone.zarr", "There is no file or folder"),
    ):
        with pytest.raises(FileReadError, match=reason) as told:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(told.value)


@pytest.mark.parametrize(
    "values",
    [
        np.array([["a", "bc"], ["d", "e"]], dtype="U2"),
        np.array([[(1, 2.0)]], dtype=[("a", "i4"), ("b", "f4")]),
        np.ones((3, 3), np.complex64),
        np.array([["2020-01-01"]], dtype="M8[s]"),
    ],
)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_is_no_number_is_refused(tmp_path, values):
    path = stored(tmp_path / "em.zarr", values, zarr_format=2)

    with pytest.raises(FileReadError, match="whole or real numbers"):
        read_image(path)


def test_a_line_is_no_image(tmp_path):
    with pytest.raises(FileReadError, match=r"shape \(6,\); an image needs at least two axes"):
        read_image(stored(tmp_path / "em.zarr", VALUES[:, 0, 0]))


def test_six_long_axes_are_too_many(tmp_path):
    with pytest.raises(FileReadError, match="it has 6 axes"):
        read_image(stored(tmp_path / "em.zarr", np.ones((2,) * 6, np.uint8)))


def test_a_level_that_is_not_there_is_named(tmp_path):
    path = written_ome(tmp_path / "em.zarr", "0.5", levels=2)
    shutil.rmtree(path / "01")
    assert read_image(path).levels == ()
    shutil.rmtree(path / "0")

    with pytest.raises(FileReadError, match="metadata tell of an array '0', which is not there"):
        read_image(path)


def written_n5(path, values, block, kind, pack, **attributes):
    """An N5 data set of blocks that `pack` compresses; its axes are counted from X."""
    path.mkdir(parents=True)
    sides = values.shape[::-1]
    described = {
        "dimensions": list(sides),
        "blockSize": list(block),
        "dataType": values.dtype.name,
        "compression": {"type": kind},
        **attributes,
    }
    (path / "attributes.json").write_text(json.dumps(described))
    counts = [-(-n // b) for n, b in zip(sides, block, strict=True)]
    for place in np.ndindex(*counts):
        cut = tuple(slice(i * b, (i + 1) * b) for i, b in zip(place, block, strict=True))[::-1]
        part = values[cut]
        head = np.array([0, part.ndim], ">u2").tobytes()
        head += np.array(part.shape[::-1], ">u4").tobytes()
        target = path.joinpath(*map(str, place))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(head + pack(part.astype(part.dtype.newbyteorder(">")).tobytes()))
    return path


def packers():
    import bz2
    import gzip
    import lzma

    import imagecodecs
    import numcodecs

    def lz4_of_java(content):
        packed = imagecodecs.lz4_encode(content)
        sizes = np.array([len(packed), len(content), 0], "<u4").tobytes()
        return b"LZ4Block\x26" + sizes + packed + b"LZ4Block\x16" + bytes(12)

    return {
        "raw": bytes,
        "gzip": gzip.compress,
        "zlib": zlib.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "lz4": lz4_of_java,
        "lz4 frame": imagecodecs.lz4f_encode,
        "lz4 block": imagecodecs.lz4_encode,
        "blosc": numcodecs.Blosc(cname="lz4").encode,
        "zstd": numcodecs.Zstd().encode,
    }


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("kind", packers())
def test_every_compression_of_n5_is_read(tmp_path, kind, dtype):
    values = VALUES.astype(dtype) + 3
    name = {"zlib": "gzip"}.get(kind, kind.split()[0])
    path = written_n5(tmp_path / "em.n5", values, (7, 8, 4), name, packers()[kind])

    assert np.array_equal(pixels(path), values)


def test_n5_tells_spacing_from_the_quickest_axis(tmp_path):
    path = tmp_path / "em.n5"
    written_n5(path / "s0", VALUES, (8, 8, 8), "raw", bytes)
    half = VALUES[::2, ::2, ::2]
    written_n5(path / "s1", half, (8, 8, 8), "raw", bytes, downsamplingFactors=[2, 2, 2])
    (path / "attributes.json").write_text(
        json.dumps({"n5": "2.0.0", "resolution": [4, 5, 30], "units": ["nm"] * 3})
    )

    found = read_image(path)

    assert (found.axes, found.scale, found.units) == ("ZYX", (30, 5, 4), ("nm",) * 3)
    assert [level.shape for level in found.levels] == [half.shape]
    assert read_image(path / "s1").scale == (60, 10, 8)


def test_pixel_resolution_of_n5_is_read(tmp_path):
    pixel = {"pixelResolution": {"dimensions": [4, 5, 30], "unit": "nm"}}
    path = written_n5(tmp_path / "em.n5", VALUES, (8, 8, 8), "raw", bytes, **pixel)

    assert read_image(path).scale == (30, 5, 4)
    assert read_image(path).units == ("nm",) * 3


def test_missing_blocks_of_n5_are_zero_and_damaged_ones_are_named(tmp_path):
    path = written_n5(tmp_path / "em.n5", VALUES, (30, 10, 6), "gzip", zlib.compress)
    (path / "0/0/0").unlink()
    (path / "0/1/0").write_bytes((path / "0/1/0").read_bytes()[:60])
    image = read_image(path)

    assert not np.asarray(image.data[:, :10]).any()
    with pytest.raises(FileReadError, match=r"em\.n5: the chunk 0/1/0 cannot be decoded"):
        np.asarray(image.data[:, 10:])


def test_a_damaged_block_of_n5_is_named_as_its_file_is(tmp_path):
    path = written_n5(tmp_path / "em.n5", VALUES, (8, 8, 4), "gzip", zlib.compress)
    assert (path / "0/2/1").stat().st_size > 20
    (path / "0/2/1").write_bytes((path / "0/2/1").read_bytes()[:20])

    with pytest.raises(FileReadError, match=r"em\.n5: the chunk 0/2/1 cannot be decoded"):
        np.asarray(read_image(path).data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataType": "string"}, "string"),
        ({"dataType": "object"}, "object"),
        ({"blockSize": [3, 3]}, "Cannot read"),
        ({"compression": {"type": "magic"}}, "magic"),
    ],
)
def test_n5_that_is_no_image_is_refused(tmp_path, change, reason):
    path = written_n5(tmp_path / "em.n5", VALUES, (8, 8, 8), "raw", bytes)
    described = json.loads((path / "attributes.json").read_text())
    (path / "attributes.json").write_text(json.dumps({**described, **change}))

    with pytest.raises(FileReadError, match=reason):
        pixels(path)


def test_real_stores_are_read(real_data):
    formats = real_data / "formats"
    reference = imread(formats / "zarr_implementations/reference_image.png")

    for name in ("zarr.n5", "n5-java.n5", "n5-java.n5/raw", "n5-java.n5/gzip"):
        assert np.array_equal(pixels(formats / "zarr_implementations" / name), reference)
    for name in ("simple_0.4", "simple_0.5", "simple_0.5.zip"):
        found = read_image(formats / "zarr-n5-neuroglancer/zarr/ome_zarr" / name)
        assert (found.shape, found.scale, found.units) == ((10, 10), (4, 30), ("nm", "nm"))
        assert np.asarray(found.data).mean() == 49.5
        assert [level.shape for level in found.levels] == [(5, 5), (2, 2)]
    for name in ("v1", "v2"):
        found = read_image(formats / "ome-zarr-py" / name)
        assert (found.shape, found.axes) == ((1, 2, 1, 16, 16), "TCZYX")
        assert round(float(np.asarray(found.data).mean()), 3) == 10.225
    single = read_image(formats / "zarr-n5-neuroglancer/zarr/zarr_v3/examples/single_res")
    assert int(np.asarray(single.data).sum()) == 861
    ovule = read_image(formats / "plantseg/3d.zarr")
    assert (ovule.scale, ovule.units) == ((0.235, 0.15, 0.15), ("µm",) * 3)
    for name in ("modern", "deprecated"):
        found = read_image(formats / f"zarr-n5-neuroglancer/n5/n5_viewer_multiscale_{name}")
        assert (found.shape, found.scale, found.units) == ((20, 10), (20, 10), ("s", "nm"))


def test_an_archive_with_one_folder_in_it_is_read(tmp_path):
    stored(tmp_path / "em.zarr")
    with zipfile.ZipFile(tmp_path / "em.zarr.zip", "w") as archive:
        for path in sorted((tmp_path / "em.zarr").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))

    assert np.array_equal(pixels(tmp_path / "em.zarr.zip"), VALUES)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_goes_away_is_not_taken_for_missing_chunks(tmp_path, zarr_format):
    path = stored(tmp_path / "em.zarr", zarr_format=zarr_format)
    image = read_image(path)
    assert np.array_equal(np.asarray(image.data[0]), VALUES[0])
    path.rename(tmp_path / "moved.zarr")

    with pytest.raises(FileReadError, match=r"em\.zarr: it is not there any more"):
        np.asarray(image.data[0])

    (tmp_path / "moved.zarr").rename(path)
    assert np.array_equal(np.asarray(image.data[0]), VALUES[0])

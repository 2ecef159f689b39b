import gzip
import hashlib
import json
import re
import warnings

import numpy as np
import pytest
import tifffile

from napari_unet.core.annotations import class_table
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.io.files import FileReadError
from napari_unet.io.folders import find_pairs, read_pairs, split, unlabelled_classes
from napari_unet.io.images import write_image
from tests.examples import bright_discs

CLASSES = class_table(["background", "disc"])
THREE = class_table(["background", "membrane", "mitochondrion"])


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def pairs_of(folder):
    return [
        (each.name, str(each.image.relative_to(folder)), str(each.labels.relative_to(folder)))
        for each in find_pairs(folder)
    ]


def add(folder, name, labels=None, grey=None, size=32, sections=0, pixel_size=4.0):
    """Write an image and its labels side by side; without sections it is a single image."""
    found = bright_discs(max(1, sections), size, seed=sum(map(ord, name)))
    found = found if sections else [each[0] for each in found]
    grey, labels = (
        given if given is not None else made
        for given, made in zip((grey, labels), found, strict=True)
    )
    write_image(folder / f"{name}.tif", image_from_array(grey, name, pixel_size))
    tifffile.imwrite(folder / f"{name}_labels.tif", labels, photometric="minisblack")
    return labels


def read(folder, classes=CLASSES, **options):
    return read_pairs(find_pairs(folder), classes, **options)


def complaint(folder, classes=CLASSES, **options):
    with pytest.raises(FileReadError) as caught:
        read(folder, classes, **options)
    said = str(caught.value)
    assert "\n" not in said
    return said


# finding


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("raw", "masks"), ("Images", "Annotations")]
)
def test_files_of_the_same_name_in_two_folders_belong_together(tmp_path, images, labels):
    touch(tmp_path, f"{images}/b.tif", f"{images}/a.tif", f"{labels}/a.tif", f"{labels}/b.tiff")

    assert pairs_of(tmp_path) == [
        ("a", f"{images}/a.tif", f"{labels}/a.tif"),
        ("b", f"{images}/b.tif", f"{labels}/b.tiff"),
    ]


@pytest.mark.parametrize("ending", ["_labels", "-label", "_mask", "_gt", "-Masks", "_Annotations"])
def test_labels_may_lie_beside_their_images(tmp_path, ending):
    touch(tmp_path, "a.tif", f"a{ending}.tif")

    assert pairs_of(tmp_path) == [("a", "a.tif", f"a{ending}.tif")]


def test_labels_in_a_folder_of_their_own_may_have_an_ending_too(tmp_path):
    touch(tmp_path, "images/a.tif", "labels/a_labels.tif")

    assert pairs_of(tmp_path) == [("a", "images/a.tif", "labels/a_labels.tif")]


def test_an_image_whose_name_looks_like_labels_is_found_in_its_folder(tmp_path):
    touch(tmp_path, "images/cell_mask.tif", "labels/cell_mask.tif")

    assert pairs_of(tmp_path) == [("cell_mask", "images/cell_mask.tif", "labels/cell_mask.tif")]


def test_names_are_sorted_by_the_numbers_in_them(tmp_path):
    names = ["s10", "s9", "s1", "²", "s9b"]
    touch(tmp_path, *(f"{folder}/{n}.tif" for n in names for folder in ("images", "labels")))

    assert [each.name for each in find_pairs(tmp_path)] == ["s1", "s9", "s9b", "s10", "²"]


def test_hidden_files_folders_and_other_formats_are_passed_over(tmp_path):
    touch(tmp_path, "a.tif", "a_mask.tif", "._a.tif", ".b.tif", "notes.txt", "c.tif/inside.txt")

    assert [each.name for each in find_pairs(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["images/a.tif", "images/b.tif", "labels/a.tif"], "images/b.tif has no labels"),
        (["images/a.tif", "labels/a.tif", "labels/b.tif"], "labels/b.tif has no image"),
        (["a.tif", "a_mask.tif", "b_mask.tif"], "b_mask.tif has no image"),
        (["a.tif", "a_mask.tif", "b.tif"], "b.tif has no labels"),
        (["a.tif", "a_mask.tif", "a_gt.tif"], "a_gt.tif and a_mask.tif are both the labels of 'a'"),
        (
            ["images/a.tif", "labels/a.tif", "labels/a_gt.tif"],
            "labels/a.tif and labels/a_gt.tif are both the labels of 'a'",
        ),
        (["a.tif", "a.tiff", "a_mask.tif"], "a.tif and a.tiff are both the image 'a'"),
        (["images/a.tif"], "holds a folder 'images', but none with the labels"),
        (["labels/a.tif", "a.tif"], "holds a folder 'labels', but none with the images"),
        (["labels/a.tif", "images/a.bmp"], "images holds no images (.tif"),
        (["notes.txt"], "holds no images (.tif"),
        (["a_mask.tif"], "holds no images (.tif"),
    ],
)
def test_files_that_do_not_go_together_are_named(tmp_path, files, message):
    touch(tmp_path, *files)

    with pytest.raises(FileReadError, match=re.escape(message)) as caught:
        find_pairs(tmp_path)

    assert str(tmp_path) in str(caught.value)


def test_of_very_many_bad_files_some_are_named_and_the_others_counted(tmp_path):
    touch(tmp_path, *(f"s{n}.tif" for n in range(300)))

    with pytest.raises(FileReadError) as caught:
        find_pairs(tmp_path)

    assert "s9.tif has no labels; and 290 more." in str(caught.value)
    assert str(caught.value).count("has no labels") == 10


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileReadError, match=r"There is no folder .*gone"):
        find_pairs(tmp_path / "gone")


def test_the_sha256_of_both_files_is_told(tmp_path):
    add(tmp_path, "a")

    (pair,) = find_pairs(tmp_path)

    assert pair.sha256() == {
        "image": hashlib.sha256((tmp_path / "a.tif").read_bytes()).hexdigest(),
        "labels": hashlib.sha256((tmp_path / "a_labels.tif").read_bytes()).hexdigest(),
    }


# reading


def test_images_come_with_their_labels_and_count_by_their_sections(tmp_path):
    single = add(tmp_path, "single")
    stack = add(tmp_path, "stack", sections=3, size=48)

    found = {each.name: each for each in read(tmp_path, share=0.5)}

    assert list(found) == ["single", "stack"]
    assert np.array_equal(found["single"].annotations.sections[()], single)
    assert [np.array_equal(found["stack"].annotations.sections[(z,)], stack[z]) for z in range(3)]
    assert found["single"].share == pytest.approx(0.125)
    assert found["stack"].share == pytest.approx(0.375)
    assert found["stack"].image.pixel_size == pytest.approx(4)
    assert found["stack"].statistics is not None


def test_the_given_pixel_size_replaces_that_of_the_files(tmp_path):
    add(tmp_path, "a", pixel_size=4)
    add(tmp_path, "b", pixel_size=None)

    assert [each.image.pixel_size for each in read(tmp_path)] == [pytest.approx(4), None]
    assert [each.image.pixel_size for each in read(tmp_path, pixel_size=7.5)] == [7.5, 7.5]


@pytest.mark.parametrize("true", [np.uint8(255), np.True_], ids=["0 and 255", "truth values"])
def test_masks_are_the_second_class_on_the_first(tmp_path, true):
    discs = bright_discs()[1][0] == 2
    add(tmp_path, "a", discs * true, size=64)

    (found,) = read(tmp_path)

    assert np.array_equal(found.annotations.sections[()], np.where(discs, 2, 1))


def test_an_empty_mask_among_masks_is_background_and_a_full_one_the_second_class(tmp_path):
    add(tmp_path, "a", bright_discs(1, 32)[1][0] // 2 * np.uint8(255))
    add(tmp_path, "empty", np.zeros((32, 32), np.uint8))
    add(tmp_path, "full", np.full((32, 32), 255, np.uint8))

    found = {each.name: np.unique(each.annotations.sections[()]) for each in read(tmp_path)}

    assert {name: list(values) for name, values in found.items()} == {
        "a": [1, 2],
        "empty": [1],
        "full": [2],
    }


def test_an_image_without_annotations_among_others_is_left_out_with_a_warning(tmp_path):
    add(tmp_path, "a")
    add(tmp_path, "empty", np.zeros((32, 32), np.uint8))

    with pytest.warns(UserWarning, match=r"Nothing is annotated in .*empty_labels\.tif \("):
        found = read(tmp_path)

    assert [(each.name, each.share) for each in found] == [("a", 1.0)]


def test_labels_may_be_stored_in_any_kind_of_whole_numbers(tmp_path):
    for kind in (np.int8, np.uint16, np.int32, np.uint32):
        add(tmp_path, np.dtype(kind).name, bright_discs(1, 32)[1][0].astype(kind))

    assert len(read(tmp_path)) == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((32, 31), np.uint8), "bad_labels.tif has the shape (32, 31), its image (32, 32)"),
        (np.ones((2, 32, 32), np.uint8), "bad_labels.tif has the shape (2, 32, 32), its image"),
        (np.full((32, 32), 1.0, np.float32), "bad_labels.tif holds values of type float32"),
        (
            np.arange(1024, dtype=np.uint16).reshape(32, 32),
            "bad_labels.tif holds values from 0 to 1023; classes are numbers from 1. Are these "
            "object numbers?",
        ),
        (np.full((32, 32), -1, np.int16), "bad_labels.tif holds values from -1 to -1"),
        (
            np.full((32, 32), 3, np.uint8),
            "bad_labels.tif holds values up to 3, but only the classes 1 to 2 (background, disc) "
            "are known: name more with --classes, unless these are object numbers",
        ),
        (
            np.eye(32, dtype=np.uint8) * 255,
            "bad_labels.tif holds 0 and 255, the mask of one class, but others hold classes",
        ),
    ],
    ids=["size", "sections", "real", "objects", "negative", "class 3", "mask among classes"],
)
def test_labels_that_do_not_agree_are_named(tmp_path, labels, message):
    add(tmp_path, "good")
    add(tmp_path, "bad", labels)

    said = complaint(tmp_path)

    assert message in said
    assert "good" not in said


@pytest.mark.parametrize(
    ("grey", "message"),
    [
        (np.full((32, 32), 7, np.uint8), "bad.tif' is constant: every pixel looked at is 7"),
        (np.full((32, 32), np.nan, np.float32), "bad.tif' holds no finite grey value"),
    ],
)
def test_an_image_in_which_there_is_nothing_to_see_is_named(tmp_path, grey, message):
    add(tmp_path, "good")
    add(tmp_path, "bad", grey=grey)

    assert message in complaint(tmp_path)


@pytest.mark.parametrize("name", ["bad.tif", "bad_labels.tif"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_an_unreadable_file_is_named(tmp_path, name, share):
    add(tmp_path, "good")
    add(tmp_path, "bad", sections=3)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])

    said = complaint(tmp_path)

    assert f"Cannot read {tmp_path / name}: " in said
    assert "good" not in said


def test_every_bad_file_is_named_at_once(tmp_path):
    add(tmp_path, "good")
    add(tmp_path, "constant", grey=np.zeros((32, 32), np.uint8))
    add(tmp_path, "small", np.ones((8, 8), np.uint8))
    add(tmp_path, "objects", np.full((32, 32), 40, np.uint8))

    said = complaint(tmp_path)

    assert all(name in said for name in ("constant.tif'", "small_labels.tif", "objects_labels"))


def test_an_image_of_several_channels_needs_a_choice(tmp_path):
    add(tmp_path, "a")
    grey = np.stack([tifffile.imread(tmp_path / "a.tif")] * 2)
    channels = ImageArray(grey, "CYX", (1.0, 4.0, 4.0), ("", "nm", "nm"))
    write_image(tmp_path / "a.tif", channels)

    assert "a.tif' has 2 channels" in (said := complaint(tmp_path))
    assert "(--channel)" in said
    assert read(tmp_path, channel=1)[0].image.shape == (32, 32)


def test_labels_that_hold_nothing_at_all_are_refused(tmp_path):
    add(tmp_path, "a", np.zeros((32, 32), np.uint8))

    said = complaint(tmp_path)
    assert f"Nothing is annotated in {tmp_path / 'a_labels.tif'}: all labels are 0" in said


def test_labels_of_a_class_that_is_said_to_be_unlabelled_are_refused(tmp_path):
    add(tmp_path, "a", bright_discs(1, 32)[1][0] + 1)

    said = complaint(tmp_path, THREE, unlabelled=unlabelled_classes(THREE, ["mitochondrion"]))

    assert "'a' holds" in said
    assert "pixels of 'mitochondrion', which is said to be unlabelled" in said


def test_only_structures_can_be_unlabelled():
    with pytest.raises(ValueError, match=r"The background \('background'\) cannot be unlabelled"):
        unlabelled_classes(THREE, ["background"])
    with pytest.raises(ValueError, match="There is no class 'nucleus'; the classes are background"):
        unlabelled_classes(THREE, ["nucleus"])


def test_names_with_points_are_told_apart(tmp_path):
    for name in ("s.1", "s.2"):
        add(tmp_path, name)
    add(tmp_path, "s.3", grey=np.zeros((32, 32), np.uint8))

    assert "s.3.tif' is constant" in complaint(tmp_path)


# splitting


@pytest.fixture
def sources(tmp_path):
    add(tmp_path, "a", sections=4)
    add(tmp_path, "b")
    add(tmp_path, "c")
    return read(tmp_path)


def names_and_sections(images):
    return {each.name: sorted(each.annotations.sections) for each in images}


@pytest.mark.parametrize(
    ("wishes", "judged"),
    [
        (["b"], {"b": [()]}),
        (["b.tif", " c "], {"b": [()], "c": [()]}),
        (["a:1"], {"a": [(1,)]}),
        (["a:1-2", "a:3-9"], {"a": [(1,), (2,), (3,)]}),
        (["a"], {"a": [(0,), (1,), (2,), (3,)]}),
        (["c", "a", "b"], {"a": [(0,), (1,), (2,), (3,)], "b": [()], "c": [()]}),
        ([], {}),
    ],
)
def test_images_and_sections_are_held_out_by_name(sources, wishes, judged):
    learnt, found = split(sources, wishes)

    assert names_and_sections(found) == judged
    everything = names_and_sections(sources)
    left = {n: [s for s in all_ if s not in judged.get(n, [])] for n, all_ in everything.items()}
    assert names_and_sections(learnt) == {n: sections for n, sections in left.items() if sections}
    assert sum(each.share for each in (*learnt, *found)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "judged"),
    [
        (0.01, {"c": [()]}),
        (0.3, {"b": [()], "c": [()]}),
        (0.5, {"a": [(3,)], "b": [()], "c": [()]}),
    ],
)
def test_the_last_sections_are_held_out_and_at_least_one(sources, share, judged):
    learnt, found = split(sources, share=share)

    assert names_and_sections(found) == judged
    assert "a" in names_and_sections(learnt)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (["d"], "There is no image 'd' to validate with; there are a, b, c."),
        (["a:x"], "'a:x' names no sections; write a:3 or a:3-5."),
        (["a:²"], "names no sections"),
        (["a:7"], "'a' has no labelled sections 7"),
        (["a:2-1"], "'a' has no labelled sections 2-1"),
        (["b:0"], "'b' has no labelled sections 0"),
    ],
)
def test_a_split_that_cannot_be_is_refused(sources, wishes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        split(sources, wishes)


def test_reading_a_good_folder_gives_no_warning(tmp_path):
    add(tmp_path, "a")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".zarr", ".mrc", ".h5", ".n5", ".mrc.gz"])
def test_images_and_labels_of_every_format_that_is_read_are_taken(tmp_path, suffix):
    (grey,), (labels,) = bright_discs(1, 32, seed=0)
    for place, values in (("images", grey), ("labels", labels)):
        (tmp_path / place).mkdir()
        path = tmp_path / place / f"a{suffix}"
        if suffix == ".n5":
            path.mkdir()
            size = values.shape[::-1]
            told = {"dimensions": size, "blockSize": size, "compression": {"type": "raw"}}
            told["dataType"] = values.dtype.name
            (path / "attributes.json").write_text(json.dumps(told))
            header = np.array([0, 2], ">u2").tobytes() + np.array(size, ">u4").tobytes()
            (path / "0").mkdir()
            (path / "0/0").write_bytes(
                header + values.astype(values.dtype.newbyteorder(">")).tobytes()
            )
        elif suffix == ".mrc.gz":
            write_image(tmp_path / "plain.mrc", image_from_array(values))
            path.write_bytes(gzip.compress((tmp_path / "plain.mrc").read_bytes()))
            (tmp_path / "plain.mrc").unlink()
        else:
            write_image(path, image_from_array(values))

    (source,) = read(tmp_path)

    assert source.name == "a"
    assert np.array_equal(np.asarray(source.image.data).squeeze(), grey)
    (painted,) = source.annotations.sections.values()
    assert np.array_equal(painted.squeeze(), labels)
    (pair,) = find_pairs(tmp_path)
    assert pair.sha256() == find_pairs(tmp_path)[0].sha256()
    assert pair.sha256()["image"] != pair.sha256()["labels"]


def test_the_fingerprint_of_a_store_changes_with_its_content(tmp_path):
    (grey,), (labels,) = bright_discs(1, 32, seed=0)
    write_image(tmp_path / "a.zarr", image_from_array(grey))
    write_image(tmp_path / "a_labels.zarr", image_from_array(labels))
    (pair,) = find_pairs(tmp_path)
    before = pair.sha256()

    write_image(tmp_path / "a.zarr", image_from_array(grey + np.uint8(1)))

    after = pair.sha256()
    assert after["image"] != before["image"]
    assert after["labels"] == before["labels"]

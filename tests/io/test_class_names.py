import numpy as np
import pytest

from napari_unet.core.annotations import class_table
from napari_unet.core.image import image_from_array
from napari_unet.io.class_names import read_classes
from napari_unet.io.images import write_image

MASK = image_from_array(np.random.default_rng(0).integers(1, 4, (3, 20, 30), np.uint8), "mask")
CLASSES = class_table(["background", "membrane, outer", "Mitochondrium äußen 線"])
PLAIN = class_table(["background", "membrane", "vesicle, 40 nm"])


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.h5", "a.mrc"])
def test_the_names_of_classes_come_back_from_a_mask(tmp_path, name):
    write_image(tmp_path / name, MASK, PLAIN)

    assert read_classes(tmp_path / name) == PLAIN


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.h5", "a.png"])
def test_letters_of_any_language_come_back(tmp_path, name):
    mask = MASK.with_data(MASK.data) if name != "a.png" else image_from_array(MASK.data[0], "mask")
    write_image(tmp_path / name, mask, CLASSES)

    assert [each.name for each in read_classes(tmp_path / name)] == [c.name for c in CLASSES]


def test_ome_tiff_tells_of_classes_too(tmp_path):
    objects = MASK.with_data(MASK.data.astype(np.int32) - 2)  # ImageJ has no such numbers
    write_image(tmp_path / "a.tif", objects, CLASSES)

    assert [each.name for each in read_classes(tmp_path / "a.tif")] == [c.name for c in CLASSES]


@pytest.mark.parametrize("name", ["a.zarr", "a.h5"])
def test_colours_come_back_where_they_are_told(tmp_path, name):
    red = (PLAIN[0], PLAIN[1].__class__("membrane", "#ff0000"))
    write_image(tmp_path / name, MASK, red)

    assert read_classes(tmp_path / name) == red


def test_a_name_that_was_cut_off_is_left_out(tmp_path):
    many = class_table([f"a rather long name {n}" for n in range(5)])
    write_image(tmp_path / "a.mrc", MASK, many)

    assert read_classes(tmp_path / "a.mrc") == many[:2]


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.h5", "a.mrc"])
def test_a_file_that_tells_nothing_has_no_classes(tmp_path, name):
    write_image(tmp_path / name, MASK)

    assert read_classes(tmp_path / name) == ()


def test_the_labels_in_a_store_tell_their_own(tmp_path):
    write_image(tmp_path / "em.zarr", MASK)
    write_image(tmp_path / "em.zarr/labels/cells", MASK, PLAIN)

    assert read_classes(tmp_path / "em.zarr/labels/cells") == PLAIN
    assert read_classes(tmp_path / "em.zarr") == ()

import numpy as np
import pytest

from napari_unet.core.annotations import (
    Annotations,
    SegmentationClass,
    annotations_from_array,
    class_number,
    class_table,
    extended,
)

CLASSES = class_table(["background", "membrane"])


def section(*values):
    return np.array([values], np.uint8)


def test_classes_of_a_table_have_distinct_colours():
    table = class_table(["background", "membrane", "mitochondrion", "vesicle"])

    assert [c.name for c in table] == ["background", "membrane", "mitochondrion", "vesicle"]
    assert len({c.colour for c in table}) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["background"], "2 to 255 classes; got 1"),
        ([str(n) for n in range(256)], "2 to 255 classes; got 256"),
        (["a", "b", "a"], "must differ: a, b, a"),
        (["background", " "], "needs a name"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        class_table(names)


def test_an_extended_table_keeps_its_classes_and_names_new_ones_by_number():
    table = (SegmentationClass("background", "#123456"), SegmentationClass("cell", "#abcdef"))

    longer = extended(table, 4)

    assert longer[:2] == table
    assert [c.name for c in longer[2:]] == ["class 3", "class 4"]
    assert extended(table, 1) == table


def test_a_class_is_found_by_its_name():
    assert class_number(CLASSES, "membrane") == 2
    with pytest.raises(
        ValueError, match="no class 'nucleus'; the classes are background, membrane"
    ):
        class_number(CLASSES, "nucleus")


def test_painted_pixels_are_counted_per_class():
    annotations = Annotations(CLASSES, {(0,): section(0, 1, 1, 2), (3,): section(2, 2, 0, 0)})

    assert annotations.counts().tolist() == [2, 3]
    assert Annotations(CLASSES).counts().tolist() == [0, 0]


def test_sections_painted_anew_replace_older_ones_and_emptied_ones_are_dropped():
    before = Annotations(CLASSES, {(0,): section(1, 2), (1,): section(1, 1)})

    after = before.with_sections({(0,): section(0, 0), (2,): section(2, 2)}, CLASSES)

    assert set(after.sections) == {(1,), (2,)}
    assert after.sections[1,] is before.sections[1,]
    assert set(before.sections) == {(0,), (1,)}


def test_only_painted_sections_of_an_array_are_kept():
    painted = np.zeros((2, 3, 4, 4), np.int32)
    painted[1, 2, 0, 0] = 2

    annotations = annotations_from_array(painted, CLASSES)

    assert set(annotations.sections) == {(1, 2)}
    assert annotations.sections[1, 2].dtype == np.uint8


def test_a_single_image_is_the_section_without_index():
    assert set(annotations_from_array(section(1, 2), CLASSES).sections) == {()}


def test_annotations_do_not_change_when_the_painter_goes_on():
    painted = np.ones((1, 4, 4), np.uint8)
    annotations = annotations_from_array(painted, CLASSES)

    painted[...] = 2

    assert (annotations.sections[0,] == 1).all()


def test_painted_classes_beyond_the_table_get_names():
    annotations = annotations_from_array(section(1, 4), CLASSES)

    assert [c.name for c in annotations.classes] == ["background", "membrane", "class 3", "class 4"]


def test_truth_values_are_taken_as_background_strokes():
    assert annotations_from_array(np.eye(3, dtype=bool), CLASSES).counts().tolist() == [3, 0]


def test_annotations_of_real_numbers_are_refused():
    with pytest.raises(ValueError, match=r"must be whole numbers .* type float32"):
        annotations_from_array(np.ones((4, 4), np.float32), CLASSES)


@pytest.mark.parametrize("value", [-1, 256, 1001])
def test_annotations_outside_of_0_to_255_are_refused(value):
    painted = np.zeros((2, 4, 4), np.int32)
    painted[1, 2, 2] = value

    with pytest.raises(ValueError, match=r"section \(1,\) holds values from .* object IDs"):
        annotations_from_array(painted, CLASSES)

import numpy as np
import pytest

from napari_unet.core.evaluation import comparison, object_numbers
from napari_unet.core.image import ImageArray, image_from_array


def mask(values, name="mask.tif", dtype=np.uint8):
    return image_from_array(np.array(values, dtype), name)


def maps(values, axes=None):
    data = np.array(values, np.float32)
    axes = axes or "TZYX"[-data.ndim :]
    return ImageArray(data, axes, (1.0,) * data.ndim, ("pixel",) * data.ndim, "maps.tif")


def test_masks_of_one_class_are_compared_everywhere():
    both = comparison(mask([[255, 0, 255]]), mask([[255, 255, 0]]))

    assert both.predicted.tolist() == [[2, 1, 2]]
    assert both.truth.tolist() == [[2, 2, 1]]
    assert both.reported == {2: 255}
    assert both.membrane.tolist() == [[[True, False, True]]]
    assert both.true_membrane.tolist() == [[[True, True, False]]]


def test_masks_of_0_and_1_are_of_one_class():
    both = comparison(mask([[1, 0]]), mask([[1, 1]]))

    assert both.reported == {2: 1}
    assert both.true_membrane.all()


def test_truth_values_and_0_and_1_go_with_0_and_255():
    whole = mask([[255, 255]])

    assert comparison(mask([[True, True]], dtype=bool), whole).predicted.tolist() == [[2, 2]]
    assert comparison(mask([[0, 1]]), whole).predicted.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="masks of the same kind"):  # all background
        comparison(mask([[1, 1]]), whole)


def test_class_masks_have_membranes_only_when_asked():
    found, truth = mask([[1, 2, 3]]), mask([[1, 2, 2]])

    assert comparison(found, truth).membrane is None
    assert comparison(found, truth).reported is None
    assert comparison(found, truth, 2).membrane.tolist() == [[[False, True, False]]]
    assert comparison(found, truth, 2).true_membrane.tolist() == [[[False, True, True]]]
    assert comparison(found, truth, 2).predicted.tolist() == [[1, 2, 3]]


def test_a_class_mask_is_compared_with_a_mask_of_one_class():
    both = comparison(mask([[1, 2, 3]]), mask([[0, 255, 255]]), 2)
    other = comparison(mask([[0, 255, 255]]), mask([[1, 2, 3]]), 2)

    assert both.predicted.tolist() == other.truth.tolist() == [[1, 2, 1]]
    assert both.truth.tolist() == other.predicted.tolist() == [[1, 2, 2]]
    assert both.reported == other.reported == {2: 2}
    assert both.membrane.tolist() == other.true_membrane.tolist() == [[[False, True, False]]]


@pytest.mark.parametrize("one", [1, 255])
def test_inverted_truth_is_turned(one):
    both = comparison(mask([[one, 0, 0]]), mask([[0, one, one]]), inverted_truth=True)

    assert both.truth.tolist() == both.predicted.tolist() == [[2, 1, 1]]
    assert both.reported == {2: one}


def test_probabilities_of_one_class_are_kept_and_cut_at_one_half_for_the_classes():
    both = comparison(maps([[0.2, 0.5, 0.8]]), mask([[0, 255, 255]]))

    assert both.predicted.tolist() == [[1, 2, 2]]
    assert both.reported == {2: 255}
    assert both.membrane.tolist() == [[pytest.approx([0.2, 0.5, 0.8])]]


def test_probabilities_of_one_class_leave_what_nobody_annotated_open():
    truth = mask([[[1, 2, 3]], [[0, 0, 0]]])

    both = comparison(maps([[[0.2, 0.7, 0.8]], [[0.9, 0.9, 0.9]]]), truth, 2)

    assert both.predicted.tolist() == [[[1, 2, 2]], [[2, 2, 2]]]
    assert both.truth.tolist() == [[[1, 2, 1]], [[0, 0, 0]]]
    assert both.reported == {2: 2}
    assert both.membrane.shape == both.true_membrane.shape == (1, 1, 3)  # the annotated section


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX", "ZYXC"])
def test_probabilities_of_all_classes_become_the_likeliest_one(axes):
    values = np.zeros((3, 2, 1, 2), np.float32)  # C, Z, Y, X
    values[1, 0], values[2, 1] = 0.6, 0.7
    truth = mask([[[2, 2]], [[3, 1]]])

    both = comparison(maps(np.einsum(f"CZYX->{axes}", values), axes), truth, 2)

    assert both.predicted.tolist() == [[[2, 2]], [[3, 3]]]
    assert both.truth.tolist() == truth.data.tolist()
    assert both.reported is None
    assert both.membrane.tolist() == values[1].tolist()
    assert comparison(maps(values, "CZYX"), truth).membrane is None


def test_probabilities_of_all_classes_are_compared_with_a_mask_of_one():
    values = [[[0.6, 0.1]], [[0.4, 0.9]]]

    both = comparison(maps(values, "CYX"), mask([[255, 0]]), 2)

    assert both.predicted.tolist() == [[1, 2]]
    assert both.truth.tolist() == [[2, 1]]
    assert both.reported == {2: 2}


PARTLY = [[[1, 2]], [[1, 0]]]


@pytest.mark.parametrize(
    ("found", "truth", "options", "message"),
    [
        (mask([[1, 2]]), mask([[0, 255]]), {}, "compare masks of the same kind"),
        (mask([[1, 2]]), mask([[1, 2, 1]]), {}, r"shape \(1, 2\), the truth \(1, 3\)"),
        (maps([[0.5]]), mask([[0, 255]]), {}, r"shape \(1, 1\), the truth \(1, 2\)"),
        (maps([[[0.5, 1]]], "CYX"), mask([[1]]), {}, r"shape \(1, 2\), the truth \(1, 1\)"),
        (maps([[0.5, 1]]), mask([[1, 2]]), {}, "mask.tif holds the classes 1, 2; say with"),
        (maps([[[0.5, 1]]], "CYX"), mask([[0, 255]]), {}, "of 1 classes, mask.tif a mask of one"),
        (maps([[[0.5, 1]]], "CYX"), mask([[1, 2]]), {"boundary": 2}, "there is no class 2"),
        (maps([[0.5, 3]]), mask([[0, 255]]), {}, "maps.tif holds float32 from 0.5 to 3, but"),
        (maps([[0.5, np.nan]]), mask([[0, 255]]), {}, "values that are not numbers"),
        (mask([[1, 2]]), maps([[0.5, 1]]), {}, "maps.tif is no mask: .* float32 from 0.5 to 1"),
        (mask([[1, 300]], dtype=np.uint16), mask([[1, 2]]), {}, "uint16 from 1 to 300"),
        (mask([[1, -1]], dtype=np.int16), mask([[1, 2]]), {}, "int16 from -1 to 1"),
        (mask([range(100)]), mask([range(100)]), {}, "holds 100 different values"),
        (mask([[1, 2]]), mask([[1, 2]]), {"boundary": 3}, "no pixel of class 3 .* are 1, 2"),
        (mask([[1, 2]]), mask([[1, 2]]), {"boundary": 0}, "1 or more; got 0"),
        (mask([[0, 0]]), mask([[0, 1]]), {"boundary": 2}, "no pixel of class 2"),
        (mask(PARTLY), mask(PARTLY), {"boundary": 2}, "section 1 of mask.tif, 1 of 2 pixels are 0"),
        (mask([[1, 2]]), mask([[1, 2]]), {"inverted_truth": True}, "mask.tif holds 1, 2"),
        (maps([[0.5, 1]]), mask([[2, 3]]), {"inverted_truth": True}, "for masks of 0 and 255"),
    ],
)
def test_what_cannot_be_compared_is_refused(found, truth, options, message):
    with pytest.raises(ValueError, match=message):
        comparison(found, truth, **options)


def test_colour_images_are_no_masks():
    colour = ImageArray(
        np.zeros((2, 2, 3), np.uint8), "YXS", (1.0,) * 3, ("pixel", "pixel", ""), "red.tif"
    )

    with pytest.raises(ValueError, match=r"red\.tif is a colour image of the shape"):
        comparison(colour, mask([[0, 255]]))
    with pytest.raises(ValueError, match=r"red\.tif is a colour image"):
        object_numbers(colour)


def test_three_sections_that_look_like_colour_planes_are_sections():
    sections = np.full((3, 2, 2), 255, np.uint8)
    planes = ImageArray(sections, "SYX", (1.0,) * 3, ("", "pixel", "pixel"), "planes.tif")

    assert comparison(planes, mask(sections)).membrane.shape == (3, 2, 2)


def test_masks_without_the_class_are_compared():
    both = comparison(mask([[0, 0]]), mask([[0, 0]]))

    assert both.predicted.tolist() == both.truth.tolist() == [[1, 1]]
    assert not both.true_membrane.any()

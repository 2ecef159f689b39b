import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.annotations import annotations_from_array, class_table
from napari_unet.core.image import image_from_array
from napari_unet.core.patches import LabelledImage
from napari_unet.core.validation import validate
from tests.examples import noise_image, tiny_model

CLASSES = class_table(["background", "membrane", "mitochondrion"])


def model_that_sees_only(number):
    """A model of three classes that finds one of them everywhere."""
    model = tiny_model("background", "membrane", "mitochondrion")
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
        network.classifier.bias[number - 1] = 5.0
    return replace(model, network=network)


def labelled(*columns, name="noise", **more):
    """Sections of three columns, 24 pixels wide in all, each column of one class."""
    painted = np.repeat(np.array(columns, np.uint8)[:, None, :], 16, axis=1).repeat(8, axis=2)
    image = noise_image(*painted.shape)
    return LabelledImage(image, annotations_from_array(painted, CLASSES), name=name, **more)


def test_every_labelled_class_of_every_image_is_scored_by_name():
    first, second = labelled((1, 2, 3), name="first"), labelled((1, 1, 2), name="second")

    found = validate(model_that_sees_only(2), [first, second], device="cpu")

    assert set(found) == {"first", "second"}
    assert set(found["first"]) == {"background", "membrane", "mitochondrion"}
    assert set(found["second"]) == {"background", "membrane"}
    membrane = found["first"]["membrane"]
    assert (membrane.iou, membrane.recall, membrane.pixels) == (pytest.approx(1 / 3), 1.0, 16 * 8)
    assert found["first"]["background"].f1 == 0.0


def test_scores_are_those_of_all_sections_together():
    stack = labelled((2, 2, 2), (1, 1, 1))

    found = validate(model_that_sees_only(2), [stack], device="cpu")["noise"]

    assert found["membrane"].precision == 0.5
    assert found["membrane"].pixels == 16 * 24


def test_only_sections_with_labels_and_labelled_pixels_count():
    stack = labelled((2, 0, 0), (0, 0, 0))

    found = validate(model_that_sees_only(2), [stack], device="cpu")["noise"]

    assert list(found) == ["membrane"]
    assert found["membrane"].f1 == 1.0


def test_classes_that_an_image_does_not_label_count_as_its_background():
    half = (1, 1, 2)
    judged = labelled(half, unlabelled=frozenset({3}))

    found = validate(model_that_sees_only(3), [judged], device="cpu")["noise"]
    told = validate(model_that_sees_only(3), [labelled(half)], device="cpu")["noise"]

    assert found["background"].recall == 1.0
    assert found["background"].precision == pytest.approx(2 / 3)
    assert told["background"].recall == 0.0
    assert "mitochondrion" not in found


def test_labels_of_classes_that_the_model_does_not_know_are_missed():
    model = tiny_model("background", "membrane")

    found = validate(model, [labelled((1, 2, 3))], device="cpu")["noise"]

    assert found["mitochondrion"].f1 == 0.0
    assert found["mitochondrion"].pixels == 16 * 8


def test_an_image_is_judged_at_the_pixel_size_of_the_model():
    model = replace(tiny_model(normalisation="none"), pixel_size=5.0)
    seen = []
    model.network.register_forward_hook(lambda network, grey, scores: seen.append(grey[0].numel()))
    source = labelled((1, 2, 1))

    for pixel_size in (5.0, 10.0):
        image = source.image.with_pixel_size(pixel_size)
        validate(model, [replace(source, image=image)], device="cpu")

    as_it_is, enlarged = seen
    assert enlarged >= 4 * as_it_is


def test_stopped_it_returns_the_images_that_were_finished():
    sources = [labelled((1, 2, 1), (1, 2, 1), name=name) for name in ("a", "b", "c")]
    model, asked = model_that_sees_only(2), []

    def should_stop_after(times):
        asked.append(None)
        return len(asked) > times

    validate(model, sources[:1], device="cpu", should_stop=lambda: should_stop_after(1000))
    in_the_second = len(asked) * 1.5
    asked.clear()
    found = validate(
        model, sources, device="cpu", should_stop=lambda: should_stop_after(in_the_second)
    )

    assert list(found) == ["a"]


def test_a_source_without_a_name_goes_by_that_of_its_image():
    painted = np.ones((16, 16), np.uint8)
    image = image_from_array(noise_image(16, 16).data, "cells")
    source = LabelledImage(image, annotations_from_array(painted, CLASSES))

    assert list(validate(model_that_sees_only(1), [source], device="cpu")) == ["cells"]

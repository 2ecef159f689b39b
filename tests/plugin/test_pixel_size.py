"""The pixel size in the dock is the layer's, and the network sees the image accordingly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from demo.mouse import on_canvas, paint_stroke, wait_until
from napari_unet.core.image import image_from_array
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.image_group import magnification_text
from napari_unet.plugin.jobs import Job
from napari_unet.plugin.layers import section_in_view, show_section, units_of
from napari_unet.plugin.learning import IDLE, PAUSED, RUNNING
from tests.examples import tiny_model
from tests.plugin.conftest import await_view, messages
from tests.plugin.test_correcting import STROKE, in_layer, painted

PIXELS = [(0.0, 0.0), (31.0, 77.0), (127.0, 127.0)]


@pytest.fixture
def unknown(viewer: Viewer, dock: UNetDock, stack) -> Image:
    """The stack as it comes from a file that does not tell its pixel size."""
    layer = viewer.add_image(stack[0].copy(), name="em")
    await_view(viewer, dock)
    return layer


def enter(dock: UNetDock, text: str) -> None:
    """Type into the field and press Enter."""
    field = dock.image_group.pixel_size
    field.setFocus()
    field.selectAll()
    QTest.keyClick(field, Qt.Key_Delete)
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key_Return)


def running(dock: UNetDock) -> str:
    """What the predictor has under way."""
    return " ".join(job.title for job in dock.predictor.findChildren(Job))


def places(viewer: Viewer, layer: Image) -> list[QPoint]:
    """Where some pixels lie on the canvas."""
    return [on_canvas(viewer, layer, *pixel) for pixel in PIXELS]


def test_pixel_size_that_is_entered_is_that_of_all_layers_of_the_image(
    viewer: Viewer, dock: UNetDock, unknown: Image
) -> None:
    assert dock.image_group.pixel_size.text() == ""
    enter(dock, "8.5")
    for layer in (unknown, viewer.layers["mask"], viewer.layers["corrections"]):
        np.testing.assert_array_equal(layer.scale, (1, 8.5, 8.5))
        assert units_of(layer) == ("pixel", "nm", "nm")
    assert dock.session.image is not None
    assert dock.session.image.pixel_size == 8.5
    await_view(viewer, dock)
    assert messages() == []


@pytest.mark.parametrize("text", ["20", "0.5", ""])
def test_what_was_in_view_is_still_in_view(
    viewer: Viewer, dock: UNetDock, image_layer: Image, text: str
) -> None:
    show_section(viewer, image_layer, (3,))
    viewer.scene.camera.zoom *= 1.7
    before = places(viewer, image_layer)
    enter(dock, text)
    assert image_layer.scale[-1] == float(text or 1)
    for now, then in zip(places(viewer, image_layer), before, strict=True):
        assert (now - then).manhattanLength() <= 2
    assert section_in_view(viewer, image_layer) == (3,)
    assert image_layer.scale[0] == 50
    await_view(viewer, dock)


def test_section_is_predicted_anew_as_the_network_sees_it(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.session.model = replace(dock.session.model, pixel_size=4.0)
    await_view(viewer, dock)
    seen = (viewer.dims.current_step[0],)
    before = viewer.layers["mask"].data[seen].copy()
    enter(dock, "8")
    await_view(viewer, dock)
    image, model = dock.session.image, dock.session.model
    assert model.magnification(image) == 2
    expected = finish(gather(predict(model, image, sections=[seen]), image, len(model.classes)))
    np.testing.assert_array_equal(viewer.layers["mask"].data[seen], expected.data[seen])
    assert (before != expected.data[seen]).any()
    assert "enlarged 2 times" in dock.image_group.magnification.text()
    assert dock.image_group.magnification.isVisible()


def test_mask_is_of_the_pixel_size_that_was_entered_last(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.session.model = replace(dock.session.model, pixel_size=4.0)
    enter(dock, "16")
    wait_until(lambda: "Predict" in running(dock), 30, "the prediction to begin")
    enter(dock, "8")  # while the other is under way
    await_view(viewer, dock)
    image, model, seen = dock.session.image, dock.session.model, (viewer.dims.current_step[0],)
    expected = finish(gather(predict(model, image, sections=[seen]), image, len(model.classes)))
    np.testing.assert_array_equal(viewer.layers["mask"].data[seen], expected.data[seen])


def test_micrometres_are_shown_as_nanometres_and_stay_micrometres(
    viewer: Viewer, dock: UNetDock, stack
) -> None:
    layer = viewer.add_image(stack[0], scale=(0.05, 0.004, 0.004), units=("µm",) * 3)
    assert dock.image_group.pixel_size.text() == "4"
    assert "50 nm apart" in dock.image_group.size.text()
    enter(dock, "6,5")
    np.testing.assert_allclose(layer.scale, (0.05, 0.0065, 0.0065))
    assert units_of(layer) == units_of(viewer.layers["mask"]) == ("µm",) * 3
    assert dock.image_group.pixel_size.text() == "6.5"
    await_view(viewer, dock)


def test_field_follows_the_layer(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    assert dock.image_group.pixel_size.text() == "4"
    image_layer.scale = (50, 7, 7)
    assert dock.image_group.pixel_size.text() == "7"
    image_layer.units = ("nm", "pixel", "pixel")
    assert dock.image_group.pixel_size.text() == ""
    viewer.layers.remove(image_layer)
    assert not dock.image_group.pixel_size.isEnabled()


def test_pixel_size_can_be_forgotten(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    enter(dock, "")
    assert units_of(image_layer) == units_of(viewer.layers["mask"]) == ("nm", "pixel", "pixel")
    np.testing.assert_array_equal(image_layer.scale, (50, 1, 1))
    assert dock.session.image is not None
    assert dock.session.image.pixel_size is None
    await_view(viewer, dock)


@pytest.mark.parametrize("text", ["0", "0.00", ".", "-", "abc", "nan"])
def test_what_is_no_pixel_size_cannot_be_entered(
    viewer: Viewer, dock: UNetDock, image_layer: Image, text: str
) -> None:
    field = dock.image_group.pixel_size
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key_Return)
    field.clearFocus()
    dock.setFocus()
    np.testing.assert_array_equal(image_layer.scale, (50, 4, 4))
    assert field.text() == "4"


def test_leaving_the_field_as_it_is_does_not_change_the_layer(
    dock: UNetDock, viewer: Viewer, image_layer: Image
) -> None:
    image_layer.scale = (50, 4, 5)
    image = dock.session.image
    field = dock.image_group.pixel_size
    assert field.text() == "4.4721"
    assert "4 × 5 nm" in dock.image_group.size.text()
    field.setFocus()
    QTest.keyClick(field, Qt.Key_Return)
    field.clearFocus()
    np.testing.assert_array_equal(image_layer.scale, (50, 4, 5))
    assert dock.session.image is image
    await_view(viewer, dock)


def test_labels_that_lie_exactly_over_the_image_come_along_and_other_layers_do_not(
    viewer: Viewer, dock: UNetDock, unknown: Image, stack
) -> None:
    truth = viewer.add_labels(stack[1], name="true labels")
    elsewhere = viewer.add_labels(stack[1], name="elsewhere", translate=(0, 200, 0))
    other = viewer.add_image(stack[0], name="other")
    dock.image_group.image.value = other
    others_mask = dock.session.mask
    dock.image_group.image.value = unknown
    enter(dock, "5")
    np.testing.assert_array_equal(truth.scale, (1, 5, 5))
    assert units_of(truth) == units_of(unknown)
    for layer in (elsewhere, other, others_mask):
        np.testing.assert_array_equal(layer.scale, (1, 1, 1))
    await_view(viewer, dock)


def test_strokes_fall_where_they_are_painted_and_can_be_undone_afterwards(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.choose(2)
    corrections = viewer.layers["corrections"]
    paint_stroke(viewer, corrections, STROKE)
    first = corrections.data.copy()
    corrections.undo()
    enter(dock, "11")
    paint_stroke(viewer, corrections, STROKE)
    wait_until(lambda: painted(dock, 2) == in_layer(viewer, 2) > 0, 10, "the stroke to be seen")
    assert (corrections.data != first).sum() < 0.2 * (first > 0).sum()
    corrections.undo()
    wait_until(lambda: painted(dock, 2) == 0, 10, "the undo to be seen")
    await_view(viewer, dock)


def test_section_in_view_is_found_where_another_layer_has_another_unit(
    viewer: Viewer, dock: UNetDock, stack
) -> None:
    layer = viewer.add_image(stack[0], scale=(0.05, 0.004, 0.004), units=("µm",) * 3)
    viewer.add_labels(stack[1], scale=(50, 4, 4), units=("nm",) * 3)
    for section in (0, 2, 3):
        viewer.dims.set_current_step(0, section)
        assert section_in_view(viewer, layer) == (section,)
        show_section(viewer, layer, (1,))
        assert viewer.dims.current_step[0] == 1
    before = viewer.scene.camera.zoom * layer.scale[-1]
    enter(dock, "8")
    assert viewer.scene.camera.zoom * layer.scale[-1] == pytest.approx(before)
    assert section_in_view(viewer, layer) == (1,)
    await_view(viewer, dock)


def test_pixel_size_cannot_be_changed_while_the_network_learns(
    dock: UNetDock, image_layer: Image
) -> None:
    field = dock.image_group.pixel_size
    for state, free in ((RUNNING, False), (PAUSED, False), (IDLE, True)):
        dock.image_group.follow_training(state)
        assert field.isEnabled() is free


@pytest.mark.parametrize(
    ("model_sees", "image_has", "text"),
    [
        (4.5, 10.0, "em sees 4.5 nm: enlarged 2.2 times."),
        (4.5, 2.0, "em sees 4.5 nm: reduced 2.2 times."),
        (
            4.5,
            100.0,
            "em sees 4.5 nm: enlarged 4 times, which is the most.",
        ),
        (
            4.5,
            None,
            "The pixel size is not known; the image is taken as it is. em sees 4.5 nm.",
        ),
        (4.5, 4.0, "em sees 4.5 nm: reduced 1.1 times."),
        (4.5, 4.4, ""),
        (None, 10.0, ""),
        (None, None, ""),
    ],
)
def test_one_line_tells_how_the_network_sees_the_image(
    model_sees: float | None, image_has: float | None, text: str
) -> None:
    model = replace(tiny_model(), name="em", pixel_size=model_sees)
    image = image_from_array(np.zeros((8, 8), np.uint8), pixel_size=image_has)
    assert magnification_text(model, image) == text

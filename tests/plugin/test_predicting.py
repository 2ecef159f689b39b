"""The mask follows the image, the view and the wish for the whole stack."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QTableWidget
from superqt import QCollapsible

from demo.mouse import wait_until
from napari_unet.core.config import PredictionConfig
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.plugin.dock import WIDTH, UNetDock
from napari_unet.plugin.exporting import ONE_CLASS
from napari_unet.plugin.layers import image_from_layer, show_section
from tests.plugin.conftest import SECTIONS, SIZE, await_view, messages


def test_opening_an_image_predicts_the_section_in_view(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    mask = viewer.layers["mask"].data
    seen = viewer.dims.current_step[0]
    assert set(np.unique(mask[seen])) <= {1, 2, 3}
    assert not np.delete(mask, seen, axis=0).any()
    assert messages() == []


def test_mask_and_corrections_lie_exactly_over_the_image(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    for name in ("mask", "corrections"):
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.scale, image_layer.scale)
        assert layer.units == image_layer.units
        assert layer.data.shape == image_layer.data.shape


def test_background_is_transparent_in_the_mask_and_visible_in_the_corrections(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    def alpha(name: str, number: int) -> float:
        colour = viewer.layers[name].get_color(number)
        return 0.0 if colour is None else float(colour[3])

    assert alpha("mask", 1) == 0
    assert alpha("corrections", 1) == 1
    assert alpha("corrections", 0) == 0
    np.testing.assert_array_equal(
        viewer.layers["mask"].get_color(2), viewer.layers["corrections"].get_color(2)
    )


def test_mask_in_the_window_is_what_the_method_finds(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    image = image_from_layer(image_layer)
    model = dock.session.model
    assert model is not None
    seen = (viewer.dims.current_step[0],)
    found = finish(gather(predict(model, image, sections=[seen]), image, len(model.classes)))
    np.testing.assert_array_equal(found.data[seen], viewer.layers["mask"].data[seen])


def test_mask_keeps_up_with_the_view(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    show_section(viewer, image_layer, (0,))
    await_view(viewer, dock)
    assert (viewer.layers["mask"].data[0] > 0).all()


def test_mask_does_not_follow_when_keeping_up_is_off(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.predict_group.keep_up.setChecked(False)
    show_section(viewer, image_layer, (0,))
    QTest.qWait(500)
    assert not dock.predictor.is_predicted((0,))
    dock.predict_group.keep_up.setChecked(True)
    await_view(viewer, dock)
    assert dock.predictor.is_predicted((0,))


def test_stack_is_predicted_nearest_sections_first(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.predict_group.keep_up.setChecked(False)
    show_section(viewer, image_layer, (0,))
    order: list[tuple[int, ...]] = []
    dock.predictor.section_predicted.connect(order.append)
    dock.predict_group.stack.click()
    wait_until(lambda: not dock.predictor.missing_sections(), 60, "the stack")
    assert order == [(z,) for z in range(SECTIONS) if z != SECTIONS // 2 - (SECTIONS % 2 == 0)]
    assert (viewer.layers["mask"].data > 0).all()


def test_choice_of_average_applies_to_the_section_in_view_and_to_the_stack(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.predict_group.options["test_time_augmentation"].value = "symmetries"
    await_view(viewer, dock)
    image, model = dock.session.image, dock.session.model
    config = PredictionConfig(test_time_augmentation="symmetries")
    expected = finish(gather(predict(model, image, config), image, len(model.classes))).data
    mask, seen = viewer.layers["mask"].data, viewer.dims.current_step[0]
    np.testing.assert_array_equal(mask[seen], expected[seen])
    dock.predict_group.stack.click()
    assert not dock.predict_group.options.enabled
    wait_until(lambda: not dock.predictor.missing_sections(), 60, "the stack")
    np.testing.assert_array_equal(mask, expected)
    wait_until(lambda: dock.predict_group.options.enabled, 10, "the choice to be free again")
    dock.predict_group.options["test_time_augmentation"].value = "none"
    assert len(dock.predictor.missing_sections()) == SECTIONS
    await_view(viewer, dock)
    assert (mask[seen] != expected[seen]).any()


def test_average_that_is_chosen_and_taken_back_at_once_leaves_one_look(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    mask, seen = viewer.layers["mask"].data, viewer.dims.current_step[0]
    before = mask[seen].copy()
    average = dock.predict_group.options["test_time_augmentation"]
    average.value = "rotations"
    wait_until(lambda: dock.predictor.busy, 10, "the prediction to begin")
    average.value = "none"
    await_view(viewer, dock)
    np.testing.assert_array_equal(mask[seen], before)


def test_choice_of_average_is_named_for_people(dock: UNetDock) -> None:
    average = dock.predict_group.options["test_time_augmentation"]
    named = [average.get_choice(name) for name in ("one look", "8 symmetries", "7 rotations")]
    assert named == ["none", "symmetries", "rotations"]
    assert "times the time" in average.tooltip


def test_two_dimensional_image_is_predicted(viewer: Viewer, dock: UNetDock, stack) -> None:
    viewer.add_image(stack[0][0])
    await_view(viewer, dock)
    assert viewer.layers["mask"].data.shape == (SIZE, SIZE)


def test_time_series_of_stacks_is_predicted_at_the_point_in_view(
    viewer: Viewer, dock: UNetDock, stack
) -> None:
    viewer.add_image(np.stack([stack[0], stack[0]]))
    await_view(viewer, dock)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 3)
    await_view(viewer, dock)
    assert (viewer.layers["mask"].data[1, 3] > 0).all()


def test_colour_image_is_predicted_from_its_luminance(
    viewer: Viewer, dock: UNetDock, stack
) -> None:
    viewer.add_image(np.stack([stack[0][0]] * 3, axis=-1), rgb=True)
    await_view(viewer, dock)
    assert viewer.layers["mask"].data.shape == (SIZE, SIZE)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_other_number_types_give_the_same_mask(
    viewer: Viewer, dock: UNetDock, image_layer: Image, stack, dtype: type
) -> None:
    seen = viewer.dims.current_step[0]
    expected = viewer.layers["mask"].data[seen].copy()
    image_layer.data = stack[0].astype(dtype)
    other = viewer.add_image(
        stack[0].astype(dtype), name="other", scale=image_layer.scale, units=image_layer.units
    )
    dock.image_group.image.value = other
    await_view(viewer, dock)
    assert dock.session.mask is not None
    np.testing.assert_array_equal(dock.session.mask.data[seen], expected)


def test_constant_image_gets_a_message_and_no_mask(viewer: Viewer, dock: UNetDock) -> None:
    viewer.add_image(np.full((3, SIZE, SIZE), 7, np.uint8))
    wait_until(lambda: any("is constant" in m for m in messages()), 30, "a message")
    assert not viewer.layers["mask"].data.any()


def test_not_a_number_gets_one_message_and_a_mask(viewer: Viewer, dock: UNetDock, stack) -> None:
    grey = stack[0].astype(np.float32)
    grey[:, :40, :40] = np.nan
    viewer.add_image(grey)
    await_view(viewer, dock)
    viewer.dims.set_current_step(0, 0)
    await_view(viewer, dock)
    assert sum("not finite" in m for m in messages()) == 1


def test_image_with_five_axes_gets_a_message(viewer: Viewer, dock: UNetDock) -> None:
    viewer.add_image(np.zeros((2, 2, 2, 16, 16), np.uint8))
    assert any("at most four" in m for m in messages())
    assert dock.session.image is None


def test_image_removed_while_it_is_predicted_leaves_no_error(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.predict_group.stack.click()
    viewer.layers.remove(image_layer)
    wait_until(lambda: not dock.predictor.busy, 30, "the prediction to end")
    assert dock.session.image is None
    assert messages() == []


def test_mask_that_was_removed_comes_back_with_the_next_prediction(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    viewer.layers.remove("mask")
    dock.predict_group.section.click()
    await_view(viewer, dock)
    assert (viewer.layers["mask"].data[viewer.dims.current_step[0]] > 0).all()


def test_every_control_has_a_tooltip(dock: UNetDock) -> None:
    controls = [
        w
        for kind in (QAbstractButton, QComboBox, QTableWidget)
        for w in dock.widget().findChildren(kind)
        if w.parent().__class__.__name__ not in ("QTableWidget", "PlotWidget")
    ]
    assert len(controls) > 12
    missing = [w for w in controls if not w.toolTip() and not w.parent().toolTip()]
    assert missing == []


def test_column_never_gets_wider_than_the_dock(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    image_layer.name = "an image whose name is a good deal longer than the dock is wide " * 3
    dock.correct_group.add.click()
    dock.correct_group.rename(4, "a class whose name is a good deal longer than the dock is wide")
    dock.export_group.kind.value = ONE_CLASS
    for part in dock.widget().findChildren(QCollapsible):
        part.expand(animate=False)
    QTest.qWait(100)
    assert dock.widget().minimumSizeHint().width() <= WIDTH


def test_image_stays_chosen_when_it_is_renamed_and_layers_are_added(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    image_layer.name = "renamed"
    viewer.add_labels(np.zeros_like(image_layer.data), scale=(50, 4, 4), units=("nm",) * 3)
    assert dock.session.image_layer is image_layer
    assert dock.image_group.image.value is image_layer
    assert dock.image_group.image.current_choice == "renamed"

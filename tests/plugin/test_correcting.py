"""Real strokes on the canvas reach the session, whatever is done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from demo.mouse import canvas_of, on_canvas, paint_stroke, wait_until
from napari_unet.core.annotations import class_table
from napari_unet.core.image import ImageArray
from napari_unet.io.images import read_image, write_image
from napari_unet.plugin.contributions import PLUGIN
from napari_unet.plugin.correct_group import NAME, PAINTED
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import show_section
from tests.plugin.conftest import await_view, messages

STROKE = [(40.0, 30.0 + 14 * n) for n in range(4)]
OTHER_STROKE = [(80.0, 30.0 + 14 * n) for n in range(4)]


def painted(dock: UNetDock, number: int) -> int:
    return int(dock.session.annotations.counts()[number - 1])


def in_layer(viewer: Viewer, number: int) -> int:
    return int((viewer.layers["corrections"].data == number).sum())


def await_counts(viewer: Viewer, dock: UNetDock, number: int) -> None:
    wait_until(
        lambda: painted(dock, number) == in_layer(viewer, number), 10, "the count to be the layer's"
    )


@pytest.fixture
def corrections(viewer: Viewer, dock: UNetDock, image_layer: Image) -> Labels:
    """The corrections layer with one stroke of class 2."""
    dock.correct_group.choose(2)
    layer = viewer.layers["corrections"]
    paint_stroke(viewer, layer, STROKE)
    wait_until(lambda: painted(dock, 2) > 100, 10, "the stroke to be seen")
    return layer


def test_stroke_on_the_canvas_is_counted_in_the_table(
    viewer: Viewer, dock: UNetDock, corrections: Labels
) -> None:
    assert painted(dock, 2) == in_layer(viewer, 2)
    shown = dock.correct_group.table.item(1, PAINTED)
    wait_until(lambda: shown.text() == f"{painted(dock, 2):,} px", 10, "the stroke to be counted")
    assert list(dock.session.annotations.sections) == [(viewer.dims.current_step[0],)]


def test_stroke_is_known_when_it_has_ended_before_it_is_drawn(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    layer, z = viewer.layers["corrections"], viewer.dims.current_step[0]
    with layer.block_history():  # as the brush does
        layer.paint((z, 40, 40), 3)
    assert painted(dock, 3) == in_layer(viewer, 3) > 0  # no event has been handled yet


def test_edit_that_napari_tells_of_before_it_makes_it_is_seen(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    layer, z = viewer.layers["corrections"], viewer.dims.current_step[0]
    layer.data_setitem((np.full(3, z), np.array([4, 5, 6]), np.array([7, 7, 7])), 3)
    wait_until(lambda: painted(dock, 3) == 3, 10, "the edit to be seen")


def test_choosing_a_row_chooses_the_brush(viewer: Viewer, dock: UNetDock, image_layer) -> None:
    table = dock.correct_group.table
    where = table.visualItemRect(table.item(2, NAME)).center()
    QTest.mouseClick(table.viewport(), Qt.LeftButton, Qt.NoModifier, where)
    layer = viewer.layers["corrections"]
    assert viewer.layers.selection.active is layer
    assert (layer.selected_label, layer.mode) == (3, "paint")


def test_row_follows_the_brush_chosen_in_napari(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    viewer.layers["corrections"].selected_label = 3
    assert dock.correct_group.table.currentRow() == 2


def test_erasing_counts(viewer: Viewer, dock: UNetDock, corrections: Labels) -> None:
    before = painted(dock, 2)
    dock.correct_group.erase.click()
    paint_stroke(viewer, corrections, STROKE[:2])
    wait_until(lambda: painted(dock, 2) < before, 10, "the erased pixels to be seen")
    await_counts(viewer, dock, 2)


def test_undo_and_redo_count(viewer: Viewer, dock: UNetDock, corrections: Labels) -> None:
    full = painted(dock, 2)
    corrections.undo()
    wait_until(lambda: painted(dock, 2) == 0, 10, "the undo to be seen")
    corrections.redo()
    wait_until(lambda: painted(dock, 2) == full, 10, "the redo to be seen")


def test_undo_of_a_stroke_on_another_section_counts(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels
) -> None:
    show_section(viewer, image_layer, (0,))
    await_view(viewer, dock)
    corrections.undo()
    wait_until(lambda: painted(dock, 2) == 0, 10, "the undo to be seen")


def test_filling_counts(viewer: Viewer, dock: UNetDock, corrections: Labels) -> None:
    dock.correct_group.choose(3)
    corrections.mode = "fill"
    QTest.mouseClick(
        canvas_of(viewer), Qt.LeftButton, Qt.NoModifier, on_canvas(viewer, corrections, 40, 45)
    )
    wait_until(lambda: painted(dock, 3) > 100, 10, "the fill to be seen")
    await_counts(viewer, dock, 3)


def test_data_replaced_by_a_script_counts(
    viewer: Viewer, dock: UNetDock, corrections: Labels
) -> None:
    data = np.zeros_like(corrections.data)
    data[0, :10, :10] = 3
    corrections.data = data
    wait_until(lambda: painted(dock, 3) == 100 and painted(dock, 2) == 0, 10, "the new data")


def test_class_can_be_added_renamed_and_recoloured(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.add.click()
    dock.correct_group.rename(4, "vesicle")
    dock.correct_group.recolour(4, "#00ff00")
    assert [c.name for c in dock.session.classes][3] == "vesicle"
    layer = viewer.layers["corrections"]
    assert layer.selected_label == 4
    np.testing.assert_allclose(layer.get_color(4), (0, 1, 0, 1), atol=1e-6)
    np.testing.assert_allclose(viewer.layers["mask"].get_color(4), (0, 1, 0, 1), atol=1e-6)


def test_name_is_edited_in_the_table(dock: UNetDock, image_layer: Image) -> None:
    dock.correct_group.table.item(1, NAME).setText("plasma membrane")
    assert dock.session.classes[1].name == "plasma membrane"


@pytest.mark.parametrize("name", ["mitochondrion", "  "])
def test_name_that_is_taken_or_empty_is_refused_with_a_message(
    dock: UNetDock, image_layer: Image, name: str
) -> None:
    dock.correct_group.table.item(1, NAME).setText(name)
    assert dock.session.classes[1].name == "membrane"
    assert dock.correct_group.table.item(1, NAME).text() == "membrane"
    assert messages()


def test_removed_corrections_are_forgotten_with_a_message_and_can_begin_anew(
    viewer: Viewer, dock: UNetDock, corrections: Labels
) -> None:
    viewer.layers.remove(corrections)
    assert not dock.session.annotations.sections
    wait_until(
        lambda: any("corrections layer was removed" in m for m in messages()), 10, "a message"
    )
    dock.correct_group.choose(2)
    assert not viewer.layers["corrections"].data.any()


def test_corrections_saved_and_opened_again_are_taken_up(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels, tmp_path: Path
) -> None:
    path = tmp_path / "corrections.tif"
    written = corrections.save(str(path), plugin=PLUGIN)
    assert written == [str(path)]
    np.testing.assert_array_equal(read_image(path).data, corrections.data)
    count = painted(dock, 2)
    viewer.layers.clear()
    viewer.open(str(path), plugin=PLUGIN)
    viewer.add_image(image_layer.data, scale=image_layer.scale, units=image_layer.units)
    wait_until(lambda: painted(dock, 2) == count, 10, "the strokes to be taken up")
    assert dock.session.corrections is viewer.layers["corrections"]


def test_each_image_has_corrections_of_its_own(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels, stack
) -> None:
    count = painted(dock, 2)
    other = viewer.add_image(stack[0][:2].copy(), name="other")
    dock.image_group.image.value = other
    wait_until(lambda: painted(dock, 2) == 0, 10, "the other image's corrections")
    assert dock.session.corrections is not corrections
    dock.image_group.image.value = image_layer
    wait_until(lambda: painted(dock, 2) == count, 10, "the first image's corrections")
    assert dock.session.corrections is corrections


def test_redo_counts_on_a_section_that_is_out_of_view(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels
) -> None:
    full = painted(dock, 2)
    show_section(viewer, image_layer, (0,))
    await_view(viewer, dock)
    corrections.undo()
    wait_until(lambda: painted(dock, 2) == 0, 10, "the undo to be seen")
    corrections.redo()
    wait_until(lambda: painted(dock, 2) == full, 10, "the redo to be seen")


def test_label_beyond_the_table_becomes_a_class(
    viewer: Viewer, dock: UNetDock, corrections: Labels
) -> None:
    corrections.selected_label = 6
    paint_stroke(viewer, corrections, OTHER_STROKE)
    wait_until(lambda: len(dock.session.classes) == 6, 10, "the new classes")
    await_counts(viewer, dock, 6)
    assert corrections.get_color(6) is not None


def test_paint_in_a_rolled_view_counts(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels
) -> None:
    viewer.dims.order = (1, 0, 2)
    corrections.selected_label = 3
    corrections.paint((0, 10, 20), 3)
    corrections.paint((3, 10, 20), 3)
    corrections.events.paint(value=[])
    await_counts(viewer, dock, 3)
    assert in_layer(viewer, 3) > 0


def test_corrections_opened_from_a_file_afterwards_are_taken_up_and_can_be_painted_on(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    data = np.zeros_like(image_layer.data)
    data[1, :20, :20] = 3
    path = tmp_path / "corrections.tif"
    write_image(path, ImageArray(data, "ZYX", (50.0, 4.0, 4.0), ("nm",) * 3))
    viewer.open(str(path), plugin=PLUGIN)
    wait_until(lambda: painted(dock, 3) == 400, 10, "the strokes to be taken up")
    assert [layer.name for layer in viewer.layers] == ["em", "mask", "corrections"]
    dock.correct_group.choose(2)
    paint_stroke(viewer, viewer.layers["corrections"], STROKE)
    wait_until(lambda: painted(dock, 2) > 100, 10, "the stroke to be seen")


def test_names_of_classes_come_with_corrections_from_a_file(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    known = tuple(each.name for each in dock.session.classes)
    data = np.zeros_like(image_layer.data)
    data[1, :20, :20] = len(known) + 1
    image = ImageArray(data, "ZYX", (50.0, 4.0, 4.0), ("nm",) * 3)
    path = tmp_path / "corrections.tif"
    write_image(path, image, class_table([*known, "nucleus"]))
    viewer.open(str(path), plugin=PLUGIN)
    wait_until(lambda: painted(dock, len(known) + 1) == 400, 10, "the strokes to be taken up")
    assert [each.name for each in dock.session.classes] == [*known, "nucleus"]
    assert messages() == []

    viewer.layers.remove("corrections")
    wait_until(lambda: not dock.session.annotations.sections, 10, "the strokes to be gone")
    notification_manager.records.clear()
    write_image(path, image, class_table(["background", "vesicle", *known[2:], "nucleus"]))
    viewer.open(str(path), plugin=PLUGIN)
    wait_until(lambda: bool(messages()), 10, "a message")
    assert "calls class 2 'vesicle', which is 'membrane' here" in messages()[0]
    assert [each.name for each in dock.session.classes] == [*known, "nucleus"]


def test_mask_of_somebody_else_is_left_alone(viewer: Viewer, dock: UNetDock, stack) -> None:
    theirs = viewer.add_labels(np.full(stack[0].shape, 9), name="mask")
    viewer.add_image(stack[0].copy(), name="em")
    await_view(viewer, dock)
    assert (theirs.data == 9).all()
    assert dock.session.mask is not theirs


def test_layer_that_is_moved_or_scaled_takes_mask_and_corrections_along(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrections: Labels
) -> None:
    count = painted(dock, 2)
    image_layer.scale = (30, 2, 2)
    image_layer.translate = (5, 6, 7)
    await_view(viewer, dock)
    for name in ("mask", "corrections"):
        np.testing.assert_array_equal(viewer.layers[name].scale, (30, 2, 2))
        np.testing.assert_array_equal(viewer.layers[name].translate, (5, 6, 7))
    assert dock.session.image is not None
    assert dock.session.image.scale == (30, 2, 2)
    assert dock.image_group.pixel_size.text() == "2"
    assert painted(dock, 2) == count


def test_layer_that_gets_other_data_is_predicted_anew(
    viewer: Viewer, dock: UNetDock, image_layer: Image, stack
) -> None:
    image_layer.data = stack[0][::-1].copy()
    await_view(viewer, dock)
    assert dock.session.image is not None
    assert dock.session.image.data is image_layer.data

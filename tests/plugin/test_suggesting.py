"""*Where next?* leads the view to doubtful places, and the brush stays in the hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image, Labels, Points
from napari.utils.key_bindings import coerce_keybinding
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from demo.mouse import canvas_of, on_canvas, paint_stroke, wait_until
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import predict
from napari_unet.core.suggestions import DONE_RADIUS, Place, uncertainty
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.plugin import suggesting
from napari_unet.plugin.contributions import open_dock
from napari_unet.plugin.correct_group import NAME
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import PLACE, UNCERTAINTY, middle_of_view, show_section
from napari_unet.plugin.suggesting import NEXT_KEY, PREVIOUS_KEY
from tests.plugin.conftest import await_view, messages
from tests.plugin.test_live import await_rest, paint


@pytest.fixture(autouse=True)
def small_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for some places in sections as small as those of the tests."""
    monkeypatch.setattr("napari_unet.core.suggestions.SPREAD", 24)
    monkeypatch.setattr(suggesting, "SPREAD", 24)


def press(viewer: Viewer, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.NoModifier) -> None:
    """Press a key over the canvas."""
    QTest.keyClick(canvas_of(viewer), key, modifier)


def await_search(dock: UNetDock) -> None:
    wait_until(lambda: not dock.suggester.searching, 60, "the search to end")


def step(dock: UNetDock) -> Place:
    """Press the button, and return where it led."""
    before = dock.suggester.place
    dock.suggest_group.next.click()
    wait_until(lambda: dock.suggester.place is not before, 60, "the next place")
    assert dock.suggester.place is not None
    return dock.suggester.place


def looked_at(viewer: Viewer, layer: Image) -> tuple[int, ...]:
    """The pixel of the image in the middle of the view."""
    return tuple(round(float(p)) for p in middle_of_view(viewer, layer))


def await_uncertainty(dock: UNetDock, section: int) -> Image:
    """Wait for the layer to show a section as the model is now."""

    def shown() -> bool:
        drawn = dock.uncertainty._drawn
        return (
            not dock.uncertainty.busy
            and drawn is not None
            and drawn.section == (section,)
            and drawn.model is dock.session.shown
        )

    wait_until(shown, 60, "the uncertainty")
    return dock.uncertainty.overlay.layer


def doubt_of(dock: UNetDock, model: UNetModel | LiveModel, section: int) -> np.ndarray:
    (tile,) = predict(model, dock.session.image, sections=[(section,)])
    return uncertainty(tile.probabilities)


# --- stepping ----------------------------------------------------------------------------


def test_button_moves_the_view_to_a_place_and_rings_it(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    show_section(viewer, image_layer, (1,))
    place = step(dock)
    assert place.section == (1,)  # first of all where somebody looks
    assert looked_at(viewer, image_layer) == (1, place.row, place.column)
    ring = viewer.layers[PLACE]
    np.testing.assert_array_equal(ring.data, [[1, place.row, place.column]])
    np.testing.assert_array_equal(ring.scale, image_layer.scale)
    assert messages() == []


def test_keys_step_forward_and_back(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    press(viewer, Qt.Key_N)
    wait_until(lambda: dock.suggester.place is not None, 60, "the first place")
    await_search(dock)
    first = dock.suggester.place
    press(viewer, Qt.Key_N)
    second = dock.suggester.place
    assert second is not first
    assert looked_at(viewer, image_layer) == (*second.section, second.row, second.column)
    press(viewer, Qt.Key_N, Qt.ShiftModifier)
    assert dock.suggester.place is first
    assert looked_at(viewer, image_layer) == (*first.section, first.row, first.column)
    press(viewer, Qt.Key_N)
    assert dock.suggester.place is second


def test_key_steps_and_renames_nothing_after_a_class_was_clicked(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    names = [each.name for each in dock.session.classes]
    table = dock.correct_group.table
    where = table.visualItemRect(table.item(2, NAME)).center()
    QTest.mouseClick(table.viewport(), Qt.LeftButton, Qt.NoModifier, where)
    focused = viewer.window._qt_window.focusWidget()
    QTest.keyClick(focused, Qt.Key_N)
    wait_until(lambda: dock.suggester.place is not None, 60, "the place")
    QTest.keyClick(focused, Qt.Key_Return)
    assert [each.name for each in dock.session.classes] == names


def test_key_steps_after_the_button_was_pressed(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    button = dock.suggest_group.next
    QTest.mouseClick(button, Qt.LeftButton)
    wait_until(lambda: dock.suggester.place is not None, 60, "the first place")
    await_search(dock)
    first = dock.suggester.place
    QTest.keyClick(viewer.window._qt_window.focusWidget() or button, Qt.Key_N)
    assert dock.suggester.place is not first


def test_view_comes_near_enough_to_paint_but_never_goes_away(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    camera = viewer.scene.camera
    camera.zoom = 0.1 / image_layer.scale[-1]
    step(dock)
    assert camera.zoom == pytest.approx(suggesting.CLOSEST / image_layer.scale[-1])
    camera.zoom *= 3
    before = camera.zoom
    await_search(dock)
    step(dock)
    assert camera.zoom == before


def test_brush_stays_in_the_hand_and_paints_at_the_place(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.choose(3)
    corrections = viewer.layers["corrections"]
    place = step(dock)
    assert list(viewer.layers.selection) == [corrections]
    assert (corrections.mode, corrections.selected_label) == ("paint", 3)
    stroke = [(float(place.row), place.column + 2.0 * n) for n in range(5)]
    paint_stroke(viewer, corrections, stroke)
    assert corrections.data[(*place.section, place.row, place.column)] == 3
    wait_until(lambda: dock.session.annotations.counts()[2] > 0, 10, "the stroke to be seen")


def test_line_says_which_place_it_is_and_what_is_in_doubt(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    place = step(dock)
    await_search(dock)
    names = [each.name for each in dock.session.classes]
    first, second = (names[number - 1] for number in place.between)
    total = 1 + len(dock.suggester._waiting)
    assert total > 4
    assert dock.suggest_group.status.text() == (
        f"Place 1 of {total}, section {place.section[0]}: {first} or {second}?"
    )


def test_places_lie_in_several_sections(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    step(dock)
    await_search(dock)
    places = [dock.suggester.place, *dock.suggester._waiting]
    assert len({place.section for place in places}) > 1


def test_places_painted_meanwhile_are_skipped(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.answer.setChecked(False)
    step(dock)
    await_search(dock)
    painted, next_one = dock.suggester._waiting[:2]
    corrections = viewer.layers["corrections"]
    dock.correct_group.choose(2)
    show_section(viewer, image_layer, painted.section)
    getattr(viewer, "fit_to_view", viewer.reset_view)()  # the place may lie out of view
    near = painted.column + DONE_RADIUS - 8
    paint_stroke(viewer, corrections, [(painted.row, near + n) for n in range(3)])
    assert step(dock) is next_one


def test_place_painted_after_it_was_visited_is_skipped_on_the_way_forward(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.answer.setChecked(False)
    step(dock)
    await_search(dock)
    second, third = step(dock), step(dock)
    viewer.layers["corrections"].data[(*second.section, second.row, second.column)] = 2
    dock.suggest_group.previous.click()
    dock.suggest_group.previous.click()
    assert not dock.suggest_group.previous.isEnabled()
    assert step(dock) is third


def test_when_all_places_were_visited_others_are_looked_for(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    step(dock)
    await_search(dock)
    dock.suggester._waiting.clear()
    visited = dock.suggester.place
    new = step(dock)
    await_search(dock)
    assert new.section != visited.section or (
        np.hypot(new.row - visited.row, new.column - visited.column) > DONE_RADIUS
    )


def test_where_nothing_is_left_it_says_so(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.core.suggestions.LOWEST_DOUBT", 2.0)
    dock.suggest_group.next.click()
    await_search(dock)
    assert dock.suggester.place is None
    assert "no doubtful place" in dock.suggest_group.status.text()


def test_places_follow_what_the_strokes_have_taught(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[UNetModel | LiveModel] = []
    suggest = suggesting.suggest

    def watched(model, image, **options):
        asked.append(model)
        return suggest(model, image, **options)

    monkeypatch.setattr(suggesting, "suggest", watched)
    place = step(dock)
    await_search(dock)
    paint(viewer, dock, 3, [(float(place.row), place.column + 2.0 * n) for n in range(5)])
    await_rest(dock)
    step(dock)
    await_search(dock)
    assert asked == [dock.session.model, dock.session.live]
    step(dock)
    step(dock)
    assert len(asked) == 2  # nothing was learnt since then


def test_look_again_begins_at_the_section_in_view(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    step(dock)
    show_section(viewer, image_layer, (3,))
    await_search(dock)
    before = dock.suggester.place
    dock.suggest_group.again.click()
    wait_until(lambda: dock.suggester.place is not before, 60, "the place")
    assert dock.suggester.place.section == (3,)


def test_look_again_leads_to_a_new_place_also_after_stepping_back(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    visited = [step(dock)]
    await_search(dock)
    visited += [step(dock), step(dock)]
    dock.suggest_group.previous.click()
    dock.suggest_group.again.click()
    wait_until(lambda: dock.suggester.place is not visited[1], 60, "the place")
    assert dock.suggester.place not in visited


# --- the uncertainty ---------------------------------------------------------------------


def test_uncertainty_is_a_layer_that_lies_over_the_section_in_view(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    image_layer.translate = (100, 7, 9)
    dock.correct_group.choose(2)
    show_section(viewer, image_layer, (2,))
    dock.suggest_group.show_uncertainty.setChecked(True)
    layer = await_uncertainty(dock, 2)
    np.testing.assert_array_equal(layer.scale, image_layer.scale)
    np.testing.assert_array_equal(layer.translate, (200, 7, 9))
    assert layer.units == image_layer.units
    expected = doubt_of(dock, dock.session.model, 2)
    np.testing.assert_allclose(layer.data[0], expected, atol=0.02)
    world = layer.data_to_world((0, 11, 13))
    np.testing.assert_allclose(world, image_layer.data_to_world((2, 11, 13)))
    assert list(viewer.layers.selection) == [viewer.layers["corrections"]]


def test_uncertainty_follows_the_view_in_one_layer(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    layer = await_uncertainty(dock, viewer.dims.current_step[0])
    for section in (0, 3):
        show_section(viewer, image_layer, (section,))
        assert await_uncertainty(dock, section) is layer
        assert layer.translate[0] == image_layer.scale[0] * section
        expected = doubt_of(dock, dock.session.shown, section)
        np.testing.assert_allclose(layer.data[0], expected, atol=0.02)
    assert sum(each.name.startswith(UNCERTAINTY) for each in viewer.layers) == 1


def test_uncertainty_is_that_of_the_live_head_after_a_stroke(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    section = viewer.dims.current_step[0]
    dock.suggest_group.show_uncertainty.setChecked(True)
    before = np.array(await_uncertainty(dock, section).data[0])
    live = paint(viewer, dock, 3)
    await_rest(dock)
    after = await_uncertainty(dock, section).data[0]
    assert dock.session.live is live
    assert np.abs(after - before).max() > 0.1
    # Of what it says itself, whatever is painted over it.
    expected = doubt_of(dock, replace(live, painted={}), section)
    np.testing.assert_allclose(after, expected, atol=0.02)


def test_uncertainty_moves_with_the_image(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    layer = await_uncertainty(dock, viewer.dims.current_step[0])
    image_layer.translate = (0, 40, 80)
    np.testing.assert_array_equal(layer.translate[-2:], (40, 80))
    image_layer.scale = (50, 8, 8)
    np.testing.assert_array_equal(layer.scale, (50, 8, 8))


def test_unticking_takes_the_layer_away_and_removing_it_unticks(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    box = dock.suggest_group.show_uncertainty
    box.setChecked(True)
    await_uncertainty(dock, viewer.dims.current_step[0])
    box.setChecked(False)
    wait_until(lambda: UNCERTAINTY not in viewer.layers, 10, "the layer to go")
    box.setChecked(True)
    layer = await_uncertainty(dock, viewer.dims.current_step[0])
    viewer.layers.remove(layer)
    assert not box.isChecked()
    assert messages() == []


def test_uncertainty_is_not_an_image_to_segment(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    layer = await_uncertainty(dock, viewer.dims.current_step[0])
    assert layer not in dock.image_group.image.choices
    viewer.layers.selection.active = layer
    dock.use_selected_image()
    assert dock.session.image_layer is image_layer


# --- coming and going --------------------------------------------------------------------


def test_other_image_has_places_of_its_own(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    await_uncertainty(dock, viewer.dims.current_step[0])
    step(dock)
    grey, _ = synthetic_stack(1, 160, seed=5)
    other = viewer.add_image(grey[0], name="other", scale=(4, 4), units=("nm", "nm"))
    dock.image_group.image.value = other
    assert dock.suggester.place is None
    await_view(viewer, dock)
    place = step(dock)
    assert place.section == ()
    assert looked_at(viewer, other)[-2:] == (place.row, place.column)
    assert dock.suggest_group.status.text().startswith("Place 1 of")
    assert "section" not in dock.suggest_group.status.text()
    wait_until(lambda: dock.uncertainty.overlay.layer is not None, 60, "the uncertainty")
    assert dock.uncertainty.overlay.layer.data.shape == other.data.shape
    assert sum(isinstance(each, Points) for each in viewer.layers) == 1
    assert sum(isinstance(each, Image) for each in viewer.layers) == 3
    assert messages() == []


def test_image_removed_in_the_middle_of_a_search_leaves_nothing_behind(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    step(dock)
    viewer.layers.remove(image_layer)
    assert not dock.suggest_group.next.isEnabled()
    press(viewer, Qt.Key_N)
    wait_until(
        lambda: all(isinstance(each, Labels) for each in viewer.layers), 10, "the layers to go"
    )
    await_search(dock)
    assert dock.suggester.place is None
    assert messages() == []


def test_all_layers_removed_at_once_leave_nothing_behind(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    await_uncertainty(dock, viewer.dims.current_step[0])
    step(dock)
    viewer.layers.clear()
    await_search(dock)
    assert len(viewer.layers) == 0
    assert messages() == []


def test_closed_dock_gives_the_keys_back_and_takes_its_overlays_along(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.suggest_group.show_uncertainty.setChecked(True)
    await_uncertainty(dock, viewer.dims.current_step[0])
    step(dock)
    await_search(dock)
    keys = {coerce_keybinding(key) for key in (NEXT_KEY, PREVIOUS_KEY)}
    assert keys <= set(viewer.keymap)
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.DeferredDelete)  # no event loop would do it here
    assert not keys & set(viewer.keymap)
    press(viewer, Qt.Key_N)
    assert {layer.name for layer in viewer.layers} == {"em", "mask", "corrections"}
    again = open_dock(viewer)
    await_view(viewer, again)
    step(again)
    await_search(again)
    again.predictor.stop()
    assert messages() == []


def test_key_that_somebody_uses_already_stays_theirs(viewer: Viewer) -> None:
    pressed: list[bool] = []
    viewer.bind_key("n", lambda _: pressed.append(True))
    dock = open_dock(viewer)
    press(viewer, Qt.Key_N)
    assert pressed
    dock.predictor.stop()


def test_canvas_is_where_the_ring_is(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    place = step(dock)
    where = on_canvas(viewer, image_layer, place.row, place.column)
    middle = canvas_of(viewer).rect().center()
    assert (where - middle).manhattanLength() <= 4

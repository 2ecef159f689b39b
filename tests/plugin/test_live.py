"""A stroke changes the mask at once, before the network has learnt anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.config import LiveConfig, PredictionConfig
from napari_unet.core.features import FeatureTile
from napari_unet.core.live import LiveHead, LiveModel, learnt_head
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.core.tiling import Tile
from napari_unet.io.projects import open_project
from napari_unet.plugin import answering, live, stillness
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.exporting import CLASS_MASK
from napari_unet.plugin.layers import show_section
from napari_unet.plugin.learning import RUNNING
from tests.plugin.conftest import SECTIONS, SIZE, await_view, messages
from tests.plugin.test_correcting import OTHER_STROKE, STROKE
from tests.plugin.test_exporting import export
from tests.plugin.test_learning import await_idle, corrected, start  # noqa: F401


def paint(
    viewer: Viewer, dock: UNetDock, number: int, path: list[tuple[float, float]] = STROKE
) -> LiveModel:
    """Paint a stroke, and return the head that has learnt from it, once it is drawn."""
    await_rest(dock)
    before = dock.session.live
    dock.correct_group.choose(number)
    paint_stroke(viewer, viewer.layers["corrections"], path)
    wait_until(lambda: dock.session.live is not before, 60, "the answer to the stroke")
    return dock.session.live


def await_rest(dock: UNetDock) -> None:
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")


def mask_in_view(viewer: Viewer) -> np.ndarray:
    return np.array(viewer.layers["mask"].data[viewer.dims.current_step[0]])


def strokes_in_view(viewer: Viewer, number: int) -> np.ndarray:
    return viewer.layers["corrections"].data[viewer.dims.current_step[0]] == number


def is_obeyed(viewer: Viewer, *numbers: int) -> bool:
    """Tell whether the mask in view shows all strokes of these classes as they were painted."""
    mask, strokes = mask_in_view(viewer), [strokes_in_view(viewer, number) for number in numbers]
    assert all(stroke.any() for stroke in strokes)
    return all(
        (mask[stroke] == number).all() for number, stroke in zip(numbers, strokes, strict=True)
    )


def more_found(dock: UNetDock, section: int, stroke: np.ndarray, number: int) -> float:
    """How much more of a stroke the head itself finds than the network it is on, a fraction.

    The head as it would be had the stroke taught it and then been wiped off: what the mask shows
    where somebody painted is no proof that anything was learnt.
    """
    image, live = dock.session.image, dock.session.live
    assert image is not None
    assert live is not None
    assert stroke.any()

    def found(model: UNetModel | LiveModel) -> float:
        probabilities = gather(
            predict(model, image, sections=[(section,)]), image, len(live.classes)
        )
        return float((finish(probabilities).data[section][stroke] == number).mean())

    return found(replace(live, painted={})) - found(live.model)


def more_found_in_view(viewer: Viewer, dock: UNetDock, number: int) -> float:
    section = int(viewer.dims.current_step[0])
    return more_found(dock, section, strokes_in_view(viewer, number), number)


def as_predicted(dock: UNetDock) -> np.ndarray:
    """The mask of the stack, by the session's model as it is."""
    image, model = dock.session.image, dock.session.shown
    assert image is not None
    assert model is not None
    mask = finish(gather(predict(model, image), image, len(model.classes)))
    return np.asarray(mask.data)


def test_stroke_changes_the_mask_where_it_was_painted(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    before = mask_in_view(viewer)
    network = dock.session.model
    paint(viewer, dock, 3)
    stroke = strokes_in_view(viewer, 3)
    assert (before[stroke] == 3).mean() < 0.5
    assert is_obeyed(viewer, 3)
    assert more_found_in_view(viewer, dock, 3) > 0.7
    assert dock.session.model is network


def test_window_draws_a_stroke_and_its_answer_at_once(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(viewer, dock, 2)
    await_rest(dock)
    monkeypatch.setattr(stillness, "PATIENCE_MILLISECONDS", 60_000)
    before = mask_in_view(viewer)
    drawn: list[bool] = []
    viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(
        lambda _: drawn.append((mask_in_view(viewer) != before).any()), position="last"
    )
    dock.correct_group.choose(3)
    paint_stroke(viewer, viewer.layers["corrections"], OTHER_STROKE, drawn.clear)
    wait_until(lambda: bool(drawn), 60, "a picture")
    assert drawn[0]
    assert not dock.live.holds_picture


@pytest.fixture
def late_answers(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Event]:
    """Answers to all but a first stroke come only when this is set."""
    paint(viewer, dock, 2)
    await_rest(dock)
    come = Event()

    def late(*arguments: Any, **more: Any) -> LiveHead:
        come.wait(60)
        return learnt_head(*arguments, **more)

    monkeypatch.setattr(answering, "learnt_head", late)
    yield come
    come.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window waits for answers as long as it takes."""
    monkeypatch.setattr(stillness, "PATIENCE_MILLISECONDS", 60_000)


def paint_and_wait(viewer: Viewer, dock: UNetDock) -> list[object]:
    """Paint a stroke that the window waits with drawing; return what it draws from then on."""
    drawn: list[object] = []
    dock.correct_group.choose(3)
    paint_stroke(viewer, viewer.layers["corrections"], OTHER_STROKE)
    wait_until(lambda: dock.live.answering and dock.live.holds_picture, 60, "a stroke")
    canvas = viewer.window._qt_viewer.canvas
    canvas._scene_canvas.events.draw.connect(drawn.append)
    canvas.native.update()
    return drawn


def test_window_whose_answer_does_not_come_draws_itself_after_a_moment(
    viewer: Viewer, dock: UNetDock, late_answers: Event
) -> None:
    drawn = paint_and_wait(viewer, dock)
    wait_until(lambda: bool(drawn), 60, "a picture")
    assert dock.live.answering
    late_answers.set()
    await_rest(dock)


@pytest.mark.parametrize("what", ["paint", "zoom", "section"])
def test_window_that_waits_for_an_answer_draws_itself_where_somebody_goes_on(
    viewer: Viewer, dock: UNetDock, late_answers: Event, patient: None, what: str
) -> None:
    drawn = paint_and_wait(viewer, dock)
    for _ in range(5):
        QApplication.processEvents()
    assert not drawn
    if what == "paint":
        viewer.layers["corrections"].paint((viewer.dims.current_step[0], 20, 20), 2)
    elif what == "zoom":
        getattr(viewer, "scene", viewer).camera.zoom *= 2
    else:
        viewer.dims.set_current_step(0, 0 if viewer.dims.current_step[0] else 1)
    wait_until(lambda: bool(drawn), 60, "a picture")
    assert dock.live.answering


def test_window_closed_while_it_waits_for_an_answer_is_let_go_of(
    viewer: Viewer, dock: UNetDock, late_answers: Event, patient: None
) -> None:
    paint_and_wait(viewer, dock)
    project = dock.session.project
    assert project is not None
    viewer.close()
    late_answers.set()
    QApplication.sendPostedEvents(None, QEvent.DeferredDelete)
    assert not any("deleted" in message for message in messages())
    open_project(project.folder).close()  # which it had locked


def test_mask_in_view_is_what_the_head_says(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    paint(viewer, dock, 3)
    await_rest(dock)
    z = viewer.dims.current_step[0]
    agree = mask_in_view(viewer) == as_predicted(dock)[z]
    assert agree.mean() > 0.999  # bfloat16 rounds features alike, whatever the batch
    assert dock.predictor.is_predicted((z,))


def test_class_the_network_never_heard_of_appears(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.add_class()
    paint(viewer, dock, 4)
    paint(viewer, dock, 1, OTHER_STROKE)
    assert is_obeyed(viewer, 1, 4)
    assert more_found_in_view(viewer, dock, 4) > 0.7
    assert len(dock.session.live.classes) == 4


def test_two_strokes_are_obeyed_and_leave_the_rest_as_it_was(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    before = mask_in_view(viewer)
    paint(viewer, dock, 2)
    paint(viewer, dock, 3, OTHER_STROKE)
    assert is_obeyed(viewer, 2, 3)
    mask = mask_in_view(viewer)
    painted = strokes_in_view(viewer, 2) | strokes_in_view(viewer, 3)
    assert (mask != before)[~painted].mean() < 0.25
    assert more_found_in_view(viewer, dock, 3) > 0.1


def test_strokes_that_are_held_out_are_shown_as_they_were_painted(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    for row in (30.0, 60.0, 90.0):  # the third one is held out
        paint(viewer, dock, 3, [(row, 30.0 + 10 * n) for n in range(4)])
    await_rest(dock)
    assert dock.session.strokes.held_out.counts().any()
    assert is_obeyed(viewer, 3)
    z = viewer.dims.current_step[0]
    assert (mask_in_view(viewer) == as_predicted(dock)[z]).mean() > 0.999


def test_class_can_be_added_when_a_head_is_there(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    paint(viewer, dock, 3)
    dock.correct_group.add_class()
    paint(viewer, dock, 4, OTHER_STROKE)
    assert is_obeyed(viewer, 3, 4)
    assert more_found_in_view(viewer, dock, 3) > 0.4
    assert more_found_in_view(viewer, dock, 4) > 0.7


def test_undo_of_the_only_stroke_brings_back_what_the_network_says(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    before = mask_in_view(viewer)
    paint(viewer, dock, 3)
    assert (mask_in_view(viewer) != before).any()
    viewer.layers["corrections"].undo()
    wait_until(lambda: dock.session.live is None, 10, "the undo to be seen")
    await_view(viewer, dock)
    np.testing.assert_array_equal(mask_in_view(viewer), before)


def test_undo_redo_and_erasing_are_answered(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    first = paint(viewer, dock, 3)
    after_one = mask_in_view(viewer)
    second = paint(viewer, dock, 1, OTHER_STROKE)
    after_two = mask_in_view(viewer)
    changed = after_two != after_one
    assert changed.sum() > 20

    def is_as_after_one() -> bool:
        # The same problem, from another start: all but the same solution.
        alike = mask_in_view(viewer) == after_one
        return bool(alike.mean() > 0.99 and alike[changed].mean() > 0.9)

    viewer.layers["corrections"].undo()
    wait_until(lambda: dock.session.live is not second, 10, "the answer to the undo")
    await_rest(dock)
    assert is_as_after_one()
    third = dock.session.live
    assert third is not first
    viewer.layers["corrections"].redo()
    wait_until(lambda: dock.session.live is not third, 10, "the answer to the redo")
    await_rest(dock)
    assert (mask_in_view(viewer) == after_two).mean() > 0.99
    assert is_obeyed(viewer, 1, 3)
    dock.correct_group.erase.click()
    viewer.layers["corrections"].brush_size = 20
    fourth = dock.session.live
    paint_stroke(viewer, viewer.layers["corrections"], OTHER_STROKE)
    wait_until(lambda: dock.session.live is not fourth, 10, "the answer to the eraser")
    await_rest(dock)
    assert not strokes_in_view(viewer, 1).any()
    assert is_as_after_one()


def test_section_that_comes_into_view_is_drawn_by_the_head(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    paint(viewer, dock, 3)
    for z in (0, SECTIONS - 1):
        show_section(viewer, image_layer, (z,))
        await_view(viewer, dock)
        await_rest(dock)
        assert (mask_in_view(viewer) == as_predicted(dock)[z]).mean() > 0.999


def test_strokes_of_all_sections_count(viewer: Viewer, dock: UNetDock, image_layer: Image) -> None:
    paint(viewer, dock, 3)
    here = viewer.dims.current_step[0]
    show_section(viewer, image_layer, (0,))
    paint(viewer, dock, 1, OTHER_STROKE)
    await_rest(dock)
    show_section(viewer, image_layer, (here,))
    await_view(viewer, dock)
    await_rest(dock)
    assert is_obeyed(viewer, 3)
    assert more_found_in_view(viewer, dock, 3) > 0.4


def test_switched_off_the_network_alone_is_shown(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    before = mask_in_view(viewer)
    paint(viewer, dock, 3)
    dock.correct_group.answer.setChecked(False)
    await_view(viewer, dock)
    np.testing.assert_array_equal(mask_in_view(viewer), before)
    dock.correct_group.answer.setChecked(True)
    wait_until(lambda: dock.session.live is not None, 60, "the head")
    await_rest(dock)
    assert is_obeyed(viewer, 3)
    assert more_found_in_view(viewer, dock, 3) > 0.7


def test_export_is_of_what_the_head_says(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.correct_group.add_class()
    paint(viewer, dock, 4)
    await_rest(dock)
    path = export(dock, CLASS_MASK, tmp_path / "mask.tif")
    found = tifffile.imread(path)
    assert (found == 4).any()
    assert (found == as_predicted(dock)).mean() > 0.999


def test_head_moves_on_to_the_weights_that_were_learnt(
    viewer: Viewer,
    dock: UNetDock,
    corrected: Labels,  # noqa: F811
    stack: tuple[np.ndarray, np.ndarray],
) -> None:
    # Within one cell, as mistakes are; the strokes of `corrected` cross all kinds of tissue.
    inside = ndimage.distance_transform_edt(stack[1][int(viewer.dims.current_step[0])] == 1)
    inside[:24] = inside[-24:] = inside[:, :24] = inside[:, -24:] = 0
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    before = strokes_in_view(viewer, 3)
    paint(viewer, dock, 3, [(row, column - 6 + 4 * n) for n in range(4)])
    stroke = strokes_in_view(viewer, 3) & ~before
    first = dock.session.live.model
    start(dock, steps=3)
    await_idle(dock)
    wait_until(lambda: dock.session.live.model is dock.session.model, 60, "the new features")
    assert dock.session.live.model is not first
    assert stroke.sum() > 20
    assert (mask_in_view(viewer)[stroke] == 3).all()
    z = int(viewer.dims.current_step[0])
    assert more_found(dock, z, stroke, 3) > 0.2
    assert (mask_in_view(viewer) == as_predicted(dock)[z]).mean() > 0.999


def test_head_moves_on_although_weights_come_faster_than_their_features_are_computed(
    viewer: Viewer,
    dock: UNetDock,
    corrected: Labels,  # noqa: F811
) -> None:
    wait_until(lambda: dock.session.live is not None and not dock.live.busy, 60, "the head")
    first = dock.session.live.model

    def moved_on_after_news() -> bool:
        model = dock.session.model
        dock.session.model = replace(model, steps=model.steps + 1)
        return dock.session.live.model is not first

    wait_until(moved_on_after_news, 30, "the head to move on")


def test_strokes_are_answered_while_the_network_learns(
    viewer: Viewer,
    dock: UNetDock,
    corrected: Labels,  # noqa: F811
) -> None:
    start(dock)
    paint(viewer, dock, 1, [(100.0, 30.0 + 14 * n) for n in range(4)])
    stroke = strokes_in_view(viewer, 1)
    wait_until(lambda: (mask_in_view(viewer)[stroke] == 1).all(), 60, "the stroke in the mask")
    assert dock.trainer.state == RUNNING
    assert more_found_in_view(viewer, dock, 1) > 0.1
    dock.trainer.stop()
    await_idle(dock)


def test_other_image_gets_a_head_of_its_own(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    paint(viewer, dock, 3)
    grey, _ = synthetic_stack(2, SIZE, seed=5)
    other = viewer.add_image(grey, name="other")
    dock.image_group.image.value = other
    assert dock.session.live is None
    await_view(viewer, dock)
    assert dock.session.live is None
    dock.image_group.image.value = image_layer
    wait_until(lambda: dock.session.live is not None, 60, "the head of the first image")


def test_image_removed_in_the_middle_of_it_leaves_nothing_behind(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.choose(3)
    paint_stroke(viewer, viewer.layers["corrections"], STROKE)
    viewer.layers.remove(image_layer)
    await_rest(dock)
    assert dock.session.live is None
    assert messages() == []


def test_features_of_sections_around_the_view_are_there_before_anybody_looks(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(viewer, dock, 3)
    await_rest(dock)
    z = int(viewer.dims.current_step[0])
    computed: list[tuple[int, ...]] = []
    compute = answering.tile_features

    def watched(*arguments, **options) -> FeatureTile:
        computed.append(tuple(viewer.dims.current_step))
        return compute(*arguments, **options)

    monkeypatch.setattr(answering, "tile_features", watched)
    before = dock.session.mask.data[1 if z == 0 else z - 1].copy()
    show_section(viewer, image_layer, (1 if z == 0 else z - 1,))
    monkeypatch.setattr(live, "AHEAD", 0)  # and now none further away
    wait_until(lambda: (mask_in_view(viewer) != before).any(), 60, "the head's answer")
    assert computed == []


def test_features_around_the_view_take_the_place_of_those_far_away(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "AHEAD", 1)
    paint(viewer, dock, 3)
    await_rest(dock)
    cache, (tile,) = dock.live._now.features, dock.live._plan()
    size = cache.get(((viewer.dims.current_step[0],), tile)).bytes
    monkeypatch.setattr(cache, "_memory", 3 * size)  # those of three sections
    for z in (0, 1, 2, 3, 2, 1, 0):
        show_section(viewer, image_layer, (z,))
        near = [((each,), tile) for each in (z - 1, z, z + 1) if 0 <= each < SECTIONS]
        wait_until(lambda near=near: all(each in cache for each in near), 60, "the neighbours")
    assert cache._bytes <= 3 * size


def test_of_large_sections_only_what_is_in_view_is_looked_at(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WHOLE", 64)
    monkeypatch.setattr(live, "TILE", 64)
    monkeypatch.setattr(live, "AHEAD", 0)
    asked: list[Tile] = []
    compute = answering.tile_features

    def watched(network, section, tile, *rest, **options) -> FeatureTile:
        asked.append(tile)
        return compute(network, section, tile, *rest, **options)

    monkeypatch.setattr(answering, "tile_features", watched)
    camera = getattr(viewer, "scene", viewer).camera
    camera.zoom *= 4
    camera.center = (0, 4 * 30, 4 * 30)
    wait_until(lambda: viewer.layers["mask"].corner_pixels[1, -1] < 64, 10, "the picture")
    path = [(30.0, 20.0 + 2 * n) for n in range(8)]
    paint(viewer, dock, 3, path)
    await_rest(dock)
    assert asked == [Tile(0, 0, 64, 64)]
    z = viewer.dims.current_step[0]
    assert not dock.predictor.is_predicted((z,))  # the rest of it is older
    camera.center = (0, 4 * 96, 4 * 30)
    wait_until(lambda: len(asked) > 1, 60, "what comes into view")
    await_rest(dock)
    assert Tile(64, 0, 64, 64) in asked


def test_large_section_seen_from_afar_is_drawn_in_the_middle_and_comes_to_rest(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WHOLE", 32)
    monkeypatch.setattr(live, "TILE", 32)
    monkeypatch.setattr(live, "MOST_TILES", 4)
    paint(viewer, dock, 3, [(60.0, 50.0 + 6 * n) for n in range(4)])
    await_rest(dock)
    drawn = {tile for _, tile in dock.live._drawn[1]}
    assert drawn == {Tile(y, x, 32, 32) for y in (32, 64) for x in (32, 64)}


def test_large_section_whose_features_do_not_fit_is_drawn_in_the_middle_and_comes_to_rest(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WHOLE", 32)
    monkeypatch.setattr(live, "TILE", 32)
    monkeypatch.setattr(answering.FeatureCache.__init__, "__defaults__", (1,))  # one tile is kept
    paint(viewer, dock, 3, [(60.0, 50.0 + 6 * n) for n in range(4)])
    await_rest(dock)
    assert len(dock.live._drawn[1]) == 1


def test_as_many_tiles_are_wanted_at_once_as_fit_in_by_the_largest() -> None:
    def tile(side: int) -> FeatureTile:
        level = torch.zeros(4, side, side)
        return FeatureTile(Tile(0, 0, side, side), level, (level,), (0.0, 0.0), 1.0)

    cache = answering.FeatureCache(memory=3 * tile(8).bytes)
    assert cache.fits(16) == 16  # nothing is known yet
    cache.add(((0,), Tile(0, 0, 4, 4)), tile(4))
    cache.add(((0,), Tile(0, 4, 8, 8)), tile(8))
    cache.add(((0,), Tile(4, 0, 4, 4)), tile(4))
    assert cache.fits(16) == 3
    assert cache.fits(2) == 2


def test_features_computed_again_take_no_more_memory() -> None:
    level = torch.zeros(4, 8, 8)
    features = FeatureTile(Tile(0, 0, 8, 8), level, (level,), (0.0, 0.0), 1.0)
    cache = answering.FeatureCache(memory=4 * features.bytes)
    for _ in range(10):
        cache.add(((0,), features.tile), features)
    cache.add(((1,), features.tile), features)
    assert ((0,), features.tile) in cache
    assert ((1,), features.tile) in cache


def test_features_beyond_the_memory_are_let_go_and_strokes_still_count(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering.FeatureCache.__init__, "__defaults__", (1,))  # one tile is kept
    paint(viewer, dock, 3)
    here = viewer.dims.current_step[0]
    show_section(viewer, image_layer, (0,))
    paint(viewer, dock, 1, OTHER_STROKE)
    await_rest(dock)
    assert len(dock.session.live.head.bias) == 3
    show_section(viewer, image_layer, (here,))
    await_view(viewer, dock)
    await_rest(dock)
    assert is_obeyed(viewer, 3)
    assert more_found_in_view(viewer, dock, 3) > 0.4


def test_want_of_memory_is_told_and_the_network_is_shown(
    viewer: Viewer, dock: UNetDock, image_layer: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(answering, "tile_features", greedy)
    dock.correct_group.choose(3)
    wait_until(lambda: not dock.correct_group.answer.isChecked(), 60, "the switch")
    assert any("not enough memory" in message for message in messages())
    paint_stroke(viewer, viewer.layers["corrections"], STROKE)
    await_view(viewer, dock)
    assert dock.session.live is None


def test_same_strokes_give_the_same_head(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    first = paint(viewer, dock, 3)
    viewer.layers["corrections"].undo()
    wait_until(lambda: dock.session.live is None, 10, "the undo")
    again = paint(viewer, dock, 3)
    np.testing.assert_allclose(first.head.weights, again.head.weights, atol=1e-4)
    assert dock.live._config == LiveConfig()


def test_section_asked_for_is_averaged_over_its_looks(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.predict_group.options["test_time_augmentation"].value = "symmetries"
    paint(viewer, dock, 3)
    await_rest(dock)
    dock.predict_group.section.click()
    await_view(viewer, dock)
    image, z = dock.session.image, viewer.dims.current_step[0]
    config = PredictionConfig(test_time_augmentation="symmetries")
    found = predict(dock.session.live, image, config, sections=[(z,)])
    expected = finish(gather(found, image, 3)).data[z]
    assert (mask_in_view(viewer) == expected).mean() > 0.999

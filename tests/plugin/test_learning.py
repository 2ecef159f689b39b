"""Wiring of the training: strokes go in, weights come out, and nothing hangs or is lost."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.viewer import Viewer

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.config import PredictionConfig
from napari_unet.core.growing import grown_from_head
from napari_unet.core.live import LiveHead, LiveModel
from napari_unet.core.losses import painted_loss
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.training import TrainingStep
from napari_unet.io.models import load_model
from napari_unet.plugin import answering, learning
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import show_section
from napari_unet.plugin.learning import IDLE, PAUSED, RUNNING
from napari_unet.plugin.session import learnt_models_folder
from tests.plugin.conftest import await_view, messages
from tests.plugin.test_correcting import OTHER_STROKE, STROKE

REST = 2.0
"""Seconds in which a training that goes on makes many steps with the options below."""


@pytest.fixture
def corrected(viewer: Viewer, dock: UNetDock, image_layer: Image) -> Labels:
    """Corrections with a stroke of membrane and one of mitochondrion."""
    layer = viewer.layers["corrections"]
    for number, path in ((2, STROKE), (3, OTHER_STROKE)):
        dock.correct_group.choose(number)
        paint_stroke(viewer, layer, path)
    wait_until(lambda: len(dock.session.annotations.sections) == 1, 10, "the strokes")
    wait_until(lambda: (dock.session.annotations.counts()[1:3] > 0).all(), 10, "the strokes")
    options = dock.learn_group.options
    options["patch_size"].value = 64
    options["batch_size"].value = 1
    return layer


def start(dock: UNetDock, steps: int = 0) -> list[TrainingStep]:
    """Press *Start*, and return a list that every shown step is added to."""
    shown: list[TrainingStep] = []
    dock.trainer.stepped.connect(shown.append)
    dock.learn_group.options["steps"].value = steps
    dock.learn_group.start.click()
    assert dock.trainer.state == RUNNING
    return shown


def let_live(seconds: float) -> None:
    """Let the window, and all threads, live for a while."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 60, "some seconds")


def await_idle(dock: UNetDock) -> None:
    wait_until(lambda: dock.trainer.state == IDLE, 60, "the training to end")


def test_learning_changes_the_overlay_where_was_painted(
    viewer: Viewer, dock: UNetDock, corrected: Labels
) -> None:
    # What answers strokes shows the paint itself, whatever the network has learnt of it.
    dock.correct_group.answer.setChecked(False)
    await_view(viewer, dock)
    z = viewer.dims.current_step[0]
    stroke = corrected.data[z] == 3
    before = float((viewer.layers["mask"].data[z][stroke] == 3).mean())
    first = dock.session.model
    dock.learn_group.options["patch_size"].value = 128
    dock.learn_group.options["memory"].value = 0.3
    start(dock, steps=60)
    await_idle(dock)
    await_view(viewer, dock)
    after = float((viewer.layers["mask"].data[z][stroke] == 3).mean())
    assert dock.session.model is not first
    assert after > max(before, 0.5)
    assert "60" in dock.learn_group.status.text()


def test_view_is_kept_up_with_by_one_look_while_learning_and_gets_the_average_at_rest(
    viewer: Viewer, dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.correct_group.answer.setChecked(False)
    dock.predict_group.options["test_time_augmentation"].value = "symmetries"
    await_view(viewer, dock)
    looks: list[tuple[str, str]] = []

    def watched(model, image, config, **options):
        looks.append((dock.trainer.state, config.test_time_augmentation))
        return predict(model, image, config, **options)

    monkeypatch.setattr("napari_unet.plugin.predicting.predict", watched)
    start(dock)
    wait_until(lambda: len(looks) > 1, 60, "new weights to be shown")
    assert set(looks) == {(RUNNING, "none")}
    dock.learn_group.stop.click()
    await_idle(dock)
    await_view(viewer, dock)
    assert looks[-1] == (IDLE, "symmetries")
    image, model, z = dock.session.image, dock.session.model, viewer.dims.current_step[0]
    config = PredictionConfig(test_time_augmentation="symmetries")
    found = predict(model, image, config, sections=[(z,)])
    expected = finish(gather(found, image, len(model.classes))).data[z]
    np.testing.assert_array_equal(viewer.layers["mask"].data[z], expected)


def test_stop_keeps_what_was_learnt(dock: UNetDock, corrected: Labels) -> None:
    first = dock.session.model
    assert first is not None
    shown = start(dock)
    wait_until(lambda: len(shown) > 3, 60, "some steps")
    dock.learn_group.stop.click()
    await_idle(dock)
    count, model = len(shown), dock.session.model
    assert model is not None
    assert model.steps > first.steps
    let_live(REST)
    assert len(shown) == count  # no step was computed, and no weights came
    assert dock.session.model is model
    assert dock.learn_group.start.isEnabled()
    assert not dock.learn_group.stop.isEnabled()


def test_pause_pauses_and_resume_goes_on(dock: UNetDock, corrected: Labels) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.learn_group.pause.click()
    wait_until(lambda: dock.trainer.state == PAUSED, 30, "the pause")
    assert dock.learn_group.pause.text() == "Resume"
    count = len(shown)
    let_live(REST)
    assert len(shown) == count  # no step was computed
    assert dock.trainer.state == PAUSED
    dock.learn_group.pause.click()
    wait_until(lambda: len(shown) > count + 1, 60, "further steps")
    assert dock.trainer.state == RUNNING
    assert dock.learn_group.pause.text() == "Pause"


def test_stopped_before_the_first_step_nothing_has_changed(
    dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, begun, goes_on = dock.session.model, Event(), Event()
    learn = learning.learn

    def late(*arguments: Any, **options: Any) -> Any:
        begun.set()
        goes_on.wait(60)
        return learn(*arguments, **options)

    monkeypatch.setattr(learning, "learn", late)
    dock.learn_group.start.click()
    wait_until(begun.is_set, 60, "the training to begin")
    dock.learn_group.stop.click()
    assert dock.learn_group.status.text() == "Stopping …"
    goes_on.set()
    await_idle(dock)
    assert "Stopped before the first step" in dock.learn_group.status.text()
    assert dock.session.model is model
    assert not list(learnt_models_folder().glob("*.safetensors"))


def test_versions_are_judged_as_they_are_shown_also_when_answering_is_switched_meanwhile(
    dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    learn = learning.learn

    def watched(*arguments: Any, **options: Any) -> Any:
        asked.append(options["live"])
        return learn(*arguments, **options)

    monkeypatch.setattr(learning, "learn", watched)
    start(dock)
    wait_until(lambda: bool(asked), 60, "the training to begin")
    for _ in range(2):
        assert asked[0]() == dock.live.config
        dock.correct_group.answer.click()
    dock.learn_group.stop.click()
    await_idle(dock)


def test_paused_training_can_be_stopped(dock: UNetDock, corrected: Labels) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.learn_group.pause.click()
    wait_until(lambda: dock.trainer.state == PAUSED, 30, "the pause")
    dock.learn_group.stop.click()
    await_idle(dock)


def test_stop_wins_over_a_pause_that_has_not_come_about_yet(
    dock: UNetDock, corrected: Labels
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.learn_group.pause.click()
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.learn_group.start.isEnabled()


def test_strokes_painted_meanwhile_are_learnt_from(
    viewer: Viewer, dock: UNetDock, corrected: Labels
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.correct_group.choose(1)
    paint_stroke(viewer, corrected, [(60.0, 30.0 + 14 * n) for n in range(4)])
    wait_until(lambda: dock.session.annotations.counts()[0] > 0, 10, "the stroke")
    count = len(shown)
    wait_until(lambda: len(shown) > count + 2, 60, "steps after the stroke")
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.session.model is not None
    record = dock.session.model.history[-1]
    assert record["data"][0]["painted"]["background"] == int(dock.session.annotations.counts()[0])


def test_what_is_erased_undone_redone_and_painted_elsewhere_meanwhile_reaches_the_training(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrected: Labels
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    full = dock.session.annotations.counts()
    dock.correct_group.erase.click()
    paint_stroke(viewer, corrected, STROKE[:2])
    erased = dock.session.annotations.counts()
    corrected.undo()
    wait_until(lambda: dock.session.annotations.counts()[1] == full[1], 10, "the undo")
    corrected.redo()
    wait_until(lambda: dock.session.annotations.counts()[1] == erased[1], 10, "the redo")
    show_section(viewer, image_layer, (0,))
    dock.correct_group.choose(1)
    paint_stroke(viewer, corrected, STROKE)
    wait_until(lambda: (0,) in dock.session.annotations.sections, 10, "the stroke")
    count = len(shown)
    wait_until(lambda: len(shown) > count + 2, 60, "steps after the stroke")
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.session.model is not None
    found = dock.session.model.history[-1]["data"][0]["painted"]
    expected = [int((corrected.data == number).sum()) for number in (1, 2, 3)]
    assert [found[name] for name in ("background", "membrane", "mitochondrion")] == expected
    assert 0 < expected[1] < full[1]


def test_a_new_class_waits_for_an_answer_that_knows_it(
    viewer: Viewer, dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: dock.session.live is not None and not dock.live.busy, 60, "the live head")
    earlier, come, sent = dock.session.live, Event(), []
    learnt_head = answering.learnt_head

    def late(*arguments: Any, **more: Any) -> LiveHead:
        come.wait(60)
        return learnt_head(*arguments, **more)

    monkeypatch.setattr(answering, "learnt_head", late)
    start(dock)
    dock.trainer._awaiting.setInterval(10**6)  # however long it takes
    monkeypatch.setattr(dock.trainer._job, "send", lambda told: sent.append(told.learnt.highest))
    dock.correct_group.add.click()
    paint_stroke(viewer, corrected, [(60.0, 30.0 + 14 * n) for n in range(4)])
    wait_until(lambda: dock.session.strokes.learnt.highest == 4, 20, "the stroke")
    dock.session.live = replace(earlier)  # the answer to a stroke before that
    assert 4 not in sent
    come.set()
    wait_until(lambda: 4 in sent, 60, "the answer to this one")


def test_class_added_while_training_is_learnt(
    viewer: Viewer, dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, LiveModel]] = []

    def grow(model, classes, live):
        asked.append((len(classes), live))
        return grown_from_head(model, classes, live)

    monkeypatch.setattr(learning, "grown_from_head", grow)
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.correct_group.add.click()
    dock.correct_group.rename(4, "vesicle")
    paint_stroke(viewer, corrected, [(60.0, 30.0 + 14 * n) for n in range(4)])
    wait_until(lambda: len(dock.session.annotations.counts()) == 4, 10, "the new class")
    count = len(shown)
    wait_until(lambda: len(shown) > count + 2, 60, "steps after the stroke")
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.session.model is not None
    assert [c.name for c in dock.session.model.classes][3] == "vesicle"
    assert dock.session.model.history[-1]["data"][0]["painted"]["vesicle"] > 0
    # Its channel begins with what the live head has learnt of it, not with nothing.
    assert [count for count, _ in asked] == [3, 4]
    head = asked[-1][1].head
    assert float(head.weights[:, 3].abs().max()) > 0


def test_image_removed_while_training_stops_it_and_keeps_the_model(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrected: Labels
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 2, 60, "some steps")
    before = dock.session.model
    viewer.layers.remove(image_layer)
    await_idle(dock)
    assert dock.session.model is before  # the window may show another image by then
    (path,) = learnt_models_folder().glob("*.safetensors")
    learnt = load_model(path)
    assert learnt.history[-1]["steps"] >= shown[-1].step
    said = dock.learn_group.status.text()
    assert f"Learnt for {learnt.history[-1]['steps']} steps, until its image went away" in said
    assert not any("Error" in m for m in messages())


def test_image_swapped_while_training_stops_it_and_predicts_the_other(
    viewer: Viewer, dock: UNetDock, corrected: Labels, stack
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 2, 60, "some steps")
    other = viewer.add_image(stack[0][:2].copy(), name="other")
    dock.image_group.image.value = other
    await_idle(dock)
    await_view(viewer, dock)
    assert dock.session.mask is not None
    assert dock.session.mask.data.shape == other.data.shape
    assert dock.session.versions == ()  # its last weights are of the other image
    assert dock.session.version is None


def test_short_memory_and_a_loss_that_is_no_number_are_told_in_the_window(
    dock: UNetDock, corrected: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def failing(*arguments, **options):
        computed.append(len(computed))
        if len(computed) == 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        loss = painted_loss(*arguments, **options)
        return loss * (float("inf") if len(computed) == 5 else 1.0)

    monkeypatch.setattr("napari_unet.core.training.painted_loss", failing)
    monkeypatch.setattr("napari_unet.plugin.jobs.QUIET_SECONDS", 0.0)  # every step is shown
    dock.learn_group.options["batch_size"].value = 2
    said: list[str] = []
    dock.trainer.stepped.connect(lambda _: said.append(dock.learn_group.status.text()))
    start(dock, steps=8)
    await_idle(dock)
    told = messages()
    assert "Not enough memory; going on with 1 instead of 2 patches a step." in told
    assert any("going back to the last good weights" in message for message in told)
    assert len(said) >= 8
    assert all(text.startswith("Step ") for text in said), said  # not that it waits for paint
    assert not any("inf" in text or "nan" in text for text in said), said


def test_nothing_painted_gets_a_message(dock: UNetDock, image_layer: Image) -> None:
    dock.learn_group.start.click()
    assert dock.trainer.state == IDLE
    assert any("Nothing is painted" in m for m in messages())


def test_one_class_painted_gets_a_message(
    viewer: Viewer, dock: UNetDock, image_layer: Image
) -> None:
    dock.correct_group.choose(2)
    paint_stroke(viewer, viewer.layers["corrections"], STROKE)
    wait_until(lambda: dock.session.annotations.counts()[1] > 0, 10, "the stroke")
    dock.learn_group.start.click()
    assert dock.trainer.state == IDLE
    assert any("Only 'membrane' is painted" in m for m in messages())


def test_closing_the_window_in_the_middle_keeps_the_model(
    viewer: Viewer, dock: UNetDock, corrected: Labels
) -> None:
    published: list[TrainingStep] = []
    trainer = dock.trainer
    trainer.stepped.connect(lambda step: published.append(step) if step.model else None)
    start(dock)
    wait_until(lambda: bool(published), 60, "the first weights")
    job = trainer._job
    viewer.close()
    assert job is not None
    assert job.wait(30)
    (path,) = learnt_models_folder().glob("*.safetensors")
    assert load_model(path).history[-1]["steps"] >= published[0].step


def test_model_learnt_before_can_be_chosen_again(
    dock: UNetDock, corrected: Labels, tmp_path: Path
) -> None:
    start(dock, steps=3)
    await_idle(dock)
    (path,) = learnt_models_folder().glob("*.safetensors")
    learnt = load_model(path)
    dock.image_group.model.reset_choices()
    dock.image_group.model.value = f"learnt: {path.stem}"
    wait_until(
        lambda: (
            dock.session.model is not None
            and np.array_equal(
                dock.session.model.network.classifier.weight.detach().numpy(),
                learnt.network.classifier.weight.detach().numpy(),
            )
        ),
        20,
        "the learnt model",
    )


def test_mask_exported_while_learning_is_of_one_model(
    dock: UNetDock, corrected: Labels, tmp_path: Path
) -> None:
    dock.learn_group.options["steps"].value = 0
    shown = start(dock)
    wait_until(lambda: any(s.model for s in shown), 60, "the first weights")
    exported: list[str] = []
    dock.exporter.exported.connect(exported.append)
    dock.export_group.export_to(tmp_path / "mask.tif")
    wait_until(lambda: bool(exported), 100, "the exported file")
    dock.learn_group.stop.click()
    await_idle(dock)
    found = tifffile.imread(tmp_path / "mask.tif")
    assert found.shape == corrected.data.shape
    assert (found > 0).all()


def test_model_cannot_be_exchanged_while_it_learns(dock: UNetDock, corrected: Labels) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    assert not dock.image_group.model.enabled
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.image_group.model.enabled


def test_what_was_learnt_can_be_let_go_of(dock: UNetDock, corrected: Labels) -> None:
    first = dock.session.model
    assert first is not None
    assert dock.image_group.back.isHidden()
    start(dock, steps=3)
    await_idle(dock)
    assert not dock.image_group.back.isHidden()
    dock.image_group.back.click()
    wait_until(
        lambda: dock.session.model is not None and dock.session.model.steps == first.steps,
        20,
        "the model as it was",
    )
    assert dock.image_group.back.isHidden()


def test_damaged_model_file_gets_a_message_and_the_model_stays(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    before = dock.session.model
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")
    dock.image_group.load(path)
    wait_until(
        lambda: any("not a whole safetensors file" in m for m in messages()), 20, "a message"
    )
    assert dock.session.model is before
    wait_until(
        lambda: dock.image_group.model.value == "em-lite", 10, "the name of the model in use"
    )


def test_data_exchanged_while_training_stops_it_and_gives_layers_that_fit(
    viewer: Viewer, dock: UNetDock, image_layer: Image, corrected: Labels, stack
) -> None:
    shown = start(dock)
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    image_layer.data = stack[0][:2, :100, :90].copy()
    await_idle(dock)
    await_view(viewer, dock)
    assert dock.session.mask is not None
    assert dock.session.corrections is not None
    assert dock.session.mask.data.shape == (2, 100, 90)
    assert dock.session.corrections.data.shape == (2, 100, 90)
    assert corrected in viewer.layers
    assert not any("Error" in m for m in messages())

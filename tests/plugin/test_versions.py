"""Strokes that are held out are seen in the window, and so are the versions they judge."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from napari.layers import Image, Labels
from napari.viewer import Viewer
from scipy import ndimage

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.annotations import Annotations
from napari_unet.core.config import TrainingConfig
from napari_unet.core.held_out import Strokes, all_learnt
from napari_unet.core.judging import ShownJudge
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.models import save_model
from napari_unet.plugin import learning
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import show_section
from napari_unet.plugin.learning import IDLE, MOST_VERSIONS, PAUSED, Trainer, fewer
from napari_unet.plugin.session import KeptVersion, Session
from tests.examples import QUICK_TRAINING, disc_image, tiny_model
from tests.plugin.conftest import await_view, messages
from tests.plugin.test_learning import await_idle, start

ROWS = (20.0, 40.0, 60.0)
COLUMNS = {1: 20.0, 2: 80.0}
"""Where the strokes of a class begin."""


def stroke(number: int, row: float) -> list[tuple[float, float]]:
    return [(row, COLUMNS[number] + 6 * n) for n in range(4)]


@pytest.fixture
def painted(viewer: Viewer, dock: UNetDock, image_layer: Image) -> Labels:
    """Corrections with three strokes of background and three of membrane."""
    layer = viewer.layers["corrections"]
    for number in COLUMNS:
        dock.correct_group.choose(number)
        layer.brush_size = 5
        for row in ROWS:
            paint_stroke(viewer, layer, stroke(number, row))
    wait_until(lambda: dock.session.strokes.held_out_pieces == 2, 20, "two pieces held out")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    options = dock.learn_group.options
    options["patch_size"].value = 64
    options["batch_size"].value = 1
    return layer


@pytest.fixture
def learnt(viewer: Viewer, dock: UNetDock, painted: Labels, tmp_path: Path) -> Labels:
    """The same, with two versions: the bundled model, and one on disk that is in use."""
    first = dock.session.model
    network = copy.deepcopy(first.network)
    with torch.no_grad():
        network.classifier.bias += torch.tensor([0.0, 2.0, 0.0])
    second = replace(first, network=network, steps=first.steps + 5)
    path = tmp_path / "version-1.safetensors"
    save_model(path, second)
    dock.session.versions = (
        KeptVersion(0, first.name, first.steps, 0.5, 2, first, begins=True),
        KeptVersion(1, first.name, second.steps, 0.6, 2, path=path),
    )
    dock.session.version = 1
    dock.session.model = second
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    return painted


@pytest.fixture
def misled(viewer: Viewer, dock: UNetDock, image_layer: Image, stack) -> Labels:
    """Corrections that are all wrong, but for those that are held out."""
    truth = stack[1][int(viewer.dims.current_step[0])]
    corrections = viewer.layers["corrections"]
    chance = np.random.default_rng(0)
    free = np.zeros(truth.shape, bool)
    free[24:-24, 24:-24] = True  # on the canvas
    for number in (1, 2):
        for piece in range(7):
            there = number if piece == 2 else 3 - number
            inside = ndimage.binary_erosion(truth == there, iterations=2 if there == 1 else 1)
            row, column = chance.permutation(np.argwhere(inside & free))[0]
            free[row - 8 : row + 9, column - 8 : column + 10] = False  # strokes that do not touch
            dock.correct_group.choose(number)
            corrections.brush_size = 3
            paint_stroke(viewer, corrections, [(row, column), (row, column + 1)])
    wait_until(lambda: dock.session.strokes.held_out_pieces == 2, 20, "two pieces held out")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    dock.learn_group.options["patch_size"].value = 64
    return corrections


def mask_of(viewer: Viewer, dock: UNetDock, model) -> np.ndarray:
    z = int(viewer.dims.current_step[0])
    image = dock.session.image
    found = predict(model, image, sections=[(z,)])
    return finish(gather(found, image, len(model.classes))).data[z]


def answered(dock: UNetDock, model: UNetModel) -> UNetModel | LiveModel:
    """What the strokes so far make of a model."""
    session = dock.session
    assert session.image is not None
    assert session.statistics is not None
    judge = ShownJudge(session.image, session.statistics, session.device, dock.live.config)
    return judge.shown(model, session.strokes)[0]


def in_view(viewer: Viewer, name: str = "mask") -> np.ndarray:
    return np.asarray(viewer.layers[name].data[int(viewer.dims.current_step[0])])


def view(dock: UNetDock, row: int) -> None:
    """Click a row of the table."""
    dock.versions_group.table.selectRow(row)
    number = dock.session.versions[row].number
    expected = None if number == dock.session.version else number
    wait_until(lambda: dock.versions.number == expected, 20, "the version to be loaded")


def test_the_third_stroke_of_each_class_is_only_measured(
    viewer: Viewer, dock: UNetDock, painted: Labels
) -> None:
    z = (int(viewer.dims.current_step[0]),)
    held_out = dock.session.strokes.held_out.sections[z]
    learnt = dock.session.strokes.learnt.sections[z]
    for number in COLUMNS:
        for row in ROWS:
            place = int(row), int(COLUMNS[number]) + 8
            expected = (0, number) if row == ROWS[-1] else (number, 0)
            assert (learnt[place], held_out[place]) == expected
    wait_until(lambda: "live head" in dock.correct_group.held_out.text(), 20, "the figures")
    text = dock.correct_group.held_out.text()
    assert dock.correct_group.held_out.isVisible()
    assert text.startswith("2 pieces of paint held out. IoU there: live head ")
    assert dock.session.rivals.head.keys() == {"background", "membrane"}


def test_the_live_head_does_not_learn_what_is_held_out(
    viewer: Viewer, dock: UNetDock, painted: Labels
) -> None:
    head = dock.session.live.head
    rivals = dock.session.rivals
    dock.correct_group.erase.click()
    paint_stroke(viewer, painted, stroke(2, ROWS[-1]))
    wait_until(lambda: dock.session.strokes.held_out_pieces < 2, 20, "the eraser")
    wait_until(lambda: dock.session.rivals is not rivals, 20, "the answer")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    np.testing.assert_allclose(
        dock.session.live.head.weights.numpy(), head.weights.numpy(), atol=0.02
    )


def test_all_paint_is_learnt_from_where_nothing_is_to_be_held_out(
    viewer: Viewer, dock: UNetDock, painted: Labels
) -> None:
    dock.correct_group.hold_out.click()
    assert not dock.session.strokes.held_out.sections
    assert dock.correct_group.held_out.isHidden()
    learnt = dock.session.strokes.learnt
    np.testing.assert_array_equal(learnt.counts(), dock.session.annotations.counts())


def test_the_network_is_shown_where_it_does_better_without_the_head(
    viewer: Viewer, dock: UNetDock, misled: Labels
) -> None:
    rivals = dock.session.rivals
    assert rivals.network_is_better
    assert dock.session.shown is dock.session.model
    said = dock.correct_group.held_out
    wait_until(lambda: "the network is shown" in said.text(), 20, "the figures")
    await_view(viewer, dock)
    np.testing.assert_array_equal(in_view(viewer), mask_of(viewer, dock, dock.session.model))
    dock.correct_group.hold_out.click()  # then nothing speaks for the network
    wait_until(lambda: dock.session.shown is dock.session.live, 20, "the head to be shown")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    assert (in_view(viewer) == mask_of(viewer, dock, dock.session.live)).mean() > 0.999


def test_versions_list_what_learning_began_with_and_what_it_brought(
    viewer: Viewer, dock: UNetDock, painted: Labels
) -> None:
    dock.correct_group.answer.click()  # a head may find all of it without any learning
    dock.learn_group.options["memory"].value = 0
    start(dock, steps=30)
    await_idle(dock)
    versions = dock.session.versions
    assert [each.number for each in versions] == list(range(len(versions)))
    assert dock.versions_group.isVisible()
    table = dock.versions_group.table
    assert table.rowCount() == len(versions) > 1
    assert table.item(0, 0).text().startswith("0: em-lite")
    assert table.item(0, 1).text() == f"{versions[0].iou:.3f}"
    in_use = next(each for each in versions if each.number == dock.session.version)
    assert in_use.iou == max(each.iou for each in versions)
    assert dock.session.model.steps == in_use.steps
    for each in versions[1:]:
        assert each.path.is_relative_to(dock.session.project.versions)
        assert each.load().steps == each.steps
    assert dock.learn_group.curve.ious


def test_a_version_is_seen_until_somebody_paints(
    viewer: Viewer, dock: UNetDock, learnt: Labels
) -> None:
    now = dock.session.in_use
    first = dock.session.versions[0].load()
    view(dock, 0)
    await_view(viewer, dock)
    expected = mask_of(viewer, dock, answered(dock, first))
    assert (in_view(viewer) == expected).mean() > 0.999
    assert "version 0" in dock.versions_group.status.text()
    assert dock.session.in_use is now
    dock.correct_group.choose(2)
    paint_stroke(viewer, learnt, stroke(2, 100.0))
    wait_until(lambda: dock.session.viewed is None, 20, "the stroke to be seen")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    assert dock.versions.number is None
    assert dock.versions_group.status.isHidden()
    assert (in_view(viewer) == mask_of(viewer, dock, dock.session.live)).mean() > 0.999


def test_a_version_is_seen_as_its_network_finds_it_where_strokes_are_not_answered(
    viewer: Viewer, dock: UNetDock, learnt: Labels
) -> None:
    dock.correct_group.answer.click()
    view(dock, 0)
    await_view(viewer, dock)
    first = dock.session.versions[0].load()
    np.testing.assert_array_equal(in_view(viewer), mask_of(viewer, dock, first))


def test_a_version_in_another_section_is_seen_there(
    viewer: Viewer, dock: UNetDock, image_layer: Image, learnt: Labels
) -> None:
    view(dock, 0)
    show_section(viewer, image_layer, (0,))
    await_view(viewer, dock)
    expected = mask_of(viewer, dock, answered(dock, dock.session.versions[0].load()))
    assert (in_view(viewer) == expected).mean() > 0.999


def test_changes_are_where_the_version_differs_from_what_is_in_use(
    viewer: Viewer, dock: UNetDock, image_layer: Image, learnt: Labels
) -> None:
    view(dock, 0)
    dock.versions_group.compare.click()
    wait_until(lambda: "changes" in viewer.layers, 20, "the layer")
    wait_until(lambda: in_view(viewer, "changes").any(), 20, "the changes")
    before = mask_of(viewer, dock, answered(dock, dock.session.versions[0].load()))
    now = mask_of(viewer, dock, dock.session.in_use)
    assert (in_view(viewer, "changes") == np.where(before == now, 0, now)).mean() > 0.999
    np.testing.assert_array_equal(viewer.layers["changes"].scale, image_layer.scale)
    dock.versions_group.compare.click()
    wait_until(lambda: "changes" not in viewer.layers, 20, "the layer to go")


def test_what_could_not_be_measured_before_it_ended_is_told(
    dock: UNetDock, painted: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.core.learning.LAST_LOOK_SECONDS", 0.0)
    before, shown = dock.session.model, []
    dock.trainer.stepped.connect(shown.append)
    dock.trainer.start(TrainingConfig(steps=0, patch_size=64, batch_size=1, publish_seconds=1e9))
    wait_until(lambda: len(shown) > 1, 60, "some steps")
    dock.learn_group.stop.click()
    await_idle(dock)
    assert dock.session.model.network is before.network
    assert "before these could be measured" in dock.learn_group.status.text()


def test_one_can_go_back_to_a_version_and_learn_on_from_there(
    viewer: Viewer, dock: UNetDock, learnt: Labels
) -> None:
    first = dock.session.versions[0].load()
    count = len(dock.session.versions)
    view(dock, 0)
    dock.versions_group.use.click()
    wait_until(lambda: dock.session.version == 0, 20, "the version to be in use")
    assert dock.session.viewed is None
    assert dock.session.model.network is first.network
    start(dock, steps=3)
    await_idle(dock)
    numbers = [each.number for each in dock.session.versions]
    assert numbers[:count] == list(range(count))  # nothing is gone
    if dock.session.version:
        assert dock.session.version >= count


def test_the_version_that_was_clicked_is_used_also_before_it_is_seen(
    dock: UNetDock, learnt: Labels
) -> None:
    first, second = dock.session.versions
    third = replace(second, number=2, steps=second.steps + 1)
    dock.session.versions = (first, second, third)
    view(dock, 0)
    dock.versions_group.table.selectRow(2)
    assert dock.versions.number == 0  # the other one takes a moment
    assert "Version 2 is on its way" in dock.versions_group.status.text()
    assert dock.versions_group.table.currentRow() == 2
    dock.versions_group.use.click()
    wait_until(lambda: dock.session.version == 2, 20, "the version to be in use")
    assert dock.session.viewed is None
    assert dock.versions_group.status.isHidden()


def test_changes_of_another_version_do_not_stay(
    viewer: Viewer, dock: UNetDock, image_layer: Image, learnt: Labels
) -> None:
    first, second = dock.session.versions
    dock.session.versions = (first, second, replace(first, number=2, begins=False))
    view(dock, 0)
    dock.versions_group.compare.click()
    elsewhere = int(viewer.dims.current_step[0])
    wait_until(lambda: "changes" in viewer.layers, 20, "the layer")
    changes = viewer.layers["changes"]
    wait_until(lambda: changes.data[elsewhere].any(), 20, "the changes")
    show_section(viewer, image_layer, (0 if elsewhere else 1,))
    wait_until(lambda: in_view(viewer, "changes").any(), 20, "the changes there")
    assert changes.data[elsewhere].any()
    view(dock, 2)
    wait_until(lambda: not changes.data[elsewhere].any(), 20, "those of version 0 to go")
    wait_until(lambda: in_view(viewer, "changes").any(), 20, "those of version 2")


def test_a_version_whose_file_is_gone_is_told(
    viewer: Viewer, dock: UNetDock, learnt: Labels, tmp_path: Path
) -> None:
    view(dock, 0)
    dock.versions_group.use.click()
    wait_until(lambda: dock.session.version == 0, 20, "the version to be in use")
    model = dock.session.model
    dock.session.versions[1].path.unlink()
    dock.versions_group.table.selectRow(1)
    wait_until(lambda: any("version-1" in m for m in messages()), 20, "the message")
    wait_until(lambda: dock.versions_group.table.currentRow() == 0, 20, "the choice to go back")
    assert dock.session.model is model
    assert dock.session.viewed is None


def test_versions_of_one_image_are_not_those_of_another(
    viewer: Viewer, dock: UNetDock, learnt: Labels, stack
) -> None:
    other = viewer.add_image(stack[0][:2].copy(), name="other")
    dock.image_group.image.value = other
    await_view(viewer, dock)
    assert dock.session.versions == ()
    assert dock.versions_group.isHidden()


def test_strokes_that_are_all_wrong_do_not_make_the_model_worse(
    viewer: Viewer, dock: UNetDock, misled: Labels
) -> None:
    dock.learn_group.options["memory"].value = 0
    dock.learn_group.options["learning_rate"].value = 0.01
    start(dock, steps=20)
    await_idle(dock)
    versions = {each.number: each for each in dock.session.versions}
    assert versions[0].iou > 0.3
    assert versions[dock.session.version].iou >= versions[0].iou
    assert len(dock.learn_group.curve.ious) > 0
    assert min(dock.learn_group.curve.ious) < versions[0].iou  # they did harm
    assert "held-out paint" in dock.learn_group.status.text()


def test_what_was_predicted_stays_where_learning_brought_nothing_better(
    viewer: Viewer, dock: UNetDock, misled: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = learning.learn

    def looked_at_once(model, image, strokes, config, **more):
        return begin(model, image, strokes, config.replace(publish_seconds=1e6), **more)

    monkeypatch.setattr(learning, "learn", looked_at_once)  # at the end, when they have done harm
    dock.correct_group.answer.setChecked(False)
    dock.predict_group.stack.click()
    wait_until(lambda: not dock.predictor.missing_sections(), 60, "the stack")
    model = dock.session.model
    dock.learn_group.options["memory"].value = 0
    dock.learn_group.options["learning_rate"].value = 0.01
    start(dock, steps=20)
    await_idle(dock)
    assert "the network stays as it was" in dock.learn_group.status.text()
    assert dock.session.model is model
    assert dock.predictor.missing_sections() == []


def origins(monkeypatch: pytest.MonkeyPatch) -> list[UNetModel | None]:
    """A list to which is added what every learning from now on is held to."""
    begin, found = learning.learn, []

    def watched(*arguments, origin, **more):
        found.append(origin)
        return begin(*arguments, origin=origin, **more)

    monkeypatch.setattr(learning, "learn", watched)
    return found


def test_learning_again_is_held_to_what_the_first_learning_began_with(
    dock: UNetDock, learnt: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_to = origins(monkeypatch)
    first = dock.session.versions[0].load()
    assert dock.session.model.network is not first.network
    start(dock, steps=2)
    await_idle(dock)
    assert [each.network for each in held_to] == [first.network]


def test_learning_again_goes_on_where_the_file_of_what_it_began_with_is_gone(
    dock: UNetDock, learnt: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_to = origins(monkeypatch)
    first, *others = dock.session.versions
    gone = replace(first, model=None, path=tmp_path / "gone.safetensors")
    dock.session.versions = (gone, *others)
    start(dock, steps=2)
    await_idle(dock)
    assert held_to == [None]
    assert dock.trainer.record["steps"] == 2


def test_learning_with_another_model_is_held_to_that_one(
    dock: UNetDock, learnt: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_to = origins(monkeypatch)
    other = tiny_model("background", "membrane", "mitochondrion")
    dock.session.adopt_model(replace(other, steps=1))
    start(dock, steps=2)
    await_idle(dock)
    assert [each.network for each in held_to] == [other.network]


def harmed(dock: UNetDock) -> Strokes:
    """Learn until that has done harm, with nothing held out; return the strokes that tell of it."""
    dock.learn_group.options["memory"].value = 0
    dock.learn_group.options["learning_rate"].value = 0.01
    session, strokes = dock.session, dock.session.strokes
    nothing = Annotations(session.classes)
    session.strokes = Strokes(
        strokes.learnt, nothing, strokes.painted, strokes.pieces, strokes.sides
    )
    shown = start(dock)
    wait_until(lambda: session.version == 1 and shown[-1].step >= 15, 120, "weights that do harm")
    return strokes


def test_paint_held_out_while_it_learns_brings_back_what_learning_began_with(
    viewer: Viewer, dock: UNetDock, misled: Labels
) -> None:
    session, first = dock.session, dock.session.model
    strokes = harmed(dock)
    session.strokes = strokes
    wait_until(lambda: session.version == 0, 60, "the weights that it began with")
    assert session.model.network is first.network
    dock.learn_group.stop.click()
    await_idle(dock)
    assert session.version == 0
    assert session.model.network is first.network
    assert [each.number for each in session.versions] == [0, 1]
    assert session.versions[1].iou < session.versions[0].iou


def test_paint_held_out_while_it_pauses_brings_back_what_learning_began_with_also_at_the_stop(
    viewer: Viewer, dock: UNetDock, misled: Labels
) -> None:
    session, first = dock.session, dock.session.model
    strokes = harmed(dock)
    dock.learn_group.pause.click()
    wait_until(lambda: dock.trainer.state == PAUSED, 60, "the pause")
    session.strokes = strokes
    dock.learn_group.stop.click()
    await_idle(dock)
    assert session.version == 0
    assert session.model.network is first.network


def test_what_was_measured_of_a_version_stays_when_nothing_is_held_out_any_more(
    viewer: Viewer, dock: UNetDock, painted: Labels
) -> None:
    start(dock)
    session = dock.session
    wait_until(lambda: session.versions and session.versions[0].iou is not None, 60, "the figures")
    strokes = session.strokes
    session.strokes = all_learnt(strokes.learnt)
    wait_until(lambda: session.versions[-1].iou is None, 60, "weights that nothing tells of")
    dock.learn_group.stop.click()
    await_idle(dock)
    first = session.versions[0]
    assert first.iou is not None
    assert first.pieces == strokes.held_out_pieces


def listed(ious: list[float | None], begun: tuple[int, ...] = (0,)) -> list[KeptVersion]:
    return [
        KeptVersion(number, "em-lite", 10 * number, iou, 2, begins=number in begun)
        for number, iou in enumerate(ious)
    ]


def test_a_long_list_of_versions_loses_the_oldest_that_nobody_needs() -> None:
    versions = listed([0.5, 0.9, *[0.6] * (MOST_VERSIONS + 3)], begun=(0, 4))
    assert fewer(versions[:MOST_VERSIONS], ()) == tuple(versions[:MOST_VERSIONS])
    kept = [each.number for each in fewer(versions, {2, 6})]
    # 0 and 4 are what trainings began with, 1 did best, and 2 and 6 are needed.
    gone = {3, 5, 7, 8, 9}
    assert kept == [each.number for each in versions if each.number not in gone]
    assert len(kept) == MOST_VERSIONS


def test_what_did_best_is_told_by_those_measured_on_the_most_paint() -> None:
    versions = listed([0.5, 0.9, 0.7, *[0.6] * MOST_VERSIONS])
    versions[2:] = [replace(each, pieces=4) for each in versions[2:]]
    kept = [each.number for each in fewer(versions, {0})]
    assert 2 in kept
    assert 1 not in kept


def test_of_versions_that_did_equally_well_the_newest_stays() -> None:
    versions = listed([None, *[0.7] * (MOST_VERSIONS + 1)], begun=())
    kept = [each.number for each in fewer(versions, set(range(MOST_VERSIONS + 1)))]
    assert kept[-1] == versions[-1].number


def test_no_version_that_is_needed_goes_however_many_there_are() -> None:
    versions = listed([0.5] * (MOST_VERSIONS + 5), begun=tuple(range(MOST_VERSIONS + 5)))
    assert fewer(versions, ()) == tuple(versions)


def test_learning_on_keeps_what_is_in_use_what_is_looked_at_and_what_did_best(
    qapp, own_folders: Path
) -> None:
    image, annotations = disc_image(2)
    model = tiny_model()
    session = Session(image=image, model=model, classes=model.classes, device="cpu")
    learnt, held_out = ({z: annotations.sections[z]} for z in annotations.sections)
    session.paint(
        annotations,
        Strokes(Annotations(model.classes, learnt), Annotations(model.classes, held_out)),
    )
    ious = [0.0] * (MOST_VERSIONS + 4)
    ious[2] = 1.0
    pieces = session.strokes.held_out_pieces
    session.versions = tuple(replace(each, model=model, pieces=pieces) for each in listed(ious))
    session.version, session.looked_at = 3, 5
    trainer = Trainer(session)
    assert trainer.start(QUICK_TRAINING.replace(steps=2))
    wait_until(lambda: trainer.state == IDLE, 100, "the training to end")
    numbers = [each.number for each in session.versions]
    assert len(numbers) == MOST_VERSIONS
    assert numbers[:4] == [0, 2, 3, 5]

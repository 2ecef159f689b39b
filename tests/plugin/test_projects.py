"""What was done on an image is on disk, and comes back as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.viewer import Viewer

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image
from napari_unet.io.projects import open_project, read_state
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import camera_of, section_in_view, show_section
from napari_unet.plugin.session import user_data_folder
from tests.plugin.conftest import await_view, messages
from tests.plugin.test_learning import await_idle, start

ROWS = (20.0, 40.0, 60.0, 80.0)
COLUMNS = {1: 20.0, 2: 80.0}
SHORT = [(20.0, 20.0), (20.0, 40.0)]


def paint(viewer: Viewer, dock: UNetDock, rows=ROWS) -> Labels:
    """Strokes of background and membrane, one in each row."""
    layer = viewer.layers["corrections"]
    for number, column in COLUMNS.items():
        dock.correct_group.choose(number)
        layer.brush_size = 5
        for row in rows:
            paint_stroke(viewer, layer, [(row, column + 6 * n) for n in range(4)])
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    return layer


@pytest.fixture
def file(tmp_path: Path, stack) -> Path:
    """The stack as a file."""
    path = tmp_path / "Präparat 1.tif"
    write_image(path, image_from_array(stack[0], "stack", 4.0))
    return path


@pytest.fixture
def opened(viewer: Viewer, dock: UNetDock, file: Path) -> Image:
    """The file, open, and its section in view predicted."""
    (layer,) = viewer.open(str(file), plugin="napari-unet-em")
    await_view(viewer, dock)
    return layer


def closed(viewer: Viewer, dock: UNetDock) -> Path:
    """Remove all layers; return the folder of the project that was open."""
    folder = dock.session.project.folder
    viewer.layers.clear()
    wait_until(lambda: dock.session.image is None, 20, "the image to be gone")
    assert dock.session.project is None
    return folder


def reopen(viewer: Viewer, dock: UNetDock, folder: Path) -> None:
    dock.projects.open(folder)
    wait_until(lambda: dock.session.project is not None, 60, "the project")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")


def test_the_first_stroke_makes_a_project_beside_the_file(
    viewer: Viewer, dock: UNetDock, opened: Image, file: Path
) -> None:
    assert dock.session.project is None
    layer = paint(viewer, dock, ROWS[:1])
    assert dock.session.project.folder == file.with_suffix(".unet")
    assert "Präparat 1.unet" in dock.project_group.name.text()
    folder = closed(viewer, dock)
    project = open_project(folder)
    (z,) = project.painted().painted
    np.testing.assert_array_equal(project.painted().painted[z], layer.data[z])
    project.close()


def test_the_project_is_made_while_its_first_stroke_is_painted(
    viewer: Viewer, dock: UNetDock, opened: Image, file: Path
) -> None:
    folder = file.with_suffix(".unet")

    def while_the_button_is_down() -> None:
        wait_until((folder / "project.json").exists, 20, "the project")
        assert dock.session.project is None  # the stroke has not ended

    dock.correct_group.choose(1)
    paint_stroke(viewer, viewer.layers["corrections"], SHORT, while_the_button_is_down)

    assert dock.session.project.folder == folder
    assert dock.session.project.painted().painted
    assert [each.name for each in file.parent.glob("*.unet")] == [folder.name]


def test_a_first_stroke_that_comes_to_nothing_leaves_no_project(
    viewer: Viewer, dock: UNetDock, opened: Image, file: Path
) -> None:
    folder = file.with_suffix(".unet")

    def while_the_button_is_down() -> None:
        wait_until((folder / "project.json").exists, 20, "the project")
        viewer.layers.remove("corrections")

    dock.correct_group.choose(1)
    paint_stroke(viewer, viewer.layers["corrections"], SHORT, while_the_button_is_down)

    wait_until(lambda: not folder.exists(), 20, "the project to be gone")
    assert dock.session.project is None


def test_every_stroke_undo_and_redo_is_on_disk_at_once(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    paint(viewer, dock, ROWS[:1])
    layer, project = viewer.layers["corrections"], dock.session.project

    def on_disk() -> np.ndarray:
        return project._arrays["corrections"][:]

    np.testing.assert_array_equal(on_disk(), layer.data)
    for edit in (layer.undo, layer.undo, layer.redo):
        before = on_disk()
        edit()
        wait_until(lambda before=before: (on_disk() != before).any(), 20, "the edit")
        np.testing.assert_array_equal(on_disk(), layer.data)


def test_a_project_brings_back_the_viewer_as_it_was(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    dock.correct_group.add_class()
    show_section(viewer, opened, (2,))
    await_view(viewer, dock)
    paint(viewer, dock)
    dock.learn_group.options["steps"].value = 77
    camera_of(viewer).zoom = 1.75
    viewer.layers["mask"].opacity = 0.3
    session = dock.session
    strokes, classes = session.strokes, session.classes
    painted = viewer.layers["corrections"].data.copy()
    assert strokes.held_out.sections
    folder = closed(viewer, dock)

    dock.learn_group.options["steps"].value = 5
    reopen(viewer, dock, folder)
    assert viewer.layers[0].name == "Präparat 1"
    np.testing.assert_array_equal(viewer.layers["corrections"].data, painted)
    assert session.classes == classes
    assert len(session.model.classes) == len(classes) - 1  # of the added one it knows nothing
    for side in ("learnt", "held_out"):
        now, before = getattr(session.strokes, side), getattr(strokes, side)
        assert now.sections.keys() == before.sections.keys()
        np.testing.assert_array_equal(now.counts(), before.counts())
    assert section_in_view(viewer, session.image_layer) == (2,)
    assert camera_of(viewer).zoom == pytest.approx(1.75)
    assert viewer.layers["mask"].opacity == pytest.approx(0.3)
    assert dock.learn_group.options["steps"].value == 77
    assert session.image.pixel_size == pytest.approx(4.0)
    assert messages() == []


def test_a_project_goes_on_where_it_was_left(viewer: Viewer, dock: UNetDock, opened: Image) -> None:
    paint(viewer, dock, ROWS[:2])
    dock.correct_group.hold_out.click()
    folder = closed(viewer, dock)
    dock.correct_group.hold_out.click()
    reopen(viewer, dock, folder)
    assert not dock.correct_group.hold_out.isChecked()
    assert not dock.session.holds_out
    paint(viewer, dock, ROWS[2:])
    painted = viewer.layers["corrections"].data.copy()
    assert dock.session.project.folder == folder
    dock.projects.close()
    project = open_project(folder)
    (z,) = project.painted().painted
    np.testing.assert_array_equal(project.painted().painted[z], painted[z])
    project.close()


def test_versions_and_the_model_in_use_come_back(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    paint(viewer, dock)
    dock.learn_group.options["patch_size"].value = 64
    dock.learn_group.options["batch_size"].value = 1
    start(dock, steps=3)
    await_idle(dock)
    session = dock.session
    versions, number, steps = session.versions, session.version, session.model.steps
    folder = closed(viewer, dock)
    reopen(viewer, dock, folder)
    assert [(v.number, v.steps, v.iou, v.pieces) for v in session.versions] == [
        (v.number, v.steps, v.iou, v.pieces) for v in versions
    ]
    assert (session.version, session.model.steps) == (number, steps)
    assert [v.load().steps for v in session.versions] == [v.steps for v in versions]


def test_masks_come_back_and_are_not_predicted_again(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    dock.project_group.save_to(user_data_folder() / "mine")
    dock.predict_group.stack.click()
    wait_until(lambda: not dock.predictor.missing_sections(), 120, "the stack")
    wait_until(lambda: not dock.predictor.busy, 60, "the predictor to come to rest")
    masks = viewer.layers["mask"].data.copy()
    folder = closed(viewer, dock)
    assert folder == user_data_folder() / "mine.unet"
    state = read_state(folder)
    assert state.image.name == "Präparat 1"
    dock.predictor.keeps_up = False
    reopen(viewer, dock, folder)
    wait_until(lambda: not dock.predictor.missing_sections(), 20, "the masks")
    np.testing.assert_array_equal(viewer.layers["mask"].data, masks)


def test_an_image_that_is_nowhere_else_is_kept_in_the_project(
    viewer: Viewer, dock: UNetDock, image_layer: Image, stack
) -> None:
    paint(viewer, dock, ROWS[:1])
    assert dock.session.project.folder.parent == user_data_folder() / "projects"
    wait_until((dock.session.project.folder / "image.tif").exists, 20, "the image")
    folder = closed(viewer, dock)
    reopen(viewer, dock, folder)
    np.testing.assert_array_equal(dock.session.image.data, stack[0])
    assert dock.session.image.units == ("nm",) * 3


def test_a_project_that_moved_with_its_image_opens(
    viewer: Viewer, dock: UNetDock, opened: Image, file: Path, tmp_path: Path
) -> None:
    paint(viewer, dock, ROWS[:1])
    painted = viewer.layers["corrections"].data.copy()
    folder = closed(viewer, dock)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for each in (folder, file):
        shutil.move(each, elsewhere)
    viewer.open(str(elsewhere / folder.name), plugin="napari-unet-em")
    wait_until(lambda: dock.session.project is not None, 60, "the project")
    np.testing.assert_array_equal(viewer.layers["corrections"].data, painted)


def test_an_image_that_has_changed_is_not_painted_on(
    viewer: Viewer, dock: UNetDock, opened: Image, file: Path, stack
) -> None:
    paint(viewer, dock, ROWS[:1])
    folder = closed(viewer, dock)
    write_image(file, image_from_array(255 - stack[0], "stack", 4.0))
    dock.projects.open(folder)
    changed = "has changed since it was painted on"
    wait_until(lambda: any(changed in said for said in messages()), 60, "the message")
    assert dock.session.project is None
    open_project(folder).close()  # free, and as it was


def test_removing_the_corrections_layer_loses_nothing_that_is_saved(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    paint(viewer, dock, ROWS[:1])
    folder, painted = dock.session.project.folder, viewer.layers["corrections"].data.copy()
    viewer.layers.remove("corrections")
    assert dock.session.project is None
    dock.correct_group.choose(2)
    paint(viewer, dock, ROWS[1:2])
    assert dock.session.project.folder.name == "Präparat 1-2.unet"
    project = open_project(folder)
    (z,) = project.painted().painted
    np.testing.assert_array_equal(project.painted().painted[z], painted[z])
    project.close()


def test_a_project_saved_elsewhere_is_gone_on_with_there(
    viewer: Viewer, dock: UNetDock, opened: Image, tmp_path: Path
) -> None:
    paint(viewer, dock, ROWS[:1])
    first = dock.session.project.folder
    dock.project_group.save_to(tmp_path / "other.unet")
    # The window lives on: this stroke is painted while the copy is made.
    assert dock.session.project.folder == first
    assert "copied to other.unet" in dock.project_group.name.text()
    assert not dock.project_group.save.isEnabled()
    paint_stroke(viewer, viewer.layers["corrections"], [(100.0, 20.0 + 9 * n) for n in range(3)])
    wait_until(lambda: dock.projects.copying is None, 60, "the copy")
    assert dock.session.project.folder == tmp_path / "other.unet"
    assert dock.project_group.name.text() == "other.unet, written as you go."
    paint(viewer, dock, ROWS[1:2])
    painted = viewer.layers["corrections"].data
    both = [open_project(first), dock.session.project]
    counts = [each._arrays["corrections"][:].astype(bool).sum() for each in both]
    both[0].close()
    assert 0 < counts[0] < counts[1] == painted.astype(bool).sum()
    dock.project_group.save_to(first)
    assert any("there already" in said for said in messages())


def test_versions_of_a_training_that_goes_on_lie_in_the_copy_that_is_gone_on_with(
    viewer: Viewer, dock: UNetDock, opened: Image, tmp_path: Path
) -> None:
    paint(viewer, dock, ROWS[:1])
    assert dock.session.strokes.held_out_pieces == 0  # so the newest weights are a version
    dock.learn_group.options["patch_size"].value = 64
    start(dock, steps=10_000)
    dock.project_group.save_to(tmp_path / "other.unet")
    wait_until(lambda: dock.projects.copying is None, 60, "the copy")
    copied = dock.session.versions[-1].steps
    wait_until(lambda: dock.session.versions[-1].steps > copied, 120, "another version")
    dock.learn_group.stop.click()
    await_idle(dock)
    versions = dock.session.versions
    shutil.rmtree(tmp_path / "Präparat 1.unet")
    folder = closed(viewer, dock)
    assert folder == tmp_path / "other.unet"
    reopen(viewer, dock, folder)
    assert [each.number for each in dock.session.versions] == [each.number for each in versions]
    for each in dock.session.versions:
        assert each.load().steps == each.steps


@pytest.mark.parametrize("broken", ["newer", "damaged", "none"])
def test_a_project_that_cannot_be_opened_is_told_of_and_changes_nothing(
    viewer: Viewer, dock: UNetDock, opened: Image, broken: str, tmp_path: Path
) -> None:
    paint(viewer, dock, ROWS[:1])
    folder = closed(viewer, dock)
    path = folder / "project.json"
    if broken == "newer":
        content = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**content, "format_version": 99}), "utf-8")
    elif broken == "damaged":
        path.write_text("{", "utf-8")
    else:
        path.unlink()
    before = path.read_bytes() if path.exists() else None
    dock.projects.open(folder)
    assert len(messages()) == 1
    assert dock.session.project is None
    assert (path.read_bytes() if path.exists() else None) == before

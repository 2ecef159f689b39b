"""An image that goes away while it is open: it is told of, and nothing that was done is harmed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from napari.utils.notifications import ErrorNotification, notification_manager
from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from demo.mouse import canvas_of, paint_stroke, wait_until
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image
from napari_unet.io.projects import open_project
from napari_unet.plugin.dock import UNetDock
from tests.plugin.conftest import await_view, messages

READER = "napari-unet-em"


@pytest.fixture(params=["em.zarr", "em.h5"])
def opened(request, viewer: Viewer, dock: UNetDock, stack, tmp_path: Path) -> Path:
    """A file that is read where it is looked at, open in the window."""
    path = tmp_path / request.param
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=stack[0], chunks=(1, 64, 64))
    else:
        write_image(path, image_from_array(stack[0], "em", 4.0))
    viewer.open(str(path), plugin=READER)
    await_view(viewer, dock)
    return path


def scroll(viewer: Viewer) -> None:
    """To the next section, as a person does it."""
    canvas = canvas_of(viewer)
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key_Right)


def await_message(path: Path) -> None:
    wait_until(lambda: any(str(path) in said for said in messages()), 30, "a message")
    assert not [r for r in notification_manager.records if isinstance(r, ErrorNotification)]


def test_a_section_that_cannot_be_read_any_more_is_black_and_told_of(
    viewer: Viewer, dock: UNetDock, opened: Path, stack
) -> None:
    layer, mask = dock.session.image_layer, dock.session.mask
    before = mask.data.copy()
    opened.rename(opened.with_name("moved"))
    first = viewer.dims.current_step[0]
    scroll(viewer)
    await_message(opened)

    assert viewer.dims.current_step[0] == first + 1
    # All layers have come along: the strokes of a person go where they are seen.
    for each in (layer, mask, dock.session.corrections):
        assert each._data_slice.point[0] == first + 1
    notification_manager.records.clear()
    dock.predict_group.stack.click()
    await_message(opened)
    wait_until(lambda: not dock.predictor.busy, 30, "the prediction to end")
    np.testing.assert_array_equal(mask.data, before)  # nothing is predicted from black

    opened.with_name("moved").rename(opened)
    dock.predict_group.section.click()
    await_view(viewer, dock)
    assert mask.data[first + 1].any()
    for step in (first, first + 1):
        viewer.dims.set_current_step(0, step)
    assert layer._slice.image.raw.any()  # no longer black


def test_paint_is_kept_where_the_image_is_gone(
    viewer: Viewer, dock: UNetDock, opened: Path
) -> None:
    """Also where the project has yet to be made."""
    moved = opened.with_name("moved")
    opened.rename(moved)
    dock.correct_group.choose(2)
    corrections = viewer.layers["corrections"]
    paint_stroke(viewer, corrections, [(20.0 + 9 * n, 30.0) for n in range(3)])
    await_message(opened)
    wait_until(lambda: not dock.live.busy, 30, "the live head to come to rest")
    folder = dock.session.project.folder
    paint_stroke(viewer, corrections, [(20.0 + 9 * n, 60.0) for n in range(3)])
    painted = corrections.data.copy()
    assert (painted[..., :45].any(), painted[..., 45:].any()) == (True, True)

    moved.rename(opened)
    dock.projects.close()
    project = open_project(folder)
    kept = project.painted().painted
    project.close()
    for index, section in kept.items():
        np.testing.assert_array_equal(section, painted[index])
    dock.projects.open(folder)
    wait_until(lambda: dock.session.project is not None, 60, "the project")
    np.testing.assert_array_equal(dock.session.corrections.data, painted)


def test_a_damaged_section_beside_the_one_in_view_does_not_keep_strokes_from_being_answered(
    viewer: Viewer, dock: UNetDock, stack, tmp_path: Path
) -> None:
    path = tmp_path / "em.zarr"
    write_image(path, image_from_array(stack[0], "em", 4.0))
    viewer.open(str(path), plugin=READER)
    viewer.dims.set_current_step(0, 1)
    await_view(viewer, dock)
    for z in (0, 2, 3):
        (path / "0" / "c" / f"{z}" / "0" / "0").write_bytes(b"damaged")
    dock.correct_group.choose(3)
    paint_stroke(viewer, viewer.layers["corrections"], [(20.0 + 9 * n, 30.0) for n in range(3)])
    wait_until(lambda: dock.session.live is not None, 60, "the answer")
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    assert dock.live.enabled
    viewer.dims.set_current_step(0, 2)  # now somebody asks
    await_message(path)


def test_a_search_in_an_image_that_is_gone_does_not_say_that_nothing_doubtful_is_left(
    viewer: Viewer, dock: UNetDock, opened: Path
) -> None:
    opened.rename(opened.with_name("moved"))
    dock.suggest_group.next.click()
    await_message(opened)
    wait_until(lambda: not dock.suggester.searching, 30, "the search to end")
    assert "no doubtful place" not in dock.suggest_group.status.text()

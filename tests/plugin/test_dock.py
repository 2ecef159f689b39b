"""The dock fits a laptop's screen, its groups open and close, and the keyboard reaches all of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QTableWidget, QWidget

from demo.mouse import wait_until
from napari_unet.plugin.dock import CLOSED_AT_FIRST, UNetDock
from napari_unet.plugin.group import Group

SCREENS = ((1920, 1080), (1366, 768))
TITLE_AND_TASK_BAR = 64
"""What a desktop takes of the height of its screen."""


@pytest.fixture
def opened(viewer: Viewer, dock: UNetDock, stack) -> Image:
    """The stack, open, without a mask."""
    dock.predictor.keeps_up = dock.live.enabled = False  # what is computed is not looked at
    layer = viewer.add_image(stack[0].copy(), name="em", scale=(50, 4, 4), units=("nm",) * 3)
    wait_until(lambda: dock.learn_group.start.isEnabled(), 60, "the image and the model")
    return layer


def focused(viewer: Viewer) -> QWidget:
    """What the keys go to; known also where no window manager makes a window active."""
    return viewer.window._qt_window.focusWidget()


def is_seen(dock: UNetDock, part: QWidget) -> bool:
    """Whether all of a part of the dock is in view without scrolling."""
    corner = part.mapTo(dock.widget(), QPoint(0, 0))
    corner += dock.widget().pos()
    seen = dock.viewport().rect()
    return part.isVisible() and seen.contains(part.rect().translated(corner))


@pytest.mark.parametrize("screen", SCREENS)
def test_a_first_correction_needs_no_scrolling(
    viewer: Viewer, dock: UNetDock, opened: Image, screen: tuple[int, int]
) -> None:
    width, height = screen
    viewer.window.resize(width, height - TITLE_AND_TASK_BAR)
    window = viewer.window._qt_window
    wait_until(
        lambda: (window.width(), window.height()) == (width, height - TITLE_AND_TASK_BAR),
        20,
        "the size",
    )
    needed = (
        dock.image_group.image.native,
        dock.image_group.pixel_size,
        dock.image_group.model.native,
        dock.predict_group.section,
        dock.predict_group.stack,
        dock.correct_group.table,
        dock.correct_group.add,
        dock.correct_group.erase,
        dock.learn_group.start,
        dock.learn_group.stop,
    )
    wait_until(lambda: all(is_seen(dock, part) for part in needed), 20, "all in view")
    assert not is_seen(dock, dock.export_group.button)  # closed, so it takes no room


def test_a_group_that_is_opened_comes_into_view(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    viewer.window.resize(1366, 700)
    dock.export_group.toggleButton().click()
    wait_until(lambda: is_seen(dock, dock.export_group.button), 20, "the button")


def test_what_a_group_shows_later_has_room(viewer: Viewer, dock: UNetDock, opened: Image) -> None:
    group = dock.learn_group
    before = group.height()
    group.curve.show()
    wait_until(lambda: group.height() >= before + group.curve.height(), 20, "the group to grow")
    group.curve.hide()
    wait_until(lambda: group.height() == before, 20, "the group to shrink")


def test_groups_are_as_they_were_left(viewer: Viewer, dock: UNetDock, own_folders: Path) -> None:
    assert [n for n, group in dock.groups.items() if not group.is_open] == list(CLOSED_AT_FIRST)
    dock.groups["image"].toggleButton().click()
    dock.groups["export"].toggleButton().click()
    again = UNetDock(viewer)
    assert not again.groups["image"].is_open
    assert again.groups["export"].is_open
    assert again.groups["learn"].is_open


def test_tab_reaches_every_control_from_top_to_bottom(
    viewer: Viewer, dock: UNetDock, opened: Image
) -> None:
    for group in dock.findChildren(Group):
        group.is_open = True
    controls = [
        part
        for kind in (QAbstractButton, QComboBox, QTableWidget)
        for part in dock.widget().findChildren(kind)
        if part.isVisible() and part.isEnabled() and part.focusPolicy() & Qt.TabFocus
    ]
    first = dock.image_group.toggleButton()
    first.setFocus(Qt.TabFocusReason)
    reached = [first]
    while len(reached) < 200:
        QTest.keyClick(focused(viewer), Qt.Key_Tab)
        now = focused(viewer)
        if not dock.widget().isAncestorOf(now):
            break
        reached.append(now)
    assert set(controls) <= set(reached)
    tops = [part.mapTo(dock.widget(), QPoint(0, 0)).y() for part in reached]
    assert all(later > earlier - 8 for earlier, later in pairwise(tops))


def test_tab_passes_over_a_closed_group(viewer: Viewer, dock: UNetDock, opened: Image) -> None:
    title = dock.correct_group.toggleButton()
    title.setFocus(Qt.TabFocusReason)
    QTest.keyClick(title, Qt.Key_Space)
    assert not dock.correct_group.is_open
    QTest.keyClick(title, Qt.Key_Tab)
    assert focused(viewer) is dock.suggest_group.toggleButton()


def test_a_class_is_chosen_with_the_keyboard(viewer: Viewer, dock: UNetDock, opened: Image) -> None:
    table = dock.correct_group.table
    table.setCurrentCell(0, 1)
    table.setFocus(Qt.TabFocusReason)
    QTest.keyClick(table, Qt.Key_Down)
    QTest.keyClick(table, Qt.Key_Return)
    assert dock.session.corrections.selected_label == 2
    assert dock.session.corrections.mode == "paint"
    QTest.keyClick(table, Qt.Key_N)  # a key of the brush names no class
    assert table.state() != QTableWidget.EditingState

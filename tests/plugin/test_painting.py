"""What is painted, undone and exchanged in many sections is seen, also out of view."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from demo.mouse import wait_until
from napari_unet.core.annotations import Annotations, annotations_from_array, class_table
from napari_unet.plugin import painting
from napari_unet.plugin.painting import AT_ONCE, StrokeWatcher
from napari_unet.plugin.session import Session

SECTIONS = 2 * AT_ONCE + 3
PAINTED = (slice(10, 14), slice(10, 20))


@pytest.fixture
def painted(qapp) -> tuple[StrokeWatcher, Session, Labels]:
    """A watcher that knows of paint in all sections."""
    viewer, session = ViewerModel(), Session(classes=class_table(["background", "disc"]))
    watcher = StrokeWatcher(viewer, session)
    data = np.zeros((SECTIONS, 64, 64), np.uint8)
    data[:, *PAINTED] = 2
    layer = viewer.add_layer(Labels(data))
    session.corrections = layer
    wait_until(lambda: len(session.annotations.sections) == SECTIONS, 60, "all sections")
    return watcher, session, layer


def same_section(session: Session, layer: Labels, z: int) -> bool:
    known = session.strokes.painted.get((z,), np.zeros_like(layer.data[z]))
    return np.array_equal(known, layer.data[z])


def same(session: Session, layer: Labels) -> bool:
    """Whether the session knows exactly what the layer holds."""
    return all(same_section(session, layer, z) for z in range(len(layer.data)))


@pytest.mark.parametrize("looks_before", [0, 1, 5])
def test_what_is_undone_and_redone_in_any_section_is_seen(painted, looks_before: int) -> None:
    watcher, session, layer = painted
    for _ in range(looks_before):
        watcher.look()
    for value in (0, 2):  # as undo, then redo do, wherever one looks
        layer.data[:, *PAINTED] = value
        watcher.look()
        assert same(session, layer)
        assert len(session.annotations.sections) == (SECTIONS if value else 0)


def test_what_came_with_other_data_is_seen_when_it_is_undone(painted) -> None:
    watcher, session, layer = painted
    for _ in range(5):
        watcher.look()
    other = layer.data.copy()
    other[:, *PAINTED] = 1
    other[:, 40:44, 40:50] = 2
    layer.data = other
    wait_until(lambda: same(session, layer), 60, "the other data")
    for _ in range(5):
        watcher.look()
        assert same(session, layer)
    for value in (0, 2):
        layer.data[:, 40:44, 40:50] = value
        watcher.look()
        assert same(session, layer)


def test_sections_painted_all_over_are_compared_as_a_whole(painted) -> None:
    watcher, session, layer = painted
    layer.data[0] = 1  # in view
    watcher.look()
    layer.data[0, 30, 30] = 2
    watcher._touched.clear()  # as if another section were in view
    watcher.look()
    assert same(session, layer)


class HeldLooks:
    """Looks at the whole layer, each of which ends when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._gates: list[threading.Event] = []
        monkeypatch.setattr(painting, "annotations_from_array", self._look)

    def _look(self, *arguments: Any) -> Annotations:
        found = annotations_from_array(*arguments)
        gate = threading.Event()
        self._gates.append(gate)
        self.begun += 1
        assert gate.wait(60)
        return found

    def let_go(self, number: int) -> None:
        """Let a look end, and what it found arrive."""
        self._gates[number].set()
        end = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > end, 60, "what was found")


def test_a_look_from_before_the_layer_was_filled_and_watched_anew_is_forgotten(
    qapp, monkeypatch
) -> None:
    looks = HeldLooks(monkeypatch)
    viewer, session = ViewerModel(), Session(classes=class_table(["background", "disc"]))
    watcher = StrokeWatcher(viewer, session)
    layer = viewer.add_layer(Labels(np.zeros((SECTIONS, 64, 64), np.uint8)))
    session.corrections = layer
    wait_until(lambda: looks.begun == 1, 60, "the first look")
    session.corrections = None
    layer.data[:, *PAINTED] = 2
    session.corrections = layer
    wait_until(lambda: looks.begun == 2, 60, "the second look")
    session.paint(annotations_from_array(layer.data, session.classes))  # as a project is opened
    known: list[int] = []
    session.events.strokes.connect(lambda strokes: known.append(len(strokes.painted)))
    looks.let_go(0)
    looks.let_go(1)
    assert set(known) <= {SECTIONS}
    assert same(session, layer)
    watcher.let_go()


@pytest.mark.parametrize("value", [0, 1])
def test_a_stroke_made_during_a_look_is_known_all_the_time(
    painted, monkeypatch, value: int
) -> None:
    watcher, session, layer = painted
    looks = HeldLooks(monkeypatch)
    other = layer.data.copy()
    other[5:, 40:44, 40:50] = 2
    layer.data = other
    wait_until(lambda: looks.begun == 1, 60, "the look")
    layer.data[0, *PAINTED] = value  # in view
    watcher.look()
    assert same_section(session, layer, 0)
    was_known: list[bool] = []
    session.events.strokes.connect(lambda _: was_known.append(same_section(session, layer, 0)))
    looks.let_go(0)
    assert was_known
    assert all(was_known)
    assert same(session, layer)

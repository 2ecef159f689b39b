"""What is painted, undone and exchanged in many sections is seen, also out of view."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from demo.mouse import wait_until
from napari_unet.core.annotations import class_table
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


def same(session: Session, layer: Labels) -> bool:
    """Whether the session knows exactly what the layer holds."""
    known = session.annotations.sections
    return all(
        np.array_equal(known.get((z,), np.zeros_like(section)), section)
        for z, section in enumerate(layer.data)
    )


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

"""A real mouse on a real canvas: strokes as a person paints them, through Qt's own events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget


def canvas_of(viewer: Viewer) -> QWidget:
    """Return the widget on which the viewer draws."""
    return viewer.window._qt_viewer.canvas.native


def on_canvas(viewer: Viewer, layer: Layer, row: float, column: float) -> QPoint:
    """Return where a pixel of the section in view lies on the canvas, in screen pixels."""
    canvas = canvas_of(viewer)
    position = [0.0] * (layer.ndim - 2) + [row, column]
    y, x = layer.data_to_world(position)[-2:]
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it
    centre_y, centre_x = camera.center[-2:]
    zoom = camera.zoom
    return QPoint(
        round((x - centre_x) * zoom + canvas.width() / 2),
        round((y - centre_y) * zoom + canvas.height() / 2),
    )


def paint_stroke(
    viewer: Viewer,
    layer: Layer,
    path: Iterable[tuple[float, float]],
    before_release: Callable[[], object] = lambda: None,
) -> None:
    """Press the mouse at the first pixel (row, column), move along the path and let go."""
    canvas = canvas_of(viewer)
    points = [on_canvas(viewer, layer, row, column) for row, column in path]
    inside = canvas.rect()
    if not all(inside.contains(point) for point in points):
        raise ValueError(f"The stroke leaves the canvas of {canvas.width()}x{canvas.height()}.")
    QTest.mouseMove(canvas, points[0])
    QApplication.processEvents()
    QTest.mousePress(canvas, Qt.LeftButton, Qt.NoModifier, points[0])
    for point in points[1:]:
        QTest.mouseMove(canvas, point)
        QApplication.processEvents()
    before_release()
    QTest.mouseRelease(canvas, Qt.LeftButton, Qt.NoModifier, points[-1])
    QApplication.processEvents()


def wait_until(claim: Callable[[], bool], seconds: float, what: str) -> None:
    """Let the window live until a claim is true.

    Raises
    ------
    TimeoutError
        If it has not become true after so many seconds.
    """
    end = time.monotonic() + seconds
    # The window sleeps until something happens to it, and not longer: no answer of it is late.
    alarm = QTimer()
    alarm.start(5)
    while not claim():
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {seconds:g} s in vain: {what}.")
        QApplication.processEvents(QEventLoop.WaitForMoreEvents)

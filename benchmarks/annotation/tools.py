"""The tools that are compared, and how each comes by its strokes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.annotation.tasks import Task
from benchmarks.annotation.tool import Tool

RECORDED = "product"
"""The tool whose run is recorded; most others get the same strokes."""

Make = Callable[[Task, Path, Path, float], Tool]
"""From a task, the folder, the file of the base network, and the seconds for each stroke."""


@dataclass(frozen=True)
class Compared:
    """A tool of the comparison.

    Parameters
    ----------
    title
        As it is called in tables.
    make
        Opens it.
    places
        Strategy by which the annotator looks for mistakes in it (see `places`); None where it
        gets the recorded strokes.
    """

    title: str
    make: Make
    places: str | None = None


def _window(**parts: object) -> Make:
    def make(task: Task, folder: Path, base: Path, seconds: float) -> Tool:
        from benchmarks.annotation.window import Parts, Window  # a window only where one is used

        return Window(task, base, Parts(**parts), seconds)

    return make


def _forest(task: Task, folder: Path, base: Path, seconds: float) -> Tool:
    from benchmarks.annotation.forest import Forest

    return Forest(task)


def _rootpainter(task: Task, folder: Path, base: Path, seconds: float) -> Tool:
    from benchmarks.annotation.rootpainter import RootPainter

    return RootPainter(task, folder / "rootpainter", seconds)


TOOLS = {
    RECORDED: Compared("napari-unet: live head and training", _window(), "largest error"),
    "no-head": Compared("— without the live head", _window(live_head=False)),
    "no-memory": Compared("— without distillation", _window(memory=0.0)),
    "head-only": Compared("— the live head alone, no training", _window(training=False)),
    "random": Compared("— painted at random places", _window(), "random"),
    "suggested": Compared("— painted at suggested places", _window(), "suggested"),
    "forest": Compared("random forest on scikit-image's filters", _forest),
    "rootpainter": Compared("RootPainter's trainer 0.3.3", _rootpainter),
}

"""One tool at one task, in a process of its own.

Usage: python -m benchmarks.annotation.run FOLDER TASK TOOL STROKES SECONDS BASE

`benchmarks.annotation` starts it. What was found is written into FOLDER.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.annotation.annotator import Annotator, HandStroke
from benchmarks.annotation.places import PLACES
from benchmarks.annotation.records import Record, Records, Settings
from benchmarks.annotation.tasks import TASKS, Task
from benchmarks.annotation.tool import Mask, Tool
from benchmarks.annotation.tools import TOOLS
from benchmarks.train_bundled import MEMBRANE
from napari_unet.core.metrics import class_scores

SCORED_AFTER = (0, 1, 2, 3, 5, 7, 10, 15, 20)
"""Strokes after which the scored sections are looked at, and after the last one."""

Source = Callable[[Tool, int], HandStroke | None]
"""Gives the next stroke, from the tool and the section where it should be; None at the end."""


def annotating(annotator: Annotator) -> Source:
    """Return a source of strokes on what the tool shows."""

    def next_stroke(tool: Tool, section: int) -> HandStroke | None:
        tool.show(section)
        return annotator.next(section, tool.mask(), tool.painted(), tool.model)

    return next_stroke


def replaying(strokes: Sequence[HandStroke]) -> Source:
    """Return a source of strokes that were recorded."""
    left = list(strokes)

    def next_stroke(tool: Tool, section: int) -> HandStroke | None:
        if not left or left[0].section != section:
            return None
        return left.pop(0)

    return next_stroke


def run(
    task: Task,
    tool: Tool,
    source: Source,
    strokes: int,
    painted: Callable[[HandStroke], object] = lambda _: None,
) -> Record:
    """Return what came of so many strokes, painted one section after the other.

    Parameters
    ----------
    task, tool
        What is to be found, and by what.
    source
        Of the strokes.
    strokes
        As many of them on every painted section, in all.
    painted
        Called with every stroke that was painted.

    Returns
    -------
    dict
        ``strokes``; ``points``, each with F1 after so many strokes, that of membranes where
        another class is to be found, and the seconds of hand and machine until then; ``answers``,
        the seconds from each stroke to the overlay; ``known``, F1 of membranes where the base
        network knew them, before and after.
    """
    done: list[HandStroke] = []
    answers: list[float] = []
    before = _known(task, tool)
    points = [_point(task, tool, done)]
    tool.watch.restart()
    each = -(-strokes // len(task.painted))
    for section in task.painted:
        last = min(strokes, len(done) + each)
        while len(done) < last:
            stroke = source(tool, section)
            if stroke is None:
                break
            tool.show(section)
            pixels = tool.paint(stroke)
            answers.append(tool.answer())
            done.append(replace(stroke, pixels=pixels))
            painted(done[-1])
            if len(done) in SCORED_AFTER:
                points.append(_point(task, tool, done))
    if len(done) not in SCORED_AFTER:
        points.append(_point(task, tool, done))
    return {
        "strokes": [asdict(stroke) for stroke in done],
        "points": points,
        "answers": answers,
        "known": [before, _known(task, tool)],
    }


def f1(found: Mask, truth: Mask, number: int) -> float:
    """Return the F1 of the pixels of one class; 0 if none is there."""
    scores = class_scores(np.where(found == number, 2, 1), np.where(truth == number, 2, 1))
    return float(scores[2].f1 or 0) if 2 in scores else 0.0


def _point(task: Task, tool: Tool, strokes: Sequence[HandStroke]) -> dict[str, float | None]:
    found, truth = tool.masks(None, task.scored), task.truth[list(task.scored)]
    assert found is not None
    return {
        "strokes": len(strokes),
        "f1": f1(found, truth, task.target),
        "membranes": f1(found, truth, MEMBRANE) if task.target != MEMBRANE else None,
        "annotation_seconds": sum(stroke.seconds for stroke in strokes),
        "machine_seconds": tool.watch.seconds if strokes else 0.0,
    }


def _known(task: Task, tool: Tool) -> float | None:
    """F1 of the class that the base network knew, where it knew it."""
    image, truth = task.known
    found = tool.masks(image, range(len(truth)))
    return None if found is None else f1(found, truth, MEMBRANE)


def main(arguments: Sequence[str]) -> None:
    """Run a tool at a task and keep what came of it."""
    folder, base = Path(arguments[0]).absolute(), Path(arguments[5]).absolute()
    task_name, name, strokes, seconds = *arguments[1:3], int(arguments[3]), float(arguments[4])
    records = Records(folder, Settings(strokes, seconds, base))
    os.environ["XDG_DATA_HOME"] = str(folder / "user-data")  # learnt models are not the user's
    compared, task = TOOLS[name], TASKS[task_name].load()
    if compared.places is None:
        source, take_note = replaying(records.strokes(task_name)), lambda _: None
    else:
        annotator = Annotator(task, PLACES[compared.places])
        source, take_note = annotating(annotator), annotator.has_painted
    began = time.monotonic()
    tool = compared.make(task, folder, base, seconds)
    try:
        found = run(task, tool, source, strokes, take_note)
        records.write(task_name, name, {**found, "seconds": time.monotonic() - began})
    finally:
        tool.close()


if __name__ == "__main__":
    main(sys.argv[1:])

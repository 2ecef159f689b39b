"""How quickly the window answers, measured in a real one.

Usage: python -m benchmarks.responsiveness   (without a display: under xvfb-run)

A heartbeat in the GUI thread measures how long that thread is busy at a stretch, while a stack
is opened, predicted, painted on and learnt from. Prints a table and writes it to
``docs/benchmarks.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from benchmarks.report import write_section
from demo.mouse import paint_stroke, wait_until
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.plugin.contributions import open_dock
from napari_unet.plugin.layers import show_section
from napari_unet.plugin.learning import IDLE, PAUSED, RUNNING

BEAT_MILLISECONDS = 2

TIMES = 10
"""How often learning is paused, resumed and stopped."""


class Heartbeat:
    """Measures the gaps between beats of a timer in the GUI thread."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setInterval(BEAT_MILLISECONDS)
        self._timer.timeout.connect(self._beat)
        self._last = time.perf_counter()
        self.gaps: list[float] = []
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def restart(self) -> None:
        """Forget the gaps so far, and measure from now on."""
        self._last = time.perf_counter()
        self.gaps = []

    def during(self, work: Callable[[], object]) -> tuple[float, np.ndarray]:
        """Return how long some work took, and the gaps meanwhile, in seconds."""
        self.restart()
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        QApplication.processEvents()
        return seconds, np.array(self.gaps or [0.0])


def linger(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 5, "some seconds")


def main() -> None:
    """Measure, print and write the table."""
    viewer = napari.Viewer()
    viewer.window.resize(1500, 1000)
    linger(1)
    heartbeat = Heartbeat()
    rows: list[tuple[str, float, np.ndarray]] = []

    def measure(what: str, work: Callable[[], object]) -> None:
        rows.append((what, *heartbeat.during(work)))

    grey, truth = synthetic_stack()

    def napari_alone() -> None:
        viewer.add_image(grey)
        for _ in range(2):
            viewer.add_labels(np.zeros_like(grey))
        linger(0.5)

    measure("for comparison: napari alone adds an image and two labels layers", napari_alone)
    viewer.layers.clear()
    dock = open_dock(viewer)
    wait_until(lambda: dock.session.model is not None, 60, "the model")
    linger(1)

    def predicted() -> bool:
        section = tuple(int(n) for n in viewer.dims.current_step[:1])
        return dock.predictor.is_predicted(section) and not dock.predictor.busy

    def open_stack() -> None:
        viewer.add_image(grey, name="em", scale=(50, 4, 4), units=("nm",) * 3)
        wait_until(predicted, 120, "the first mask")

    measure("open a 12x512x512 stack, to the mask of the section in view", open_stack)

    def next_section() -> None:
        show_section(viewer, dock.session.image_layer, (2,))
        wait_until(predicted, 120, "the next mask")

    measure("move to another section, to its mask", next_section)

    def stack() -> None:
        dock.predict_group.stack.click()
        wait_until(lambda: not dock.predictor.missing_sections(), 300, "the stack")
        wait_until(lambda: not dock.predictor.busy, 60, "the stack")

    measure("predict the remaining ten sections", stack)
    corrections = dock.keeper.corrections()
    rows_of_class = {n: np.argwhere(truth[2] == n)[::400, :] for n in (1, 2, 3)}

    def paint() -> None:
        for number, places in rows_of_class.items():
            dock.correct_group.choose(number)
            for row, column in places[:8]:
                row, column = np.clip((row, column), 110, 400)
                paint_stroke(viewer, corrections, [(row, column + 2 * n) for n in range(10)])
        linger(0.5)

    measure("paint 24 strokes", paint)
    shown: list[object] = []
    dock.trainer.stepped.connect(shown.append)

    def learn() -> None:
        dock.learn_group.start.click()
        wait_until(lambda: len(shown) > 2, 120, "the first steps")
        linger(20)

    measure("learn for 20 s, the mask following", learn)
    measure("paint 24 strokes while it learns", paint)

    def pause() -> None:
        dock.learn_group.pause.click()
        wait_until(lambda: dock.trainer.state == PAUSED, 60, "the pause")

    def resume() -> None:
        dock.learn_group.pause.click()
        wait_until(lambda: dock.trainer.state == RUNNING, 60, "the training")

    def next_step() -> None:
        count = len(shown)
        wait_until(lambda: len(shown) > count, 60, "the next step")

    def stop() -> None:
        dock.learn_group.stop.click()
        wait_until(lambda: dock.trainer.state == IDLE, 60, "the stop")

    def learn_on() -> None:
        count = len(shown)
        dock.learn_group.start.click()
        wait_until(lambda: len(shown) > count + 2, 120, "the first steps")

    # The answer depends on what the thread is at: a step, or measuring new weights. So it is
    # asked many times, at any moment.
    chance = np.random.default_rng(0)
    pauses, resumes, steps, stops = [], [], [], []
    for _ in range(TIMES):
        linger(chance.uniform(0.5, 4))
        pauses.append(heartbeat.during(pause))
        linger(0.5)
        resumes.append(heartbeat.during(resume))
        steps.append(heartbeat.during(next_step))
    for left in reversed(range(TIMES)):
        linger(chance.uniform(0.5, 4))
        stops.append(heartbeat.during(stop))
        if left:
            learn_on()
    for what, measured in (
        ("pause, until no step is computed", pauses),
        ("resume, until it is computed again", resumes),
        ("from there to the next step, or the figures it was at", steps),
        ("stop, to the model that was learnt", stops),
    ):
        seconds = max(each for each, _ in measured)
        gaps = np.concatenate([each for _, each in measured])
        rows.append((f"{what}: longest of {TIMES}", seconds, gaps))
    viewer.close()
    write(rows)


def write(rows: list[tuple[str, float, np.ndarray]]) -> None:
    """Print the table and write it to the documentation."""
    lines = [
        "Made by `python -m benchmarks.responsiveness` on two shared CPU cores, in a virtual display",
        "whose pictures are drawn by the CPU as well. *Busy* is how long the GUI thread did not",
        "answer at a stretch, in milliseconds; while it learns, that includes waiting for a core.",
        "Adding layers is napari's own time (first row).",
        "",
        "| what | seconds | busy, median | busy, 95 % | busy, longest |",
        "|---|---|---|---|---|",
    ]
    for what, seconds, gaps in rows:
        busy = [f"{1000 * v:.0f}" for v in (*np.percentile(gaps, (50, 95)), gaps.max())]
        lines.append(f"| {what} | {seconds:.2f} | {' | '.join(busy)} |")
    text = "\n".join(lines)
    print(text)
    write_section("How quickly the window answers", text)


if __name__ == "__main__":
    main()

"""How long it takes from the end of a stroke to the overlay that has learnt from it.

Usage: python -m benchmarks.strokes   (without a display: under xvfb-run)

Paints strokes with a real mouse in a real window, on sections of 512 and of 1024 pixels a side,
at rest and while the network learns. Measured from the moment the button is let go to the first
picture drawn with the new mask; and, by a heartbeat in the GUI thread, how long that thread is
busy at a stretch after the button was let go. The same strokes with the live head switched off,
after which the mask is only drawn once more as it is, say what of that is napari's own. Prints a
table and writes it to ``docs/benchmarks.md``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import napari
import numpy as np
import torch

from benchmarks.report import table, write_section
from benchmarks.responsiveness import Heartbeat, linger
from demo.mouse import paint_stroke, wait_until
from napari_unet.core.devices import choose_device, describe
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.plugin.contributions import open_dock
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.learning import IDLE

STROKES = 40
SIZES = (512, 1024)


class Drawn:
    """Notes when the canvas is drawn for the first time after the head has answered."""

    def __init__(self, viewer: napari.Viewer, dock: UNetDock) -> None:
        self._answered = False
        self.at = 0.0
        dock.live.answered.connect(self._on_answer)
        viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(
            self._on_draw, position="last"
        )

    def expect(self) -> None:
        """Wait for the next answer."""
        self._answered, self.at = False, 0.0

    def expect_any(self) -> None:
        """Take what is drawn next for the answer."""
        self._answered, self.at = True, 0.0

    def _on_answer(self) -> None:
        self._answered = True

    def _on_draw(self, event: object) -> None:
        if self._answered and not self.at:
            self.at = time.perf_counter()


def strokes(
    truth: np.ndarray, chance: np.random.Generator
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield class numbers in turn, and short strokes through pixels of that class."""
    size = len(truth)
    inside = truth[size // 5 : -size // 5, size // 5 : -size // 5 - 30]
    for number in range(STROKES):
        of_class = 1 + number % 3
        row, column = chance.choice(np.argwhere(inside == of_class)) + size // 5
        yield of_class, [(row, column + 2 * step) for step in range(10)]


def measure(size: int, learning: bool, live: bool) -> tuple[list[float], np.ndarray]:
    """Return the seconds from each stroke to its answer, and the busy stretches meanwhile."""
    grey, truth = synthetic_stack(3, size, seed=1)
    with window(grey) as (viewer, dock):
        corrections = dock.keeper.corrections()
        assert corrections is not None
        section = int(viewer.dims.current_step[0])
        dock.live.enabled = live
        # Where held-out paint speaks for the network, that is shown, and no stroke is answered.
        dock.correct_group.hold_out.setChecked(False)
        drawn, heartbeat = Drawn(viewer, dock), Heartbeat()
        seconds, gaps = [], []
        for place, (number, path) in enumerate(strokes(truth[section], np.random.default_rng(0))):
            dock.correct_group.choose(number)
            if dock.trainer.state == IDLE:
                wait_until(lambda: not dock.live.busy, 60, "features and answers")
            wait_until(lambda: not dock.live.answering, 60, "answers")
            linger(0.1)
            let_go: list[float] = []

            def release(let_go: list[float] = let_go) -> None:
                drawn.expect()
                heartbeat.restart()
                let_go.append(time.perf_counter())

            paint_stroke(viewer, corrections, path, release)
            if not live:
                drawn.expect_any()
                viewer.layers["mask"].refresh(extent=False)
            wait_until(lambda: drawn.at > 0, 60, "the answer")
            seconds.append(drawn.at - let_go[0])
            linger(0.1)
            gaps += heartbeat.gaps
            if place == 3 and learning:  # some paint of every class is there
                dock.learn_group.start.click()
                wait_until(lambda: dock.learn_group.curve.count > 2, 120, "the first steps")
        dock.trainer.stop()
        wait_until(lambda: dock.trainer.state == IDLE, 120, "the end of the training")
    return seconds[4:], np.array(gaps)


@contextmanager
def window(grey: np.ndarray) -> Iterator[tuple[napari.Viewer, UNetDock]]:
    """Give a window with a stack, whose section in view has its mask."""
    viewer = napari.Viewer()
    viewer.window.resize(1500, 1000)
    dock = open_dock(viewer)
    wait_until(lambda: dock.session.model is not None, 60, "the model")
    viewer.add_image(grey, name="em", scale=(50, 4, 4), units=("nm",) * 3)
    section = (int(viewer.dims.current_step[0]),)
    wait_until(
        lambda: dock.predictor.is_predicted(section) and not dock.predictor.busy, 120, "the mask"
    )
    yield viewer, dock
    viewer.close()


def main() -> None:
    """Measure, print and write the table."""
    rows = []
    for size in SIZES:
        for learning in (False, True):
            drawing, without = measure(size, learning, live=False)
            seconds, gaps = measure(size, learning, live=True)
            median, late = np.percentile(seconds, (50, 95))
            rows.append(
                [
                    f"{size} × {size}, {'while learning' if learning else 'at rest'}",
                    f"{1000 * median:.0f}",
                    f"{1000 * late:.0f}",
                    f"{1000 * np.median(drawing):.0f}",
                    *(
                        f"{1000 * np.percentile(each, 95):.0f} / {1000 * each.max():.0f}"
                        for each in (gaps, without)
                    ),
                ]
            )
            print(rows[-1], flush=True)
    text = "\n\n".join(
        [
            "Made by `python -m benchmarks.strokes` on two shared CPU cores "
            f"({torch.backends.cpu.get_cpu_capability()}), in a virtual display whose pictures are drawn by the CPU as well. Milliseconds from letting go of the "
            "mouse button to the picture that shows what was learnt from the stroke, nothing held "
            "out, with the bundled `em-lite`; beside it until the picture where nothing is learnt and "
            "the mask is only drawn again as it was, which is napari's own time on this machine on "
            "this day; and how long the GUI thread did not answer at a stretch meanwhile, beside "
            "what it takes without the live head.",
            table(
                [
                    "section",
                    "stroke to overlay, median",
                    "95 %",
                    "only drawn, median",
                    "GUI thread busy, 95 % / longest",
                    "without the live head",
                ],
                rows,
            ),
        ]
    )
    print(text)
    write_section(f"How quickly a stroke is answered, {describe(choose_device('auto'))}", text)


if __name__ == "__main__":
    main()

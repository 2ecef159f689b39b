"""The plugin itself: a real window with its dock, painted on with a real mouse."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import napari
import numpy as np
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication

from benchmarks.annotation.annotator import HandStroke
from benchmarks.annotation.tasks import KNOWN, Task
from benchmarks.annotation.tool import Mask, Stopwatch, classes_of
from demo.mouse import canvas_of, paint_stroke, wait_until
from napari_unet.core.config import TrainingConfig
from napari_unet.core.image import ImageArray
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import predict
from napari_unet.core.training import nothing_to_learn
from napari_unet.plugin.contributions import open_dock
from napari_unet.plugin.layers import camera_of, show_section
from napari_unet.plugin.learning import IDLE, PAUSED, RUNNING

OFF_CENTRE = 0.37
"""Of a pixel, by which the view is beside the middle of one, so that the mouse is never just
between two pixels and rounding takes it to the one or to the other."""

PATIENCE = 300
"""Seconds after which something that does not come about is an error."""


@dataclass(frozen=True)
class Parts:
    """Which parts of the product are at work."""

    live_head: bool = True
    training: bool = True
    memory: float = TrainingConfig().memory
    """`TrainingConfig.memory`; 0 is without distillation."""


class Window:
    """The product in a window of its own.

    Parameters
    ----------
    task
        Its stack is opened.
    base
        The file of the network to begin with.
    parts
        What is switched on.
    budget
        Seconds that the machine has for each stroke while it trains.
    viewer
        Where to open everything; a new one if none is given.
    """

    def __init__(
        self, task: Task, base: Path, parts: Parts, budget: float, viewer: Viewer | None = None
    ) -> None:
        self._task, self._parts, self._budget = task, parts, budget
        self._viewer = viewer or napari.Viewer()
        self._viewer.window.resize(1500, 1000)
        self._section = task.painted[0]
        self._strokes = 0
        self._problem = ""
        self._dock = dock = open_dock(self._viewer)
        dock.trainer.failed.connect(self._on_failed)
        dock.live.failed.connect(self._on_failed)
        wait_until(lambda: dock.session.model is not None, PATIENCE, "the bundled model")
        self._load(base)
        side = (50.0, task.pixel_size, task.pixel_size)
        self._viewer.add_image(task.grey, name="stack", scale=side, units=("nm",) * 3)
        wait_until(lambda: dock.session.corrections is not None, PATIENCE, "the layers")
        _linger(0.5)  # the layout
        self._scale = self._fit()
        if task.target > len(KNOWN):
            dock.correct_group.add_class()
            dock.correct_group.rename(task.target, task.target_name)
        dock.live.enabled = parts.live_head
        dock.correct_group.choose(task.target)
        self.show(self._section)
        wait_until(lambda: not dock.live.busy, PATIENCE, "the features")
        self.watch = Stopwatch()
        self._released = 0.0

    @property
    def model(self) -> UNetModel | LiveModel | None:
        return self._dock.session.shown

    def show(self, section: int) -> None:
        self._section = section
        show_section(self._viewer, self._dock.session.image_layer, (section,))
        self._await_overlay()

    def mask(self) -> Mask:
        return np.array(self._dock.session.mask.data[self._section])

    def painted(self) -> Mask:
        return np.array(self._dock.session.corrections.data[self._section])

    def paint(self, stroke: HandStroke) -> tuple[int, ...]:
        before = self.painted()
        corrections = self._dock.keeper.corrections()
        self._dock.correct_group.choose(stroke.number)
        corrections.brush_size = stroke.brush
        self._look()
        paint_stroke(self._viewer, corrections, stroke.path)
        self._released = self.watch.seconds
        self._strokes += 1
        return tuple(np.flatnonzero(self.painted() != before).tolist())

    def answer(self) -> float:
        self._await_overlay()
        answered = self.watch.seconds - self._released
        if self._parts.training:
            self._train()
            _linger(self._budget * self._strokes - self.watch.seconds)
            self._check()
        return answered if self._parts.live_head else 0.0

    def masks(self, image: ImageArray | None, sections: Sequence[int]) -> Mask:
        session, trainer = self._dock.session, self._dock.trainer
        learns = trainer.state == RUNNING
        if learns:
            trainer.pause()
            wait_until(lambda: trainer.state != RUNNING, PATIENCE, "the training to pause")
        with self.watch.held():
            own = session.image if image is None else image
            found = np.zeros((len(sections), *own.shape[-2:]), np.uint8)
            places = {(section,): place for place, section in enumerate(sections)}
            # A window that opens another stack begins with the network alone.
            for tile in predict(
                session.in_use if image is None else session.model,
                own,
                sections=list(places),
                statistics=session.statistics if image is None else None,
            ):
                found[(places[tile.section], *tile.tile.slices)] = tile.classes
        if learns and trainer.state == PAUSED:
            trainer.resume()
        self._check()
        return found

    def close(self) -> None:
        trainer = self._dock.trainer
        trainer.stop()
        wait_until(lambda: trainer.state == IDLE, PATIENCE, "the training to end")
        self._dock.predictor.stop()
        self._dock.live.enabled = False
        wait_until(
            lambda: not self._dock.predictor.busy and not self._dock.live.busy, PATIENCE, "the end"
        )
        self._viewer.close()

    # --- inside --------------------------------------------------------------------------

    def _load(self, base: Path) -> None:
        before = self._dock.session.model
        self._dock.image_group.load(base)
        wait_until(lambda: self._dock.session.model is not before, PATIENCE, f"the model {base}")
        if classes_of(self._dock.session.model) != KNOWN:
            raise ValueError(f"{base} must know {' and '.join(KNOWN)}, and nothing else.")

    def _fit(self) -> float:
        """Show the whole stack; return how many pixels of the screen one of its pixels takes.

        Rounded, so that it is the same beside a dock that is a little wider.
        """
        getattr(self._viewer, "fit_to_view", self._viewer.reset_view)()
        return math.floor(8 * camera_of(self._viewer).zoom * self._task.pixel_size) / 8

    def _look(self) -> None:
        """Have the same pixels of the stack under the same pixels of the mouse as at every stroke.

        The dock's width, and so the canvas's, changes with what it has to say. From the middle of
        a canvas the mouse is whole pixels away, or half ones.
        """
        canvas, pixel_size = canvas_of(self._viewer), self._task.pixel_size
        zoom = self._scale / pixel_size
        camera = camera_of(self._viewer)
        camera.zoom = zoom
        centre = [
            (size // 2 + OFF_CENTRE) * pixel_size + extent % 2 / 2 / zoom
            for size, extent in zip(
                self._task.grey.shape[-2:], (canvas.height(), canvas.width()), strict=True
            )
        ]
        camera.center = (*camera.center[:-2], *centre)

    def _train(self) -> None:
        """Press *Start* as soon as there is something to learn."""
        dock = self._dock
        if dock.trainer.state != IDLE or nothing_to_learn(dock.session.strokes.learnt):
            return
        dock.learn_group.options["memory"].value = self._parts.memory
        dock.learn_group.start.click()
        self._check()
        wait_until(lambda: dock.trainer.state != IDLE, PATIENCE, "the training to begin")

    def _await_overlay(self) -> None:
        """Wait until the plugin has seen what is painted, and shows what it makes of it.

        Where strokes are not answered, that is what the network found last: new weights may come
        more quickly than a large section is predicted.
        """
        session, index = self._dock.session, (self._section,)
        predictor = self._dock.predictor

        def shown() -> bool:
            known = session.annotations.sections.get(index)
            painted = self.painted()
            seen = np.array_equal(known, painted) if known is not None else not painted.any()
            return (
                seen
                and not self._dock.live.answering
                and (
                    predictor.is_predicted(index)
                    if self._parts.live_head
                    else index in predictor.ways
                )
                and session.mask is not None
            )

        wait_until(shown, PATIENCE, "the mask of the section in view")
        self._check()

    def _on_failed(self, message: str) -> None:
        self._problem = message

    def _check(self) -> None:
        if self._problem:
            raise RuntimeError(self._problem)


def _linger(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(min(0.005, max(0.0, end - time.monotonic())))

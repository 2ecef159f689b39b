"""Fine-tunes the model in a worker thread, from the strokes as they come."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal

from napari_unet.core.annotations import Annotations
from napari_unet.core.config import TrainingConfig
from napari_unet.core.image import ImageArray
from napari_unet.core.model import UNetModel
from napari_unet.core.training import TrainingStep, nothing_to_learn, train
from napari_unet.io.files import FileWriteError
from napari_unet.io.models import save_model
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.session import Session, learnt_models_folder

IDLE, RUNNING, PAUSED, STOPPING = "idle", "running", "paused", "stopping"

CLOSING_SECONDS = 3.0
"""How long closing waits for the step that is being computed."""


class Trainer(QObject):
    """Runs the training of the session's model and brings its news to the session."""

    stepped = Signal(object)
    """A `TrainingStep`; not every one where they come quickly."""
    state_changed = Signal(str)
    failed = Signal(str)
    """The training ended with this message, and nothing new was learnt since the last weights."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._job: Job | None = None
        self.state = IDLE
        session.events.annotations.connect(self._on_annotations)
        session.events.image_layer.connect(self.stop)
        session.events.image.connect(self.stop)

    def start(self, config: TrainingConfig) -> bool:
        """Begin to learn from what is painted; tell whether there was enough for that."""
        session = self._session
        if self._job is not None or session.image is None or session.model is None:
            return False
        reason = nothing_to_learn(session.annotations)
        if reason:
            show_info(reason)
            return False
        self._config = config
        self._autosave = _autosave_path(session.image)
        model, image, annotations = session.model, session.image, session.annotations
        statistics, device = session.statistics, session.device

        def work(should_stop: Callable[[], bool]) -> Work:
            training = train(
                model,
                image,
                annotations,
                config,
                statistics=statistics,
                device=device,
                should_stop=should_stop,
            )
            return kept_safe(training, self._autosave)

        self._job = Job(
            "Learn from corrections",
            work,
            important=lambda step: step.model is not None,
            parent=self,
        )
        self._job.yielded.connect(self._on_step)
        self._job.returned.connect(self._on_returned)
        self._job.failed.connect(self.failed)
        self._job.finished.connect(self._on_finished)
        self._job.paused.connect(lambda: self._set_state(PAUSED))
        self._job.resumed.connect(lambda: self._set_state(RUNNING))
        self._job.start()
        self._set_state(RUNNING)
        return True

    def pause(self) -> None:
        if self._job is not None:
            self._job.pause()

    def resume(self) -> None:
        if self._job is not None:
            self._job.resume()

    def stop(self) -> None:
        """End the training; what was learnt becomes the session's model."""
        if self._job is not None and not self._job.stopping:
            self._job.stop()
            self._set_state(STOPPING)

    def close(self) -> None:
        """Stop, and wait a moment so that the last weights reach the disk."""
        if self._job is not None:
            self._job.stop()
            self._job.wait(CLOSING_SECONDS)

    def let_go(self) -> None:
        """Stop at the next step; its end is not waited for."""
        if self._job is not None:
            self._job.stop()
            self._job = None
        self.state = IDLE

    def _on_annotations(self, annotations: Annotations) -> None:
        if self._job is not None and not self._job.stopping:
            self._job.send(annotations)

    def _on_step(self, step: TrainingStep) -> None:
        if self._job is not None:
            fraction = step.step / step.steps if step.steps else 0.0
            if self._config.minutes:
                fraction = max(fraction, step.seconds / (60 * self._config.minutes))
            if fraction:
                self._job.show_progress(fraction)
        if step.model is not None:
            self._use(step.model)
        self.stepped.emit(step)

    def _on_returned(self, model: UNetModel) -> None:
        self._use(model)

    def _use(self, model: UNetModel) -> None:
        """Let the session predict with these weights, under the names classes have by now."""
        classes = self._session.classes
        self._session.model = model.with_classes((*classes, *model.classes[len(classes) :]))

    def _on_finished(self) -> None:
        self._job = None
        self._set_state(IDLE)

    def _set_state(self, state: str) -> None:
        if self._job is not None and self._job.stopping and state != IDLE:
            state = STOPPING
        self.state = state
        self.state_changed.emit(state)


def kept_safe(training: Work, path: Path) -> Work:
    """Pass a training on, and write every model that it hands out to a file.

    A crash or a window closed in the middle then costs at most what was learnt since the last
    weights were handed out. A disk that is full does not end the training.
    """
    news, told = None, False
    while True:
        try:
            step = training.send(news)
        except StopIteration as end:
            _save(path, end.value)
            return end.value
        if step.model is not None:
            problem = _save(path, step.model)
            if problem and not told:
                told = True
                warnings.warn(
                    f"What is learnt cannot be kept on disk ({problem}) Export the model when "
                    "you stop.",
                    stacklevel=1,
                )
        news = yield step


def _save(path: Path, model: UNetModel) -> str:
    """Write the model; return what went wrong, if anything."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(path, model, half=True)
    except (OSError, FileWriteError) as error:
        return str(error)
    return ""


def _autosave_path(image: ImageArray) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in image.name)[:60]
    moment = time.strftime("%Y%m%d-%H%M%S")
    return learnt_models_folder() / f"{safe}-{moment}.safetensors"

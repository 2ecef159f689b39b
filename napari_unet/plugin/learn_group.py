"""*Learn*: start, pause, resume and stop the training, and see how it goes."""

from __future__ import annotations

import math
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_unet.core.config import TrainingConfig
from napari_unet.core.learning import LearningStep
from napari_unet.core.metrics import mean_iou
from napari_unet.core.training import TrainingStep
from napari_unet.plugin.forms import aligned, config_form, configured, show_values
from napari_unet.plugin.group import Group
from napari_unet.plugin.learning import IDLE, PAUSED, RUNNING, STOPPING, Trainer
from napari_unet.plugin.live import Live
from napari_unet.plugin.loss_curve import LossCurve
from napari_unet.plugin.session import Session

SHOWN_OPTIONS = (
    "steps",
    "minutes",
    "learning_rate",
    "patch_size",
    "batch_size",
    "loss",
    "optimiser",
    "memory",
    "class_balance",
    "border_weight",
    "seed",
)


class LearnGroup(Group):
    """Buttons of the trainer, its loss curve and its options."""

    def __init__(
        self, session: Session, trainer: Trainer, live: Live, parent: QWidget | None = None
    ) -> None:
        super().__init__("Learn", "Fine-tunes the network on what is painted", parent)
        self._session = session
        self._trainer = trainer
        self._live = live
        self._minutes = 0.0
        self._failure = ""
        self.start = QPushButton("Start")
        self.start.setToolTip(
            "Fine-tune the network on what is painted, in the background; go on painting meanwhile"
        )
        self.pause = QPushButton("Pause")
        self.pause.setToolTip("Pause the training, or go on with it")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("End the training; what was learnt is kept")
        self.status = QLabel("Paint at least two classes, then start.")
        self.status.setWordWrap(True)
        self.status.setToolTip("Training steps, loss on the painted pixels, and the time left")
        self.curve = LossCurve()
        self.curve.hide()  # until there will be one
        self.options = config_form(TrainingConfig(), SHOWN_OPTIONS)
        self.augmentation = config_form(
            TrainingConfig().augmentation, ("rotation", "scale", "elastic", "contrast", "noise")
        )
        options = Group(
            "Options", "How the network learns; the defaults suit corrections with a brush"
        )
        options.rows.addWidget(aligned(*self.options, *self.augmentation))
        layout = self.rows
        buttons = QHBoxLayout()
        for button in (self.start, self.pause, self.stop):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        layout.addWidget(self.curve)
        layout.addWidget(options)
        options.grown.connect(self.grown)

        self.start.clicked.connect(self._on_start)
        self.pause.clicked.connect(self._on_pause)
        self.stop.clicked.connect(trainer.stop)
        trainer.stepped.connect(self._show_step)
        trainer.measured.connect(self._show_measured)
        trainer.state_changed.connect(self._show_state)
        trainer.failed.connect(self._show_failure)
        session.events.image.connect(self._enable)
        session.events.model.connect(self._enable)
        self._enable()

    def config(self) -> TrainingConfig:
        """Return the recipe as it is set in the form."""
        base = configured(self.options, TrainingConfig())
        return base.replace(augmentation=configured(self.augmentation, base.augmentation))

    def show_config(self, config: TrainingConfig) -> None:
        """Show a recipe in the form."""
        show_values(self.options, config)
        show_values(self.augmentation, config.augmentation)

    def _on_start(self) -> None:
        try:
            config = self.config()
        except ValueError as error:
            show_error(str(error))
            return
        if self._trainer.start(config, lambda: self._live.config):
            self._minutes = config.minutes
            self.curve.clear()
            self.curve.show()
            self.grown.emit()
            self._failure = ""
            self.status.setText("Getting ready …")

    def _on_pause(self) -> None:
        if self._trainer.state == PAUSED:
            self._trainer.resume()
        else:
            self._trainer.pause()

    def _show_step(self, step: TrainingStep) -> None:
        if self._trainer.state == STOPPING:
            return
        if step.waits:
            self.status.setText("Waiting: paint strokes of at least two classes.")
            return
        if not math.isfinite(step.loss):  # it is told, and the next step begins with good weights
            return
        self.curve.add(step.step, step.loss)
        total = f" of {step.steps}" if step.steps else ""
        self.status.setText(
            f"Step {step.step}{total} · loss {self.curve.latest:.3f} · {self._time(step)}"
        )

    def _time(self, step: TrainingStep) -> str:
        left = []
        if step.steps:
            left.append(step.seconds / max(step.step, 1) * (step.steps - step.step))
        if self._minutes:
            left.append(60 * self._minutes - step.seconds)
        if left:
            return f"{_clock(min(left))} left"
        return f"{_clock(step.seconds)}, until you stop it"

    def _show_measured(self, step: LearningStep) -> None:
        if step.scores is not None:
            iou = mean_iou(step.scores)
            if iou is not None:
                self.curve.add_iou(step.training.step, iou)

    def _show_failure(self, message: str) -> None:
        self._failure = f"Stopped: {message}"

    def _show_state(self, state: str) -> None:
        self.pause.setText("Resume" if state == PAUSED else "Pause")
        if state == STOPPING:
            self.status.setText("Stopping …")
        elif state == IDLE:
            self.status.setText(self._failure or self._outcome())
        self._enable()

    def _outcome(self) -> str:
        record = self._trainer.record
        if record is None:
            return "Stopped before the first step; the network stays as it was."
        if self._trainer.is_elsewhere:
            return (
                f"Learnt for {record['steps']} steps, until its image went away. The network that "
                "came of it can be chosen under Model."
            )
        return _said(record)

    def _enable(self) -> None:
        state = self._trainer.state
        ready = self._session.image is not None and self._session.model is not None
        self.start.setEnabled(ready and state == IDLE)
        self.pause.setEnabled(state in (RUNNING, PAUSED))
        self.stop.setEnabled(state in (RUNNING, PAUSED))


def _said(record: dict[str, Any]) -> str:
    """What came of a training, in words."""
    said, kept = f"Learnt for {record['steps']} steps; ", record.get("kept_step")
    if kept is None:
        return f"{said}the new network is in use."
    if record.get("measured_step") == 0:  # earlier records do not tell it
        return (
            f"{said}it ended before these could be measured on the held-out paint, so the network "
            "stays as it was."
        )
    if kept:
        return f"{said}what it was after {kept} did best on the held-out paint, and is in use."
    return f"{said}nothing did better on the held-out paint, so the network stays as it was."


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"

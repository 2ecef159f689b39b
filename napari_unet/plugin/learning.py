"""Fine-tunes the model in a worker thread, from the strokes as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.annotations import ClassTable
from napari_unet.core.config import LiveConfig, TrainingConfig
from napari_unet.core.foreign import check_can_learn
from napari_unet.core.growing import grown_from_head
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import ImageArray
from napari_unet.core.learning import LearningStep, Version, learn, unanswered
from napari_unet.core.model import UNetModel
from napari_unet.core.notices import tell
from napari_unet.core.training import nothing_to_learn
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.models import save_model
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.session import KeptVersion, Session, learnt_models_folder

IDLE, RUNNING, PAUSED, STOPPING = "idle", "running", "paused", "stopping"

MOST_VERSIONS = 20
"""More than these are not listed; the oldest that nobody needs go (`fewer`)."""

ANSWER_MILLISECONDS = 1000
"""How long a new class waits for the live head, which then knows how its channel should begin."""

CLOSING_SECONDS = 3.0
"""How long closing waits for the step that is being computed."""


class Trainer(QObject):
    """Runs the training of the session's model and brings its news to the session."""

    stepped = Signal(object)
    """A `TrainingStep`; not every one where they come quickly."""
    measured = Signal(object)
    """A `LearningStep` whose weights were looked at, better or not."""
    state_changed = Signal(str)
    failed = Signal(str)
    """The training ended with this message, and nothing new was learnt since the last weights."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._job: Job | None = None
        self._used: UNetModel | None = None
        self._began_with: UNetModel | None = None
        self._paths: dict[int, Path] = {}  # of versions, by their number in this training
        self.is_elsewhere = False
        """Whether the session has another image by now than is learnt from, or none."""
        self.record: dict[str, Any] | None = None
        """What the latest training that ended says of itself; None where no step was done."""
        self.state = IDLE
        self._highest_class = 0
        self._awaiting = QTimer(self)
        self._awaiting.setSingleShot(True)
        self._awaiting.setInterval(ANSWER_MILLISECONDS)
        self._awaiting.timeout.connect(self._send_strokes)
        session.events.live.connect(self._on_answer)
        session.events.strokes.connect(self._on_strokes)
        session.events.image_layer.connect(self.stop)
        session.events.image.connect(self._on_image)

    def start(
        self, config: TrainingConfig, live: Callable[[], LiveConfig | None] = unanswered
    ) -> bool:
        """Begin to learn from what is painted; tell whether there was enough for that.

        Parameters
        ----------
        config
            The recipe.
        live
            Asked now and then how strokes are answered, if they are: versions are judged together
            with that. It is called in another thread.
        """
        session = self._session
        if self._job is not None or session.image is None or session.model is None:
            return False
        reason = nothing_to_learn(session.strokes.learnt)
        if reason:
            show_info(reason)
            return False
        try:
            model = check_can_learn(session.model)
        except ValueError as error:
            show_error(str(error))
            return False
        self._config = config
        autosave = _autosave_path(session.image)
        paths: dict[int, Path] = {}
        self._paths = paths
        self.is_elsewhere = False
        self._begin_versions(model)
        self._used = self._began_with = model
        self.record = None
        image, strokes = session.image, session.strokes
        self._highest_class = max(len(model.classes), strokes.learnt.highest)
        statistics, device = session.statistics, session.device
        origin = self._origin()

        def grow(model: UNetModel, classes: ClassTable) -> UNetModel:
            # Heads do not change: whichever is there when a thread asks may be used.
            return grown_from_head(model, classes, session.live)

        def path_of(version: Version) -> Path:
            # The project may be another by now: a copy, with which the session went on.
            project = None if self.is_elsewhere else session.project
            folder = (project.versions if project else autosave.parent) / autosave.stem
            paths[version.number] = folder / f"version-{version.number}.safetensors"
            return paths[version.number]

        def work(should_stop: Callable[[], bool]) -> Work:
            learning = learn(
                model,
                image,
                strokes,
                config,
                statistics=statistics,
                device=device,
                should_stop=should_stop,
                clock=job.clock,
                grow=grow,
                origin=_loaded(origin, model),
                live=live,
            )
            return kept_safe(learning, autosave, path_of)

        self._job = job = Job(
            "Learn from corrections",
            work,
            important=lambda step: step.best is not None,
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
            if self._awaiting.isActive():  # a new class is judged by, too
                self._send_strokes()
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

    def _on_image(self, image: ImageArray | None) -> None:
        if image is None:  # with it its versions go, and its project
            self.is_elsewhere = True
        self.stop()

    def _on_strokes(self, strokes: Strokes) -> None:
        if self._job is None:
            return
        is_new = strokes.learnt.highest > self._highest_class
        if is_new and self._session.live is not None:
            self._awaiting.start()
        elif not self._awaiting.isActive():
            self._send_strokes()

    def _on_answer(self) -> None:
        live, highest = self._session.live, self._session.strokes.learnt.highest
        # It may have been an answer to earlier strokes, which knows nothing of the class.
        if self._awaiting.isActive() and live is not None and live.head.knows(highest):
            self._send_strokes()

    def _send_strokes(self) -> None:
        self._awaiting.stop()
        if self._job is not None and not self._job.stopping:
            strokes = self._session.strokes
            self._highest_class = max(self._highest_class, strokes.learnt.highest)
            self._job.send(strokes)

    def _on_step(self, learning: LearningStep) -> None:
        step = learning.training
        if self._job is not None:
            fraction = step.step / step.steps if step.steps else 0.0
            if self._config.minutes:
                fraction = max(fraction, step.seconds / (60 * self._config.minutes))
            if fraction:
                self._job.show_progress(fraction)
        if learning.best is not None and not self.is_elsewhere:
            for version in (learning.first, learning.before, learning.best):
                assert version is not None
                self._keep(version)
            if learning.changed:
                self._session.version = self._number(learning.best)
                self._use(learning.best.model)
            self.measured.emit(learning)
        self.stepped.emit(step)

    def _on_returned(self, model: UNetModel) -> None:
        if model is self._began_with:
            return
        self.record = model.history[-1]
        began_with = self._began_with
        if began_with is not None and model.network is began_with.network:
            return  # nothing did better: all that was predicted by it still holds
        if model is not self._used and not self.is_elsewhere:
            self._use(model)

    # --- versions ------------------------------------------------------------------------

    def _begin_versions(self, model: UNetModel) -> None:
        """See that what learning begins with is among the versions."""
        session = self._session
        self._highest = max((each.number for each in session.versions), default=-1)
        if session.version is None:
            self._highest += 1
            session.version = self._highest
            first = KeptVersion(
                session.version, model.name, model.steps, None, 0, model, begins=True
            )
            session.versions = (*session.versions, first)
        self._first = session.version

    def _origin(self) -> KeptVersion | None:
        """The version that the one in use came of: the last one that was not learnt here."""
        earlier = [each for each in self._session.versions if each.number <= self._first]
        return next((each for each in reversed(earlier) if each.begins), None)

    def _number(self, version: Version) -> int:
        """The number in the list of a version of this training."""
        return self._highest + version.number if version.number else self._first

    def _keep(self, version: Version) -> None:
        """Enter a version into the list, in the place of an earlier one with its number."""
        number, model = self._number(version), version.model
        kept = {each.number: each for each in self._session.versions}
        earlier = kept.get(number)
        iou, pieces = version.iou, version.pieces
        if iou is None and earlier is not None and earlier.steps == model.steps:
            iou, pieces = earlier.iou, earlier.pieces  # of what was held out when that was so
        if version.number == 0 and earlier is not None:
            kept[number] = replace(earlier, iou=iou, pieces=pieces)
        else:
            path = self._paths.get(version.number)
            on_disk = path is not None and path.exists()
            kept[number] = KeptVersion(
                number,
                model.name,
                model.steps,
                iou,
                pieces,
                None if on_disk else model,
                path if on_disk else None,
            )
        session = self._session
        wanted = (number, self._first, session.version, session.looked_at)
        needed = [each for each in wanted if each is not None]
        session.versions = fewer([kept[each] for each in sorted(kept)], needed)

    def _use(self, model: UNetModel) -> None:
        """Let the session predict with these weights, under the names classes have by now."""
        self._used = model
        self._session.model = self._session.named(model)

    def _on_finished(self) -> None:
        self._job = None
        self._set_state(IDLE)

    def _set_state(self, state: str) -> None:
        if self._job is not None and self._job.stopping and state != IDLE:
            state = STOPPING
        self.state = state
        self.state_changed.emit(state)


def fewer(versions: Sequence[KeptVersion], needed: Collection[int]) -> tuple[KeptVersion, ...]:
    """Return a list of versions without the oldest that nobody needs, where it is too long.

    Parameters
    ----------
    versions
        The oldest first.
    needed
        Numbers of those that stay. Those stay, too, that a training began with, the bundled
        model among them, and the one that did best on the most pieces of paint.
    """
    measured = [each for each in reversed(versions) if each.iou is not None]
    best = max(measured, key=lambda each: (each.pieces, each.iou or 0.0), default=None)
    superfluous = [
        each
        for each in versions
        if each.number not in needed and not each.begins and each is not best
    ]
    gone = superfluous[: max(0, len(versions) - MOST_VERSIONS)]
    return tuple(each for each in versions if each not in gone)


def kept_safe(learning: Work, path: Path, path_of: Callable[[Version], Path]) -> Work:
    """Pass a training on, and write all weights that turn out to be the best so far.

    The newest of them go to `path`, and each version to a file of its own. A crash or a window
    closed in the middle then costs at most what was learnt since the last weights were handed
    out. A disk that is full does not end the training.
    """
    news, step, told = None, None, False
    while True:
        try:
            step = learning.send(news)
        except StopIteration as end:
            if step is not None:
                _save(path, end.value)
            return end.value
        if step.is_new:
            _save(path_of(step.best), step.best.model)
        if step.changed:
            problem = _save(path, step.best.model)
            if problem and not told:
                told = True
                tell(
                    f"What is learnt cannot be kept on disk ({problem}) Export the model when "
                    "you stop."
                )
        news = yield step


def _loaded(version: KeptVersion | None, model: UNetModel) -> UNetModel | None:
    """The model of a version, or None if its file is gone or not of what this model came of."""
    with suppress(FileReadError):
        origin = version.load() if version is not None else None
        if origin is not None and origin.is_origin_of(model):
            return origin
    return None


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

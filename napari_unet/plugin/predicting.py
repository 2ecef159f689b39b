"""Keeps the mask layer up with the view, the model and the wish for the whole stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.config import PredictionConfig
from napari_unet.core.foreign import Model
from napari_unet.core.image import ImageArray, SectionIndex
from napari_unet.core.live import LiveModel
from napari_unet.core.prediction import TileDone, known_statistics, nearest_first, predict
from napari_unet.io.scratch import drop_from_memory
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import draw, section_in_view
from napari_unet.plugin.learning import RUNNING, STOPPING
from napari_unet.plugin.session import Session

Way = tuple[Model | LiveModel, PredictionConfig]
"""By which model a section was predicted, and how."""


class Predictor(QObject):
    """Predicts the section in view, or the stack, in worker threads, into the mask layer."""

    progress = Signal(float, int)
    """Sections of the stack that are done, and how many there are."""
    stack_finished = Signal(bool)
    """The stack's prediction has ended; True if it is complete."""
    changed = Signal()
    """Work began or ended."""
    section_predicted = Signal(tuple)

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self.keeps_up = True
        self._learns = False
        self._predicted: dict[SectionIndex, Way] = {}
        self._look: Job | None = None
        self._view: Job | None = None
        self._view_wish: tuple[SectionIndex, PredictionConfig, bool] | None = None
        self._again: PredictionConfig | None = None
        self._stack: Job | None = None
        self._stack_way: Way | None = None
        self._throttle = QTimer(self)
        self._throttle.setSingleShot(True)
        self._throttle.setInterval(30)
        self._throttle.timeout.connect(self._keep_up)
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(40)  # tiles of a large section come quicker than they are drawn
        self._refresh.timeout.connect(self._show_mask)
        viewer.dims.events.point.connect(self._throttle_start)
        session.events.image.connect(self._on_image)
        session.events.mask.connect(self._on_mask)
        session.events.model.connect(self._throttle_start)
        session.events.live.connect(self._throttle_start)
        session.events.rivals.connect(self._throttle_start)
        session.events.viewed.connect(self._throttle_start)
        session.events.statistics.connect(self._throttle_start)
        session.events.prediction.connect(self._throttle_start)

    def let_go(self) -> None:
        """Stop all work, and following the viewer."""
        self.stop()
        self._look = self._view = self._stack = None
        self._viewer.dims.events.point.disconnect(self._throttle_start)

    # --- what others may ask -------------------------------------------------------------

    def predict_view(self) -> None:
        """Predict the section in view as it is wished, also if it was predicted before."""
        index = self._index()
        if index is not None:
            self._predicted.pop(index, None)
        if self._session.statistics is None:
            self._look_at_image()
        else:
            self._want_view(self._session.prediction)

    def take_over(self, index: SectionIndex) -> None:
        """Note that the live head has drawn all of a section as the session's model sees it."""
        if self._session.shown is not None:
            self._predicted[index] = self._session.shown, self._view_config()
            self.section_predicted.emit(index)

    def drawn_over(self, index: SectionIndex) -> None:
        """Note that the live head has drawn some of a section; it is of no other model any more."""
        way = self._predicted.get(index)
        if way is not None and way[0] is not self._session.shown:
            del self._predicted[index]

    @property
    def ways(self) -> Mapping[SectionIndex, Way]:
        """By what each section was predicted."""
        return self._predicted

    def restore(self, index: SectionIndex, classes: npt.NDArray[np.uint8], current: bool) -> bool:
        """Show a section of an earlier mask where nothing newer is.

        Parameters
        ----------
        current
            Whether it was predicted by the session's model, as it is wished now.

        Returns
        -------
        bool
            Whether there is room on the disk for more.
        """
        session = self._session
        if session.mask is None or session.model is None or index in self._predicted:
            return True
        if not draw(session.mask, index, classes):
            return False
        if current:
            self._predicted[index] = session.model, session.prediction
        if index == self._index():
            self._show_mask()
        else:
            drop_from_memory(session.mask.data)
        return True

    def predict_stack(self) -> bool:
        """Predict what is not predicted yet as it is wished now, nearest sections first.

        Returns
        -------
        bool
            Whether `stack_finished` will tell of the end; not so if nothing can be predicted.
        """
        session, index = self._session, self._index()
        if session.image is None or session.shown is None or index is None:
            return False
        if session.statistics is None or session.mask is None:
            self._look_at_image()
            return False
        if self._stack is not None:
            return True
        missing = self.missing_sections()
        if not missing:
            self.stack_finished.emit(True)
            return True
        self._stack_way = (session.shown, session.prediction)
        sections = nearest_first(missing, index)
        self._stack = self._start(sections, session.prediction, "Predict the stack")
        self._stack.returned.connect(self._on_stack_returned)
        self._stack.failed.connect(lambda _: self.stack_finished.emit(False))
        self._stack.finished.connect(self._on_stack_finished)
        self.changed.emit()
        return True

    def stop(self) -> None:
        """Stop what is being predicted; finished tiles stay."""
        for job in (self._stack, self._view, self._look):
            if job is not None:
                job.stop()
        self._again = None

    @property
    def predicts_stack(self) -> bool:
        return self._stack is not None

    @property
    def busy(self) -> bool:
        return any(job is not None for job in (self._stack, self._view, self._look))

    def missing_sections(self) -> list[SectionIndex]:
        """Return the sections whose mask is not what the current model finds when asked."""
        session = self._session
        if session.image is None:
            return []
        wished = (session.shown, session.prediction)
        return [i for i in session.image.sections() if self._predicted.get(i) != wished]

    def is_predicted(self, index: SectionIndex) -> bool:
        """Tell whether the mask of a section is the current model's, and as good as the view's."""
        way = self._predicted.get(index)
        return way is not None and self._worth(way) >= self._worth(
            (self._session.shown, self._view_config())
        )

    def follow_training(self, state: str) -> None:
        """Let one look do while new weights come every few seconds."""
        self._learns = state in (RUNNING, STOPPING)
        self._throttle_start()

    # --- the view ------------------------------------------------------------------------

    def _throttle_start(self) -> None:
        self._throttle.start()

    def _keep_up(self) -> None:
        # While strokes are answered, the live head draws what is in view.
        if self.keeps_up and not self._session.shows_answers:
            self._want_view()

    def _index(self) -> SectionIndex | None:
        layer = self._session.image_layer
        return None if layer is None else section_in_view(self._viewer, layer)

    def _want_view(self, config: PredictionConfig | None = None) -> None:
        session, index = self._session, self._index()
        if index is None or session.model is None or session.statistics is None:
            return
        if session.mask is None or self.is_predicted(index):
            return
        config = config or self._view_config()
        wish = index, config, session.shows_answers
        if self._stack is not None and self._worth(self._stack_way) >= self._worth(
            (session.shown, config)
        ):
            self._stack.send(index)
            return
        if self._view is not None:
            # The newest wish counts; a section that is out of sight need not be finished, but
            # one in sight is, however quickly new weights arrive.
            self._again = config
            if self._view_wish != wish:
                self._view.stop()
            return
        self._view_wish = wish
        self._view = self._start([index], config, "Predict the section in view")
        self._view.finished.connect(self._on_view_finished)
        self.changed.emit()

    def _view_config(self) -> PredictionConfig:
        """How the section in view is predicted now: with one look where it must be quick."""
        wished = self._session.prediction
        quick = self._session.shows_answers or (self._learns and self.keeps_up)
        return wished.replace(test_time_augmentation="none") if quick else wished

    def _worth(self, way: tuple[Model | LiveModel | None, PredictionConfig] | None) -> int:
        """2 for what people would get who asked now, 1 for a quick look at it, 0 for the past."""
        session = self._session
        if way is None or way[0] is not session.shown:
            return 0
        return 2 if way[1] == session.prediction else int(way[1] == self._view_config())

    def _on_view_finished(self) -> None:
        self._view = None
        self.changed.emit()
        again, self._again = self._again, None
        if again is not None:
            self._want_view(again)

    # --- the image -----------------------------------------------------------------------

    def _on_mask(self) -> None:
        """Another layer holds nothing of what was predicted."""
        self._predicted.clear()

    def _on_image(self) -> None:
        self.stop()
        self._predicted.clear()
        self._session.statistics = None
        if self._session.image is not None:
            self._look_at_image()

    def _look_at_image(self) -> None:
        """Find out the grey statistics, in a thread since the image may lie on a slow disk."""
        image = self._session.image
        if image is None:
            return
        if self._look is not None:
            self._look.stop()
        job = Job("Look at the image", call(partial(known_statistics, image)), parent=self)
        self._look = job

        def done(result: object) -> None:
            if self._session.image is image:
                self._session.statistics = result  # type: ignore[assignment]

        def finished() -> None:
            if self._look is job:
                self._look = None
            self.changed.emit()

        job.returned.connect(done)
        job.finished.connect(finished)
        job.start()
        self.changed.emit()

    # --- work ----------------------------------------------------------------------------

    def _start(self, sections: list[SectionIndex], config: PredictionConfig, title: str) -> Job:
        session = self._session
        model, image, mask = session.shown, session.image, session.mask
        statistics, device = session.statistics, session.device
        assert model is not None
        assert image is not None

        def work(should_stop: Callable[[], bool]):  # type: ignore[no-untyped-def]
            return predict(
                model,
                image,
                config,
                sections=sections,
                statistics=statistics,
                device=device,
                should_stop=should_stop,
            )

        job = Job(title, work, parent=self)
        job.yielded.connect(partial(self._on_tile, job, (model, config), image, mask))
        job.start()
        return job

    def _on_tile(self, job: Job, way: Way, image: ImageArray, mask: Labels, done: TileDone) -> None:
        job.show_progress(done.done / done.total)
        if job is self._stack:
            self.progress.emit(done.done, done.total)
        session = self._session
        layer = session.mask
        if layer is None or layer is not mask or session.image is not image:
            job.stop()  # another image was chosen, it has another pixel size, or the layer is gone
            return
        known = self._predicted.get(done.section)
        if self._worth(known) > self._worth(way):
            return  # newer weights, or more looks, were here already
        if not draw(layer, done.section, done.classes, done.tile.slices):
            job.stop()
            return
        if known != way:
            self._predicted.pop(done.section, None)  # it may stop half way
        if done.finishes_section:
            self._predicted[done.section] = way
            self.section_predicted.emit(done.section)
            if job is self._stack:
                drop_from_memory(layer.data)
        if done.section == self._index() and not self._refresh.isActive():
            self._refresh.start()

    def _show_mask(self) -> None:
        if self._session.mask is not None:
            self._session.mask.refresh(extent=False)

    def _on_stack_returned(self) -> None:
        stopped = self._stack is not None and self._stack.stopping
        self.stack_finished.emit(not stopped)

    def _on_stack_finished(self) -> None:
        self._stack = None
        self.changed.emit()
        self._throttle.start()

"""Keeps the mask in the project, section by section, and brings it back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import SectionIndex
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import nearest_first
from napari_unet.io.projects import Project
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.layers import section_in_view
from napari_unet.plugin.predicting import Predictor, Way
from napari_unet.plugin.session import Session

MOST_READ = 4
"""Sections of the mask that are read and not shown yet."""


class ProjectMasks(QObject):
    """Writes sections of the mask into the session's project, one after the other, in a thread.

    They wait where they are, in the layer: copies of them all might not fit into memory.
    """

    failed = Signal(str)
    """A section could not be written, and why."""
    _written = Signal(object)

    def __init__(
        self,
        viewer: Viewer,
        session: Session,
        predictor: Predictor,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._predictor = predictor
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._unwritten: dict[SectionIndex, tuple[Labels, Way]] = {}
        self._writing: Future[None] | None = None
        self._late: set[SectionIndex] = set()
        self._written.connect(self._on_written, Qt.QueuedConnection)

    def let_go(self) -> None:
        """Write nothing any more."""
        self._writer.shutdown()

    def keep(self, sections: Iterable[SectionIndex]) -> None:
        """Have these sections written."""
        mask, ways = self._session.mask, self._predictor.ways
        if mask is not None and self._session.viewed is None:
            waiting = {index: (mask, ways[index]) for index in sections}
            self._late.update(waiting)
            self._unwritten.update(waiting)
            self._write_next()

    def keep_all(self) -> None:
        """Have all sections written that are predicted."""
        self.keep(list(self._predictor.ways))

    def begin_copy(self) -> None:
        """Wait for what is being written, and remember what comes later than a copy."""
        if self._writing is not None:
            wait([self._writing])
        self._late = set(self._unwritten)

    def keep_late(self) -> None:
        """Have written again what came later than `begin_copy`."""
        self.keep(self._late & set(self._predictor.ways))

    def write_rest(self) -> None:
        """Write all sections that wait, in this thread."""
        writing, self._writing = self._writing, None
        if writing is not None:
            self._tell_of(writing)
        while self._unwritten:
            keep = self._keeping_first()
            if keep is not None:
                self._tell_of(self._writer.submit(keep))

    def show(self, project: Project) -> None:
        """Bring back what was predicted, in a thread since it may be much; what is in view first."""
        layer = self._session.image_layer
        assert layer is not None
        order = partial(nearest_first, centre=section_in_view(self._viewer, layer))
        read = threading.Semaphore(MOST_READ)

        def work(should_stop: Callable[[], bool]) -> Work:
            for found in project.masks(order):
                # Not for ever: the window may have closed, and shows nothing any more.
                read.acquire(timeout=1.0)
                yield found
                if should_stop():
                    return

        job = Job("Open masks", work, parent=self)

        def show(found: tuple[SectionIndex, Any, str]) -> None:
            read.release()
            session = self._session
            if session.project is project and session.model is not None:
                index, section, way = found
                model = session.learner
                current = model is not None and way == _in_words(model, session.prediction)
                if self._predictor.restore(index, section, current):
                    return
            job.stop()

        job.yielded.connect(show)
        job.start()

    def _write_next(self) -> None:
        """Have the thread write the first section that waits."""
        while self._writing is None and self._unwritten:
            keep = self._keeping_first()
            if keep is not None:
                written = self._writer.submit(keep)
                self._writing = written
                written.add_done_callback(self._written.emit)

    def _keeping_first(self) -> Callable[[], None] | None:
        """What writes the first section that waits; None if that is of the past by now."""
        index = next(iter(self._unwritten))
        mask, (model, config) = self._unwritten.pop(index)
        project = self._session.project
        assert project is not None
        if not isinstance(model, UNetModel):
            return None  # what the live head sees is found again from the strokes
        if mask is self._session.mask and self._predictor.ways.get(index) != (model, config):
            return None  # it is being predicted anew
        classes = np.array(mask.data[index])
        return partial(project.keep_mask, index, classes, _in_words(model, config))

    def _on_written(self, written: Future[None]) -> None:
        if written is self._writing:
            self._writing = None
            self._tell_of(written)
            self._write_next()

    def _tell_of(self, written: Future[None]) -> None:
        problem = written.exception()  # waits for its end
        if problem is not None:
            self.failed.emit(str(problem))


def _in_words(model: UNetModel, config: PredictionConfig) -> str:
    """What a model is, and how it predicts, in words that outlast it."""
    way = {"model": model.name, "steps": model.steps, "how": config.to_dict()}
    return json.dumps(way, sort_keys=True)

"""Writes masks, probabilities and models to files, in a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal

from napari_unet.core.prediction import TileDone, gather, only_class, predict
from napari_unet.io import model_files
from napari_unet.io.images import check_keeps_source, write_image, writer_for
from napari_unet.io.scratch import make_room, one_by_one, scratch_zeros
from napari_unet.plugin.jobs import Job, Work, call
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.predicting import Predictor
from napari_unet.plugin.reading import path_of
from napari_unet.plugin.session import Session

CLASS_MASK = "Class mask"
ONE_CLASS = "Mask of one class (0/255)"
PROBABILITIES = "Probabilities"
MODEL = "Model"
KINDS = (CLASS_MASK, ONE_CLASS, PROBABILITIES, MODEL)


class Exporter(QObject):
    """Exports what the session has found; sections without a mask are predicted first."""

    exported = Signal(str)
    """The path of a file that is whole."""
    changed = Signal()

    def __init__(
        self,
        session: Session,
        keeper: LayerKeeper,
        predictor: Predictor,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._keeper = keeper
        self._session = session
        self._predictor = predictor
        self._job: Job | None = None
        self._waiting: Callable[[], None] | None = None
        predictor.stack_finished.connect(self._on_stack_finished)
        session.events.image.connect(self._forget)

    @property
    def busy(self) -> bool:
        return self._job is not None or self._waiting is not None

    def export(self, kind: str, path: Path, class_number: int = 0) -> None:
        """Write one of `KINDS` to a file.

        Parameters
        ----------
        kind
            What to write.
        path
            Where to; the suffix chooses the format.
        class_number
            The class for a mask of one class. For probabilities 0 means all of them.

        Raises
        ------
        ValueError
            If no format has this suffix, the network does not know the class, or there is
            nothing to export.
        FileWriteError
            If the image itself would be replaced.
        """
        session = self._session
        if session.image is None or session.model is None or self.busy:
            return
        shown = session.shown
        assert shown is not None  # the model, at least
        if kind != MODEL and class_number > len(shown.classes):
            raise ValueError(
                f"The network does not know the class "
                f"{session.classes[class_number - 1].name!r} yet. Paint it and learn first."
            )
        if kind == MODEL:
            model_files.writer_for(path)
            model = session.model.with_classes(session.classes)
            self._start(path, call(lambda: model_files.write_model(path, model)))
            return
        writer_for(path)
        source = path_of(session.image_layer) if session.image_layer is not None else ""
        if source:
            check_keeps_source(path, source)
        if kind == PROBABILITIES:
            self._export_prediction(path, class_number, probabilities=True)
        else:
            self._keeper.mask()
            self._waiting = lambda: self._export_mask(path, class_number)
            self.changed.emit()
            if not self._predictor.predict_stack():
                self._waiting = None
                self.changed.emit()
                raise ValueError(
                    "Nothing can be exported yet: the image has no mask. Predict a section first."
                )

    def _forget(self) -> None:
        """Let go of an export that waited for another image's prediction."""
        if self._waiting is not None:
            show_info("Nothing was exported, since the image was changed.")
        self._waiting = None
        self.changed.emit()

    def _on_stack_finished(self, complete: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and complete:
            waiting()
        elif waiting is not None:
            show_info("Nothing was exported, since the prediction of the stack was stopped.")
        self.changed.emit()

    def _export_mask(self, path: Path, class_number: int) -> None:
        image, mask = self._session.image, self._session.mask
        if image is None or mask is None:
            return
        if self._predictor.missing_sections():
            # New weights came while the stack was predicted: the layer is of several models.
            self._export_prediction(path, class_number, probabilities=False)
            return
        found, classes = image.with_data(one_by_one(mask.data)), self._session.classes

        def write() -> None:
            if class_number:
                write_image(path, only_class(found, class_number))
            else:
                write_image(path, found, classes)

        self._start(path, call(write))

    def _export_prediction(self, path: Path, class_number: int, *, probabilities: bool) -> None:
        """Predict all of the image with the model as it is now, and write what is found."""
        session = self._session
        image, model, statistics = session.image, session.shown, session.statistics
        config, device = session.prediction, session.device
        assert image is not None
        assert model is not None

        def work(should_stop: Callable[[], bool]) -> Work:
            tiles = predict(
                model, image, config, statistics=statistics, device=device, should_stop=should_stop
            )
            gathered = gather(
                tiles, image, len(model.classes), probabilities=probabilities, zeros=_room_for
            )
            found = yield from gathered
            if should_stop():
                return
            found = found.with_data(one_by_one(found.data))
            if class_number and probabilities:
                found = image.with_data(found.data[class_number - 1])
            elif class_number:
                found = only_class(found, class_number)
            is_mask = not (class_number or probabilities)
            write_image(path, found, model.classes if is_mask else ())

        self._start(path, work)

    def _start(self, path: Path, work: Callable[[Callable[[], bool]], Work]) -> None:
        job = Job(f"Export {path.name}", work, parent=self)
        self._job = job

        written: list[Path] = []

        def done(_: object) -> None:
            show_info(f"Exported to {path}")
            written.append(path)

        def finished() -> None:
            self._job = None
            self.changed.emit()
            for each in written:  # last of all: whoever hears it may export again
                self.exported.emit(str(each))

        def progress(tile: TileDone) -> None:
            job.show_progress(tile.done / tile.total)

        job.yielded.connect(progress)
        job.returned.connect(done)
        job.finished.connect(finished)
        job.start()
        self.changed.emit()


def _room_for(shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
    """Zeros of which every one will be written to: the disk is asked first whether it can."""
    array = scratch_zeros(shape, dtype)
    make_room(array)
    return array

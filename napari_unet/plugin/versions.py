"""Looks at earlier versions of the model, compares them with what is in use, and goes back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.image import SectionIndex
from napari_unet.core.judging import ShownJudge
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.network import StoppedError
from napari_unet.core.prediction import predict
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.layers import CHANGES, draw, find_layer, new_layer, section_in_view
from napari_unet.plugin.live import Live
from napari_unet.plugin.session import Session


class VersionViewer(QObject):
    """Shows versions of the model.

    What somebody looks at is shown instead of what is in use, until the next stroke: its network
    with a head of its own, if strokes are answered, as it was judged. The layer
    *changes* then holds what is in use where the two differ, in the section in view.
    """

    changed = Signal()
    """Another version is looked at, or none any more."""

    def __init__(
        self, viewer: Viewer, session: Session, live: Live, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._live = live
        self._loading: Job | None = None
        self._wanted: int | None = None
        self._comparing: Job | None = None
        # Of which models the sections of the layer *changes* tell.
        self._compared: dict[SectionIndex, tuple[object, object]] = {}
        self._compares = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(100)
        self._soon.timeout.connect(self._compare)
        viewer.dims.events.point.connect(self._compare_soon)
        session.events.viewed.connect(self._on_viewed)
        session.events.model.connect(self._compare_soon)
        session.events.live.connect(self._compare_soon)
        session.events.image.connect(self._on_image)

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._viewer.dims.events.point.disconnect(self._compare_soon)

    @property
    def number(self) -> int | None:
        """The version that is looked at; None while it is the one in use."""
        return self._session.looked_at

    @property
    def wanted(self) -> int | None:
        """The version that will be looked at when it is loaded; None while none is."""
        return self._wanted

    def view(self, number: int) -> None:
        """Show the masks of a version, until somebody paints."""
        if number == self._session.version:
            self._loading = self._wanted = None
            self._session.viewed = None
            self.changed.emit()
        else:
            self._load(number, partial(self._show, number), as_shown=True)
            self._wanted = number
            self.changed.emit()

    def use(self, number: int) -> None:
        """Make a version the model again from which learning goes on."""
        self._load(number, partial(self._adopt, number))

    @property
    def compares(self) -> bool:
        """Whether the layer *changes* shows where the version differs from what is in use."""
        return self._compares

    @compares.setter
    def compares(self, on: bool) -> None:
        self._compares = on
        self._compare_soon()

    # --- models --------------------------------------------------------------------------

    def _load(self, number: int, then: Callable[[Any], None], *, as_shown: bool = False) -> None:
        """Load a version, and maybe what the strokes make of it, and do something with that."""
        session = self._session
        version = next(each for each in session.versions if each.number == number)
        image, statistics, strokes = session.image, session.statistics, session.strokes
        config = self._live.config if as_shown else None
        judge = None
        if config is not None and image is not None and statistics is not None:
            judge = ShownJudge(image, statistics, session.device, config, in_full=True)

        def work(should_stop: Callable[[], bool]) -> Work:
            yield from ()
            model = session.named(version.load())
            with suppress(StoppedError):
                return model if judge is None else judge.shown(model, strokes, should_stop)[0]
            return model

        job = Job(f"Load version {number}", work, parent=self)
        if self._loading is not None:
            self._loading.stop()
        self._loading = job  # only the latest wish counts

        def loaded(model: UNetModel | LiveModel) -> None:
            if job is not self._loading:
                return
            self._wanted = None
            if as_shown and session.strokes is not strokes:  # somebody paints on
                self.changed.emit()
            else:
                then(model)

        def failed(_: str) -> None:
            if job is self._loading:
                self._wanted = None
                self.changed.emit()

        job.returned.connect(loaded)
        job.failed.connect(failed)
        job.start()

    def _show(self, number: int, model: UNetModel | LiveModel) -> None:
        self._session.looked_at = number
        self._session.viewed = model
        self.changed.emit()

    def _adopt(self, number: int, model: UNetModel) -> None:
        self._session.viewed = None
        self._session.version = number
        self._session.model = model
        self.changed.emit()

    def _on_viewed(self, model: UNetModel | LiveModel | None) -> None:
        if model is None:
            self._loading = self._wanted = None
            self._session.looked_at = None
            self.changed.emit()
        self._compare_soon()

    def _on_image(self) -> None:
        session = self._session
        if session.image is None:
            self._loading = self._wanted = None
            session.viewed, session.versions, session.version = None, (), None

    # --- what differs --------------------------------------------------------------------

    def _compare_soon(self) -> None:
        self._soon.start()

    def _compare(self) -> None:
        session, layer = self._session, self._session.image_layer
        if layer is None or session.image is None:
            return
        if not self._compares or session.viewed is None:
            changes = find_layer(self._viewer, CHANGES, layer)
            if changes is not None:
                self._viewer.layers.remove(changes)
            return
        if self._comparing is not None:
            self._comparing.stop()
        index = section_in_view(self._viewer, layer)
        models, image = (session.viewed, session.in_use), session.image
        self._clear_changes(models, index)
        statistics, device = session.statistics, session.device

        def work(should_stop: Callable[[], bool]) -> Work:
            masks = []
            for model in models:
                assert model is not None
                mask = np.zeros(image.shape[-2:], np.uint8)
                tiles = predict(
                    model,
                    image,
                    sections=[index],
                    statistics=statistics,
                    device=device,
                    should_stop=should_stop,
                )
                for done in tiles:
                    mask[done.tile.slices] = done.classes
                    yield done
                masks.append(mask)
            earlier, now = masks
            return np.where(earlier == now, 0, now).astype(np.uint8)

        job = Job("Compare versions", work, parent=self)
        self._comparing = job
        job.returned.connect(partial(self._show_changes, job, models, index))
        job.start()

    def _clear_changes(self, models: tuple[object, object], index: SectionIndex) -> None:
        """Erase what the layer *changes* tells of other models.

        Where only what is in use is new, as after a stroke, the section in view stays until its
        changes are there.
        """
        layer = self._session.image_layer
        assert layer is not None
        changes = find_layer(self._viewer, CHANGES, layer)
        if changes is None:  # nor is anything left of it
            self._compared.clear()
            return
        past = [
            each
            for each, (viewed, in_use) in self._compared.items()
            if viewed is not models[0] or (in_use is not models[1] and each != index)
        ]
        for each in past:
            draw(changes, each, np.zeros(changes.data.shape[-2:], np.uint8))
            del self._compared[each]
        if index in past:
            changes.refresh(extent=False)

    def _show_changes(
        self,
        job: Job,
        models: tuple[object, object],
        index: SectionIndex,
        differing: npt.NDArray[np.uint8],
    ) -> None:
        session = self._session
        if job is not self._comparing or job.stopping or not self._compares:
            return
        if session.viewed is None or session.image_layer is None:
            return
        changes = self._layer()
        if draw(changes, index, differing):
            self._compared[index] = models
            changes.refresh(extent=False)

    def _layer(self) -> Labels:
        session = self._session
        assert session.image_layer is not None
        layer = find_layer(self._viewer, CHANGES, session.image_layer)
        if layer is None:
            layer = new_layer(self._viewer, CHANGES, session.image_layer, session.classes)
            layer.editable = False
        return layer

"""Shows how unsure the model is of the section in view, as a layer over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.foreign import Model
from napari_unet.core.image import SectionIndex
from napari_unet.core.live import LiveModel
from napari_unet.core.suggestions import LARGEST, Doubt, section_doubt
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.layers import UNCERTAINTY, camera_of, middle_of_view, section_in_view
from napari_unet.plugin.overlays import Overlay
from napari_unet.plugin.session import Session

THROTTLE_MILLISECONDS = 200


@dataclass(frozen=True)
class Wish:
    """Whose doubt is to be shown, and where."""

    model: Model | LiveModel
    section: SectionIndex
    centre: tuple[float, float]


class UncertaintyView(QObject):
    """Computes the uncertainty of the section in view in a thread, while it is wanted.

    The layer is as deep as one section, so that no other section shows what is not its own.
    """

    enabled_changed = Signal(bool)
    shown = Signal()
    """The layer shows what was computed last."""

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._enabled = self._awake = False
        self._job: Job | None = None
        self._asked: Wish | None = None
        self._drawn: Wish | None = None
        self.overlay = Overlay(viewer, session, UNCERTAINTY, _make, self)
        self.overlay.taken_away.connect(partial(self.enable, False))
        self._throttle = QTimer(self)
        self._throttle.setSingleShot(True)
        self._throttle.setInterval(THROTTLE_MILLISECONDS)
        self._throttle.timeout.connect(self._go_on)
        viewer.dims.events.point.connect(self._wake)
        camera_of(viewer).events.center.connect(self._wake)
        for name in ("model", "live", "rivals", "viewed", "statistics", "device", "image"):
            getattr(session.events, name).connect(self._wake)

    def let_go(self) -> None:
        """Stop all work, and following the viewer."""
        self._enabled = self._awake = False
        if self._job is not None:
            self._job.stop()
        self._job = None
        self._viewer.dims.events.point.disconnect(self._wake)
        camera_of(self._viewer).events.center.disconnect(self._wake)
        self.overlay.let_go()

    @property
    def enabled(self) -> bool:
        """Whether the layer is wanted."""
        return self._enabled

    def enable(self, on: bool) -> None:
        """Show the layer, or take it away."""
        if on == self._enabled:
            return
        self._enabled = on
        self._drawn = None
        if on:
            self._go_on()
        else:
            if self._job is not None:
                self._job.stop()
            self.overlay.remove()
        self.enabled_changed.emit(on)

    @property
    def busy(self) -> bool:
        return self._job is not None or self._awake

    def _wake(self, _: object = None) -> None:
        if self._enabled and not self._awake:  # while something moves, now and then
            self._awake = True
            self._throttle.start()

    def _wish(self) -> Wish | None:
        session = self._session
        layer, model = session.image_layer, session.shown
        if layer is None or session.image is None or model is None or session.statistics is None:
            return None
        centre = (0.0, 0.0)
        if max(session.image.shape[-2:]) > LARGEST:
            # A new part only where the view has moved far.
            row, column = middle_of_view(self._viewer, layer)[-2:] // (LARGEST / 4)
            centre = (float(row + 0.5) * LARGEST / 4, float(column + 0.5) * LARGEST / 4)
        return Wish(model, section_in_view(self._viewer, layer), centre)

    def _go_on(self) -> None:
        self._awake = False
        wish = self._wish() if self._enabled else None
        if wish is None or (wish == self._drawn and self.overlay.layer is not None):
            return
        if self._job is not None:
            asked = self._asked
            if asked is None or (asked.section, asked.centre) != (wish.section, wish.centre):
                self._job.stop()  # out of sight
            return  # its end asks again
        image, statistics, device = (
            self._session.image,
            self._session.statistics,
            self._session.device,
        )
        assert image is not None

        def work(should_stop: Callable[[], bool]) -> Work:
            return section_doubt(
                wish.model,
                image,
                wish.section,
                centre=wish.centre,
                statistics=statistics,
                device=device,
                should_stop=should_stop,
            )

        self._asked = wish
        self._job = Job("Uncertainty of the section in view", work, parent=self)
        self._job.returned.connect(partial(self._show, wish, image))
        self._job.failed.connect(lambda _: self.enable(False))
        self._job.finished.connect(self._on_finished)
        self._job.start()

    def _show(self, wish: Wish, image: object, doubt: Doubt | None) -> None:
        session = self._session
        if doubt is None or not self._enabled or session.image is not image:
            return
        self._drawn = wish
        self.overlay.show(
            doubt.uncertainty[(None,) * len(wish.section)],
            (*wish.section, doubt.tile.top, doubt.tile.left),
            under=session.corrections,
        )
        self.shown.emit()

    def _on_finished(self) -> None:
        self._job = None
        self._wake()


def _make(data: Any, **arguments: Any) -> Image:
    return Image(
        data,
        contrast_limits=(0, 1),
        colormap="inferno",
        blending="additive",  # what is certain stays as it is
        opacity=0.5,
        **arguments,
    )

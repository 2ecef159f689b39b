"""A layer that shows something of the image in view, and that nobody paints on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy.typing as npt
from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.plugin.layers import OWNER, add_quietly, like, like_from
from napari_unet.plugin.session import Session


class Overlay(QObject):
    """One layer over the image of the session, made when it is first needed.

    It stays over the image when that is moved or scaled, and goes with it.

    Parameters
    ----------
    kind
        Name of the layer.
    make
        Makes it from its data, and from arguments that say what it is called and where it lies.
    """

    taken_away = Signal()
    """The user has removed the layer."""

    def __init__(
        self,
        viewer: Viewer,
        session: Session,
        kind: str,
        make: Callable[..., Layer],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._kind = kind
        self._make = make
        self._followed: Image | None = None
        self._first: tuple[float, ...] = ()
        self.layer: Layer | None = None
        viewer.layers.events.removed.connect(self._on_removed)
        session.events.image_layer.connect(self._follow)
        session.events.image.connect(self._lie_over)

    def let_go(self) -> None:
        """Take the layer away, and stop following the viewer."""
        layer, self.layer = self.layer, None
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._unfollow()
        if layer is not None:
            _remove(self._viewer, layer)

    def show(
        self, data: npt.NDArray[Any], first: tuple[float, ...], under: Layer | None = None
    ) -> None:
        """Show an array whose first pixel lies on this one of the image."""
        image_layer = self._session.image_layer
        if image_layer is None:
            return
        if self.layer is None:
            self._first = first
            self.layer = self._make(
                data,
                name=self._kind,
                metadata={OWNER: (self._kind, image_layer.unique_id)},
                **like_from(image_layer, first),
            )
            add_quietly(self._viewer, self.layer, under)
            return
        if first != self._first:
            self._first = first
            self.layer.translate = like_from(image_layer, first)["translate"]
        self.layer.data = data

    def remove(self) -> None:
        """Take the layer away."""
        layer, self.layer = self.layer, None
        if layer is not None:
            # A moment later: the image may be just being removed, and all other layers as well.
            QTimer.singleShot(0, partial(_remove, self._viewer, layer))

    def _on_removed(self, event: Any) -> None:
        if self.layer is not None and event.value is self.layer:
            self.layer = None
            self.taken_away.emit()

    def _follow(self, layer: Image | None) -> None:
        self._unfollow()
        self.remove()
        self._followed = layer
        if layer is not None:
            for name in like(layer):
                getattr(layer.events, name).connect(self._lie_over)

    def _unfollow(self) -> None:
        if self._followed is not None:
            for name in like(self._followed):
                getattr(self._followed.events, name).disconnect(self._lie_over)
            self._followed = None

    def _lie_over(self, _: object = None) -> None:
        if self.layer is not None and self._session.image_layer is not None:
            for name, value in like_from(self._session.image_layer, self._first).items():
                setattr(self.layer, name, value)


def _remove(viewer: Viewer, layer: Layer) -> None:
    if layer in viewer.layers:
        viewer.layers.remove(layer)

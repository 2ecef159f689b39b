"""Which image is worked on, and what happens when its layers come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_unet.plugin.layers import (
    CORRECTIONS,
    MASK,
    class_colours,
    find_layer,
    image_from_layer,
    new_layer,
)
from napari_unet.plugin.session import Session


class LayerKeeper(QObject):
    """Gives each image its mask and its corrections, and lets go of layers that are removed."""

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        viewer.layers.events.removed.connect(self._on_removed)
        session.events.classes.connect(self._recolour)

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def choose(self, layer: Image | None) -> None:
        """Work on this image layer from now on.

        Raises
        ------
        ValueError
            If it cannot be segmented; the session then has no image.
        """
        session = self._session
        if layer is session.image_layer and session.image is not None:
            return
        session.image = session.mask = session.corrections = None
        session.image_layer = layer
        if layer is None:
            return
        image = image_from_layer(layer)
        session.mask = self._layer(MASK)
        session.corrections = self._layer(CORRECTIONS)
        session.image = image

    def corrections(self) -> Labels | None:
        """Return the layer to paint on; it is made anew if it was removed."""
        session = self._session
        if session.image is not None and session.corrections is None:
            session.corrections = self._layer(CORRECTIONS)
        return session.corrections

    def mask(self) -> Labels | None:
        """Return the layer of the mask; it is made anew if it was removed."""
        session = self._session
        if session.image is not None and session.mask is None:
            session.mask = self._layer(MASK)
        return session.mask

    def _layer(self, kind: str) -> Labels:
        session = self._session
        image_layer = session.image_layer
        assert image_layer is not None
        layer = find_layer(self._viewer, kind, image_layer)
        if layer is not None and np.dtype(layer.data.dtype) != np.uint8:
            layer.data = self._as_classes(layer)
        if layer is None:
            layer = new_layer(self._viewer, kind, image_layer, session.classes)
        layer.colormap = class_colours(session.classes, background=kind == CORRECTIONS)
        if kind == MASK:
            layer.editable = False  # it is painted over by the network; corrections are not
        return layer

    def _as_classes(self, layer: Labels) -> Any:
        if int(np.asarray(layer.data).max()) > 255:
            raise ValueError(
                f"The layer {layer.name!r} holds numbers above 255, so these are objects and not "
                "classes. Rename the layer, or remove it."
            )
        return np.asarray(layer.data).astype(np.uint8)

    def _recolour(self) -> None:
        session = self._session
        for layer, background in ((session.mask, False), (session.corrections, True)):
            if layer is not None:
                layer.colormap = class_colours(session.classes, background=background)

    def _on_removed(self, event: Any) -> None:
        session, layer = self._session, event.value
        if layer is session.image_layer:
            self.choose(None)
        elif layer is session.mask:
            session.mask = None
        elif layer is session.corrections:
            had_paint = bool(session.annotations.sections)
            session.corrections = None
            if had_paint:
                # A moment later: where all layers go, as when napari closes, there is no news.
                QTimer.singleShot(0, self._tell_of_lost_paint)

    def _tell_of_lost_paint(self) -> None:
        if self._session.image is not None and self._session.corrections is None:
            show_warning(
                "The corrections layer was removed. Its strokes are not learnt from any more; "
                "choose a class to begin anew."
            )

"""Which image is worked on, and what happens when its layers come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.reading import read
from napari_unet.io.files import FileWriteError
from napari_unet.io.scratch import drop_from_memory, make_room, scratch_zeros
from napari_unet.plugin.layers import (
    CORRECTIONS,
    MASK,
    OWNER,
    PAINTING,
    find_layer,
    image_from_layer,
    lies_over,
    like,
    new_layer,
    section_in_view,
    set_pixel_size,
    show_classes,
    spatial_shape,
    view_kept,
)
from napari_unet.plugin.reading import CLASSES
from napari_unet.plugin.session import Session
from napari_unet.plugin.shown import stored

REST_MILLISECONDS = 1000
"""So long after the view has moved, what was looked at before need not stay in memory."""


class LayerKeeper(QObject):
    """Gives each image its mask and its corrections, and lets go of layers that are removed."""

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._followed: Image | None = None
        self._resizes = False
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MILLISECONDS)
        self._rest.timeout.connect(self._drop_from_memory)
        viewer.dims.events.point.connect(self._on_view)
        session.events.classes.connect(self._recolour)

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.dims.events.point.disconnect(self._on_view)
        self._follow(None)

    def choose(self, layer: Image | None) -> None:
        """Work on this image layer from now on.

        Raises
        ------
        ValueError
            If it cannot be segmented; the session then has no image.
        MemoryError, FileWriteError
            If there is no room for its mask and corrections.
        """
        session = self._session
        if layer is session.image_layer and session.image is not None:
            return
        session.image_layer = layer  # first of all: training stops before its paint is gone
        session.image = session.mask = session.corrections = None
        self._follow(layer)
        if layer is None:
            return
        image = image_from_layer(layer)
        session.mask = self._layer(MASK)
        session.corrections = self._layer(CORRECTIONS)
        session.image = image

    def image_of(self, layer: Image) -> ImageArray | None:
        """Return the grey values of a layer; None if it cannot be segmented."""
        try:
            return image_from_layer(layer)
        except ValueError:
            return None

    def set_pixel_size(self, pixel_size: float | None) -> None:
        """Give the image, and what lies over it, this side of a pixel, in nanometres.

        What is in view stays in view. The distance of sections is not changed.

        Parameters
        ----------
        pixel_size
            Above 0; None if it is not known.
        """
        session, layer = self._session, self._session.image_layer
        if layer is None or session.image is None:
            return
        over = [each for each in self._viewer.layers if lies_over(each, layer)]
        self._resizes = True
        try:
            with view_kept(self._viewer, layer):
                for each in (layer, *over):
                    set_pixel_size(self._viewer, each, pixel_size)
        finally:
            self._resizes = False
        session.image = image_from_layer(layer)  # once, when scale and units are both there

    def _follow(self, layer: Image | None) -> None:
        """Notice when the layer gets other data or lies elsewhere."""
        for followed, join in ((self._followed, False), (layer, True)):
            if followed is None:
                continue
            events = [followed.events.data]
            events += [getattr(followed.events, name) for name in like(followed)]
            for event in events:
                (event.connect if join else event.disconnect)(self._on_layer_changed)
        self._followed = layer

    def _on_layer_changed(self, event: Any) -> None:
        session, layer = self._session, self._followed
        if layer is None or session.image is None or self._resizes:
            return
        if event.type == "data":
            session.image = None
            try:
                self.choose(layer)
            except (ValueError, MemoryError, FileWriteError) as error:
                show_error(str(error))
            return
        for other in (session.mask, session.corrections):
            if other is not None:
                setattr(other, event.type, getattr(layer, event.type))
        if event.type in ("scale", "units"):
            session.image = image_from_layer(layer)

    def _on_inserted(self, event: Any) -> None:
        """Take up corrections that are opened from a file when there is no paint yet."""
        session, layer = self._session, event.value
        if session.image_layer is None or not isinstance(layer, Labels):
            return
        opened = layer.name.split(" [")[0] == CORRECTIONS and OWNER not in layer.metadata
        fits = tuple(layer.data.shape) == spatial_shape(session.image_layer)
        if not (opened and fits) or session.annotations.sections:
            return
        empty, session.corrections = session.corrections, None
        if empty is not None:
            self._viewer.layers.remove(empty)
        layer.name = CORRECTIONS
        session.corrections = self._layer(CORRECTIONS)

    def _take_up_names(self, told: ClassTable) -> None:
        """Call classes that are new here as the file of the corrections does."""
        session = self._session
        differing = [
            f"{number} {theirs.name!r}, which is {mine.name!r} here"
            for number, (mine, theirs) in enumerate(
                zip(session.classes, told, strict=False), start=1
            )
            if mine.name != theirs.name
        ]
        if differing:
            show_warning(
                f"The file of these corrections calls class {' and class '.join(differing)}. They "
                "are learnt as what they are called here. Rename the class in the table, or remove "
                "the layer."
            )
        else:
            session.classes = (*session.classes, *told[len(session.classes) :])

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
        if layer is not None and not _paintable(layer.data):
            layer.data = self._as_classes(layer)
        if layer is None:
            layer = new_layer(self._viewer, kind, image_layer, session.classes)
        elif kind == CORRECTIONS:
            self._take_up_names(layer.metadata.pop(CLASSES, ()))
        show_classes(layer, session.classes, background=kind == CORRECTIONS)
        if kind == MASK:
            layer.editable = False  # it is painted over by the network; corrections are not
        elif self._make_room not in layer.mouse_drag_callbacks:
            # Before napari's own, which paint.
            layer.mouse_drag_callbacks.insert(0, self._make_room)
        return layer

    def _as_classes(self, layer: Labels) -> npt.NDArray[np.uint8]:
        """A copy to paint on, made section by section since it may be large."""
        data = stored(layer.data)
        classes = scratch_zeros(data.shape)
        for index in np.ndindex(classes.shape[:-2]):
            section = read(data[index])
            if section.max() > 255:
                raise ValueError(
                    f"The layer {layer.name!r} holds numbers above 255, so these are objects and "
                    "not classes. Rename the layer, or remove it."
                )
            if section.any():
                make_room(classes, index)
                classes[index] = section
                drop_from_memory(classes)
        return classes

    def _make_room(self, layer: Labels, _: object) -> None:
        """See that a stroke can be written; where the disk is full the brush is laid down."""
        if layer.mode not in PAINTING:
            return
        try:
            make_room(layer.data, section_in_view(self._viewer, layer))
        except FileWriteError as error:
            layer.mode = "pan_zoom"
            show_error(str(error))

    def _on_view(self) -> None:
        if not self._rest.isActive():
            self._rest.start()

    def _drop_from_memory(self) -> None:
        for layer in (self._session.mask, self._session.corrections):
            if layer is not None:
                drop_from_memory(layer.data)

    def _recolour(self) -> None:
        session = self._session
        for layer, background in ((session.mask, False), (session.corrections, True)):
            if layer is not None:
                show_classes(layer, session.classes, background=background)

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


def _paintable(data: Any) -> bool:
    """Tell whether an array can be painted on as it is; one on disk may be read-only."""
    return isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.flags.writeable

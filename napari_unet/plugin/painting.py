"""Sees what is painted: from events of the corrections layer to a new snapshot of annotations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_unet.core.annotations import Annotations, annotations_from_array, extended
from napari_unet.core.held_out import Strokes, all_learnt, parted
from napari_unet.core.image import SectionIndex
from napari_unet.io.scratch import sections_in_use
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import section_in_view
from napari_unet.plugin.session import Session


class StrokeWatcher(QObject):
    """Keeps the session's annotations equal to what the corrections layer shows.

    napari tells of a stroke or a fill with ``paint``, but of undo and redo only with
    ``set_data``, and of neither where it happened. So the watcher compares the section in view
    and those that hold paint with its last snapshot; all others were empty and still are. Only
    an edit in three dimensions can reach further; then every section is looked at that was ever
    written to.
    """

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._layer: Labels | None = None
        self._touched: set[SectionIndex] = set()
        self._held_paint: set[SectionIndex] = set()
        self._reaches_far = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)  # events that come together, as those of an undo, count once
        self._timer.timeout.connect(self.look)
        session.events.corrections.connect(self._watch)
        session.events.classes.connect(self._rename)

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._unwatch()

    def _unwatch(self) -> None:
        if self._layer is not None:
            self._layer.events.paint.disconnect(self._on_stroke)
            self._layer.events.set_data.disconnect(self._on_change)
            self._layer.events.data.disconnect(self._scan)

    def _watch(self, layer: Labels | None) -> None:
        self._unwatch()
        self._layer = layer
        self._touched.clear()
        self._held_paint.clear()
        nothing = Annotations(self._session.classes)
        self._session.paint(nothing, all_learnt(nothing))
        if layer is not None:
            layer.events.paint.connect(self._on_stroke)
            layer.events.set_data.connect(self._on_change)
            layer.events.data.connect(self._scan)
            self._scan()

    def _on_stroke(self) -> None:
        """Look at a stroke when it has ended, before napari draws it: that takes longer."""
        self._on_change()
        if not self._reaches_far:
            self.look()
            self._timer.start()  # and again: of some edits napari tells before it makes them

    def _on_change(self) -> None:
        """Note that something changed; reads nothing, so that painting stays quick."""
        layer = self._layer
        if layer is None:
            return
        self._touched.add(section_in_view(self._viewer, layer))
        in_view = tuple(self._viewer.dims.order[-2:])
        rolled = in_view != (self._viewer.dims.ndim - 2, self._viewer.dims.ndim - 1)
        self._reaches_far |= layer.n_edit_dimensions > 2 or rolled
        self._timer.start()

    def _scan(self) -> None:
        """Look at every section that may hold paint, in a thread since there may be many."""
        layer = self._layer
        if layer is None:
            return
        session = self._session
        before, part = session.strokes, parted if session.holds_out else all_learnt

        def look_at_all() -> tuple[Annotations, Strokes]:
            written = sections_in_use(layer.data)
            found = annotations_from_array(layer.data, session.classes, written)
            return found, part(found, before)

        job = Job("Look at the corrections", call(look_at_all), parent=self)
        job.returned.connect(partial(self._on_scanned, layer, before))
        job.start()

    def _on_scanned(
        self, layer: Labels, before: Strokes, result: tuple[Annotations, Strokes]
    ) -> None:
        if layer is not self._layer:
            return
        session, (found, strokes) = self._session, result
        if len(found.classes) > len(session.classes):
            session.classes = found.classes
        same = session.strokes is before and session.classes == found.classes
        session.paint(found.with_sections({}, session.classes), strokes if same else None)
        self.look()  # for what was painted meanwhile

    def _rename(self) -> None:
        known = self._session.annotations
        if known.classes != self._session.classes:
            self._session.paint(known.with_sections({}, self._session.classes))

    def look(self) -> None:
        """Compare with the last snapshot, and take a new one if something changed."""
        self._timer.stop()
        layer, session = self._layer, self._session
        if layer is None:
            return
        if self._reaches_far:
            self._reaches_far = False
            self._scan()
            return
        known = session.annotations
        changed: dict[SectionIndex, npt.NDArray[np.uint8]] = {}
        # Redo can bring paint back to a section from which undo took all of it.
        self._held_paint |= set(known.sections)
        for index in self._touched | self._held_paint:
            now = np.asarray(layer.data[index])
            if not _same(now, index, known.sections):
                changed[index] = now.astype(np.uint8)  # a copy
        self._touched = {section_in_view(self._viewer, layer)}
        highest = max((int(section.max()) for section in changed.values()), default=0)
        if highest > len(session.classes):  # painted with a label that napari offered
            session.classes = extended(session.classes, highest)
            known = session.annotations
        if changed:
            session.paint(known.with_sections(changed, session.classes))


def _same(
    now: npt.NDArray[np.uint8],
    index: SectionIndex,
    known: Mapping[SectionIndex, npt.NDArray[np.uint8]],
) -> bool:
    if index in known:
        return bool(np.array_equal(now, known[index]))
    return not now.any()

"""Sees what is painted: from events of the corrections layer to a new snapshot of annotations."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_unet.core.annotations import (
    UNPAINTED,
    Annotations,
    annotations_from_array,
    box_of,
    extended,
)
from napari_unet.core.held_out import Strokes, all_learnt, parted
from napari_unet.core.image import SectionIndex
from napari_unet.io.scratch import sections_in_use
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import section_in_view
from napari_unet.plugin.session import Session

AT_ONCE = 8
"""Sections of which it is found out in one look where they hold paint."""


class StrokeWatcher(QObject):
    """Keeps the session's annotations equal to what the corrections layer shows.

    napari tells of a stroke or a fill with ``paint``, but of undo and redo only with
    ``set_data``, and of neither where it happened. So the watcher compares the section in view
    with its last snapshot, and those that held paint where they did, which is all that undo and
    redo can reach; all others were empty and still are. Only an edit in three dimensions can
    reach further; then every section is looked at that was ever written to.
    """

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._layer: Labels | None = None
        self._touched: set[SectionIndex] = set()
        self._seen: dict[SectionIndex, _Painted] = {}
        self._stale: set[SectionIndex] = set()  # those that changed where nobody looked
        self._looks = 0  # at the whole layer, and layers to look at; of older ones nothing is taken
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
        self._seen.clear()
        self._stale.clear()
        self._looks += 1
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
        self._looks += 1
        before, part = session.strokes, parted if session.holds_out else all_learnt

        def look_at_all() -> tuple[Annotations, Strokes]:
            written = sections_in_use(layer.data)
            found = annotations_from_array(layer.data, session.classes, written)
            return found, part(found, before)

        job = Job("Look at the corrections", call(look_at_all), parent=self)
        job.returned.connect(partial(self._on_scanned, self._looks, before))
        job.start()

    def _on_scanned(self, look: int, before: Strokes, result: tuple[Annotations, Strokes]) -> None:
        if look != self._looks:
            return
        session, (found, strokes) = self._session, result
        if len(found.classes) > len(session.classes):
            session.classes = found.classes
        self._stale |= self._seen.keys()
        same = session.strokes is before and session.classes == found.classes
        # What was painted meanwhile is newer; without it, it would be lost on disk for a moment.
        now, then = session.annotations.sections, before.painted
        newer = {
            index: now.get(index, np.zeros((1, 1), np.uint8))  # an empty section is left out
            for index in now.keys() | then.keys()
            if now.get(index) is not then.get(index)
        }
        session.paint(found.with_sections(newer, session.classes), strokes if same else None)
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
        unknown = sorted((known.sections.keys() - self._seen.keys()) | self._stale)
        for index in unknown[:AT_ONCE]:
            section = known.sections.get(index)
            if section is None:
                section = np.zeros(layer.data.shape[-2:], np.uint8)
            self._seen[index] = _Painted(section, section != UNPAINTED, self._seen.get(index))
            self._stale.discard(index)
        whole = self._touched | set(unknown[AT_ONCE:])
        for index in whole | self._seen.keys():
            now, seen = np.asarray(layer.data[index]), self._seen.get(index)
            if seen is not None and index not in whole and seen.is_in(now):
                continue
            before = known.sections.get(index)
            differs = now != (UNPAINTED if before is None else before)
            if differs.any():
                changed[index] = now.astype(np.uint8)  # a copy
                found = differs if seen is not None else differs | (now != UNPAINTED)
                self._seen[index] = _Painted(changed[index], found, seen)
        self._touched = {section_in_view(self._viewer, layer)}
        highest = max((int(section.max()) for section in changed.values()), default=0)
        if highest > len(session.classes):  # painted with a label that napari offered
            session.classes = extended(session.classes, highest)
            known = session.annotations
        if changed:
            session.paint(known.with_sections(changed, session.classes))


class _Painted:
    """What a section holds at all pixels that ever were painted.

    Redo can bring paint back where undo took it away, so these places are never fewer.

    Parameters
    ----------
    section
        What it holds.
    found
        Where paint has changed, or where all of it is.
    earlier
        The same before that.
    """

    MOST = 1 / 64
    """Of the pixels of a section; looking at more of them one by one takes longer than at all."""

    def __init__(
        self,
        section: npt.NDArray[np.uint8],
        found: npt.NDArray[np.bool_],
        earlier: _Painted | None = None,
    ) -> None:
        self._places: npt.NDArray[np.intp] | None = None
        self._values = section
        if earlier is not None and earlier._places is None:
            return
        places = np.empty(0, np.intp)
        box = box_of(found)
        if box is not None:
            rows, columns = np.nonzero(found[box])
            places = (rows + box[0].start) * section.shape[1] + columns + box[1].start
        if earlier is not None and earlier._places is not None:
            places = np.union1d(places, earlier._places)
        if len(places) <= self.MOST * section.size:
            self._places, self._values = places, section.take(places)

    def is_in(self, section: npt.NDArray[np.uint8]) -> bool:
        """Tell whether a section still holds the same there."""
        there = section if self._places is None else section.take(self._places)
        return bool(np.array_equal(there, self._values))

"""Leads from one place worth painting to the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Points
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_unet.core.foreign import Model
from napari_unet.core.live import LiveModel
from napari_unet.core.suggestions import (
    DONE_RADIUS,
    SPREAD,
    Place,
    Suggestions,
    far_from,
    section_spacing,
    sections_to_search,
    suggest,
)
from napari_unet.plugin.jobs import Job, Work
from napari_unet.plugin.layers import PLACE, middle_of_view, section_in_view, show_place
from napari_unet.plugin.overlays import Overlay
from napari_unet.plugin.session import Session

NEXT_KEY, PREVIOUS_KEY = "N", "Shift-N"
"""napari itself uses neither, for any kind of layer."""

CLOSEST = 2.0
"""Pixels of the screen for one of the image, at least: a stroke of 20 can be painted then."""

SEARCH_AGAIN = 2
"""After so many places the others are looked for anew, if something was learnt meanwhile."""


class Suggester(QObject):
    """Keeps the places that were visited and those that wait, and moves the view to them.

    The search is a job. The first place is shown when the section in view has been searched;
    those of other sections come to it.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._visited: list[Place] = []
        self._at = -1
        self._waiting: list[Place] = []
        self._job: Job | None = None
        self._searched: Model | LiveModel | None = None
        self._visited_before = 0
        self._goes_when_found = False
        self._found_nothing = False
        self._progress = (0.0, 0)
        self.ring = Overlay(viewer, session, PLACE, _make_ring, self)
        self._keys: list[str] = []
        for key, step in ((NEXT_KEY, self.next), (PREVIOUS_KEY, self.previous)):
            self._bind(key, step)
        session.events.image.connect(self._forget)
        for name in ("model", "statistics", "classes"):
            getattr(session.events, name).connect(self._tell)

    def let_go(self) -> None:
        """Stop searching, and leave the viewer alone."""
        if self._job is not None:
            self._job.stop()
            self._job = None
        for key in self._keys:
            self._viewer.bind_key(key, None)
        self._keys.clear()
        self.ring.let_go()

    # --- what others may ask -------------------------------------------------------------

    def next(self) -> None:
        """Go to the next place that is not painted yet; look for places if there is none."""
        if not self.ready:
            return
        for number in range(self._at + 1, len(self._visited)):
            if not self._is_painted(self._visited[number]):
                self._go_to(number)
                return
        while self._waiting:
            place = self._waiting.pop(0)
            if self._is_painted(place):
                continue
            self._visited.append(place)
            self._go_to(len(self._visited) - 1)
            visited = len(self._visited) - self._visited_before
            if visited >= SEARCH_AGAIN and self._session.shown is not self._searched:
                self._search()
            return
        self._goes_when_found = True
        self._search()

    def previous(self) -> None:
        """Go back to the place before."""
        if self.ready and self._at > 0:
            self._go_to(self._at - 1)

    def look_again(self) -> None:
        """Look for places anew, as the model is now and from the section in view outwards."""
        if not self.ready:
            return
        self._waiting.clear()
        self._goes_when_found = True
        if self._job is not None:
            self._job.stop()
            self._job = None  # what it still finds is of the past
        self._search()

    @property
    def ready(self) -> bool:
        """Whether there is an image, and a model that can doubt."""
        session = self._session
        return None not in (session.image, session.shown, session.statistics)

    @property
    def searching(self) -> bool:
        return self._job is not None

    @property
    def place(self) -> Place | None:
        """The place that was gone to last."""
        return self._visited[self._at] if self._at >= 0 else None

    @property
    def can_go_back(self) -> bool:
        return self._at > 0

    def status(self) -> str:
        """Return a line for people: where they are, and what is in doubt there."""
        if not self.ready:
            return ""
        if self._goes_when_found:
            done, total = self._progress
            count = f": section {min(int(done) + 1, total)} of {total}" if total > 1 else ""
            return f"Looking for places{count} …"
        if self._found_nothing:
            return "There is no doubtful place left around here. Look again from another section."
        if self.place is None:
            return f"Press {NEXT_KEY} to go where the model is unsure; paint there if the mask is wrong."
        image, place, classes = self._session.image, self.place, self._session.classes
        assert image is not None
        where = "".join(
            f", {'time' if axis == 'T' else 'section'} {number}"
            for axis, number in zip(image.axes, place.section, strict=False)
        )
        names = [
            classes[number - 1].name if number <= len(classes) else f"class {number}"
            for number in place.between
        ]
        total = len(self._visited) + len(self._waiting)
        return f"Place {self._at + 1} of {total}{where}: {names[0]} or {names[1]}?"

    # --- stepping ------------------------------------------------------------------------

    def _bind(self, key: str, step: Callable[[], None]) -> None:
        def pressed(viewer: object) -> None:
            step()

        try:
            self._viewer.bind_key(key, pressed)
        except ValueError:
            return  # somebody uses the key for something else; there are the buttons
        self._keys.append(key)

    def _go_to(self, number: int) -> None:
        self._at = number
        place, layer = self._visited[number], self._session.image_layer
        assert layer is not None
        self._found_nothing = False
        position = (*place.section, place.row, place.column)
        self.ring.show(np.array([position], np.float64), (0.0,) * layer.ndim)
        show_place(self._viewer, layer, place.section, place.row, place.column, CLOSEST)
        self.changed.emit()

    def _is_painted(self, place: Place) -> bool:
        corrections = self._session.corrections
        if corrections is None:
            return False
        rows, columns = (
            slice(max(0, middle - DONE_RADIUS), middle + DONE_RADIUS + 1)
            for middle in (place.row, place.column)
        )
        painted = np.argwhere(np.asarray(corrections.data[(*place.section, rows, columns)]))
        away = painted + np.array((rows.start - place.row, columns.start - place.column))
        return bool((np.hypot(*away.T) <= DONE_RADIUS).any())

    # --- searching -----------------------------------------------------------------------

    def _search(self) -> None:
        if self._job is not None:
            self.changed.emit()
            return
        session, layer = self._session, self._session.image_layer
        image, model, statistics = session.image, session.shown, session.statistics
        assert image is not None
        assert model is not None
        assert layer is not None
        sections = sections_to_search(image, section_in_view(self._viewer, layer))
        row, column = middle_of_view(self._viewer, layer)[-2:]
        painted, seen, device = dict(session.annotations.sections), self._visited[:], session.device

        def work(should_stop: Callable[[], bool]) -> Work:
            return suggest(
                model,
                image,
                sections=sections,
                centre=(row, column),
                painted=painted,
                seen=seen,
                statistics=statistics,
                device=device,
                should_stop=should_stop,
            )

        self._searched, self._visited_before = model, len(self._visited)
        self._found_nothing = False
        self._progress = (0.0, len(sections))
        job = Job("Look for places to paint", work, parent=self)
        self._job = job
        # While earlier places wait, they stay until all sections have been searched.
        job.yielded.connect(partial(self._on_found, job, not self._waiting))
        job.returned.connect(partial(self._on_found, job, True))
        job.failed.connect(partial(self._on_failed, job))
        job.finished.connect(partial(self._on_finished, job))
        job.start()
        self.changed.emit()

    def _on_found(self, job: Job, at_once: bool, found: Suggestions) -> None:
        if job is not self._job:
            return
        self._progress = (found.done, found.total)
        job.show_progress(found.done / found.total)
        if at_once or not self._waiting:
            assert self._session.image is not None
            meanwhile = self._visited[self._visited_before :]
            spacing = section_spacing(self._session.image)
            self._waiting = far_from(meanwhile, found.places, SPREAD, spacing)
        if self._goes_when_found and self._waiting:
            self._goes_when_found = False
            self._at = len(self._visited) - 1  # new places come after all that were visited
            self.next()
        self.changed.emit()

    def _on_failed(self, job: Job, _: str) -> None:
        """Do not say that there is nothing where it could not be looked for; what failed is told."""
        if job is self._job:
            self._goes_when_found = False

    def _on_finished(self, job: Job) -> None:
        if job is not self._job:
            return
        self._job = None
        self._found_nothing = self._goes_when_found
        self._goes_when_found = False
        self.changed.emit()

    def _forget(self, _: object = None) -> None:
        """Places are those of one image."""
        if self._job is not None:
            self._job.stop()
            self._job = None
        self._visited.clear()
        self._waiting.clear()
        self._at = -1
        self._goes_when_found = self._found_nothing = False
        self.ring.remove()
        self.changed.emit()

    def _tell(self, _: object = None) -> None:
        self.changed.emit()


def _make_ring(data: Any, **arguments: Any) -> Points:
    return Points(
        data,
        size=2 * DONE_RADIUS,
        face_color="transparent",
        border_color="white",
        border_width=0.05,
        opacity=0.9,
        **arguments,
    )

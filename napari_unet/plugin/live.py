"""Answers every stroke at once: keeps features of the sections in view, and a head on them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.config import LiveConfig
from napari_unet.core.devices import choose_device
from napari_unet.core.foreign import Model
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import SectionIndex
from napari_unet.core.live import LiveHead, LiveModel
from napari_unet.core.model import UNetModel
from napari_unet.core.tiling import Tile, plan_tiles
from napari_unet.plugin.answering import (
    Answer,
    Basis,
    Computed,
    Paint,
    Place,
    Question,
    answer,
    compute,
)
from napari_unet.plugin.jobs import step_back, tell_of
from napari_unet.plugin.layers import PAINTING, camera_of, draw, section_in_view
from napari_unet.plugin.learning import RUNNING, STOPPING
from napari_unet.plugin.session import Session
from napari_unet.plugin.stillness import Stillness

WHOLE = 1024
"""Sections of at most so many pixels a side are one tile."""

TILE = 512
"""Side of the tiles of larger sections."""

MOST_TILES = 16
"""Of a large section seen from afar, at most so many tiles in the middle of the view are drawn.

Fewer where their features, which are larger in an image of large pixels, take too much memory.
"""

AHEAD = 2
"""Sections above and below the view whose features are computed before anybody looks."""

GLANCE_MILLISECONDS = 1
"""How often results of the threads are looked for, while some are expected."""


class Live(QObject):
    """Refits a head at every stroke, and draws what it finds into the mask.

    Two threads work for it. One computes features with the network: of what is in view, of what
    was painted, then of the sections around. The other one learns and answers from features that
    are there. While new weights come from a training, strokes are answered with the earlier ones
    until all features of the new ones are there.
    """

    answered = Signal()
    """The mask in view shows what was learnt from the newest strokes."""
    section_answered = Signal(tuple)
    """All of a section is drawn as the session's live model sees it."""
    section_drawn = Signal(tuple)
    """Some of a section is."""
    failed = Signal(str)

    def __init__(self, viewer: Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._config = LiveConfig()
        self._enabled = True
        self._learns = False
        self._now: Basis | None = None
        self._next: Basis | None = None
        self._corrections: Labels | None = None
        self._parted: Strokes | None = None
        self._painted: dict[SectionIndex, tuple[Paint, list[Tile]]] = {}
        self._given_up: set[Place] = set()  # of what is computed ahead
        self._awake = self._computing = self._asking = False
        self._drawn: tuple[LiveHead | None, frozenset[Place], bool] = None, frozenset(), False
        self._threads = {
            answer: ThreadPoolExecutor(1, "live head"),
            compute: ThreadPoolExecutor(1, "features", initializer=step_back),
        }
        # PyTorch's optimisers need it at their first step. Left to that, a second of importing,
        # and garbage collections with it, would hold up the window in the middle of painting.
        self._threads[answer].submit(import_module, "torch._dynamo")
        self._running: list[tuple[Future[Any], Callable[[Future[Any]], None]]] = []
        self._glance = QTimer(self)
        self._glance.setInterval(GLANCE_MILLISECONDS)
        self._glance.timeout.connect(self._look_for_results)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(0)  # events that come together are answered once
        self._rest.timeout.connect(self._go_on)
        self._stillness = Stillness(self)
        viewer.dims.events.point.connect(self._on_view)
        camera_of(viewer).events.connect(self._on_view)
        session.events.strokes.connect(self._on_stroke)
        session.events.viewed.connect(self._wake)
        session.events.classes.connect(self._wake)
        session.events.mask.connect(self._wake)
        session.events.corrections.connect(self._watch)
        session.events.statistics.connect(self._wake)
        session.events.image.connect(self._forget)
        session.events.device.connect(self._forget)
        session.events.model.connect(self._on_model)

    @property
    def enabled(self) -> bool:
        """Whether strokes are answered at once."""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._enabled = on
        if on:
            self._wake()
        else:
            self._forget()

    @property
    def config(self) -> LiveConfig | None:
        """How strokes are answered; None while they are not."""
        return self._config if self._enabled else None

    @property
    def answering(self) -> bool:
        """Whether an answer is on its way, or soon will be."""
        return self._awake or self._asking

    @property
    def busy(self) -> bool:
        """Whether features are computed, or an answer is."""
        return self.answering or self._computing

    @property
    def holds_picture(self) -> bool:
        """Whether the window waits with drawing a stroke until its answer is there."""
        return self._stillness.holds

    def let_go(self) -> None:
        """Stop following the viewer; what is being computed comes to nothing."""
        self._now = self._next = None
        self._awake = self._computing = self._asking = False
        self._stillness.end()
        self._viewer.dims.events.point.disconnect(self._on_view)
        camera_of(self._viewer).events.disconnect(self._on_view)
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def follow_training(self, state: str) -> None:
        """Compute nothing ahead while the processor is needed for learning, if there is no GPU."""
        self._learns = state in (RUNNING, STOPPING)
        self._wake()

    # --- what happens around -------------------------------------------------------------

    def _wake(self, _: object = None) -> None:
        self._awake = True
        self._rest.start()

    def _on_view(self, _: object = None) -> None:
        self._stillness.end()  # an eye wants to see where it goes
        self._wake()

    def _on_stroke(self, _: object = None) -> None:
        # Not with the next events, which may be there already and be slow, such as drawing.
        self._rest.stop()
        waiting = self._asking
        self._go_on()
        if self._asking and not waiting:
            self._stillness.begin()

    def _on_paint(self, _: object = None) -> None:
        self._stillness.end()  # a hand wants to see what it paints

    def _watch(self, layer: Labels | None) -> None:
        if self._corrections is not None:
            self._corrections.events.mode.disconnect(self._wake)
            self._corrections.events.labels_update.disconnect(self._on_paint)
        self._corrections = layer
        if layer is not None:
            layer.events.mode.connect(self._wake)
            layer.events.labels_update.connect(self._on_paint)

    def _forget(self, _: object = None) -> None:
        self._now = self._next = None
        self._given_up.clear()
        self._forget_places()
        self._session.live = None
        self._wake()

    def _on_model(self, model: Model | None) -> None:
        if isinstance(model, UNetModel) and self._session.live is not None:
            # New weights of the same network: the earlier answer until theirs is there. Those that
            # were begun with are gone on with: others may come faster than features are computed.
            if self._next is None or not self._next.begun:
                self._next = self._basis(model)
        else:
            self._now = self._next = None
        self._forget_places()  # tiles depend on the network
        self._wake()

    def _forget_places(self) -> None:
        self._parted = None
        self._painted = {}

    def _basis(self, model: UNetModel) -> Basis:
        return Basis(model, choose_device(self._session.device))

    # --- what is needed ------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether there is paint to learn from, or a brush in somebody's hand."""
        session, corrections = self._session, self._corrections
        if not self._enabled or session.learner is None or session.statistics is None:
            return False
        if session.image is None or session.mask is None or corrections is None:
            return False
        if self._viewer.dims.ndisplay != 2 or not self._is_upright():
            return False
        return bool(session.strokes.learnt.sections) or corrections.mode in PAINTING

    def _is_upright(self) -> bool:
        """Whether sections lie in the plane of the view."""
        order = tuple(self._viewer.dims.order)
        return order[-2:] == (len(order) - 2, len(order) - 1)

    def _plan(self) -> list[Tile]:
        image, model = self._session.image, self._session.learner
        assert image is not None
        assert model is not None
        height, width = image.shape[-2:]
        size = WHOLE if max(height, width) <= WHOLE else TILE
        return plan_tiles(height, width, size, 2**model.network.config.depth)

    def _tiles_in_view(self) -> list[Tile]:
        plan, mask = self._plan(), self._session.mask
        assert mask is not None
        (top, left), (bottom, right) = np.asarray(mask.corner_pixels)[:, -2:].tolist()
        if bottom <= top or right <= left:  # nothing has been drawn yet
            return plan[:1]
        in_view = [
            tile
            for tile in plan
            if tile.top <= bottom
            and tile.left <= right
            and tile.top + tile.height > top
            and tile.left + tile.width > left
        ]

        def from_the_middle(tile: Tile) -> float:
            down = tile.top + tile.height / 2 - (top + bottom) / 2
            across = tile.left + tile.width / 2 - (left + right) / 2
            return float(down**2 + across**2)

        most = MOST_TILES if self._now is None else self._now.features.fits(MOST_TILES)
        return sorted(in_view, key=from_the_middle)[:most]

    def _painted_places(self) -> dict[Place, Paint]:
        """The paint of every tile that holds some."""
        strokes = self._session.strokes
        if self._parted is not strokes:
            self._parted = strokes
            plan, known = self._plan(), self._painted
            self._painted = {}
            for index in {**strokes.learnt.sections, **strokes.held_out.sections}:
                paint = Paint(
                    strokes.learnt.sections.get(index), strokes.held_out.sections.get(index)
                )
                if index in known and known[index][0] == paint:
                    self._painted[index] = known[index]
                else:
                    self._painted[index] = paint, [tile for tile in plan if paint.is_in(tile)]
        return {
            (index, tile): paint
            for index, (paint, tiles) in self._painted.items()
            for tile in tiles
        }

    # --- features ------------------------------------------------------------------------

    def _go_on(self) -> None:
        self._awake = False
        session = self._session
        if not self._ready():
            if not session.strokes.learnt.sections:
                session.live = None
            return
        if not session.strokes.learnt.sections:
            session.live = None
            if self._now is not None:
                self._now.examples, self._now.head = {}, None
        if self._now is None:
            assert session.learner is not None
            self._now = self._basis(session.learner)
        self._ask()
        self._compute()

    def _compute(self) -> None:
        """Have the most urgent features computed that are not there yet."""
        if self._computing:
            return  # the end of that wakes us again
        session, wanted = self._session, self._most_urgent()
        if wanted is None:
            return
        basis, place = wanted
        painted = self._painted_places().get(place)
        self._computing = basis.begun = True
        then = partial(self._on_computed, place)
        self._have(compute, then, basis, session.image, session.statistics, place, painted)

    def _most_urgent(self) -> tuple[Basis, Place] | None:
        now, coming = self._now, self._next
        layer, image = self._session.image_layer, self._session.image
        assert layer is not None
        assert image is not None
        index = section_in_view(self._viewer, layer)
        in_view = [(index, tile) for tile in self._tiles_in_view()]
        painted = self._painted_places()
        for basis in (now, coming):
            if basis is None:
                continue
            for place in in_view:
                if place not in basis.features:
                    return basis, place
            for place, paint in painted.items():
                known = basis.examples.get(place)
                stale = known is None or not known.paint.is_like(paint, place[1])
                if stale and place not in basis.features:
                    return basis, place
        if now is None or not index or (self._learns and now.device.type == "cpu"):
            return None
        sections = (
            (*index[:-1], z)
            for distance in range(1, AHEAD + 1)
            for z in (index[-1] + distance, index[-1] - distance)
            if 0 <= z < image.shape[len(index) - 1]
        )
        near = in_view + [(section, tile) for section in sections for _, tile in in_view]
        near = [place for place in near if place not in self._given_up]
        near = near[: now.features.fits(len(near))]
        for place in reversed(near):  # others make room
            now.features.get(place)
        return next(((now, place) for place in near if place not in now.features), None)

    def _on_computed(self, place: Place, future: Future[Computed]) -> None:
        self._computing = False
        if not future.cancelled() and future.exception() is not None and self._is_ahead(place):
            self._given_up.add(place)  # a section that cannot be read, of which nobody asked
            self._wake()
            return
        done: Computed | None = self._result(future, "Features")
        if done is None:
            return
        if done.basis in (self._now, self._next):
            done.basis.space = done.space
            done.basis.features.add(done.place, done.features)
            if done.examples is not None:
                done.basis.examples[done.place] = done.examples
        self._wake()

    def _is_ahead(self, place: Place) -> bool:
        """Whether a place is neither in view nor painted, so that it was computed ahead."""
        layer = self._session.image_layer
        if layer is None or not self._ready():
            return False
        return place[0] != section_in_view(self._viewer, layer) and place not in (
            self._painted_places()
        )

    # --- answers -------------------------------------------------------------------------

    def _ask(self) -> None:
        """Have the head learn what is new, and say what it sees in view."""
        if self._asking:
            return  # the end of that wakes us again
        basis = self._next if self._is_complete(self._next) else self._now
        assert basis is not None
        layer, session = self._session.image_layer, self._session
        assert layer is not None
        index = section_in_view(self._viewer, layer)
        shown = {}
        for tile in self._tiles_in_view():
            features = basis.features.get((index, tile))
            if features is not None:
                shown[index, tile] = features
        changed, kept = {}, {}
        for place, paint in self._painted_places().items():
            known, features = basis.examples.get(place), basis.features.get(place)
            if known is not None and known.paint.is_like(paint, place[1]):
                kept[place] = known
            elif features is not None:
                changed[place] = paint, features
            elif known is not None:
                kept[place] = known  # until the features are there again
        if all(each.learnt is None for each in kept.values()) and not any(
            paint.teaches(tile) for (_, tile), (paint, _) in changed.items()
        ):
            return
        head = basis.head
        learns = bool(changed) or head is None or set(basis.examples) != set(kept)
        learns |= head is not None and len(head.bias) != len(session.classes)
        is_shown = session.shows_answers
        if not learns and self._drawn == (head, frozenset(shown), is_shown) and basis is self._now:
            return
        self._asking = True
        question = Question(
            basis, session.classes, changed, kept, shown, session.strokes.painted, learns
        )
        self._have(answer, self._on_answered, question)

    def _is_complete(self, basis: Basis | None) -> bool:
        """Whether all is there to answer with these weights instead of the earlier ones."""
        layer = self._session.image_layer
        if basis is None or layer is None:
            return False
        index = section_in_view(self._viewer, layer)
        return all((index, tile) in basis.features for tile in self._tiles_in_view()) and all(
            place in basis.examples or place in basis.features for place in self._painted_places()
        )

    def _on_answered(self, future: Future[Answer]) -> None:
        self._asking = False
        done: Answer | None = self._result(future, "Answer to a stroke")
        if done is not None:
            self._take_up(done)
        self._stillness.end()

    def _take_up(self, done: Answer) -> None:
        session, basis = self._session, done.question.basis
        mask, layer = session.mask, session.image_layer
        if basis is self._next:
            self._now, self._next = basis, None
            if basis.model is not session.learner and session.learner is not None:
                self._next = self._basis(session.learner)
        if basis is not self._now or basis.space is None or mask is None or layer is None:
            self._wake()
            return
        basis.examples, basis.head = done.examples, done.head
        session.rivals = done.rivals
        if session.live is None or session.live.head is not done.head:
            session.live = LiveModel(
                basis.model,
                done.question.classes,
                basis.space,
                done.head,
                done.question.painted,
            )
        is_shown = session.shows_answers
        self._drawn = done.head, frozenset(done.classes), is_shown
        if not is_shown:  # the network does better, or an earlier version is looked at
            self._wake()
            return
        for (index, tile), classes in done.classes.items():
            if not draw(mask, index, classes, tile.slices):
                self.enabled = False
                self.failed.emit("")
                return
            self.section_drawn.emit(index)
        index = section_in_view(self._viewer, layer)
        if {place for place in done.classes if place[0] == index}:
            mask.refresh(extent=False)
            if len(done.classes) == len(self._plan()):
                self.section_answered.emit(index)
            self.answered.emit()
        self._wake()

    # --- threads -------------------------------------------------------------------------

    def _have(
        self, function: Callable[..., Any], then: Callable[[Future[Any]], None], *arguments: Any
    ) -> None:
        """Call a function in its thread, and another one in this thread when it has ended.

        No signal crosses threads: this object may be gone by then.
        """
        future = self._threads[function].submit(function, *arguments, self._config)
        self._running.append((future, then))
        self._glance.start()

    def _look_for_results(self) -> None:
        ended = [each for each in self._running if each[0].done()]
        self._running = [each for each in self._running if each not in ended]
        if not self._running:
            self._glance.stop()
        for future, then in ended:
            then(future)

    def _result(self, future: Future[Any], what: str) -> Any:
        """What a thread found, or None after an error, which is told."""
        if future.cancelled():
            return None
        problem = future.exception()
        if problem is None:
            return future.result()
        self.enabled = False
        self.failed.emit(tell_of(problem, what))
        return None

"""Learning from strokes, judged by strokes that are held out: it never ends below where it began."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from napari_unet.core.annotations import Annotations
from napari_unet.core.config import LiveConfig, TrainingConfig
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.judging import Judge, NetworkJudge, ShownJudge
from napari_unet.core.measuring import CLEARLY_BETTER
from napari_unet.core.metrics import Scores, mean_iou
from napari_unet.core.model import UNetModel
from napari_unet.core.network import StoppedError
from napari_unet.core.prediction import known_statistics, never
from napari_unet.core.training import Growing, TrainingStep, train

LAST_LOOK_SECONDS = 0.5
"""How long it is still waited for figures of the newest weights when somebody stops.

Where that is too short, or would be if it took as long as the look before, the best weights that
were looked at before are kept. Whether these still do as well as what learning began with is
measured first, however long it takes, if paint was held out since they were looked at.
"""

REST = 2.0
"""After a look at new weights, training goes on for at least so many times as long as that took."""


@dataclass(frozen=True, eq=False)
class Version:
    """Weights that did at least as well on the held-out strokes as all before.

    Parameters
    ----------
    number
        0 is what learning began with. Weights that do as well as the version before take its
        number unless that is 0, as do those that nothing can be measured of where it was not
        either; all others get a new one.
    model
        The weights, and what is known of them.
    scores
        On the held-out strokes at that time, by class; empty while there were too few.
    pieces
        How many pieces of paint were held out then.
    """

    number: int
    model: UNetModel
    scores: Scores
    pieces: int

    @property
    def iou(self) -> float | None:
        """Mean IoU over the held-out classes; None while fewer than two are held out."""
        return mean_iou(self.scores)


@dataclass(frozen=True, eq=False)
class LearningStep:
    """What one step of learning brought."""

    training: TrainingStep
    best: Version | None = None
    """The best weights so far, where new ones were looked at."""
    is_new: bool = False
    """Whether these are the new ones."""
    changed: bool = False
    """Whether these are others than before: new ones, or what learning began with again."""
    before: Version | None = None
    """The best weights before these, measured on the same strokes."""
    first: Version | None = None
    """What learning began with, measured on the same strokes."""
    scores: Scores | None = None
    """Of the new weights on the held-out strokes, better or not; None if that was not waited for."""


def unanswered() -> None:
    """Say that no live head answers strokes."""


def learn(
    model: UNetModel,
    image: ImageArray,
    strokes: Strokes,
    config: TrainingConfig | None = None,
    *,
    statistics: GreyStatistics | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
    clock: Callable[[], float] = time.monotonic,
    grow: Growing = UNetModel.with_classes,
    origin: UNetModel | None = None,
    live: Callable[[], LiveConfig | None] = unanswered,
) -> Generator[LearningStep, Strokes | None, UNetModel]:
    """Train a copy of a model on strokes, and keep the weights that do best on held-out ones.

    Where held-out strokes come or change meanwhile, the best weights so far are measured anew, and
    so are those that learning began with. These are gone back to if they do clearly better
    (`CLEARLY_BETTER`), and at the end if they do better at all: it never ends below them.

    On the CPU, the same strokes and seed give the same course of training. Which of its weights
    are looked at, and so can be kept, is told by the clock; all are with ``publish_seconds`` 0.

    Parameters
    ----------
    model
        Where to begin.
    image
        Grey image whose axes end with (Y, X).
    strokes
        What is learnt from, and what is only measured. Two classes must be held out for weights
        to be judged; until then, the newest are the best.
    config, statistics, device, should_stop, clock, grow, origin
        See `train`. Weights are looked at every ``config.publish_seconds``, less often where that
        takes long (`REST`), and at the end.
    live
        Asked at every look how strokes are answered by now, if they are: networks are judged
        together with a live head then, as they are shown (`ShownJudge`). Else they are judged by
        what they find themselves.

    Yields
    ------
    LearningStep
        Strokes sent back replace the earlier ones. The last one tells of the weights at the end;
        where a step was given up, one before that asks for strokes that came meanwhile.

    Returns
    -------
    UNetModel
        The best weights, with a record of this training at the end of their history: after
        ``kept_step`` steps they were what they are, and after ``measured_step`` the newest ones
        were looked at. The model itself, if it was to stop before the first step.

    Raises
    ------
    ValueError, MemoryError
        See `train`.
    """
    config = config or TrainingConfig()
    statistics = statistics or known_statistics(image)
    patience: float | None = None
    began, took = clock(), 0.0  # the look that goes on, and how long the one before took

    def hurries() -> bool:
        nonlocal patience
        if not should_stop():
            return False
        now = clock()
        if patience is None:
            is_soon_there = began + took <= now + LAST_LOOK_SECONDS
            patience = now + LAST_LOOK_SECONDS if is_soon_there else now
        return now >= patience

    @cache
    def judge(config: LiveConfig | None) -> Judge:
        if config is None:
            return NetworkJudge(image, statistics, device)
        return ShownJudge(image, statistics, device, config)

    versions = _Versions(model, strokes, lambda: judge(live()), hurries)
    training = train(
        model,
        image,
        _of_painted_classes(strokes.learnt, model),
        config,
        statistics=statistics,
        device=device,
        should_stop=should_stop,
        clock=clock,
        grow=grow,
        origin=origin,
    )
    annotations: Annotations | None = None
    step: TrainingStep | None = None
    rests_until = -math.inf
    while True:
        try:
            step = training.send(annotations)
        except StopIteration as end:
            final: UNetModel = end.value
            break
        if step.model is None or clock() < rests_until:
            news = yield LearningStep(step)
        else:
            began = clock()
            judged = versions.look_at(step)
            ended = clock()
            took = ended - began
            rests_until = ended + REST * took if config.publish_seconds else ended
            news = yield judged
        annotations = None
        if news is not None:
            annotations = news.learnt
            versions.strokes = news
    if step is None:
        return model
    if should_stop():
        news = yield LearningStep(step)
        versions.strokes = news or versions.strokes
    began = clock()
    yield versions.look_at(replace(step, model=final), at_the_end=True)
    best = versions.best
    if best.model is final:
        return final
    record = {
        **final.history[-1],
        "kept_step": best.model.steps - model.steps,
        "measured_step": versions.newest_measured.steps - model.steps,
    }
    return replace(best.model, history=(*model.history, record))


class _Versions:
    """Knows the best weights so far, by the strokes that are held out by now."""

    def __init__(
        self,
        model: UNetModel,
        strokes: Strokes,
        judge_now: Callable[[], Judge],
        hurries: Callable[[], bool],
    ) -> None:
        self.strokes = self._judged_on = strokes
        self.best = self._first = Version(0, model, {}, strokes.held_out_pieces)
        self._aside: Version | None = None  # the best that had figures, while nothing has
        self.newest_measured = model
        self._highest = self._last_measured = 0
        self._judge_now = judge_now
        self._judge = judge_now()
        self._hurries = hurries
        with suppress(StoppedError):
            self._judge_anew(hurries)

    def look_at(self, step: TrainingStep, *, at_the_end: bool = False) -> LearningStep:
        """Return what came of a step of training that hands out weights.

        While it learns, figures of a few strokes are let differ by chance; at the end the better
        weights are the better ones.
        """
        assert step.model is not None
        before = earlier = self.best
        judged_on, strokes = self._judged_on, self.strokes  # figures of others do not compare
        judge, self._judge = self._judge, self._judge_now()
        if judge is not self._judge or not _are_alike(judged_on.held_out, strokes.held_out):
            before = self._judge_anew()
        elif self._judge.minds_learnt and not _are_alike(judged_on.learnt, strokes.learnt):
            with suppress(StoppedError):
                before = self._judge_anew(self._hurries)
        best, new = self.best, None
        with suppress(StoppedError):
            new = self._measured(best.number or self._highest + 1, step.model, self._hurries)
        if new is not None:
            self.newest_measured = new.model
            if new.iou is None:
                takes_its_place = best.number > self._last_measured
            else:
                takes_its_place = best.iou is None or new.iou == best.iou
            if not takes_its_place:
                new = replace(new, number=self._highest + 1)
            if new.iou is None or best.iou is None or new.iou >= best.iou:
                if new.iou is None and 0 < best.number <= self._last_measured:
                    self._aside = best
                self.best = new
                self._highest = max(self._highest, new.number)
                self._note(new)
        if at_the_end and self._is_worse_than_at_first(self.best):
            self.best = self._first
        kept = [each.model for each in (self._first, self._aside, self.best) if each is not None]
        self._judge.keep_only(kept)
        return LearningStep(
            step,
            self.best,
            is_new=self.best is new,
            changed=self.best.model is not earlier.model,
            before=before,
            first=self._first,
            scores=None if new is None else new.scores,
        )

    def _goes_on(self) -> bool:
        """Ask, since whoever is asked may have it wait for the end of a pause; never stop."""
        self._hurries()
        return False

    def _judge_anew(self, should_stop: Callable[[], bool] | None = None) -> Version:
        """Measure what learning began with, and the best so far, and choose between them.

        Returns what was the best. All of it is measured, unless `should_stop` says otherwise.
        """
        should_stop = should_stop or self._goes_on
        first = best = self._measured(0, self._first.model, should_stop)
        if self.best is not self._first:
            best = self._measured(self.best.number, self.best.model, should_stop)
        aside = self._aside
        if aside is not None and best.iou is not None:
            aside = self._measured(aside.number, aside.model, should_stop)
        self._note(best)
        self._judged_on, self._first, self.best = self.strokes, first, best
        if aside is not None and best.iou is not None:
            self._aside = None
            if aside.iou is not None and aside.iou > best.iou:
                self.best = aside
        if self._is_worse_than_at_first(self.best, CLEARLY_BETTER):
            self.best = first
        return best

    def _is_worse_than_at_first(self, best: Version, by_more_than: float = 0.0) -> bool:
        first = self._first.iou
        return first is not None and best.iou is not None and first > best.iou + by_more_than

    def _note(self, version: Version) -> None:
        """Note which versions have figures: these are not replaced by weights that have none."""
        if version.iou is not None:
            self._last_measured = max(self._last_measured, version.number)

    def _measured(self, number: int, model: UNetModel, should_stop: Callable[[], bool]) -> Version:
        scores = self._judge.scores(model, self.strokes, should_stop)
        return Version(number, model, scores, self.strokes.held_out_pieces)


def _of_painted_classes(annotations: Annotations, model: UNetModel) -> Annotations:
    """The same without names of classes that are neither painted nor known to the network.

    When these are painted, `grow` is asked; by then the live head has learnt something of them.
    """
    known = max(len(model.classes), annotations.highest)
    return annotations.with_sections({}, annotations.classes[:known])


def _are_alike(one: Annotations, other: Annotations) -> bool:
    """Whether the same is painted."""
    return one.sections.keys() == other.sections.keys() and all(
        painted is other.sections[index] or np.array_equal(painted, other.sections[index])
        for index, painted in one.sections.items()
    )

"""Learning from strokes, judged by strokes that are held out: it never ends below where it began."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from napari_unet.core.annotations import Annotations
from napari_unet.core.config import TrainingConfig
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.measuring import measure
from napari_unet.core.metrics import Scores, mean_iou
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import known_statistics, never
from napari_unet.core.training import Growing, TrainingStep, train


@dataclass(frozen=True, eq=False)
class Version:
    """Weights that did at least as well on the held-out strokes as all before.

    Parameters
    ----------
    number
        0 is what learning began with. Weights that do as well as the version before, or that
        nothing could be measured of, take its number unless that is 0; better ones get the next.
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
    before: Version | None = None
    """The best weights before these, measured on the same strokes."""
    scores: Scores | None = None
    """Of the new weights on the held-out strokes, better or not."""


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
) -> Generator[LearningStep, Strokes | None, UNetModel]:
    """Train a copy of a model on strokes, and keep the weights that do best on held-out ones.

    Parameters
    ----------
    model
        Where to begin.
    image
        Grey image whose axes end with (Y, X).
    strokes
        What is learnt from, and what is only measured. Two classes must be held out for weights
        to be judged; until then, the newest are the best.
    config, statistics, device, should_stop, clock, grow
        See `train`. Weights are looked at every ``config.publish_seconds``, and at the end.

    Yields
    ------
    LearningStep
        Strokes sent back replace the earlier ones. The last one tells of the weights at the end.

    Returns
    -------
    UNetModel
        The best weights, with a record of this training at the end of their history.

    Raises
    ------
    ValueError, MemoryError
        See `train`.
    """
    statistics = statistics or known_statistics(image)
    judge = _Judge(image, strokes.held_out, strokes.held_out_pieces, statistics, device)
    best = judge.version(0, model)
    training = train(
        model,
        image,
        strokes.learnt,
        config,
        statistics=statistics,
        device=device,
        should_stop=should_stop,
        clock=clock,
        grow=grow,
    )
    annotations: Annotations | None = None
    step: TrainingStep | None = None
    while True:
        try:
            step = training.send(annotations)
        except StopIteration as end:
            final: UNetModel = end.value
            break
        if step.model is None:
            news = yield LearningStep(step)
        else:
            before, new, best = judge.compare(best, step.model)
            news = yield LearningStep(step, best, best.model is step.model, before, new.scores)
        annotations = None
        if news is not None:
            annotations = news.learnt
            judge.held_out, judge.pieces = news.held_out, news.held_out_pieces
    before, new, best = judge.compare(best, final)
    if step is not None:
        step = replace(step, model=final)
        yield LearningStep(step, best, best.model is final, before, new.scores)
    if best.model is final:
        return final
    record = {**final.history[-1], "kept_step": best.model.steps - model.steps}
    return replace(best.model, history=(*model.history, record))


@dataclass
class _Judge:
    """Measures models on the strokes that are held out by now."""

    image: ImageArray
    held_out: Annotations
    pieces: int
    statistics: GreyStatistics
    device: str

    def __post_init__(self) -> None:
        self._judged_on: Annotations | None = None

    def version(self, number: int, model: UNetModel) -> Version:
        """Return a model with its scores."""
        self._judged_on = self.held_out
        scores = measure(
            model, self.image, self.held_out, statistics=self.statistics, device=self.device
        )
        return Version(number, model, scores, self.pieces)

    def compare(self, best: Version, model: UNetModel) -> tuple[Version, Version, Version]:
        """Return the best so far and new weights, measured on the same, and the better of them."""
        if self._judged_on is not self.held_out:  # figures of other strokes do not compare
            best = self.version(best.number, best.model)
        new = self.version(max(best.number, 1), model)
        if new.iou is None or best.iou is None or new.iou == best.iou:
            return best, new, new
        if new.iou > best.iou:
            new = replace(new, number=best.number + 1)
            return best, new, new
        return best, new, best

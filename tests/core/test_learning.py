import itertools
from functools import partial

import numpy as np
import pytest

from napari_unet.core import judging, learning
from napari_unet.core.annotations import Annotations, SegmentationClass
from napari_unet.core.config import LiveConfig
from napari_unet.core.held_out import Strokes, all_learnt, parted
from napari_unet.core.image import grey_statistics
from napari_unet.core.judging import ShownJudge
from napari_unet.core.learning import LearningStep, learn
from napari_unet.core.measuring import measure
from napari_unet.core.metrics import mean_iou
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish
from napari_unet.core.training import train
from tests.core.test_training import same, trained, weights
from tests.examples import QUICK_TRAINING, disc_image, tiny_model

LEARNING = QUICK_TRAINING.replace(memory=0.0)


def halves(learnt: Annotations, held_out: Annotations) -> Strokes:
    """Strokes of which section 0 is learnt from, and section 1 only measured."""
    return Strokes(
        Annotations(learnt.classes, {(0,): learnt.sections[0,]}),
        Annotations(learnt.classes, {(1,): held_out.sections[1,]}),
    )


def turned_round(annotations: Annotations) -> Annotations:
    """The same with the two classes exchanged: strokes that are all wrong."""
    return Annotations(annotations.classes, {k: 3 - v for k, v in annotations.sections.items()})


@pytest.fixture(scope="module")
def able() -> UNetModel:
    """A model that knows discs."""
    image, annotations = disc_image(1, seed=5)
    return trained(tiny_model(), image, annotations, LEARNING.replace(steps=60))


def iou(model: UNetModel, image, strokes: Strokes) -> float:
    found = measure(model, image, strokes.held_out, statistics=grey_statistics(image), device="cpu")
    return mean_iou(found)


def run(
    model, image, strokes, steps=12, config=LEARNING, **more
) -> tuple[UNetModel, list[LearningStep]]:
    shown: list[LearningStep] = []
    work = learn(model, image, strokes, config.replace(steps=steps), device="cpu", **more)
    return finish(work, shown.append), shown


def test_strokes_that_are_all_wrong_never_end_below_where_it_began(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    alone = trained(able, image, strokes.learnt, LEARNING.replace(steps=12))
    assert iou(alone, image, strokes) < iou(able, image, strokes) - 0.1  # they do harm
    kept, shown = run(able, image, strokes)
    assert iou(kept, image, strokes) >= iou(able, image, strokes)
    assert same(weights(kept), weights(able))
    assert all(step.best.number == 0 for step in shown if step.best)
    assert not any(step.is_new for step in shown)


def test_good_strokes_bring_better_versions_one_after_the_other() -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    untrained = tiny_model()
    kept, shown = run(untrained, image, strokes, steps=40)
    numbers = [step.best.number for step in shown if step.best]
    figures = [step.best.iou for step in shown if step.best]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 1
    assert figures == sorted(figures)
    assert iou(kept, image, strokes) >= figures[-1] > iou(untrained, image, strokes)
    for before, after in itertools.pairwise(step for step in shown if step.best):
        assert after.is_new == (after.best.model is not before.best.model)


def test_the_record_of_weights_that_were_kept_tells_their_step(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    kept, _ = run(able, image, strokes)
    assert kept.history[:-1] == able.history
    assert (kept.history[-1]["steps"], kept.history[-1]["kept_step"]) == (12, 0)


def test_without_held_out_strokes_learning_is_training(able) -> None:
    image, annotations = disc_image(2)
    kept, shown = run(able, image, all_learnt(annotations))
    expected = finish(train(able, image, annotations, LEARNING.replace(steps=12), device="cpu"))
    assert same(weights(kept), weights(expected))
    assert all(step.is_new and step.best.iou is None for step in shown)
    assert {step.best.number for step in shown} == {1}  # 0 is what it began with


def test_a_version_that_was_measured_is_not_replaced_where_nothing_can_be_measured_any_more() -> (
    None
):
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    work = learn(tiny_model(), image, strokes, LEARNING.replace(steps=40), device="cpu")
    best = None
    while best is None or not best.number:
        best = next(work).best
    later = [work.send(all_learnt(strokes.learnt)), next(work)]
    assert best.iou is not None
    assert [step.best.iou for step in later] == [None, None]
    assert all(step.is_new for step in later)
    assert [step.best.number for step in later] == [best.number + 1] * 2


def test_a_class_that_is_named_is_grown_when_it_is_painted(able) -> None:
    image, annotations = disc_image(2)
    classes = (*annotations.classes, SegmentationClass("vesicle", "#00ff00"))
    named = annotations.with_sections({}, classes)
    grown = []

    def grow(model: UNetModel, classes) -> UNetModel:
        grown.append(len(classes))
        return model.with_classes(classes)

    config = LEARNING.replace(steps=6)
    work = learn(able, image, all_learnt(named), config, device="cpu", grow=grow)
    assert len(next(work).best.model.classes) == 2
    section = named.sections[0,].copy()
    section[:4, :4] = 3
    painted = named.with_sections({(0,): section}, classes)
    assert len(work.send(all_learnt(painted)).best.model.classes) == 3
    assert [each.name for each in finish(work).classes][2] == "vesicle"
    assert grown == [2, 3]


def test_measuring_does_not_change_what_is_learnt() -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    untrained = tiny_model(dropout=0.3)
    _, shown = run(untrained, image, strokes, steps=6)
    losses: list[float] = []
    config = LEARNING.replace(steps=6)
    finish(
        train(untrained, image, strokes.learnt, config, device="cpu"),
        lambda step: losses.append(step.loss),
    )
    assert [step.training.loss for step in shown[:-1]] == losses


def test_weights_are_judged_by_strokes_held_out_meanwhile(able) -> None:
    image, annotations = disc_image(2)
    wrong = turned_round(annotations)
    learnt = halves(wrong, annotations).learnt
    work = learn(
        able,
        image,
        Strokes(learnt, Annotations(annotations.classes)),
        LEARNING.replace(steps=20),
        device="cpu",
    )
    first = next(work)
    assert first.is_new  # there is nothing to judge by
    found = work.send(halves(wrong, annotations))
    assert found.best is not None
    assert found.best.iou is not None
    best = found.best.iou
    for step in work:
        assert step.best is not None
        assert step.best.iou >= best
        best = step.best.iou


def run_with_news(model, image, strokes, news, step) -> tuple[UNetModel, list[LearningStep]]:
    """Learn for 24 steps, and send other strokes after one of them."""
    shown: list[LearningStep] = []
    work = learn(model, image, strokes, LEARNING.replace(steps=24), device="cpu")
    sent = None
    while True:
        try:
            shown.append(work.send(sent))
        except StopIteration as end:
            return end.value, shown
        sent = news if len(shown) == step else None


def test_paint_held_out_too_late_to_stop_harm_brings_back_what_learning_began_with(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    at_first = Strokes(strokes.learnt, Annotations(annotations.classes))
    kept, shown = run_with_news(able, image, at_first, strokes, 12)
    assert same(weights(kept), weights(able))
    judged = shown[12]
    assert (judged.best.number, judged.is_new, judged.changed) == (0, False, True)
    assert judged.before.number == 1
    assert judged.before.iou < judged.best.iou - 0.1  # they had done harm
    assert judged.best.iou == judged.first.iou == iou(able, image, strokes)
    assert not any(step.changed for step in shown[13:])


def test_weights_that_do_little_worse_than_at_first_are_kept_while_it_learns_but_not_at_the_end(
    able, monkeypatch
) -> None:
    monkeypatch.setattr(learning, "CLEARLY_BETTER", 1.0)  # all is little
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    at_first = Strokes(strokes.learnt, Annotations(annotations.classes))
    kept, shown = run_with_news(able, image, at_first, strokes, 12)
    later = shown[12:-1]
    assert all(step.best.number > 0 and step.best.iou < step.first.iou for step in later)
    assert same(weights(kept), weights(able))
    assert (shown[-1].best.number, shown[-1].is_new, shown[-1].changed) == (0, False, True)


def test_held_out_paint_that_was_wrong_at_first_does_not_end_below_where_it_began(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    right = annotations.sections[1,]
    few = np.zeros_like(right)
    for number in (1, 2):
        places = np.flatnonzero(right == number)[:30]
        few.flat[places] = 3 - number
    at_first = Strokes(strokes.learnt, Annotations(annotations.classes, {(1,): few}))
    corrected = np.where(few > 0, few, right)
    later = Strokes(strokes.learnt, Annotations(annotations.classes, {(1,): corrected}))
    kept, shown = run_with_news(able, image, at_first, later, 12)
    assert any(step.best.number > 0 for step in shown[:12])
    assert iou(kept, image, later) >= iou(able, image, later)


def test_versions_after_going_back_have_numbers_of_their_own(able, monkeypatch) -> None:
    monkeypatch.setattr(learning, "CLEARLY_BETTER", 0.0)  # a single step does little harm
    image, annotations = disc_image(2)
    wrong = halves(turned_round(annotations), annotations)
    right = halves(annotations, annotations)
    at_first = Strokes(wrong.learnt, Annotations(annotations.classes))
    work = learn(able, image, at_first, LEARNING.replace(steps=60), device="cpu")
    next(work)
    numbers = [work.send(wrong).best.number]
    numbers += [work.send(right).best.number]
    numbers += [step.best.number for step in work]
    assert numbers[0] == 0  # it went back from 1, which stays what it was
    assert 1 not in numbers
    assert numbers[-1] > 1


def test_a_stroke_that_is_learnt_from_does_not_have_the_same_held_out_paint_measured_anew(
    able, monkeypatch
) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    copied = {index: painted.copy() for index, painted in strokes.held_out.sections.items()}
    again = Strokes(strokes.learnt, Annotations(annotations.classes, copied))
    measured: list[UNetModel] = []

    def counted(model, *arguments, **more):
        measured.append(model)
        return measure(model, *arguments, **more)

    monkeypatch.setattr(judging, "measure", counted)
    _, shown = run_with_news(able, image, strokes, again, 12)
    assert len(measured) == 1 + len(shown)


def test_with_a_live_head_weights_are_judged_by_what_it_shows_of_them() -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    kept, shown = run(tiny_model(), image, strokes, live=LiveConfig)
    figures = [step.best.iou for step in shown if step.best]
    assert figures == sorted(figures)
    judge = ShownJudge(image, grey_statistics(image), "cpu")
    assert mean_iou(judge.scores(kept, strokes)) == pytest.approx(figures[-1])
    assert any(step.is_new for step in shown)
    assert len(figures) == len(shown)


def test_with_a_live_head_wrong_strokes_never_end_below_where_it_began(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    kept, shown = run(able, image, strokes, live=LiveConfig)
    judge = ShownJudge(image, grey_statistics(image), "cpu")
    figure = mean_iou(judge.scores(kept, strokes))
    assert figure >= mean_iou(judge.scores(able, strokes))
    assert min(mean_iou(step.scores) for step in shown) < figure - 0.1  # they do harm


def test_with_a_live_head_versions_are_compared_after_the_same_strokes() -> None:
    image, annotations = disc_image(2)
    few = np.zeros_like(annotations.sections[0,])
    few[10:40, 10:40] = annotations.sections[0,][10:40, 10:40]
    fewer = halves(annotations.with_sections({(0,): few}, annotations.classes), annotations)
    more = Strokes(halves(annotations, annotations).learnt, fewer.held_out)
    untrained = tiny_model()
    config = LEARNING.replace(steps=8)
    work = learn(untrained, image, fewer, config, device="cpu", live=LiveConfig)
    judge = ShownJudge(image, grey_statistics(image), "cpu")
    best = next(work).best
    for strokes in (more, fewer):
        step = work.send(strokes)
        assert step.first.iou == pytest.approx(mean_iou(judge.scores(untrained, strokes)))
        assert step.before.iou == pytest.approx(mean_iou(judge.scores(best.model, strokes)))
        best = step.best


@pytest.mark.parametrize(("seconds", "looks"), [(0.0, 12), (1e-9, 2)])
def test_training_goes_on_for_a_while_after_a_look_that_took_long(
    monkeypatch, seconds, looks
) -> None:
    monkeypatch.setattr(learning, "REST", 1e9)  # any look took long
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    config = LEARNING.replace(publish_seconds=seconds)
    _, shown = run(tiny_model(), image, strokes, steps=11, config=config)
    assert sum(step.best is not None for step in shown) == looks
    assert shown[-1].best is not None  # and at the end it looks at once


def test_all_weights_looked_at_are_the_same_whatever_the_clock() -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    kept = [
        run(tiny_model(), image, strokes, clock=partial(next, itertools.count(0, pace)))[0]
        for pace in (0.1, 7.0)
    ]
    assert same(weights(kept[0]), weights(kept[1]))
    assert kept[0].steps == kept[1].steps


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.0], ids="{:g} s a reading".format)
def test_stopping_waits_only_a_moment_for_the_figures_of_the_newest_weights(able, seconds) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    clock = partial(next, itertools.count(0, seconds))
    shown: list[LearningStep] = []
    config = LEARNING.replace(steps=0)
    work = learn(
        able, image, strokes, config, device="cpu", should_stop=lambda: len(shown) >= 2, clock=clock
    )
    kept = finish(work, shown.append)
    assert (shown[-1].scores is not None) == (seconds < learning.LAST_LOOK_SECONDS)
    assert same(weights(kept), weights(able))  # which did better than the others looked at


@pytest.mark.parametrize(("took", "is_waited_for"), [(0.3, True), (3.0, False)])
def test_stopping_does_not_wait_for_figures_that_took_longer_than_that_moment_before(
    able, monkeypatch, took, is_waited_for
) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    now = [0.0]

    def slowly(*arguments, **more):
        scores = measure(*arguments, **more)
        now[0] += took
        return scores

    monkeypatch.setattr(judging, "measure", slowly)
    shown: list[LearningStep] = []
    work = learn(
        able,
        image,
        strokes,
        LEARNING.replace(steps=0),
        device="cpu",
        should_stop=lambda: len(shown) >= 2,
        clock=lambda: now[0],
    )
    finish(work, shown.append)
    assert [step.scores is not None for step in shown if step.best] == [True, True, is_waited_for]


def test_a_look_that_goes_on_when_somebody_stops_still_has_that_moment(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    asked: list[bool] = []
    in_the_look = 1000

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > in_the_look

    options = {"device": "cpu", "clock": partial(next, itertools.count(0, 0.001))}
    config = LEARNING.replace(steps=0)
    step = next(learn(able, image, strokes, config, should_stop=should_stop, **options))
    assert step.scores is not None
    in_the_look = len(asked) - 2  # so it was asked before it had the figures
    asked.clear()
    step = next(learn(able, image, strokes, config, should_stop=should_stop, **options))
    assert len(asked) > in_the_look
    assert step.scores is not None


@pytest.mark.parametrize(("seconds", "measured"), [(0.0, 4), (1.0, 0)])
def test_the_record_tells_whether_there_was_time_to_measure_what_was_learnt(
    able, seconds, measured
) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    shown: list[LearningStep] = []
    work = learn(
        able,
        image,
        strokes,
        LEARNING.replace(steps=0, publish_seconds=1e9),
        device="cpu",
        should_stop=lambda: len(shown) >= 4,
        clock=partial(next, itertools.count(0, seconds)),
    )
    record = finish(work, shown.append).history[-1]
    assert [record[name] for name in ("steps", "kept_step", "measured_step")] == [4, 0, measured]


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0], ids="{:g} s a reading".format)
def test_paint_held_out_just_before_stopping_brings_back_what_learning_began_with(
    able, seconds
) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    at_first = Strokes(strokes.learnt, Annotations(annotations.classes))
    shown: list[LearningStep] = []
    work = learn(
        able,
        image,
        at_first,
        LEARNING.replace(steps=0),
        device="cpu",
        should_stop=lambda: len(shown) >= 12,
        clock=partial(next, itertools.count(0, seconds)),
    )
    news = None
    while True:
        try:
            shown.append(work.send(news))
        except StopIteration as end:
            kept = end.value
            break
        news = strokes if len(shown) == 12 else None
    assert same(weights(kept), weights(able))
    assert (shown[-1].best.number, shown[-1].changed) == (0, True)


def test_paint_held_out_during_the_step_that_stopping_gives_up_brings_it_back_too(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    at_first = Strokes(strokes.learnt, Annotations(annotations.classes))
    shown: list[LearningStep] = []
    asked = []

    def should_stop() -> bool:
        asked.append(len(shown))
        return len(shown) >= 12 and asked.count(12) > 2  # in the middle of the thirteenth

    work = learn(
        able, image, at_first, LEARNING.replace(steps=0), device="cpu", should_stop=should_stop
    )
    while len(shown) < 12:
        shown.append(next(work))
    assert shown[-1].best.number == 1
    asks = next(work)
    assert (asks.training.step, asks.best) == (12, None)
    last = work.send(strokes)
    assert (last.best.number, last.changed) == (0, True)
    assert same(weights(finish(work)), weights(able))


def test_stopped_before_the_first_step_the_model_is_what_it_was(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    work = learn(able, image, strokes, LEARNING, device="cpu", should_stop=lambda: True)
    shown: list[LearningStep] = []
    assert finish(work, shown.append) is able
    assert not shown


def test_what_did_best_is_compared_again_after_nothing_was_held_out_for_a_while() -> None:
    image, annotations = disc_image(2)
    right = halves(annotations, annotations)
    wrong = Strokes(turned_round(right.learnt), Annotations(annotations.classes))
    work = learn(tiny_model(), image, right, LEARNING.replace(steps=0), device="cpu")
    best = None
    while best is None or best.iou < 0.8:
        best = next(work).best
    news = wrong
    while iou((step := work.send(news)).best.model, image, right) > best.iou - 0.2:
        news = None
    assert step.best.number > best.number
    again = work.send(right)
    assert again.before.number == step.best.number
    assert again.before.iou < best.iou - 0.1
    assert (again.best.number, again.best.model) == (best.number, best.model)


def test_weights_are_judged_with_a_head_while_strokes_are_answered_and_alone_while_they_are_not(
    able,
) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    answered: list[LiveConfig | None] = [LiveConfig()]
    config = LEARNING.replace(steps=0)
    work = learn(able, image, strokes, config, device="cpu", live=lambda: answered[0])
    shown = ShownJudge(image, grey_statistics(image), "cpu")
    figures = {None: iou(able, image, strokes), LiveConfig(): mean_iou(shown.scores(able, strokes))}
    assert figures[None] != pytest.approx(figures[LiveConfig()])
    for each in (LiveConfig(), None, None, LiveConfig()):
        answered[0] = each
        assert next(work).first.iou == pytest.approx(figures[each])
    work.close()


def test_what_has_to_be_measured_waits_for_the_end_of_a_pause_but_is_measured(able) -> None:
    image, annotations = disc_image(3)
    held_out = {(z,): annotations.sections[z,] for z in (1, 2)}
    later = Strokes(
        Annotations(annotations.classes, {(0,): annotations.sections[0,]}),
        Annotations(annotations.classes, held_out),
    )
    at_first = Strokes(later.learnt, Annotations(annotations.classes))
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return False

    work = learn(able, image, at_first, LEARNING, device="cpu", should_stop=should_stop)
    next(work)
    asked_before = len(asked)
    work.send(None)
    for_a_step = len(asked) - asked_before
    asked_before = len(asked)
    step = work.send(later)
    # Of both sections: what learning began with, the best so far, and the new weights.
    assert len(asked) - asked_before >= for_a_step + 6
    assert step.first is not None
    assert step.first.iou is not None


def test_strokes_sent_meanwhile_are_learnt_from(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    work = learn(able, image, strokes, LEARNING.replace(steps=4), device="cpu")
    next(work)
    work.send(Strokes(annotations, Annotations(annotations.classes)))
    kept = finish(work)
    painted = kept.history[-1]["data"][0]["painted"]
    assert sum(painted.values()) == int(annotations.counts().sum())


def test_one_held_out_class_judges_nothing(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    only = np.where(strokes.held_out.sections[1,] == 1, 1, 0).astype(np.uint8)
    strokes = Strokes(strokes.learnt, Annotations(annotations.classes, {(1,): only}))
    _, shown = run(able, image, strokes, steps=4)
    assert all(step.is_new and step.best.iou is None for step in shown)
    assert all(step.scores.keys() == {"background"} for step in shown)


def test_parted_strokes_are_learnt_from() -> None:
    image, annotations = disc_image(4)
    strokes = parted(annotations)
    assert strokes.held_out.sections
    kept, _ = run(tiny_model(), image, strokes, steps=4)
    painted = kept.history[-1]["data"][0]["painted"]
    assert sum(painted.values()) == int(strokes.learnt.counts().sum())


def test_versions_are_stamped_with_the_pieces_they_were_measured_on() -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    _, shown = run(tiny_model(), image, strokes, steps=2)
    assert shown[0].best.pieces == strokes.held_out_pieces > 0

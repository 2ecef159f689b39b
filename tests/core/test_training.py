import copy
import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.core.annotations import Annotations, annotations_from_array, class_table
from napari_unet.core.config import ORIGINAL_TRAINING, NetworkConfig, PredictionConfig
from napari_unet.core.image import grey_statistics, image_from_array
from napari_unet.core.metrics import class_scores
from napari_unet.core.model import new_model
from napari_unet.core.network import UNet
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.training import train
from tests.examples import (
    QUICK_TRAINING,
    TINY_NETWORK,
    bright_discs,
    disc_image,
    short_of_memory,
    tiny_model,
)

DISCS = class_table(["background", "disc"])


def trained(model, image, annotations, config=QUICK_TRAINING, on_step=lambda step: None, **more):
    return finish(train(model, image, annotations, config, device="cpu", **more), on_step)


def weights(model):
    return {k: v.clone() for k, v in model.network.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first)


def disc_f1(model, image, labels):
    tiles = predict(model, image, PredictionConfig(), device="cpu")
    mask = finish(gather(tiles, image, len(model.classes)))
    return class_scores(mask.data, labels)[2].f1


def counted(seconds):
    """A clock that goes on by so many seconds whenever it is looked at."""
    ticks = itertools.count()
    return lambda: next(ticks) * seconds


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "dice"},
        {"loss": "cross-entropy+dice", "averaging": 0.9},
        {"optimiser": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    ],
    ids=["default", "dice", "averaged", "sgd"],
)
def test_training_lowers_the_loss_and_beats_the_untrained_model(changes):
    image, annotations = disc_image(2)
    held_out, labels = bright_discs(1, seed=9)
    config = QUICK_TRAINING.replace(steps=50, batch_size=4).replace(**changes)
    model, losses = tiny_model(), []

    result = trained(model, image, annotations, config, lambda step: losses.append(step.loss))

    unseen = image_from_array(held_out)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])
    assert disc_f1(result, unseen, labels) > max(0.8, disc_f1(model, unseen, labels))


def test_a_few_strokes_are_enough_to_learn_from():
    image, full = disc_image(1)
    painted = np.zeros((1, 64, 64), np.uint8)
    painted[0, ::8] = full.sections[0,][::8]
    config = QUICK_TRAINING.replace(steps=50, batch_size=4)

    result = trained(tiny_model(), image, annotations_from_array(painted, DISCS), config)

    assert disc_f1(result, image, full.sections[0,][None]) > 0.8


def test_the_same_seed_gives_the_same_weights():
    image, annotations = disc_image()
    model = tiny_model(dropout=0.3)
    config = QUICK_TRAINING.replace(augmentation=ORIGINAL_TRAINING.augmentation)

    first, again, other = (
        weights(trained(model, image, annotations, config.replace(seed=seed))) for seed in (1, 1, 2)
    )

    assert same(first, again)
    assert not same(first, other)


def test_the_model_one_begins_with_is_not_changed():
    image, annotations = disc_image()
    model = tiny_model()
    before = weights(model)

    result = trained(model, image, annotations)

    assert same(weights(model), before)
    assert not same(weights(result), before)
    assert (model.steps, model.history) == (0, ())


def test_sections_without_paint_have_no_influence():
    grey, labels = bright_discs(3)
    labels[1:] = 0
    other = grey.copy()
    other[1:] = 255 - other[1:]
    annotations = annotations_from_array(labels, DISCS)
    statistics = grey_statistics(image_from_array(grey))

    first, second = (
        trained(tiny_model(), image_from_array(g), annotations, statistics=statistics)
        for g in (grey, other)
    )

    assert same(weights(first), weights(second))


def test_classes_of_pixels_that_nobody_painted_have_no_influence():
    image, full = disc_image()
    first, second = np.zeros((2, 1, 64, 64), np.uint8)
    first[0, :20] = second[0, :20] = full.sections[0,][:20]
    second = second.astype(np.int64)  # equal where painted, in another type

    found = [
        weights(trained(tiny_model(), image, annotations_from_array(p, DISCS)))
        for p in (first, second)
    ]

    assert same(*found)


@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "Nothing is painted yet. Paint a few strokes"), (2, "Only 'disc' is painted. Paint at")],
)
def test_fewer_than_two_painted_classes_are_refused(value, message):
    image, _ = disc_image()
    painted = annotations_from_array(np.full((1, 64, 64), value, np.uint8), DISCS)

    with pytest.raises(ValueError, match=message):
        next(train(tiny_model(), image, painted, QUICK_TRAINING, device="cpu"))


def test_steps_are_counted_and_timed_by_the_given_clock():
    image, annotations = disc_image()
    seen = []

    trained(tiny_model(), image, annotations, on_step=seen.append, clock=counted(2.0))

    assert [step.step for step in seen] == [1, 2, 3]
    assert {step.steps for step in seen} == {3}
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(seen))


def test_the_time_limit_is_that_of_the_given_clock():
    image, annotations = disc_image()
    config = QUICK_TRAINING.replace(steps=0, minutes=1.0)

    result = trained(tiny_model(), image, annotations, config, clock=counted(5.0))

    assert 2 <= result.steps <= 12
    assert result.history[-1]["seconds"] >= 60


def test_training_without_a_limit_stops_when_asked_and_keeps_what_was_learnt():
    image, annotations = disc_image()
    model, seen = tiny_model(), []

    result = trained(
        model,
        image,
        annotations,
        QUICK_TRAINING.replace(steps=0),
        seen.append,
        should_stop=lambda: len(seen) == 4,
    )

    assert result.steps == result.history[-1]["steps"] == 4
    assert same(weights(result), weights(seen[-1].model))


def test_training_that_is_stopped_at_once_returns_the_model_as_it_was():
    image, annotations = disc_image()
    model = tiny_model()

    result = trained(model, image, annotations, should_stop=lambda: True)

    assert result.steps == 0
    assert same(weights(result), weights(model))


def test_published_models_are_not_changed_by_later_steps():
    image, annotations = disc_image()
    published = []

    def keep(step):
        published.append((step.model, weights(step.model)))

    result = trained(tiny_model(), image, annotations, on_step=keep)

    assert len(published) == 3
    assert all(same(weights(model), at_once) for model, at_once in published)
    assert not same(published[0][1], published[1][1])
    assert [model.steps for model, _ in published] == [1, 2, 3]
    assert not result.network.training


def test_weights_are_handed_out_as_often_as_set():
    image, annotations = disc_image()
    config = QUICK_TRAINING.replace(steps=12, publish_seconds=10.0)
    seen = []

    trained(tiny_model(), image, annotations, config, seen.append, clock=counted(1.0))

    published = [step for step in seen if step.model is not None]
    assert 2 <= len(published) <= 5
    assert all(b.seconds - a.seconds >= 10 for a, b in itertools.pairwise(published))


def test_strokes_sent_meanwhile_are_learnt_from():
    grey, labels = bright_discs(2)
    image = image_from_array(grey)
    annotations = annotations_from_array(labels[:1], DISCS)
    more = annotations.with_sections({(1,): labels[1]}, DISCS)
    config = QUICK_TRAINING.replace(steps=6)

    work = train(tiny_model(), image, annotations, config, device="cpu")
    next(work)
    work.send(more)
    result = finish(work)

    record = result.history[-1]
    assert record["sections"] == 2
    assert record["painted"] == {
        "background": int((labels == 1).sum()),
        "disc": int((labels == 2).sum()),
    }
    without = trained(tiny_model(), image, annotations, config)
    assert without.history[-1]["sections"] == 1
    assert not same(weights(result), weights(without))


def test_a_look_unlike_any_before_is_learnt_from_strokes_sent_meanwhile():
    grey, labels = bright_discs(2)
    grey[1] = 255 - grey[1]  # here discs are dark
    labels[1] = np.where(labels[1] == 2, 1, 2)
    image = image_from_array(grey)
    annotations = annotations_from_array(labels[:1], DISCS)
    config = QUICK_TRAINING.replace(steps=40, batch_size=4)

    work = train(tiny_model(), image, annotations, config, device="cpu")
    next(work)
    work.send(annotations.with_sections({(1,): labels[1]}, DISCS))

    assert disc_f1(finish(work), image, labels) > 0.8


def test_a_class_sent_meanwhile_grows_the_network():
    image, annotations = disc_image()
    painted = annotations.sections[0,].copy()
    painted[:6] = 3
    classes = class_table(["background", "disc", "edge"])
    seen = []

    work = train(tiny_model(), image, annotations, QUICK_TRAINING.replace(steps=5), device="cpu")
    next(work)
    seen.append(work.send(Annotations(classes, {(0,): painted})))
    result = finish(work, seen.append)

    assert [c.name for c in result.classes] == ["background", "disc", "edge"]
    assert result.network.config.classes == result.network.classifier.out_channels == 3
    assert [step.step for step in seen] == [2, 3, 4, 5]
    assert all(math.isfinite(step.loss) for step in seen)
    assert result.history[-1]["painted"]["edge"] == 6 * 64


def test_a_class_that_only_the_annotations_know_grows_the_network_at_once():
    image, annotations = disc_image()
    painted = annotations.sections[0,].copy()
    painted[:6] = 4

    result = trained(tiny_model(), image, annotations_from_array(painted[None], DISCS))

    assert [c.name for c in result.classes] == ["background", "disc", "class 3", "class 4"]


def test_a_class_that_only_the_model_knows_stays():
    image, annotations = disc_image()

    result = trained(tiny_model("background", "disc", "ring"), image, annotations)

    assert [c.name for c in result.classes] == ["background", "disc", "ring"]


def test_a_class_renamed_meanwhile_has_its_new_name():
    image, annotations = disc_image()

    work = train(tiny_model(), image, annotations, QUICK_TRAINING, device="cpu")
    next(work)
    work.send(replace(annotations, classes=class_table(["background", "nucleus"])))

    assert [c.name for c in finish(work).classes] == ["background", "nucleus"]


def test_training_waits_while_all_paint_is_erased_and_goes_on_when_there_is_some():
    image, annotations = disc_image()

    work = train(tiny_model(), image, annotations, QUICK_TRAINING, device="cpu")
    first = next(work)
    waiting = work.send(Annotations(DISCS))
    still = next(work)
    again = work.send(annotations)

    assert (first.step, waiting.step, still.step, again.step) == (1, 1, 1, 2)
    assert math.isnan(waiting.loss)
    assert math.isnan(still.loss)
    assert waiting.model is still.model is None
    assert math.isfinite(again.loss)
    assert finish(work).steps == 3


def test_training_that_waits_can_be_stopped():
    image, annotations = disc_image()
    stop = []
    work = train(
        tiny_model(),
        image,
        annotations,
        QUICK_TRAINING.replace(steps=0),
        device="cpu",
        should_stop=lambda: bool(stop),
    )
    next(work)
    work.send(Annotations(DISCS))
    stop.append(True)

    result = finish(work)

    assert result.steps == 1
    assert result.history[-1]["loss"] is None


def test_short_memory_gives_fewer_and_then_smaller_patches():
    image, annotations = disc_image(1, 128)
    model = short_of_memory(tiny_model(), 64 * 64)
    config = QUICK_TRAINING.replace(patch_size=128, batch_size=4)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = trained(model, image, annotations, config)

    assert result.steps == 3
    assert [str(w.message) for w in said] == [
        "Not enough memory; going on with 2 instead of 4 patches a step.",
        "Not enough memory; going on with 1 instead of 2 patches a step.",
        "Not enough memory; going on with patches of 64 instead of 128 pixels.",
    ]


def test_memory_too_short_for_any_patch_is_an_error():
    image, annotations = disc_image()
    model = short_of_memory(tiny_model(), 100)

    with pytest.raises(MemoryError, match="even for one patch of 32 pixels"):
        trained(model, image, annotations, QUICK_TRAINING.replace(batch_size=1))


class NetworkThatFails(UNet):
    """A U-Net whose scores are no numbers, once, at a certain step of its training."""

    steps = 0
    fails_at = 3

    def forward(self, x):
        self.steps += self.training
        return super().forward(x) * (math.nan if self.steps == self.fails_at else 1)


def test_a_loss_that_is_no_number_goes_back_to_the_last_good_weights():
    image, annotations = disc_image()
    network = NetworkThatFails(TINY_NETWORK).eval()
    model = replace(tiny_model(), network=network)
    seen = []

    with pytest.warns(UserWarning, match="not a finite number any more; going back"):
        result = trained(model, image, annotations, QUICK_TRAINING.replace(steps=5), seen.append)

    assert [math.isfinite(step.loss) for step in seen] == [True, True, False, True, True]
    assert all(bool(torch.isfinite(v).all()) for v in weights(result).values())
    # the scores of the third step came from the second weights, so that the first are good
    assert same(weights(seen[2].model), weights(seen[0].model))
    assert not same(weights(seen[3].model), weights(seen[2].model))


def test_training_recovers_from_a_step_that_was_far_too_large():
    image, annotations = disc_image()
    config = QUICK_TRAINING.replace(steps=25, optimiser="sgd", learning_rate=10.0, momentum=0.99)
    model = tiny_model(normalisation="none")
    seen = []

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(model, image, annotations, config, seen.append)

    finite = [math.isfinite(step.loss) for step in seen]
    assert not all(finite)
    recovered = finite.index(False)
    assert any(finite[recovered:])
    for tile in predict(seen[recovered].model, image, device="cpu"):
        assert np.isfinite(tile.probabilities).all()


def moved(config, model):
    """How far each step moves the weights, all of them together."""
    image, annotations = disc_image()
    states = [weights(model)]
    trained(model, image, annotations, config, lambda step: states.append(weights(step.model)))
    names = [name for name, _ in model.network.named_parameters()]
    return [
        math.sqrt(sum(float((b[n] - a[n]).square().sum()) for n in names))
        for a, b in itertools.pairwise(states)
    ]


def test_steps_become_small_towards_the_end_of_a_cosine_schedule():
    config = QUICK_TRAINING.replace(steps=10, batch_size=4)

    constant, cosine = (
        moved(config.replace(schedule=schedule), tiny_model())
        for schedule in ("constant", "cosine")
    )

    assert cosine[-1] < 0.2 * cosine[0]
    assert constant[-1] > 0.2 * constant[0]


def test_momentum_adds_up_steps():
    config = QUICK_TRAINING.replace(steps=8, optimiser="sgd", learning_rate=1e-4)

    without, with_it = (moved(config.replace(momentum=m), tiny_model()) for m in (0.0, 0.99))

    assert with_it[0] == pytest.approx(without[0], rel=1e-4)
    assert sum(with_it) > 2 * sum(without)


def test_averaged_weights_lag_behind_the_last_ones():
    image, annotations = disc_image()
    model = tiny_model()
    start = weights(model)["classifier.weight"]

    last, averaged = (
        trained(model, image, annotations, QUICK_TRAINING.replace(steps=10, averaging=a))
        for a in (0.0, 0.99)
    )

    far, near = ((weights(each)["classifier.weight"] - start).norm() for each in (last, averaged))
    assert 0 < near < far


def test_the_recipe_of_the_paper_takes_a_step():
    labels = np.ones((1, 96, 96), np.uint8)
    labels[:, ::24] = labels[:, 1::24] = labels[:, :, ::24] = 2
    grey = np.where(labels == 2, 60, 180) + np.random.default_rng(0).normal(0, 9, labels.shape)
    classes = class_table(["background", "membrane"])
    model = new_model(NetworkConfig(depth=2, width=4), classes)

    result = trained(
        model,
        image_from_array(grey),
        annotations_from_array(labels, classes),
        ORIGINAL_TRAINING.replace(steps=2, patch_size=108),
    )

    assert result.steps == 2
    assert result.history[-1]["config"]["border_weight"] == 10.0
    assert not same(weights(result), weights(model))


def statistics_of_layers(model):
    return [
        m.running_mean.clone() for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)
    ]


def test_a_new_model_learns_the_statistics_of_its_layers():
    image, annotations = disc_image()
    model = tiny_model()

    result = trained(model, image, annotations)

    pairs = zip(statistics_of_layers(model), statistics_of_layers(result), strict=True)
    assert all(not torch.equal(before, after) for before, after in pairs)


def test_a_trained_model_keeps_the_statistics_of_its_layers():
    image, annotations = disc_image()
    model = trained(tiny_model(), image, annotations)

    result = trained(model, image, annotations)

    pairs = zip(statistics_of_layers(model), statistics_of_layers(result), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)
    assert not same(weights(result), weights(model))


def test_the_record_of_a_training_tells_how_it_was_done():
    image, annotations = disc_image(2)
    config = QUICK_TRAINING.replace(seed=7)

    first = trained(tiny_model(), image, annotations, config)
    second = trained(first, image, annotations, config.replace(steps=2))

    assert (first.steps, second.steps) == (3, 5)
    assert second.history[0] == first.history[0]
    record = first.history[0]
    assert record["config"] == config.to_dict()
    assert record["config"]["seed"] == 7
    assert (record["image"], record["sections"], record["device"]) == ("image", 2, "cpu")
    assert record["steps"] == 3
    assert sum(record["painted"].values()) == 2 * 64 * 64
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) == {"napari-unet", "torch", "numpy"}
    assert math.isfinite(record["loss"])


def test_annotations_are_not_changed_by_training():
    image, annotations = disc_image()
    before = copy.deepcopy(annotations.sections)

    trained(tiny_model(), image, annotations)

    assert np.array_equal(annotations.sections[0,], before[0,])


def test_missing_grey_values_do_not_spoil_training():
    grey, labels = bright_discs()
    grey = grey.astype(np.float32)
    grey[:, :5] = np.nan

    with pytest.warns(UserWarning, match="not finite numbers"):
        result = trained(
            tiny_model(), image_from_array(grey), annotations_from_array(labels, DISCS)
        )

    assert math.isfinite(result.history[-1]["loss"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_training_on_the_gpu_returns_a_model_on_the_cpu():
    image, annotations = disc_image()

    result = finish(train(tiny_model(), image, annotations, QUICK_TRAINING, device="cuda"))

    assert {v.device.type for v in weights(result).values()} == {"cpu"}
    assert result.history[-1]["device"] == "cuda"


def test_what_nobody_painted_is_remembered_through_one_sided_corrections():
    image, full = disc_image(1)
    teacher = trained(tiny_model(), image, full, QUICK_TRAINING.replace(steps=60, batch_size=4))
    painted = np.zeros((1, 64, 64), np.uint8)
    painted[0, :3, :] = 2  # contradicts what the network says there
    painted[0, 3, :4] = 1
    strokes = annotations_from_array(painted, DISCS)

    def agreement(memory):
        config = QUICK_TRAINING.replace(steps=40, learning_rate=1e-3, memory=memory)
        student = trained(teacher, image, strokes, config)
        first, second = (
            finish(gather(predict(m, image, device="cpu"), image, 2)).data[0, 24:]
            for m in (teacher, student)
        )
        return (first == second).mean()

    assert agreement(memory=3.0) > agreement(memory=0.0) + 0.05


def test_a_network_for_several_channels_is_refused_with_a_message():
    image, annotations = disc_image(1)
    model = tiny_model(channels_in=3)
    with pytest.raises(ValueError, match="takes images of 3 channels"):
        trained(model, image, annotations)
    with pytest.raises(ValueError, match="takes images of 3 channels"):
        next(predict(model, image, device="cpu"))

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
from napari_unet.core.patches import LabelledImage
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.training import train, train_on
from napari_unet.core.validation import validate
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

    (source,) = result.history[-1]["data"]
    assert source["sections"] == 2
    assert source["painted"] == {
        "background": int((labels == 1).sum()),
        "disc": int((labels == 2).sum()),
    }
    without = trained(tiny_model(), image, annotations, config)
    assert without.history[-1]["data"][0]["sections"] == 1
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
    assert result.history[-1]["data"][0]["painted"]["edge"] == 6 * 64


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
    assert (record["steps"], record["device"]) == (3, "cpu")
    assert record["data"] == [
        {
            "image": "image",
            "painted": {c.name: n for c, n in zip(DISCS, annotations.counts(), strict=True)},
            "unlabelled": [],
            "sections": 2,
            "pixel_size": None,
            "share": 1.0,
        }
    ]
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


@pytest.fixture(scope="module")
def one_sided():
    """An image, a model that knows it, and strokes that contradict it at the upper border."""
    image, full = disc_image(1)
    teacher = trained(tiny_model(), image, full, QUICK_TRAINING.replace(steps=60, batch_size=4))
    painted = np.zeros((1, 64, 64), np.uint8)
    painted[0, :3, :] = 2
    painted[0, 3, :4] = 1
    return image, teacher, annotations_from_array(painted, DISCS)


def after_one_sided_corrections(one_sided, model, memory, **more):
    """What a model becomes, and how much of the rest it still sees as the teacher does."""
    image, teacher, strokes = one_sided
    config = QUICK_TRAINING.replace(steps=40, learning_rate=1e-3, memory=memory)
    student = trained(model, image, strokes, config, **more)
    first, second = (
        finish(gather(predict(m, image, device="cpu"), image, 2)).data[0, 24:]
        for m in (teacher, student)
    )
    return student, (first == second).mean()


def test_what_nobody_painted_is_remembered_through_one_sided_corrections(one_sided):
    _, teacher, _ = one_sided
    _, held = after_one_sided_corrections(one_sided, teacher, memory=3.0)
    _, free = after_one_sided_corrections(one_sided, teacher, memory=0.0)

    assert held > free + 0.05


def test_learning_in_several_goes_is_held_to_what_the_first_began_with(one_sided):
    _, teacher, _ = one_sided
    drifted, _ = after_one_sided_corrections(one_sided, teacher, memory=0.0)
    _, to_the_first = after_one_sided_corrections(one_sided, drifted, memory=3.0, origin=teacher)
    _, to_the_last = after_one_sided_corrections(one_sided, drifted, memory=3.0)

    assert to_the_first > to_the_last + 0.05


def test_the_model_itself_is_its_origin_unless_another_is_given():
    image, annotations = disc_image(1)
    model = replace(tiny_model(), steps=1)
    config = QUICK_TRAINING.replace(memory=3.0)

    itself = trained(model, image, annotations, config, origin=model)

    assert same(weights(itself), weights(trained(model, image, annotations, config)))


def test_another_network_cannot_be_the_origin_of_a_model():
    image, annotations = disc_image(1)
    for other in (tiny_model(width=8), tiny_model("background", "disc", "third")):
        with pytest.raises(ValueError, match="cannot have come of 'other'"):
            trained(tiny_model(), image, annotations, origin=replace(other, name="other"))


@pytest.mark.parametrize(
    ("steps", "memory", "is_same"), [(0, 3.0, True), (1, 0.0, True), (1, 3.0, False)]
)
def test_patches_from_anywhere_are_drawn_only_where_something_is_remembered(steps, memory, is_same):
    image, annotations = disc_image(2)
    model = replace(tiny_model(), steps=steps)
    painted = annotations.sections[0,].copy()
    painted[:, 20:] = 0
    few = Annotations(annotations.classes, {(0,): painted})
    found = [
        trained(model, image, few, QUICK_TRAINING.replace(memory=memory, replay=replay))
        for replay in (0.0, 0.6)
    ]

    assert same(*map(weights, found)) == is_same


def test_a_network_for_several_channels_is_refused_with_a_message():
    image, annotations = disc_image(1)
    model = tiny_model(channels_in=3)
    with pytest.raises(ValueError, match="takes images of 3 channels"):
        trained(model, image, annotations)
    with pytest.raises(ValueError, match="takes images of 3 channels"):
        next(predict(model, image, device="cpu"))


def labelled_discs(name, seed=0, pixel_size=None, **more):
    """A labelled section of discs."""
    image, annotations = disc_image(1, seed=seed)
    if pixel_size is not None:
        image = image.with_pixel_size(pixel_size)
    return LabelledImage(image, annotations, name=name, **more)


def trained_on(model, sources, config=QUICK_TRAINING, on_step=lambda step: None, **more):
    return finish(train_on(model, sources, config, device="cpu", **more), on_step)


def test_training_on_one_image_is_training_on_a_list_of_it():
    image, annotations = disc_image()
    source = LabelledImage(image, annotations, name="image")

    one, of_list = trained(tiny_model(), image, annotations), trained_on(tiny_model(), [source])

    assert same(weights(one), weights(of_list))
    assert one.history[-1]["data"] == of_list.history[-1]["data"]


def test_what_several_images_show_is_learnt_together():
    usual, inverted = bright_discs(1, seed=1), bright_discs(1, seed=2)
    looks = [usual, (255 - inverted[0], 3 - inverted[1])]  # here discs are the background
    sources = [
        LabelledImage(image_from_array(grey), annotations_from_array(labels, DISCS), name=name)
        for name, (grey, labels) in zip("ab", looks, strict=True)
    ]
    config = QUICK_TRAINING.replace(steps=40, batch_size=4)

    result = trained_on(tiny_model(), sources, config)

    for grey, labels in looks:
        assert disc_f1(result, image_from_array(grey), labels) > 0.8


def test_the_record_tells_of_every_source():
    first = labelled_discs("first", share=3.0, pixel_size=4.0)
    edged = first.annotations.sections[0,].copy()
    edged[:6] = 3
    classes = class_table(["background", "disc", "edge"])
    second = labelled_discs("second", pixel_size=4.0)
    second = replace(second, annotations=Annotations(classes, {(0,): edged}))
    first = replace(first, unlabelled=frozenset({3}))

    result = trained_on(tiny_model(), [first, second])

    assert [c.name for c in result.classes] == ["background", "disc", "edge"]
    told, of_second = result.history[-1]["data"]
    assert (told["image"], told["share"], told["unlabelled"]) == ("first", 3.0, ["edge"])
    assert (told["pixel_size"], told["sections"]) == (4.0, 1)
    assert set(told["painted"]) == {"background", "disc"}
    assert (of_second["image"], of_second["unlabelled"]) == ("second", [])
    assert of_second["painted"]["edge"] == 6 * 64


def test_classes_may_be_spread_over_several_images():
    grey, labels = bright_discs(2)
    only_discs, only_background = np.where(labels == 2, 2, 0), np.where(labels == 1, 1, 0)
    sources = [
        LabelledImage(image_from_array(grey), annotations_from_array(painted, DISCS), name=name)
        for name, painted in (("discs", only_discs), ("background", only_background))
    ]

    with pytest.raises(ValueError, match="Only 'disc' is painted"):
        trained_on(tiny_model(), sources[:1])
    result = trained_on(tiny_model(), sources, QUICK_TRAINING.replace(steps=50, batch_size=4))

    assert disc_f1(result, image_from_array(grey), labels) > 0.8


def test_the_other_images_are_learnt_from_while_the_first_one_has_no_paint():
    sources = [labelled_discs("first"), labelled_discs("second", seed=1)]

    work = train_on(tiny_model(), sources, QUICK_TRAINING, device="cpu")
    next(work)
    step = work.send(Annotations(DISCS))

    assert step.step == 2
    assert math.isfinite(step.loss)


def test_a_class_that_an_image_does_not_label_is_found_there_all_the_same():
    grey, labels = bright_discs(1, seed=1)
    image = image_from_array(grey)
    called_background = annotations_from_array(np.ones_like(labels), DISCS)
    partly = LabelledImage(image, called_background, name="partly", share=4.0)
    config = QUICK_TRAINING.replace(steps=40, batch_size=4)

    untold, told = (
        trained_on(
            tiny_model(), [labelled_discs("whole"), replace(partly, unlabelled=classes)], config
        )
        for classes in (frozenset(), frozenset({2}))
    )

    assert disc_f1(told, image, labels) > max(0.75, disc_f1(untold, image, labels) + 0.3)


@pytest.mark.parametrize(
    ("of_model", "of_images", "of_result"),
    [
        (None, (None,), None),
        (None, (4.0,), 4.0),
        (5.0, (None,), 5.0),
        (5.0, (4.0,), 5.0),
        (None, (4.0, 8.0), 4.0),
        (None, (None, 8.0), None),
    ],
)
def test_the_pixel_size_of_the_result_is_that_of_the_model_else_of_the_first_image(
    of_model, of_images, of_result
):
    model = replace(tiny_model(), pixel_size=of_model)
    sources = [
        labelled_discs(name, pixel_size=size) for name, size in zip("ab", of_images, strict=False)
    ]
    published = []

    result = trained_on(model, sources, on_step=lambda step: published.append(step.model))

    assert result.pixel_size == of_result
    assert {each.pixel_size for each in published} == {of_result}
    assert model.pixel_size == of_model


def widths_of_stripes_seen(of_model, *of_images):
    """How wide the network sees stripes of 8 pixels in images of these pixel sizes."""
    stripes = np.broadcast_to(np.arange(256) // 8 % 2, (256, 256))
    painted = np.zeros((256, 256), np.uint8)
    painted[120:136, 120:136] = stripes[120:136, 120:136] + 1
    sources = [
        LabelledImage(
            image_from_array((stripes * 100).astype(np.uint8), pixel_size=size),
            annotations_from_array(painted, DISCS),
        )
        for size in of_images
    ]
    model = replace(tiny_model(), pixel_size=of_model)
    seen = []
    model.network.register_forward_pre_hook(lambda network, grey: seen.append(grey[0][:, 0]))
    trained_on(model, sources, QUICK_TRAINING.replace(steps=6, patch_size=96))
    rims = [(patch[48] > 0).int().diff().nonzero().flatten() for batch in seen for patch in batch]
    return [each.diff().float().mean().item() for each in rims]


@pytest.mark.parametrize(
    ("of_model", "of_image", "width"),
    [(10.0, 20.0, 16), (10.0, 5.0, 4), (10.0, 10.0, 8), (10.0, None, 8), (None, 20.0, 8)],
)
def test_the_network_learns_at_the_pixel_size_of_the_model(of_model, of_image, width):
    assert widths_of_stripes_seen(of_model, of_image) == pytest.approx([width] * 12, abs=0.5)


def test_a_new_model_learns_every_image_at_the_pixel_size_of_the_first():
    widths = widths_of_stripes_seen(None, 20.0, 40.0)

    assert all(min(abs(w - 8), abs(w - 16)) < 0.5 for w in widths)
    assert min(widths) < 9
    assert max(widths) > 15


def test_validation_images_are_looked_at_every_so_many_steps_and_at_the_end():
    judged = [labelled_discs("a", seed=5), labelled_discs("b", seed=6)]
    config = QUICK_TRAINING.replace(steps=5, validate_every=2)
    seen = []

    result = trained_on(
        tiny_model(), [labelled_discs("learnt")], config, seen.append, validation=judged
    )

    assert [step.step for step in seen if step.validation] == [2, 4]
    curve = result.history[-1]["curve"]
    assert [point["step"] for point in curve] == [2, 4, 5]
    losses = [step.loss for step in seen]
    for point, since in zip(curve, (losses[:2], losses[2:4], losses[4:]), strict=True):
        assert point["loss"] == pytest.approx(np.mean(since), abs=1e-5)
        assert set(point["validation"]) == {"a", "b"}
        assert set(point["validation"]["a"]) == {"background", "disc"}
    scores = validate(result, judged, device="cpu")
    assert curve[-1]["validation"]["b"]["disc"] == {
        "f1": pytest.approx(scores["b"]["disc"].f1, abs=1e-4),
        "iou": pytest.approx(scores["b"]["disc"].iou, abs=1e-4),
    }
    assert seen[3].validation["a"]["disc"].f1 == pytest.approx(
        curve[1]["validation"]["a"]["disc"]["f1"], abs=1e-4
    )


def test_validation_does_not_change_what_is_learnt():
    config = QUICK_TRAINING.replace(steps=4, validate_every=1)
    model, source = tiny_model(dropout=0.3), labelled_discs("learnt")

    with_it, without = (
        trained_on(model, [source], config, validation=judged)
        for judged in ([labelled_discs("judged", seed=5)], [])
    )

    assert same(weights(with_it), weights(without))
    assert [point["step"] for point in with_it.history[-1]["curve"]] == [1, 2, 3, 4]
    assert without.history[-1]["curve"] == []


def test_a_training_that_is_stopped_does_not_begin_to_validate():
    seen = []

    result = trained_on(
        tiny_model(),
        [labelled_discs("learnt")],
        QUICK_TRAINING.replace(steps=0),
        seen.append,
        validation=[labelled_discs("judged", seed=5)],
        should_stop=lambda: len(seen) == 3,
    )

    assert result.steps == 3
    assert result.history[-1]["curve"] == []


def test_checkpoints_come_as_often_as_set_by_the_given_clock_and_at_the_end():
    seen = []
    config = QUICK_TRAINING.replace(steps=12)

    trained_on(
        tiny_model(),
        [labelled_discs("learnt")],
        config,
        seen.append,
        checkpoint_seconds=10.0,
        clock=counted(1.0),
    )

    kept = [step for step in seen if step.checkpoint is not None]
    assert 3 <= len(kept) <= 7
    assert all(b.seconds - a.seconds >= 10 for a, b in itertools.pairwise(kept[:-1]))
    assert kept[-1] is seen[-1]
    assert [step.checkpoint.values["step"] for step in kept] == [step.step for step in kept]
    assert seen[-1].step == seen[-1].checkpoint.values["step"] == 12


def test_no_checkpoints_are_made_unless_asked_for():
    seen = []

    trained_on(tiny_model(), [labelled_discs("learnt")], on_step=seen.append)

    assert [step.step for step in seen] == [1, 2, 3]
    assert all(step.checkpoint is None for step in seen)


def test_a_training_that_is_stopped_leaves_a_checkpoint():
    seen = []

    trained_on(
        tiny_model(),
        [labelled_discs("learnt")],
        QUICK_TRAINING.replace(steps=0),
        seen.append,
        checkpoint_seconds=1e6,
        should_stop=lambda: len(seen) == 3,
    )

    assert [step.checkpoint is not None for step in seen] == [False, False, False, True]
    assert seen[-1].checkpoint.values["step"] == 3


def test_the_statistics_of_batch_normalisation_stay_in_the_last_share_of_the_steps():
    image, annotations = disc_image()
    seen = []

    trained(
        tiny_model(),
        image,
        annotations,
        QUICK_TRAINING.replace(steps=6, frozen_statistics=0.5),
        lambda step: seen.append(step.model.network.bottleneck[1]),
    )

    statistics, weights_of_it = (
        [
            torch.equal(getattr(before, name), getattr(after, name))
            for before, after in itertools.pairwise(seen)
        ]
        for name in ("running_mean", "weight")
    )
    assert statistics == [False, False, True, True, True]
    assert not any(weights_of_it)

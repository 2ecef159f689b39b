import copy
import itertools
import json

import pytest
import torch

from napari_unet.core.annotations import annotations_from_array, class_table
from napari_unet.core.checkpoint import (
    Checkpoint,
    optimiser_tensors,
    restore_optimiser,
)
from napari_unet.core.config import AugmentationConfig
from napari_unet.core.patches import LabelledImage
from napari_unet.core.prediction import finish
from napari_unet.core.training import train_on
from tests.examples import QUICK_TRAINING, disc_image, tiny_model

THREE = class_table(["background", "disc", "edge"])


def sources():
    """Two labelled images, one of them without labels for the third class."""
    first, annotations = disc_image(2)
    second, full = disc_image(1, seed=1)
    painted = full.sections[0,].copy()
    painted[:6] = 3
    edged = annotations_from_array(painted[None], THREE)
    return [
        LabelledImage(first, annotations, frozenset({3}), share=2.0, name="first"),
        LabelledImage(second, edged, name="second"),
    ]


def held_out():
    image, annotations = disc_image(1, seed=2)
    return [LabelledImage(image, annotations, frozenset({3}), name="held out")]


RECIPE = QUICK_TRAINING.replace(
    steps=7,
    averaging=0.9,
    schedule="cosine",
    validate_every=2,
    loss="cross-entropy+dice",
    augmentation=AugmentationConfig(coarser=2.0, blur=1.0, inversion=0.3),
)


def training(model, config=RECIPE, **more):
    more = {"validation": held_out(), "checkpoint_seconds": 0.0} | more
    return train_on(model, sources(), config, device="cpu", **more)


def on_disk_and_back(checkpoint):
    """A checkpoint as a file would give it back: its values went through JSON."""
    return Checkpoint(
        {name: tensor.clone() for name, tensor in checkpoint.tensors.items()},
        json.loads(json.dumps(checkpoint.values)),
    )


def assert_same_training(resumed, whole):
    expected = whole.network.state_dict()
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    record, expected_record = resumed.history[-1], whole.history[-1]
    assert record["curve"] == expected_record["curve"]
    assert (resumed.steps, record["loss"]) == (whole.steps, expected_record["loss"])


@pytest.mark.parametrize("interrupted_after", [1, 3, 4])
@pytest.mark.parametrize(
    "optimiser",
    [{"optimiser": "adamw"}, {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 1e-3}],
    ids=lambda each: each["optimiser"],
)
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(optimiser, interrupted_after):
    config = RECIPE.replace(**optimiser)
    model = tiny_model("background", "disc", "edge", dropout=0.3)
    whole = finish(training(model, config))

    seen = []
    finish(training(model, config, should_stop=lambda: len(seen) == interrupted_after), seen.append)
    checkpoint = on_disk_and_back(seen[-1].checkpoint)
    torch.manual_seed(987)  # meanwhile others draw at random
    resumed = finish(training(model, config, resume=checkpoint))

    assert checkpoint.values["step"] == interrupted_after
    assert_same_training(resumed, whole)


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_a_training_interrupted_at_any_moment_goes_on_as_if_nothing_had_happened(normalisation):
    model = tiny_model("background", "disc", "edge", dropout=0.3, normalisation=normalisation)
    config = RECIPE.replace(steps=3, frozen_statistics=0.3)
    whole = finish(training(model, config))
    moments = []
    for times in itertools.count(1, 3):  # asked before each step, in it, and while it validates
        asked, seen = [], []

        def stops(times=times, asked=asked):
            asked.append(True)
            return len(asked) >= times

        finish(training(model, config, should_stop=stops), seen.append)
        if len(asked) < times:
            break
        checkpoint = on_disk_and_back(seen[-1].checkpoint)
        moments.append((checkpoint.values["step"], len(checkpoint.values["curve"]["points"])))
        resumed = finish(training(model, config, resume=checkpoint))
        assert_same_training(resumed, whole)

    # Among them: in each step, after the last one, and in the validation after the second one.
    assert {(0, 0), (1, 0), (2, 0), (2, 1), (3, 1)} <= set(moments)
    assert all(moments.count((step, points)) > 2 for step, points in ((0, 0), (1, 0), (2, 1)))


def test_a_training_that_was_cut_off_goes_on_from_its_last_checkpoint():
    model = tiny_model("background", "disc", "edge", dropout=0.3)
    whole = finish(training(model))

    work = training(model)
    steps = [next(work) for _ in range(5)]
    work.close()
    checkpoint = on_disk_and_back(steps[2].checkpoint)
    resumed = finish(training(model, resume=checkpoint))

    assert_same_training(resumed, whole)


def test_a_trained_model_that_remembers_goes_on_as_if_nothing_had_happened():
    model = finish(training(tiny_model("background", "disc", "edge"), QUICK_TRAINING))
    config = RECIPE.replace(memory=2.0)
    whole = finish(training(model, config))

    steps = list(itertools.islice(training(model, config), 3))
    resumed = finish(training(model, config, resume=on_disk_and_back(steps[-1].checkpoint)))

    assert_same_training(resumed, whole)


def test_a_checkpoint_is_not_changed_by_later_steps():
    kept = []

    def keep(step):
        kept.append((step.checkpoint, copy.deepcopy(step.checkpoint)))

    finish(training(tiny_model("background", "disc", "edge")), keep)

    for checkpoint, at_once in kept:
        assert checkpoint.values == at_once.values
        for name, tensor in checkpoint.tensors.items():
            assert torch.equal(tensor, at_once.tensors[name]), name


def test_a_checkpoint_is_not_changed_by_going_on_from_it():
    model = tiny_model("background", "disc", "edge")
    checkpoint = next(training(model)).checkpoint
    before = copy.deepcopy(checkpoint)

    finish(training(model, resume=checkpoint))

    assert checkpoint.values == before.values
    assert all(torch.equal(t, before.tensors[name]) for name, t in checkpoint.tensors.items())


def test_a_finished_training_does_nothing_more():
    model = tiny_model("background", "disc", "edge")
    seen = []
    whole = finish(training(model), seen.append)

    again = []
    resumed = finish(training(model, resume=on_disk_and_back(seen[-1].checkpoint)), again.append)

    assert [step.step for step in again] == [7]
    assert resumed.steps == whole.steps == 7
    assert resumed.history[-1]["curve"] == whole.history[-1]["curve"]
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-3}, "another recipe: learning_rate was 0.005, now 0.001"),
        (
            {"steps": 9, "seed": 4},
            "another recipe: steps was 7, now 9; seed was 0, now 4. Go on with the same recipe",
        ),
        (
            {"augmentation": RECIPE.augmentation.replace(noise=0.3)},
            f"another recipe: noise was {RECIPE.augmentation.noise}, now 0.3. Go on",
        ),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(changes, message):
    model = tiny_model("background", "disc", "edge")
    checkpoint = next(training(model)).checkpoint

    with pytest.raises(ValueError, match=message):
        next(training(model, RECIPE.replace(**changes), resume=checkpoint))


def test_a_finished_training_whose_rate_is_constant_goes_on_with_more_steps():
    model = tiny_model("background", "disc", "edge", dropout=0.3, normalisation="none")
    config = RECIPE.replace(schedule="constant", validate_every=0)
    whole = finish(training(model, config.replace(steps=9), validation=()))

    seen = []
    finish(training(model, config.replace(steps=4), validation=()), seen.append)
    checkpoint = on_disk_and_back(seen[-1].checkpoint)
    more = config.replace(steps=9)
    resumed = finish(training(model, more, resume=checkpoint, validation=()))

    assert checkpoint.values["step"] == 4
    assert_same_training(resumed, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, "The checkpoint is of step 4, beyond the 3 steps asked for. Ask for more"),
        ({"steps": 0, "minutes": 1.0}, r"of 1\.5 minutes of training, beyond the 1 asked for"),
    ],
    ids=["steps", "minutes"],
)
def test_a_checkpoint_of_a_longer_training_is_refused(changes, message):
    model = tiny_model("background", "disc", "edge", normalisation="none")
    config = RECIPE.replace(schedule="constant", validate_every=0, steps=4)
    seen = []
    finish(training(model, config, validation=()), seen.append)
    checkpoint = on_disk_and_back(seen[-1].checkpoint)
    checkpoint.values["seconds"] = 90.0

    with pytest.raises(ValueError, match=message):
        next(training(model, config.replace(**changes), resume=checkpoint))


def test_a_checkpoint_of_another_network_is_refused():
    checkpoint = next(training(tiny_model("background", "disc", "edge"))).checkpoint
    other = tiny_model("background", "disc", "edge", width=8)

    with pytest.raises(ValueError, match="another network: width was 4, now 8"):
        next(training(other, resume=checkpoint))


def test_the_seconds_go_on_where_they_were():
    model = tiny_model("background", "disc", "edge")
    ticks = itertools.count()

    def clock():
        return float(next(ticks))

    seen = list(itertools.islice(training(model, clock=clock), 3))
    later = next(training(model, resume=seen[-1].checkpoint, clock=clock))

    assert later.seconds > seen[-1].checkpoint.values["seconds"] > seen[-2].seconds
    assert later.seconds - seen[-1].seconds < 20  # not all that passed on the clock since


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_moments_of_an_optimiser_come_back(kind):
    def optimiser(parameters):
        if kind == "sgd":
            return torch.optim.SGD(parameters, 0.1, momentum=0.9)
        return torch.optim.AdamW(parameters, 0.1)

    def step(parameters, optimiser):
        for parameter in parameters:
            parameter.grad = parameter.detach() + 1
        optimiser.step()

    first = [torch.rand(3, 4, requires_grad=True), torch.rand(5, requires_grad=True)]
    of_first = optimiser(first)
    step(first, of_first)
    second = [each.detach().clone().requires_grad_() for each in first]
    of_second = optimiser(second)

    restore_optimiser(of_second, optimiser_tensors(of_first))
    step(first, of_first)
    step(second, of_second)

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

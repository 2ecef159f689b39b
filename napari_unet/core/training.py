"""How a network learns from what was painted."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_unet import __version__
from napari_unet.core.annotations import Annotations, ClassTable
from napari_unet.core.checkpoint import (
    Checkpoint,
    chance_tensors,
    named,
    optimiser_tensors,
    part,
    restore_chance,
    restore_optimiser,
)
from napari_unet.core.config import TrainingConfig
from napari_unet.core.devices import choose_device, computing, is_out_of_memory, training_layout
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.losses import memory_loss, painted_loss
from napari_unet.core.metrics import Scores
from napari_unet.core.model import UNetModel, check_takes_grey
from napari_unet.core.network import StoppedError, stoppable
from napari_unet.core.notices import tell
from napari_unet.core.patches import Batch, LabelledImage, PatchSampler
from napari_unet.core.prediction import known_statistics, never
from napari_unet.core.validation import validate

SMALLEST_PATCH = 64
"""Patches are not halved below this when memory runs out."""

WAITING_SECONDS = 0.1
"""How long training pauses when there is nothing left to learn from."""

Growing = Callable[[UNetModel, ClassTable], UNetModel]
"""Gives a model the classes of a longer table."""


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """What one step of training brought."""

    step: int
    steps: int
    """Steps to do; 0 where no number was set."""
    seconds: float
    """Since training began."""
    loss: float
    """NaN while there is nothing to learn from."""
    model: UNetModel | None = None
    """New weights, every so often: a copy that training does not touch again."""
    validation: dict[str, Scores] | None = None
    """How the averaged weights do on the validation sections, where they were looked at."""
    checkpoint: Checkpoint | None = None
    """Where training could go on later, every so often."""
    waits: bool = False
    """Whether nothing was learnt, since fewer than two classes are painted by now."""


class Curve:
    """The course of a training: mean loss and validation scores, every so many steps."""

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []
        self._losses: list[float] = []

    @property
    def last_step(self) -> int:
        return int(self.points[-1]["step"]) if self.points else 0

    def add_loss(self, loss: float) -> None:
        """Note the loss of a step."""
        if math.isfinite(loss):
            self._losses.append(loss)

    def add_scores(self, step: int, scores: dict[str, Scores]) -> None:
        """Note the validation scores after a step, and the mean loss since the last ones."""
        self.points.append(
            {
                "step": step,
                "loss": round(float(np.mean(self._losses)), 5) if self._losses else None,
                "validation": {
                    image: {
                        name: {"f1": _rounded(each.f1), "iou": _rounded(each.iou)}
                        for name, each in of_class.items()
                    }
                    for image, of_class in scores.items()
                },
            }
        )
        self._losses = []

    def to_dict(self) -> dict[str, Any]:
        return {"points": list(self.points), "losses": list(self._losses)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Curve:
        """Return the curve that `to_dict` described."""
        curve = cls()
        curve.points, curve._losses = list(values["points"]), list(values["losses"])
        return curve


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def nothing_to_learn(*annotations: Annotations) -> str | None:
    """Return why these annotations cannot be learnt from, or None if they can."""
    painted = list(
        dict.fromkeys(
            c.name
            for each in annotations
            for c, n in zip(each.classes, each.counts(), strict=True)
            if n
        )
    )
    if not painted:
        return "Nothing is painted yet. Paint a few strokes of at least two classes, then learn."
    if len(painted) == 1:
        return (
            f"Only {painted[0]!r} is painted. Paint at least one other class, too, so that the "
            "network learns where it does not apply."
        )
    return None


def train(
    model: UNetModel,
    image: ImageArray,
    annotations: Annotations,
    config: TrainingConfig | None = None,
    *,
    statistics: GreyStatistics | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
    clock: Callable[[], float] = time.monotonic,
    grow: Growing = UNetModel.with_classes,
    origin: UNetModel | None = None,
) -> Generator[TrainingStep, Annotations | None, UNetModel]:
    """Train a copy of a model on the painted pixels of an image.

    Parameters
    ----------
    image
        Grey image whose axes end with (Y, X).
    annotations
        What was painted.
    statistics
        Grey statistics of the image, if they are known already.
    model, config, device, should_stop, clock, grow, origin
        See `train_on`, which this calls with one image.
    """
    source = LabelledImage(image, annotations, statistics=statistics, name=image.name)
    return (
        yield from train_on(
            model,
            [source],
            config,
            device=device,
            should_stop=should_stop,
            clock=clock,
            grow=grow,
            origin=origin,
        )
    )


def train_on(
    model: UNetModel,
    sources: Sequence[LabelledImage],
    config: TrainingConfig | None = None,
    *,
    validation: Sequence[LabelledImage] = (),
    resume: Checkpoint | None = None,
    checkpoint_seconds: float = math.inf,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
    clock: Callable[[], float] = time.monotonic,
    grow: Growing = UNetModel.with_classes,
    origin: UNetModel | None = None,
) -> Generator[TrainingStep, Annotations | None, UNetModel]:
    """Train a copy of a model on labelled images.

    Parameters
    ----------
    model
        Where to begin. Batch normalisation keeps its statistics unless the model is untrained.
    sources
        What to learn from; patches are drawn from each by its share.
    config
        The recipe.
    validation
        Labelled sections that are not learnt from, and looked at every
        ``config.validate_every`` steps and at the end.
    resume
        Go on from here, with the same model, sources and recipe.
    checkpoint_seconds
        How often a step carries a checkpoint; where it is finite, so does the last one.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``. On the CPU the same seed and annotations give the
        same weights, whether training was interrupted or not.
    should_stop
        Asked before every step, and during it (see `stoppable`); what was learnt so far is
        returned, without the step that was given up.
    clock
        Seconds, for the time limit and for when weights are handed out.
    grow
        Called with a model and a longer class table; returns a model of all these classes.
    origin
        What pixels that nobody painted are held to (see `memory_loss`); the model itself if not
        given. Of a model that has come of it by training: so learning in several goes is held to
        the same, and does not move on by a little each time. Classes that were added since take
        no part.

    Yields
    ------
    TrainingStep
        Annotations sent back replace those of the first source; new classes grow the network
        once they are painted.

    Returns
    -------
    UNetModel
        The trained model, with a record of this training at the end of its history.

    Raises
    ------
    ValueError
        If fewer than two classes are painted, the device is missing, the checkpoint is of
        another recipe, or the origin another network.
    MemoryError
        If not even a single small patch fits into the device's memory.
    """
    check_takes_grey(model)
    config = config or TrainingConfig()
    sources = [
        each if each.statistics else replace(each, statistics=known_statistics(each.image))
        for each in sources
    ]
    annotations = sources[0].annotations
    reason = nothing_to_learn(*(each.annotations for each in sources))
    if reason:
        raise ValueError(reason)
    target = choose_device(device)
    origin = origin or model
    if not origin.is_origin_of(model):
        raise ValueError(
            f"The model {model.name!r} cannot have come of {origin.name!r}: it is another network. "
            "Give the one that it was learnt from."
        )
    # Every set of weights that is handed out knows which pixel size it learnt.
    model = replace(model, pixel_size=model.pixel_size or sources[0].image.pixel_size)
    torch.manual_seed(config.seed)  # dropout
    classes = max((each.annotations.classes for each in sources), key=len)
    grown = grow(model, _at_least(classes, model))
    learner = _Learner(grown, origin, config, target, grow)
    magnifications = [model.magnification(each.image) for each in sources]
    replay = config.replay if learner.remembers else 0.0
    sampler = PatchSampler(sources, magnifications, config, learner.network.config, target, replay)
    batch_size = config.batch_size
    step, loss, curve = 0, math.nan, Curve()
    earlier_seconds = 0.0
    if resume is not None:
        resume.check_fits(config, learner.network)
        step, earlier_seconds = resume.values["step"], resume.values["seconds"]
        known_loss = resume.values.get("loss")  # earlier checkpoints do not tell it
        loss = math.nan if known_loss is None else known_loss
        curve = Curve.from_dict(resume.values["curve"])
        learner.restore(resume, step)
        sampler.places.bit_generator.state = resume.values["places"]
        restore_chance(sampler, part(resume.tensors, "chance"))
    began = published = saved = clock()

    def seconds() -> float:
        return earlier_seconds + clock() - began

    def checkpoint() -> Checkpoint:
        return Checkpoint(
            learner.tensors() | named(chance_tensors(sampler), "chance"),
            {
                "config": config.to_dict(),
                "network": learner.network.config.to_dict(),
                "step": step,
                "loss": loss if math.isfinite(loss) else None,
                "seconds": seconds(),
                "curve": curve.to_dict(),
                "places": sampler.places.bit_generator.state,
            },
        )

    def look_at_validation() -> dict[str, Scores] | None:
        if not validation or should_stop():
            return None
        current = learner.published(model.steps + step)
        scores = validate(current, validation, device=device, should_stop=should_stop)
        if should_stop():
            return None
        curve.add_scores(step, scores)
        return scores

    def validates_now() -> bool:
        return bool(config.validate_every) and step > 0 and step % config.validate_every == 0

    if validates_now() and curve.last_step != step:  # it was interrupted in the middle of that
        look_at_validation()
    while not should_stop():
        progress = max(
            step / config.steps if config.steps else 0.0,
            seconds() / (60 * config.minutes) if config.minutes else 0.0,
        )
        if progress >= 1:
            break
        if reason is None:
            places, chance = sampler.places.bit_generator.state, chance_tensors(sampler)
            try:
                with stoppable(should_stop):
                    loss = learner.learn(sampler.draw(batch_size), progress)
            except StoppedError:  # a checkpoint goes on with this step
                sampler.places.bit_generator.state = places
                restore_chance(sampler, chance)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                batch_size = _less_work(sampler, batch_size, error)
                learner.optimiser.zero_grad(set_to_none=True)
                if target.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            step += 1
            if validation:
                curve.add_loss(loss)
        else:  # all paint was erased meanwhile: wait for more
            loss = math.nan
            time.sleep(WAITING_SECONDS)
        scores = fresh = state = None
        if validates_now() and reason is None:
            scores = look_at_validation()
        if reason is None and clock() - published >= config.publish_seconds:
            published = clock()
            fresh = learner.published(model.steps + step)
        if clock() - saved >= checkpoint_seconds:
            saved = clock()
            state = checkpoint()
        waits = reason is not None
        news = yield TrainingStep(step, config.steps, seconds(), loss, fresh, scores, state, waits)
        if news is not None:
            annotations = news
            reason = nothing_to_learn(annotations, *(each.annotations for each in sources[1:]))
            learner.name_classes(annotations)
            sampler.update(annotations)

    if validation and curve.last_step != step:
        look_at_validation()
    if math.isfinite(checkpoint_seconds):
        yield TrainingStep(step, config.steps, seconds(), loss, checkpoint=checkpoint())
    sources = [replace(sources[0], annotations=annotations), *sources[1:]]
    final = learner.published(model.steps + step)
    record = _record(sources, final.classes, config, step, seconds(), loss, target, curve)
    return replace(final, history=(*model.history, record))


class _Learner:
    """A network while it learns: its weights, their running average and the optimiser."""

    def __init__(
        self,
        model: UNetModel,
        origin: UNetModel,
        config: TrainingConfig,
        device: torch.device,
        grow: Growing,
    ) -> None:
        self._config = config
        self._grow = grow
        self._device = device
        self._layout = training_layout(device)
        self._model = model
        self._keep_statistics = model.steps > 0
        self.network = copy.deepcopy(model.network).to(device)
        self._average = copy.deepcopy(self.network.state_dict())
        self._steps = 0
        # An untrained network has no opinion that is worth remembering.
        self.remembers = config.memory > 0 and origin.steps > 0
        self._origin = copy.deepcopy(origin.network).to(device) if self.remembers else None
        self._good = copy.deepcopy(self._average)
        self._untried: dict[str, Tensor] | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Make the optimiser anew, as is needed when parameters were exchanged."""
        self.network.to(memory_format=self._layout).train()  # type: ignore[call-overload]
        if self._keep_statistics:
            # A few strokes are no sample of the image: the statistics of a trained network
            # are worth more than those of the patches around them.
            self._freeze_statistics()
        config, parameters = self._config, self.network.parameters()
        self.optimiser: torch.optim.Optimizer
        if config.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(
                parameters,
                config.learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
        else:
            self.optimiser = torch.optim.AdamW(
                parameters, config.learning_rate, weight_decay=config.weight_decay
            )

    def _freeze_statistics(self) -> None:
        """Let batch normalisation keep its averaged statistics from now on."""
        self._keep_statistics = True
        for name, layer in self.network.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
                for kind, values in layer.named_buffers():
                    values.copy_(self._average[f"{name}.{kind}"])

    def learn(self, batch: Batch, progress: float) -> float:
        """Take one step and return its loss; a loss that is no number undoes the latest steps.

        A step that is given up changes nothing.
        """
        statistics = [(each, each.clone()) for each in self.network.buffers()]
        try:
            return self._learn(batch, progress)
        except StoppedError:
            for each, before in statistics:
                each.copy_(before)
            raise

    def _learn(self, batch: Batch, progress: float) -> float:
        config = self._config
        if not self._keep_statistics and progress >= 1 - config.frozen_statistics:
            self._freeze_statistics()
        if config.schedule == "cosine":
            rate = config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        grey = batch.grey.contiguous(memory_format=self._layout)
        with computing(self._device):
            logits = self.network(grey)
        loss = painted_loss(config.loss, logits, batch.painted, batch.weights, batch.unlabelled)
        if self._origin is not None:
            with torch.no_grad(), computing(self._device):
                remembered = self._origin(grey)
            # Classes that are new since then take no part in it.
            known = logits[:, : remembered.shape[1]]
            loss = loss + config.memory * memory_loss(known, remembered, batch.painted)
        value = float(loss.detach())
        if not math.isfinite(value):
            tell(
                "The loss is not a finite number any more; going back to the last good weights.",
                stacklevel=2,
            )
            self.network.load_state_dict(self._good)
            self._average = copy.deepcopy(self._good)
            self._untried = None
            self._prepare()
            return value
        if self._untried is not None:  # weights are good once a loss was computed after them
            self._good, self._untried = self._untried, None
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._steps += 1
        self._follow()
        return value

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow the weights, quickly at first and then with the set decay."""
        decay = min(self._config.averaging, self._steps / (self._steps + 9))
        for name, value in self.network.state_dict().items():
            if decay and value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the weights, their average and the optimiser's moments, on the CPU."""
        return (
            named(_on_cpu(self.network.state_dict()), "network")
            | named(_on_cpu(self._average), "average")
            | named(optimiser_tensors(self.optimiser), "optimiser")
        )

    def restore(self, checkpoint: Checkpoint, steps: int) -> None:
        """Take over what `tensors` returned after so many steps."""
        self.network.load_state_dict(part(checkpoint.tensors, "network"))
        for name, value in part(checkpoint.tensors, "average").items():
            self._average[name].copy_(value)
        self._good = copy.deepcopy(self._average)
        self._steps = steps
        restore_optimiser(self.optimiser, part(checkpoint.tensors, "optimiser"))

    def name_classes(self, annotations: Annotations) -> None:
        """Take over new names, and give new classes that are painted a channel of their own."""
        known = max(len(self._model.classes), annotations.highest)
        classes = _at_least(annotations.classes, self._model)[:known]
        if known > len(self._model.classes):
            grown = self._grow(self.published(self._model.steps), classes)
            self._model = grown
            self.network = copy.deepcopy(grown.network).to(self._device)
            self._average = copy.deepcopy(self.network.state_dict())
            self._good = copy.deepcopy(self._average)
            self._untried = None
            self._prepare()
        else:
            self._model = self._model.with_classes(classes)

    def published(self, steps: int) -> UNetModel:
        """Return the averaged weights as a model of their own, on the CPU."""
        state = self._good
        if all(bool(torch.isfinite(v).all()) for v in self._average.values()):
            state = self._untried = copy.deepcopy(self._average)
        network = copy.deepcopy(self._model.network)
        network.load_state_dict(_on_cpu(state))
        return replace(self._model, network=network.eval(), steps=steps)


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to("cpu", copy=True) for name, value in state.items()}


def _at_least(classes: ClassTable, model: UNetModel) -> ClassTable:
    """The painter's classes, followed by those that only the model knows."""
    return (*classes, *model.classes[len(classes) :])


def _less_work(sampler: PatchSampler, batch_size: int, error: Exception) -> int:
    if batch_size > 1:
        what = f"{batch_size // 2} instead of {batch_size} patches a step"
        batch_size //= 2
    elif sampler.patch_size // 2 >= SMALLEST_PATCH:
        what = f"patches of {sampler.patch_size // 2} instead of {sampler.patch_size} pixels"
        sampler.patch_size //= 2
    else:
        raise MemoryError(
            f"The device has not enough memory even for one patch of {sampler.patch_size} pixels "
            "a side. Close other programs that use it, or choose the CPU or a lighter model."
        ) from error
    tell(f"Not enough memory; going on with {what}.", stacklevel=3)
    return batch_size


def _record(
    sources: Sequence[LabelledImage],
    classes: ClassTable,
    config: TrainingConfig,
    steps: int,
    seconds: float,
    loss: float,
    device: torch.device,
    curve: Curve,
) -> dict[str, Any]:
    """What a model card needs to know about a training."""
    return {
        "data": [
            {
                "image": each.name or each.image.name,
                "painted": {
                    c.name: int(n)
                    for c, n in zip(
                        each.annotations.classes, each.annotations.counts(), strict=True
                    )
                },
                "unlabelled": [
                    c.name for n, c in enumerate(classes, start=1) if n in each.unlabelled
                ],
                "sections": len(each.annotations.sections),
                "pixel_size": each.image.pixel_size,
                "share": each.share,
            }
            for each in sources
        ],
        "config": config.to_dict(),
        "steps": steps,
        "seconds": round(seconds, 1),
        "loss": round(loss, 5) if math.isfinite(loss) else None,
        "curve": curve.points,
        "device": device.type,
        "versions": {
            "napari-unet": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }

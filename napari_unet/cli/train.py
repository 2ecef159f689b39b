"""``napari-unet train``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.errors import CommandError
from napari_unet.cli.files import check_output, trusted_model
from napari_unet.cli.options import check_pixel_size, given_options, listed_names
from napari_unet.cli.printing import progress, say
from napari_unet.cli.training_data import training_data
from napari_unet.cli.training_report import report_data, validation_line
from napari_unet.core.config import (
    NEW_TRAINING,
    ORIGINAL_TRAINING,
    AugmentationConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from napari_unet.core.model import UNetModel
    from napari_unet.core.patches import LabelledImage
    from napari_unet.core.training import TrainingStep
    from napari_unet.io.recipes import Recipe

DEFAULT_STEPS = 500
"""Training steps where neither --steps nor --minutes is given."""


def run_train(parsed: argparse.Namespace) -> int:
    """Write a trained model; the exit status says whether training was interrupted."""
    from dataclasses import replace

    from napari_unet.core.devices import choose_device
    from napari_unet.core.prediction import finish
    from napari_unet.core.training import train_on
    from napari_unet.io.checkpoints import check_origin, load_checkpoint, origin, save_checkpoint
    from napari_unet.io.files import FileWriteError
    from napari_unet.io.models import save_model
    from napari_unet.io.recipes import Recipe, read_recipe

    _check_training_files(parsed)
    choose_device(parsed.device)
    recipe = read_recipe(parsed.config) if parsed.config else Recipe({})
    config = _training_config(parsed, recipe)
    model, earlier = _starting_model(parsed, recipe, config.seed)
    model = replace(model, name=Path(parsed.output).stem)
    sources, validation, files = training_data(parsed, recipe, model)
    model = _with_pixel_size(model, sources)
    began_with = origin(model, sources, validation, files)
    resume = None
    if parsed.checkpoint and Path(parsed.checkpoint).exists():
        resume = load_checkpoint(parsed.checkpoint)
        resume.check_fits(config, model.with_classes(sources[0].annotations.classes).network)
        check_origin(parsed.checkpoint, resume, began_with)
    report_data(model, sources, validation)
    if resume:
        say(f"Going on from step {resume.values['step']} of {parsed.checkpoint}.")
    interrupted: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: interrupted.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    work = train_on(
        model,
        sources,
        config,
        validation=validation,
        resume=resume,
        checkpoint_seconds=60 * parsed.checkpoint_minutes if parsed.checkpoint else float("inf"),
        device=parsed.device,
        should_stop=lambda: bool(interrupted),
    )
    shown = 0
    try:
        with progress(config.steps or None, "steps") as bar:

            def show(step: TrainingStep) -> None:
                nonlocal shown
                bar.update(step.step - bar.n)
                bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
                if step.checkpoint:
                    values = {**step.checkpoint.values, "origin": began_with}
                    try:
                        save_checkpoint(parsed.checkpoint, replace(step.checkpoint, values=values))
                    except FileWriteError as error:  # hours of work are worth more
                        bar.write(f"napari-unet: note: {error}", file=sys.stderr)
                if step.validation:
                    shown = step.step
                    scores = {
                        image: {name: each.f1 for name, each in found.items()}
                        for image, found in step.validation.items()
                    }
                    bar.write(validation_line(step.step, scores), file=sys.stderr)

            trained = finish(work, show)
        record = {**trained.history[-1], "files": files, "began_with": earlier}
        trained = replace(trained, history=(*trained.history[:-1], record))
        save_model(parsed.output, trained, half=parsed.half)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    last = record["curve"][-1] if record["curve"] else None
    if last and shown != last["step"] == record["steps"]:
        scores = {
            image: {name: each["f1"] for name, each in found.items()}
            for image, found in last["validation"].items()
        }
        print(validation_line(last["step"], scores), file=sys.stderr)  # noqa: T201
    if interrupted:
        print(f"Stopped early; what was learnt is in {parsed.output}.", file=sys.stderr)  # noqa: T201
        return 128 + interrupted[0]
    return 0


def _check_training_files(parsed: argparse.Namespace) -> None:
    """Complain before the work about files and options that do not go together."""
    if Path(parsed.output).suffix != ".safetensors":
        raise CommandError(f"A model file ends with .safetensors; got {parsed.output}.")
    for path in (parsed.output, parsed.checkpoint):
        if path:
            check_output(path)
    if parsed.checkpoint and Path(parsed.checkpoint).resolve() == Path(parsed.output).resolve():
        raise CommandError(f"The model and the checkpoint cannot both be {parsed.output}.")
    if not 0 <= parsed.checkpoint_minutes < float("inf"):
        raise CommandError(
            f"--checkpoint-minutes must be a number from 0 on; got {parsed.checkpoint_minutes}."
        )
    check_pixel_size(parsed.pixel_size)
    if parsed.data and (parsed.image or not parsed.config):
        raise CommandError(
            "--data says where the [[data]] of a recipe lies; it needs --config, and neither an "
            "image nor a folder besides."
        )


def _training_config(parsed: argparse.Namespace, recipe: Recipe) -> TrainingConfig:
    """The recipe: defaults or preset, then the file, then the options, the later ones winning."""
    if parsed.preset == "original":
        base = ORIGINAL_TRAINING
    else:
        base = NEW_TRAINING if _begins_anew(parsed, recipe) else TrainingConfig()
    changes = dict(recipe.training)
    augmentation = {**base.augmentation.to_dict(), **changes.pop("augmentation", {})}
    augmentation.update(given_options(parsed, AugmentationConfig))
    settings = {**base.to_dict(), **changes, "augmentation": augmentation}
    settings.update(given_options(parsed, TrainingConfig))
    config = TrainingConfig.from_dict(settings)
    return config if config.steps or config.minutes else config.replace(steps=DEFAULT_STEPS)


def _begins_anew(parsed: argparse.Namespace, recipe: Recipe) -> bool:
    """Whether a network is trained that has not learnt anything yet."""
    return parsed.model == "new" or (parsed.model is None and recipe.network is not None)


def _starting_model(
    parsed: argparse.Namespace, recipe: Recipe, seed: int
) -> tuple[UNetModel, dict[str, Any] | None]:
    """The model to train, and what is to be remembered of the one it was before."""
    from dataclasses import replace

    from napari_unet.core.annotations import class_table
    from napari_unet.core.config import NetworkConfig
    from napari_unet.core.foreign import check_can_learn
    from napari_unet.core.model import PRESETS, new_model
    from napari_unet.core.widening import widened
    from napari_unet.io.models import DEFAULT_MODEL

    names = listed_names(parsed.classes) or recipe.classes
    width = recipe.widen if parsed.widen is None else parsed.widen
    if _begins_anew(parsed, recipe):
        if width is not None:
            raise CommandError("--widen goes with a model that has learnt something already.")
        network = PRESETS[parsed.preset or "light"]
        if recipe.network is not None:
            network = NetworkConfig.from_dict({**network.to_dict(), **recipe.network})
        classes = class_table(names or ["background", "foreground"])
        model = new_model(network, classes, seed=seed)
        return replace(model, pixel_size=recipe.pixel_size), None
    if parsed.preset:
        raise CommandError("--preset says how to make a new network; use it with --model new.")
    name = parsed.model or recipe.model or DEFAULT_MODEL
    model = check_can_learn(trusted_model(name, trust=parsed.trust))
    earlier = {"model": model.name, "steps": model.steps, "width": model.network.config.width}
    model = replace(model, pixel_size=recipe.pixel_size or model.pixel_size)
    if width is not None:
        model = widened(model, width, seed=seed)
    return model.with_classes(class_table(names)) if names else model, earlier


def _with_pixel_size(model: UNetModel, sources: list[LabelledImage]) -> UNetModel:
    """A network that knows no pixel size is to see the one that most sections have."""
    from collections import Counter
    from dataclasses import replace

    sections: Counter[float] = Counter()
    for each in sources:
        if each.image.pixel_size is not None:
            sections[each.image.pixel_size] += len(each.annotations.sections)
    if model.pixel_size is not None or not sections:
        return model
    return replace(model, pixel_size=sections.most_common(1)[0][0])

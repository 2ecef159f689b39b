"""The command line: parse, call, print.

Heavy modules are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from napari_unet import __version__
from napari_unet.core.config import (
    ORIGINAL_TRAINING,
    AugmentationConfig,
    Config,
    PredictionConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from napari_unet.core.image import ImageArray
    from napari_unet.core.model import UNetModel
    from napari_unet.core.training import TrainingStep

MOST_CLASSES = 64
"""A mask with more different values than these holds something else."""

DEFAULT_STEPS = 500
"""Training steps where neither --steps nor --minutes is given."""


class CommandError(Exception):
    """A wish that cannot be met; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 only when it did what was asked."""
    parsed = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        return int(parsed.run(parsed) or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    except (ValueError, CommandError, MemoryError, ImportError, OSError) as error:
        print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except Exception as error:
        # The two file errors live below modules that --help must not import.
        from napari_unet.io.files import FileReadError, FileWriteError

        if isinstance(error, FileReadError | FileWriteError):
            print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
            return 1
        raise


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        print(f"napari-unet: note: {message}", file=sys.stderr)  # noqa: T201


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet",
        description="Segment electron-microscopy stacks with a U-Net that learns from corrections.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], help_: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        sub.set_defaults(run=run)
        return sub

    opened = command("open", _open, "Open napari with the U-Net dock, and a stack if one is given.")
    stack = opened.add_mutually_exclusive_group()
    stack.add_argument("path", nargs="?", help="image to open")
    stack.add_argument("--sample", choices=("synthetic", "isbi2012"), help="open a sample stack")

    predict = command(
        "predict", _predict, "Predict a class mask: 1 = background, 2.. = structures."
    )
    predict.add_argument("image", metavar="IN", help="image to segment")
    predict.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="file to write (.tif)"
    )
    predict.add_argument(
        "--class", dest="class_name", metavar="NAME", help="only this class, as 0/255"
    )
    predict.add_argument(
        "--probabilities", action="store_true", help="float32 probabilities instead of a mask"
    )
    _add_shared(predict)
    _add_config(predict, PredictionConfig)

    train = command("train", _train, "Train a model on the painted pixels of an image.")
    train.add_argument("image", metavar="IMAGE", help="image to learn from")
    train.add_argument(
        "annotations",
        metavar="ANNOTATIONS",
        help="labels of the same shape: 0 = not painted, 1 = background, 2.. = structures",
    )
    train.add_argument(
        "-o", "--output", required=True, metavar="MODEL", help="model to write (.safetensors)"
    )
    train.add_argument(
        "--preset",
        choices=("original", "light"),
        help="with --model new: the network and the recipe of the paper, or a lighter network",
    )
    train.add_argument("--classes", metavar="A,B,...", help="class names, the background first")
    train.add_argument("--config", metavar="FILE", help="recipe: TOML with the options below")
    train.add_argument("--half", action="store_true", help="store float16 weights")
    _add_shared(train, ", or new for an untrained one")
    _add_config(train, TrainingConfig, exclusive=("steps", "minutes"))
    _add_config(train, AugmentationConfig)

    evaluate = command(
        "evaluate", _evaluate, "Compare a mask with the truth: F1, IoU, Dice per class."
    )
    evaluate.add_argument("prediction", metavar="PREDICTION", help="class mask, or 0/255 mask")
    evaluate.add_argument("truth", metavar="TRUTH", help="true mask of the same kind")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    command("models", _models, "List the bundled models.")

    info = command("info", _info, "Print shape, type, axes, scale and units of an image as JSON.")
    info.add_argument("file", metavar="FILE")
    return parser


def _add_shared(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("--model", metavar="NAME|FILE", help=f"bundled model or model file{more}")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--channel", type=int, metavar="N", help="channel of a multichannel image")


def _add_config(
    parser: argparse.ArgumentParser, config: type[Config], exclusive: tuple[str, ...] = ()
) -> None:
    """Add an option for each field; an option that is not given leaves no trace."""
    group = parser.add_argument_group(f"{config.__name__.removesuffix('Config').lower()} options")
    # An empty group of alternatives would break --help.
    either = group.add_mutually_exclusive_group() if exclusive else group
    for each in fields(config):
        if "explanation" not in each.metadata:
            continue
        flag = f"--{each.name.replace('_', '-')}"
        explanation = str(each.metadata["explanation"]).replace("%", "%%")
        settings: dict[str, Any] = {
            "dest": each.name,
            "default": argparse.SUPPRESS,
            "help": f"{explanation} [{each.default}]",
        }
        if isinstance(each.default, bool):
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["type"] = type(each.default)
            settings["choices"] = each.metadata["choices"]
        (either if each.name in exclusive else group).add_argument(flag, **settings)


def _given(parsed: argparse.Namespace, config: type[Config]) -> dict[str, Any]:
    return {f.name: getattr(parsed, f.name) for f in fields(config) if hasattr(parsed, f.name)}


def _training_config(parsed: argparse.Namespace) -> TrainingConfig:
    """The recipe: defaults or preset, then the file, then the options, the later ones winning."""
    base = ORIGINAL_TRAINING if parsed.preset == "original" else TrainingConfig()
    changes: dict[str, Any] = {}
    if parsed.config:
        import tomllib

        try:
            changes = tomllib.loads(Path(parsed.config).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read the recipe {parsed.config}: {error}.") from error
    varied = changes.pop("augmentation", {})
    if not isinstance(varied, dict):
        raise CommandError(
            f"In the recipe {parsed.config}, augmentation must be a table; got {varied!r}."
        )
    augmentation = {**base.augmentation.to_dict(), **varied}
    augmentation.update(_given(parsed, AugmentationConfig))
    settings = {**base.to_dict(), **changes, "augmentation": augmentation}
    settings.update(_given(parsed, TrainingConfig))
    config = TrainingConfig.from_dict(settings)
    return config if config.steps or config.minutes else config.replace(steps=DEFAULT_STEPS)


def _read_grey(path: str, channel: int | None) -> ImageArray:
    from napari_unet.core.image import as_grey
    from napari_unet.io.images import read_image

    image = read_image(path)
    try:
        return as_grey(image, channel)
    except ValueError as error:
        hint = " Say which with --channel." if "channel" in str(error) else ""
        raise CommandError(f"{error}{hint}") from error


def _check_output(path: str) -> None:
    """Complain before the work, not after it."""
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise CommandError(f"Cannot write {path}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"Cannot write {path}: the folder {folder} may not be written to.")
    if Path(path).is_dir():
        raise CommandError(f"Cannot write {path}: it is a folder.")


def _progress(total: float | None, unit: str) -> Any:
    from tqdm import tqdm

    # disable=None: no bar where standard error is not a terminal
    return tqdm(total=total, unit=unit, disable=None, bar_format=None if total is None else _BAR)


_BAR = "{l_bar}{bar}| {n:.1f}/{total:.0f} {unit} [{elapsed}<{remaining}]"


def _open(parsed: argparse.Namespace) -> None:
    from napari_unet.io.images import reader_for

    if parsed.path:
        reader_for(parsed.path)
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in screens):
        raise CommandError(
            "There is no display to open a window on. Without one, use the other commands, or a "
            "virtual display: xvfb-run -a napari-unet open ..."
        )
    try:
        import napari
        from napari.qt import get_qapp

        viewer = napari.Viewer()
    except ImportError as error:
        raise CommandError(
            f"napari cannot open a window ({error}). Install a Qt binding, for example with: "
            'pip install "napari-unet-em[pyqt5]"'
        ) from error
    viewer.window.add_plugin_dock_widget("napari-unet-em", "U-Net")
    # The canvas gets its size now; a stack that is opened before does not fit into it.
    get_qapp().processEvents()
    if parsed.sample:
        viewer.open_sample("napari-unet-em", parsed.sample)
    elif parsed.path and not viewer.open(parsed.path, plugin="napari-unet-em"):
        viewer.close()
        raise CommandError(f"{parsed.path} could not be opened.")
    napari.run()


def _predict(parsed: argparse.Namespace) -> None:
    from napari_unet.core.annotations import class_number
    from napari_unet.core.prediction import finish, gather, only_class, predict
    from napari_unet.io.images import write_image, writer_for
    from napari_unet.io.models import DEFAULT_MODEL, find_model

    writer_for(parsed.output)
    _check_output(parsed.output)
    model = find_model(parsed.model or DEFAULT_MODEL)
    number = class_number(model.classes, parsed.class_name) if parsed.class_name else None
    image = _read_grey(parsed.image, parsed.channel)
    config = PredictionConfig(**_given(parsed, PredictionConfig))
    with _progress(sum(1 for _ in image.sections()), "sections") as bar:
        tiles = predict(model, image, config, device=parsed.device)
        found = finish(
            gather(tiles, image, len(model.classes), probabilities=parsed.probabilities),
            lambda tile: bar.update(tile.done - bar.n),
        )
    if number is not None and parsed.probabilities:
        found = image.with_data(found.data[number - 1])
    elif number is not None:
        found = only_class(found, number)
    write_image(parsed.output, found)


def _train(parsed: argparse.Namespace) -> int:
    from dataclasses import replace

    from napari_unet.core.annotations import annotations_from_array
    from napari_unet.core.prediction import finish
    from napari_unet.core.training import train
    from napari_unet.io.images import read_image
    from napari_unet.io.models import save_model

    if Path(parsed.output).suffix != ".safetensors":
        raise CommandError(f"A model file ends with .safetensors; got {parsed.output}.")
    _check_output(parsed.output)
    config = _training_config(parsed)
    model = replace(_starting_model(parsed, config.seed), name=Path(parsed.output).stem)
    image = _read_grey(parsed.image, parsed.channel)
    painted = read_image(parsed.annotations)
    if painted.shape != image.shape:
        raise CommandError(
            f"The annotations have the shape {painted.shape}, the image {image.shape}; they must "
            "be the same."
        )
    annotations = annotations_from_array(painted.data, model.classes)
    interrupted: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: interrupted.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    work = train(
        model,
        image,
        annotations,
        config,
        device=parsed.device,
        should_stop=lambda: bool(interrupted),
    )
    try:
        with _progress(config.steps or None, "steps") as bar:

            def show(step: TrainingStep) -> None:
                bar.update(step.step - bar.n)
                bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)

            trained = finish(work, show)
        save_model(parsed.output, trained, half=parsed.half)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupted:
        print(f"Stopped early; what was learnt is in {parsed.output}.", file=sys.stderr)  # noqa: T201
        return 128 + interrupted[0]
    return 0


def _starting_model(parsed: argparse.Namespace, seed: int) -> UNetModel:
    from napari_unet.core.annotations import class_table
    from napari_unet.core.model import PRESETS, new_model
    from napari_unet.io.models import DEFAULT_MODEL, find_model

    names = parsed.classes.split(",") if parsed.classes else None
    if parsed.model == "new":
        network = PRESETS[parsed.preset or "light"]
        classes = class_table(names) if names else class_table(["background", "foreground"])
        return new_model(network, classes, seed=seed)
    if parsed.preset:
        raise CommandError("--preset says how to make a new network; use it with --model new.")
    model = find_model(parsed.model or DEFAULT_MODEL)
    return model.with_classes(class_table(names)) if names else model


def _evaluate(parsed: argparse.Namespace) -> None:
    import numpy as np

    from napari_unet.core.metrics import class_scores
    from napari_unet.io.images import read_image

    masks = []
    for path in (parsed.prediction, parsed.truth):
        mask = np.asarray(read_image(path).data)
        if mask.dtype.kind not in "bui" or mask.min() < 0 or mask.max() > 255:
            raise CommandError(f"{path} is no mask: it must hold whole numbers from 0 to 255.")
        masks.append(mask.astype(np.uint8))
    predicted, truth = masks
    values = [set(np.unique(mask)) for mask in masks]
    for path, found in zip((parsed.prediction, parsed.truth), values, strict=True):
        if len(found) > MOST_CLASSES:
            raise CommandError(
                f"{path} holds {len(found)} different values; this is a grey image or holds "
                "objects rather than classes."
            )
    of_one_class = [found <= {0, 255} and 255 in found for found in values]
    binary = all(found <= {0, 255} for found in values) or all(f <= {0, 1} for f in values)
    if any(of_one_class) and not binary:
        raise CommandError(
            "One of the masks holds 0 and 255 (one class), the other classes 1, 2, ...; compare "
            "masks of the same kind. predict --class NAME makes one of 0 and 255."
        )
    if binary:  # 0 is what the class is not, rather than what nobody annotated
        predicted, truth = (np.where(mask > 0, 2, 1).astype(np.uint8) for mask in masks)
    scores = class_scores(predicted, truth)
    if binary:
        scores = {max(*values[0], *values[1], 1): scores[2]} if 2 in scores else {}
    if parsed.json:
        _say(json.dumps({"classes": {str(n): s.to_dict() for n, s in scores.items()}}))
        return
    _say(f"{'class':>5}  {'F1':>7}  {'IoU':>7}  {'Dice':>7}  {'pixels':>10}")
    for number, score in scores.items():
        figures = "  ".join(
            f"{'-' if value is None else format(value, '.4f'):>7}"
            for value in (score.f1, score.iou, score.dice)
        )
        _say(f"{number:>5}  {figures}  {score.pixels:>10}")


def _models(parsed: argparse.Namespace) -> None:
    from napari_unet.io.models import bundled_models, load_model

    for each in bundled_models():
        model = load_model(each.path)
        size = sum(p.numel() for p in model.network.parameters()) / 1e6
        _say(f"{each.name}: {', '.join(c.name for c in model.classes)} ({size:.1f} M parameters)")


def _info(parsed: argparse.Namespace) -> None:
    from napari_unet.io.images import read_image

    image = read_image(parsed.file)
    _say(
        json.dumps(
            {
                "shape": list(image.shape),
                "dtype": image.dtype.name,
                "axes": image.axes,
                "scale": list(image.scale),
                "units": list(image.units),
            },
            ensure_ascii=False,
        )
    )


if __name__ == "__main__":
    sys.exit(main())

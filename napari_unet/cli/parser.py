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
    from napari_unet.core.blocks import Finding
    from napari_unet.core.evaluation import Comparison
    from napari_unet.core.foreign import Model
    from napari_unet.core.image import ImageArray
    from napari_unet.core.model import UNetModel
    from napari_unet.core.patches import LabelledImage
    from napari_unet.core.segmentation_metrics import BoundaryScores
    from napari_unet.core.training import TrainingStep
    from napari_unet.io.recipes import DataSet, Recipe

DEFAULT_STEPS = 500
"""Training steps where neither --steps nor --minutes is given."""

MOST_LINES = 20
"""Folders of more images than this are reported in one line."""

MOST_SCORES = 4
"""Of more validation images than this the mean scores are printed."""

LONGEST_NAME = 40
"""Longer names are shortened in reports."""


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


_PATHS = "; also a folder of sections, 'sections/*.png', or a data set as in file.h5/raw"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a report is to be seen before the work


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
    stack.add_argument("path", nargs="?", help=f"image or project (name.unet) to open{_PATHS}")
    stack.add_argument("--sample", choices=("synthetic", "isbi2012"), help="open a sample stack")

    predict = command(
        "predict", _predict, "Predict a class mask: 1 = background, 2.. = structures."
    )
    predict.add_argument("image", metavar="IN", help=f"image to segment{_PATHS}")
    predict.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="file to write (.tif, .mrc, .h5, .png), or .zarr, which is written while it is "
        "predicted, may be larger than memory, and goes on where it was interrupted; "
        "IMAGE.zarr/labels/NAME is a place among the labels of an OME-Zarr image",
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="begin anew where a .zarr is there already"
    )
    helpers = predict.add_mutually_exclusive_group()
    helpers.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="predict a .zarr with so many processes of this machine",
    )
    helpers.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="predict a .zarr with the workers of a Dask scheduler, such as tcp://host:8786; they "
        "must see the same files under the same paths",
    )
    predict.add_argument(
        "--class", dest="class_name", metavar="NAME", help="only this class, as 0/255"
    )
    predict.add_argument(
        "--probabilities", action="store_true", help="float32 probabilities instead of a mask"
    )
    _add_pixel_size(predict)
    _add_shared(predict)
    _add_config(predict, PredictionConfig)

    train = command(
        "train",
        _train,
        "Train a model on painted pixels of an image, or on folders of labels; "
        f"{DEFAULT_STEPS} steps unless told otherwise.",
    )
    train.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE|FOLDER",
        help="image to learn from, or folder of images and label images, paired by name",
    )
    train.add_argument(
        "annotations",
        nargs="?",
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
    train.add_argument(
        "--widen",
        type=int,
        metavar="CHANNELS",
        help="give the network so many channels at full resolution before it learns; it begins as "
        "the same function",
    )
    train.add_argument("--classes", metavar="A,B,...", help="class names, the background first")
    train.add_argument(
        "--config",
        metavar="FILE",
        help="recipe: TOML with the options below and maybe classes, pixel_size, [network] and "
        "[[data]]",
    )
    train.add_argument(
        "--data",
        metavar="FOLDER",
        help="where the folders of the recipe's [[data]] lie [beside the recipe]",
    )
    train.add_argument(
        "--unlabelled",
        metavar="A,B,...",
        help="classes that nobody looked for: they may hide in the labelled background (0/255 "
        "masks label the second class only)",
    )
    held_out = train.add_mutually_exclusive_group()
    held_out.add_argument(
        "--validation",
        metavar="NAME[:FIRST-LAST],...",
        help="images of a folder, or sections of them from 0, to judge by instead of learning from",
    )
    held_out.add_argument(
        "--validation-list", metavar="FILE", help="text file with such names, one a line"
    )
    held_out.add_argument(
        "--validation-share",
        type=float,
        metavar="SHARE",
        help="judge by this share of the sections, the last ones, instead of learning from them",
    )
    _add_pixel_size(train)
    train.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep the state of the training here; if the file is there, go on from it",
    )
    train.add_argument(
        "--checkpoint-minutes", type=float, default=5.0, metavar="N", help="how often [5]"
    )
    train.add_argument("--half", action="store_true", help="store float16 weights")
    _add_shared(train, ", or new for an untrained one")
    _add_config(train, TrainingConfig, exclusive=("steps", "minutes"))
    _add_config(train, AugmentationConfig)

    evaluate = command(
        "evaluate",
        _evaluate,
        "Compare a prediction with the truth: F1, IoU, Dice per class, and how well membranes or "
        "objects agree.",
    )
    evaluate.add_argument(
        "prediction",
        metavar="PREDICTION",
        help="class mask, mask of 0 and 255, probabilities, or numbered objects",
    )
    evaluate.add_argument(
        "truth",
        metavar="TRUTH",
        help="class mask (0 = not annotated), mask of 0 and 255, or numbered objects",
    )
    evaluate.add_argument(
        "--boundary",
        metavar="CLASS",
        help="name or number of the class that parts cells: also V_rand, V_info, Rand, warping and "
        "pixel error, each at its best threshold. Not needed for masks of 0 and 255, where 255 "
        "(as predict --class membrane writes) is membrane, and 0 cell",
    )
    evaluate.add_argument(
        "--model", metavar="NAME|FILE", help="model whose class names --boundary means [bundled]"
    )
    evaluate.add_argument(
        "--inverted-truth",
        action="store_true",
        help="in TRUTH 0 is membrane and 255 cell, as in the files of the ISBI 2012 challenge",
    )
    evaluate.add_argument(
        "--objects",
        action="store_true",
        help="compare numbered objects (0 = none) in three dimensions: adapted Rand error (ARAND) "
        "and variation of information (VOI, in bits)",
    )
    _add_trust(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    command("models", _models, "List the bundled models.")

    export = command(
        "export-model",
        _export_model,
        "Write a model for other programs: a BioImage.IO package (.zip) or an ONNX file (.onnx).",
    )
    export.add_argument("model", metavar="NAME|FILE", help="bundled model or model file")
    export.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="file to write (.zip, .onnx)"
    )
    export.add_argument(
        "--author",
        action="append",
        default=[],
        dest="authors",
        metavar="NAME",
        help="who made the model (.zip); may be given several times",
    )
    export.add_argument(
        "--license",
        metavar="SPDX",
        help="licence under which the model is passed on (.zip), such as CC-BY-4.0",
    )
    _add_trust(export)

    info = command("info", _info, "Print shape, type, axes, scale and units of an image as JSON.")
    info.add_argument("file", metavar="FILE")
    return parser


def _add_shared(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help=f"bundled model, model file, BioImage.IO package or ONNX file{more}",
    )
    _add_trust(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--channel", type=int, metavar="N", help="channel of a multichannel image")


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the code that some models of other programs bring, without asking",
    )


def _add_pixel_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="NM",
        help="side of a pixel in nanometres, where the file does not say it or is wrong",
    )


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


def _training_config(parsed: argparse.Namespace, recipe: Recipe) -> TrainingConfig:
    """The recipe: defaults or preset, then the file, then the options, the later ones winning."""
    base = ORIGINAL_TRAINING if parsed.preset == "original" else TrainingConfig()
    changes = dict(recipe.training)
    augmentation = {**base.augmentation.to_dict(), **changes.pop("augmentation", {})}
    augmentation.update(_given(parsed, AugmentationConfig))
    settings = {**base.to_dict(), **changes, "augmentation": augmentation}
    settings.update(_given(parsed, TrainingConfig))
    config = TrainingConfig.from_dict(settings)
    return config if config.steps or config.minutes else config.replace(steps=DEFAULT_STEPS)


def _find_model(name: str, *, trust: bool) -> Model:
    """The model of this name; who sits at a terminal is asked before its code is run."""
    from napari_unet.io.files import CodeNotTrustedError
    from napari_unet.io.model_files import find_model

    try:
        return find_model(name, trust=trust)
    except CodeNotTrustedError as error:
        if not sys.stdin.isatty():
            raise CommandError(f"{error} If you trust its source, say --trust.") from error
        print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
        if input("Do you trust its source, and want to run it? [y/N] ").strip().lower() != "y":
            raise CommandError(f"{name} was not used, since it is not trusted.") from error
        return find_model(name, trust=True)


def _read_grey(path: str, channel: int | None, pixel_size: float | None = None) -> ImageArray:
    from napari_unet.io.images import read_grey

    _check_pixel_size(pixel_size)
    try:
        return read_grey(path, channel, pixel_size)
    except ValueError as error:
        hint = " Say which with --channel." if "channel" in str(error) else ""
        raise CommandError(f"{error}{hint}") from error


def _check_pixel_size(given: float | None) -> None:
    if given is not None and not 0 < given < float("inf"):
        raise CommandError(f"--pixel-size must be a positive number; got {given}.")


def _check_output(path: str, *, may_be_folder: bool = False) -> None:
    """Complain before the work, not after it."""
    folder = Path(path).resolve().parent
    if may_be_folder and folder.name == "labels" and not folder.exists():
        folder = folder.parent  # labels of an image that has none so far
    if not folder.is_dir():
        raise CommandError(f"Cannot write {path}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"Cannot write {path}: the folder {folder} may not be written to.")
    if Path(path).is_dir() and not may_be_folder:
        raise CommandError(f"Cannot write {path}: it is a folder.")


def _progress(total: float | None, unit: str) -> Any:
    from tqdm import tqdm

    # disable=None: no bar where standard error is not a terminal
    return tqdm(total=total, unit=unit, disable=None, bar_format=None if total is None else _BAR)


_BAR = "{l_bar}{bar}| {n:.1f}/{total:.0f} {unit} [{elapsed}<{remaining}]"


def _open(parsed: argparse.Namespace) -> None:
    from napari_unet.io.images import reader_for
    from napari_unet.io.projects import is_project

    project = parsed.path is not None and is_project(Path(parsed.path))
    if parsed.path and not project:
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
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-em", "U-Net")
    # The canvas gets its size now; a stack that is opened before does not fit into it.
    get_qapp().processEvents()
    if parsed.sample:
        viewer.open_sample("napari-unet-em", parsed.sample)
    elif project:
        dock.projects.open(Path(parsed.path))
    elif parsed.path and not viewer.open(parsed.path, plugin="napari-unet-em"):
        viewer.close()
        raise CommandError(f"{parsed.path} could not be opened.")
    napari.run()


def _predict(parsed: argparse.Namespace) -> None:
    from napari_unet.core.annotations import class_number
    from napari_unet.core.blocks import Finding
    from napari_unet.core.model import UNetModel
    from napari_unet.core.prediction import finish, gather, only_class, predict
    from napari_unet.io.images import write_image, writer_for
    from napari_unet.io.models import DEFAULT_MODEL
    from napari_unet.io.ome_zarr import write_ome_zarr

    in_blocks = writer_for(parsed.output) is write_ome_zarr
    _check_cluster(parsed, in_blocks)
    _check_output(parsed.output, may_be_folder=in_blocks or parsed.output.endswith(".png"))
    model = _find_model(parsed.model or DEFAULT_MODEL, trust=parsed.trust)
    if _on_cluster(parsed) and not isinstance(model, UNetModel):
        raise CommandError(
            f"{model.name!r} is a network of another program; leave --workers and "
            "--cluster out to predict with it."
        )
    number = class_number(model.classes, parsed.class_name) if parsed.class_name else None
    image = _read_grey(parsed.image, parsed.channel, parsed.pixel_size)
    config = PredictionConfig(**_given(parsed, PredictionConfig))
    if in_blocks and isinstance(model, UNetModel):
        finding = Finding(parsed.probabilities, number or 0)
        _predict_in_blocks(parsed, model, image, finding, config)
        return
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
    is_mask = number is None and not parsed.probabilities
    write_image(parsed.output, found, model.classes if is_mask else ())


def _predict_in_blocks(
    parsed: argparse.Namespace,
    model: UNetModel,
    image: ImageArray,
    finding: Finding,
    config: PredictionConfig,
) -> None:
    """Predict straight into a store, and go on where an earlier run stopped."""
    from napari_unet.core.blocks import block_height, plan_blocks
    from napari_unet.core.devices import choose_device
    from napari_unet.core.model import check_takes_grey
    from napari_unet.core.prediction import finish, known_statistics
    from napari_unet.io.prediction_store import (
        open_store,
        origin_of,
        predict_into,
        remaining_blocks,
    )

    output = Path(parsed.output)
    if output.resolve() in (Path(parsed.image).resolve(), *Path(parsed.image).resolve().parents):
        raise CommandError(f"{output} is the image itself; choose another name for the prediction.")
    check_takes_grey(model)
    choose_device(parsed.device)
    statistics = known_statistics(image)
    height = block_height(model, config)
    origin = origin_of(model, image, config, finding, statistics)
    with open_store(
        output, model, image, finding, origin, height=height, overwrite=parsed.overwrite
    ) as store:
        if store.is_finished:
            _say(f"{output} is finished already, by the same model with the same options.")
            return
        total = len(plan_blocks(image, height))
        blocks = remaining_blocks(store, image, height)
        if len(blocks) < total:
            _say(f"Going on with {output}: {total - len(blocks)} of {total} blocks are finished.")
        if _on_cluster(parsed):
            from napari_unet.io.cluster import Errand, predict_on_cluster

            errand = Errand(
                image=str(Path(parsed.image).resolve()),
                channel=parsed.channel,
                pixel_size=parsed.pixel_size,
                model=_model_for_others(parsed.model),
                output=str(output.resolve()),
                finding=finding,
                config=config,
                statistics=statistics,
                device=parsed.device,
            )
            work = predict_on_cluster(
                store, errand, blocks, address=parsed.cluster, workers=parsed.workers
            )
        else:
            work = predict_into(
                store,
                model,
                image,
                finding,
                config,
                blocks,
                statistics=statistics,
                device=parsed.device,
            )
        with _progress(total, "blocks") as bar:
            bar.update(total - len(blocks))
            finish(work, lambda done: bar.update(total - len(blocks) + done - bar.n))
        store.close()


def _on_cluster(parsed: argparse.Namespace) -> bool:
    return parsed.cluster is not None or parsed.workers is not None


def _check_cluster(parsed: argparse.Namespace, in_blocks: bool) -> None:
    """Complain before the work if others cannot help with it."""
    from importlib.util import find_spec

    if not _on_cluster(parsed):
        return
    if not in_blocks:
        raise CommandError(
            "--workers and --cluster go with an output that ends with .zarr, into which many can "
            "write at a time."
        )
    if parsed.workers is not None and parsed.workers < 1:
        raise CommandError(f"--workers must be at least 1; got {parsed.workers}.")
    if find_spec("distributed") is None:
        raise CommandError(
            "--workers and --cluster need dask.distributed. Install it with: "
            'pip install "napari-unet-em[cluster]"'
        )


def _model_for_others(name: str | None) -> str:
    """The name of a bundled model, or a path that is the same for everybody."""
    from napari_unet.io.models import DEFAULT_MODEL, bundled_models

    name = name or DEFAULT_MODEL
    return name if name in {each.name for each in bundled_models()} else str(Path(name).resolve())


def _train(parsed: argparse.Namespace) -> int:
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
    sources, validation, files = _training_data(parsed, recipe, model)
    model = _with_pixel_size(model, sources)
    began_with = origin(model, sources, validation, files)
    resume = None
    if parsed.checkpoint and Path(parsed.checkpoint).exists():
        resume = load_checkpoint(parsed.checkpoint)
        resume.check_fits(config, model.with_classes(sources[0].annotations.classes).network)
        check_origin(parsed.checkpoint, resume, began_with)
    _report_data(model, sources, validation)
    if resume:
        _say(f"Going on from step {resume.values['step']} of {parsed.checkpoint}.")
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
        with _progress(config.steps or None, "steps") as bar:

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
                    bar.write(_validation_line(step.step, scores), file=sys.stderr)

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
        print(_validation_line(last["step"], scores), file=sys.stderr)  # noqa: T201
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
            _check_output(path)
    if parsed.checkpoint and Path(parsed.checkpoint).resolve() == Path(parsed.output).resolve():
        raise CommandError(f"The model and the checkpoint cannot both be {parsed.output}.")
    if not 0 <= parsed.checkpoint_minutes < float("inf"):
        raise CommandError(
            f"--checkpoint-minutes must be a number from 0 on; got {parsed.checkpoint_minutes}."
        )
    _check_pixel_size(parsed.pixel_size)
    if parsed.data and (parsed.image or not parsed.config):
        raise CommandError(
            "--data says where the [[data]] of a recipe lies; it needs --config, and neither an "
            "image nor a folder besides."
        )


def _validation_line(step: int, scores: dict[str, dict[str, float | None]]) -> str:
    """F1 of each class, by image, or where there are many images on average."""
    if len(scores) > MOST_SCORES:
        of_class: dict[str, list[float]] = {}
        for found in scores.values():
            for name, f1 in found.items():
                of_class.setdefault(name, []).extend([] if f1 is None else [f1])
        means = {n: sum(each) / len(each) if each else None for n, each in of_class.items()}
        scores = {f"mean of {len(scores)} images": means}
    said = "; ".join(
        f"{image}: "
        + ", ".join(f"{name} F1 {'-' if f1 is None else f'{f1:.3f}'}" for name, f1 in found.items())
        for image, found in scores.items()
    )
    return f"step {step}: {said}"


def _training_data(
    parsed: argparse.Namespace, recipe: Recipe, model: UNetModel
) -> tuple[list[LabelledImage], list[LabelledImage], dict[str, dict[str, str]]]:
    """What to learn from, what to judge by, and the SHA-256 of the files by their names."""
    from napari_unet.core.training import nothing_to_learn
    from napari_unet.io.folders import ImagePair, find_pairs, read_pairs, split, unlabelled_classes

    files: dict[str, dict[str, str]] = {}
    if parsed.image is None:
        learnt, judged = [], []
        for data in _data_sets(parsed, recipe):
            root = Path(parsed.data or Path(parsed.config).parent)
            more_learnt, more_judged, pairs = data.read(root, model.classes)
            learnt += more_learnt
            judged += more_judged
            files |= {f"{data.folder}/{pair.name}": pair.sha256() for pair in pairs}
    else:
        image, labels = Path(parsed.image), parsed.annotations
        if image.is_dir() and labels:
            raise CommandError(
                f"{image} is a folder: its labels lie in it, so that {labels} is too much."
            )
        if not image.exists():
            raise CommandError(f"There is no file or folder {image}.")
        if not image.is_dir() and not labels:
            raise CommandError(f"Say which annotations belong to {image}.")
        pairs = [ImagePair(image.stem, image, Path(labels))] if labels else find_pairs(image)
        sources = read_pairs(
            pairs,
            model.classes,
            unlabelled=unlabelled_classes(model.classes, _names(parsed.unlabelled) or []),
            pixel_size=parsed.pixel_size,
            channel=parsed.channel,
            more_classes=bool(labels),
        )
        wanted, share = _wanted_validation(parsed)
        learnt, judged = split(sources, wanted, share)
        files |= {pair.name: pair.sha256() for pair in pairs}
    if not learnt:
        raise CommandError("Every section is held out for validation; none is left to learn from.")
    reason = nothing_to_learn(*(each.annotations for each in learnt))
    if reason:
        raise CommandError(
            f"{reason} Labels of 0 are not annotated, of 1 background, of 2 and up structures; "
            "a mask of one structure holds 0 and 255."
        )
    return learnt, judged, files


def _data_sets(parsed: argparse.Namespace, recipe: Recipe) -> list[DataSet]:
    """The data of the recipe; what the command line says of images wins."""
    from dataclasses import replace

    if not recipe.data:
        raise CommandError(
            "Say what to learn from: an image and its annotations, a folder of images and "
            "labels, or a recipe with [[data]]."
        )
    changes = {
        "pixel_size": parsed.pixel_size,
        "channel": parsed.channel,
        "unlabelled": _names(parsed.unlabelled),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    data_sets = [replace(each, **given) for each in recipe.data]
    wanted, share = _wanted_validation(parsed)
    if not wanted and not share:
        return data_sets
    of_folder: dict[str, list[str]] = {each.folder: [] for each in data_sets}
    for wish in wanted:
        folder, _, name = wish.rpartition("/")
        if folder not in of_folder:
            raise CommandError(
                f"There is no {wish!r} to validate with; write FOLDER/NAME with a folder of the "
                f"recipe: {', '.join(of_folder)}."
            )
        of_folder[folder].append(name)
    return [
        replace(each, validation=of_folder[each.folder], validation_share=share)
        for each in data_sets
    ]


def _names(listed: str | None) -> list[str] | None:
    """The names in a list with commas."""
    return None if listed is None else [name.strip() for name in listed.split(",")]


def _wanted_validation(parsed: argparse.Namespace) -> tuple[list[str], float]:
    share = parsed.validation_share
    if share is not None and not 0 < share < 1:
        raise CommandError(f"--validation-share must lie between 0 and 1; got {share}.")
    wanted = _names(parsed.validation)
    if parsed.validation_list:
        try:
            wanted = Path(parsed.validation_list).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"Cannot read {parsed.validation_list}: {error}.") from error
    named = [wish.strip() for wish in wanted or [] if wish.strip()]
    if wanted is not None and not named:
        raise CommandError(
            f"{parsed.validation_list or '--validation'} names no images to validate with."
        )
    return named, share or 0.0


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


def _report_data(
    model: UNetModel, sources: list[LabelledImage], validation: list[LabelledImage]
) -> None:
    """Print what was found: sections, size, pixel size, and the share of each class."""
    classes = max((each.annotations.classes for each in sources), key=len)
    rows = [
        ["", "image", "sections", "size", "nm/px", "labelled", *(each.name for each in classes)]
    ]
    for what, images in (("learn from", sources), ("judge by", validation)):
        folders: dict[str, list[LabelledImage]] = {}
        for each in images:
            folders.setdefault(each.name.rpartition("/")[0], []).append(each)
        for folder, inside in folders.items():
            if len(inside) > MOST_LINES:
                name = f"{len(inside)} images" + (f" in {folder}" if folder else "")
                rows.append([what, *_report_row(name, inside, len(classes))])
            else:
                rows += [[what, *_report_row(e.name, [e], len(classes))] for e in inside]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        _say("  ".join([*left, *right]))
    if any(model.magnification(each.image) != 1 for each in (*sources, *validation)):
        _say(
            f"The network sees {model.pixel_size:.4g} nm/px; images of another pixel size are "
            "resampled to it."
        )


def _report_row(name: str, images: list[LabelledImage], classes: int) -> list[str]:
    sections = [len(each.annotations.sections) for each in images]
    sizes = sorted({each.image.shape[-2:] for each in images}, key=lambda s: s[0] * s[1])
    known = sorted({size for each in images if (size := each.image.pixel_size) is not None})
    pixel_sizes = [f"{size:.4g}" for size in (known[:1] + known[1:][-1:])]
    if len(set(pixel_sizes)) == 1:
        pixel_sizes = pixel_sizes[:1]
    unknown = any(each.image.pixel_size is None for each in images)
    counts = [0] * classes
    for each in images:
        for index, count in enumerate(each.annotations.counts()):
            counts[index] += int(count)
    labelled = sum(counts)
    pixels = sum(
        n * each.image.shape[-2] * each.image.shape[-1]
        for n, each in zip(sections, images, strict=True)
    )
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2 - 2]}...{name[1 - LONGEST_NAME // 2 :]}"
    return [
        name,
        str(sum(sections)),
        " to ".join(f"{width} x {height}" for height, width in sizes[:1] + sizes[1:][-1:]),
        ", ".join([*filter(None, [" to ".join(pixel_sizes)]), *["?"] * unknown]),
        _percent(labelled, pixels),
        *(
            "not labelled"
            if all(number in each.unlabelled for each in images)
            else _percent(count, labelled)
            for number, count in enumerate(counts, start=1)
        ),
    ]


def _percent(part: int, whole: int) -> str:
    """A share that is rounded to neither nothing nor all."""
    share = part / whole
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{min(share, 0.999) if part < whole else 1:.1%}"


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

    names = _names(parsed.classes) or recipe.classes
    width = recipe.widen if parsed.widen is None else parsed.widen
    if parsed.model == "new" or (parsed.model is None and recipe.network is not None):
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
    model = check_can_learn(_find_model(name, trust=parsed.trust))
    earlier = {"model": model.name, "steps": model.steps, "width": model.network.config.width}
    model = replace(model, pixel_size=recipe.pixel_size or model.pixel_size)
    if width is not None:
        model = widened(model, width, seed=seed)
    return model.with_classes(class_table(names)) if names else model, earlier


def _evaluate(parsed: argparse.Namespace) -> None:
    from dataclasses import replace

    from napari_unet.core.evaluation import comparison
    from napari_unet.core.metrics import class_scores
    from napari_unet.io.images import read_image

    prediction, truth = (
        replace(read_image(path), name=path) for path in (parsed.prediction, parsed.truth)
    )
    if parsed.objects:
        if parsed.boundary is not None or parsed.inverted_truth:
            raise CommandError(
                "--objects compares numbered objects; leave out --boundary and --inverted-truth, "
                "which are for membranes."
            )
        _evaluate_objects(prediction, truth, parsed.json)
        return
    names = _class_names(parsed.prediction, parsed.truth)
    number = None
    if parsed.boundary in names.values():
        number = next(n for n, name in names.items() if name == parsed.boundary)
    elif parsed.boundary is not None:
        number = _class_called(parsed.boundary, parsed.model, trust=parsed.trust)
    both = comparison(prediction, truth, number, inverted_truth=parsed.inverted_truth)
    scores = class_scores(both.predicted, both.truth)
    if both.reported is not None:
        scores = {name: scores[n] for n, name in both.reported.items() if n in scores}
    boundary = _boundary_scores(both)
    if parsed.json:
        found: dict[str, Any] = {"classes": {str(n): s.to_dict() for n, s in scores.items()}}
        if names:
            found["names"] = {str(n): names[n] for n in scores if n in names}
        if boundary is not None:
            found["boundary"] = boundary.to_dict()
        _say(json.dumps(found))
        return
    _say("class       F1      IoU     Dice  precision   recall      pixels")
    for number, score in scores.items():
        _say(
            f"{number:>5}  {_rounded(score.f1):>7}  {_rounded(score.iou):>7}  "
            f"{_rounded(score.dice):>7}  {_rounded(score.precision):>9}  {_rounded(score.recall):>7}  "
            f"{score.pixels:>10}  {names.get(number, '')}".rstrip()
        )
    if boundary is not None:
        _say(f"\n{'membranes':<46}  {'value':>8}  threshold")
        for name, title in _BOUNDARY_TITLES.items():
            threshold = boundary.thresholds[name]
            _say(
                f"{title:<46}  {_rounded(getattr(boundary, name), 6):>8}  {_rounded(threshold, 1):>9}"
            )


def _class_names(prediction: str, truth: str) -> dict[int, str]:
    """What the files call classes, by their numbers; the truth goes before the prediction."""
    from napari_unet.io.class_names import read_classes

    told = [
        {n: each.name for n, each in enumerate(read_classes(path), start=1)}
        for path in (prediction, truth)
    ]
    for number in sorted(told[0].keys() & told[1].keys()):
        if told[0][number] != told[1][number]:
            warnings.warn(
                f"Class {number} is {told[0][number]!r} in {prediction}, but {told[1][number]!r} "
                f"in {truth}. They are compared by number.",
                stacklevel=2,
            )
    return {**told[0], **told[1]}


_BOUNDARY_TITLES = {
    "v_rand": "V_rand after border thinning (1 is best)",
    "v_info": "V_info after border thinning (1 is best)",
    "rand_error": "Rand error (0 is best)",
    "warping_error": "warping error",
    "challenge_warping_error": "warping error, only splits and mergers",
    "pixel_error": "pixel error",
    "challenge_pixel_error": "pixel error as 1 - F1 of the cells",
}


def _rounded(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _class_called(name: str, model: str | None, *, trust: bool) -> int:
    """The number of a class that is given by its name or by this number."""
    from napari_unet.core.annotations import class_number
    from napari_unet.io.models import DEFAULT_MODEL

    if name.isascii() and name.isdigit():
        return int(name)
    return class_number(_find_model(model or DEFAULT_MODEL, trust=trust).classes, name)


def _boundary_scores(both: Comparison) -> BoundaryScores | None:
    if both.membrane is None or both.true_membrane is None:
        return None
    from napari_unet.core.segmentation_metrics import boundary_scores, compare_section

    sections = []
    with _progress(len(both.membrane), "sections") as bar:
        for membrane, truth in zip(both.membrane, both.true_membrane, strict=True):
            sections.append(compare_section(membrane, truth))
            bar.update()
    return boundary_scores(sections)


def _evaluate_objects(prediction: ImageArray, truth: ImageArray, as_json: bool) -> None:
    from napari_unet.core.evaluation import object_numbers
    from napari_unet.core.segmentation_metrics import object_scores

    scores = object_scores(object_numbers(prediction), object_numbers(truth))
    if as_json:
        _say(json.dumps({"objects": scores.to_dict()}))
        return
    _say("  ARAND  precision   recall      VOI    split    merge  predicted    true")
    _say(
        f"{_rounded(scores.arand):>7}  {_rounded(scores.precision):>9}  {_rounded(scores.recall):>7}  "
        f"{_rounded(scores.voi):>7}  {_rounded(scores.voi_split):>7}  {_rounded(scores.voi_merge):>7}  "
        f"{scores.predicted_objects:>9}  {scores.true_objects:>6}"
    )


def _models(parsed: argparse.Namespace) -> None:
    from napari_unet.io.models import bundled_models, load_model

    for each in bundled_models():
        model = load_model(each.path)
        size = sum(p.numel() for p in model.network.parameters()) / 1e6
        seen = f", {model.pixel_size:.4g} nm/px" if model.pixel_size else ""
        names = ", ".join(c.name for c in model.classes)
        _say(f"{each.name}: {names} ({size:.1f} M parameters{seen})")


def _export_model(parsed: argparse.Namespace) -> None:
    from napari_unet.io.bioimageio.export import save_package
    from napari_unet.io.model_files import refuse_foreign, write_model, writer_for

    writer_for(parsed.output)
    _check_output(parsed.output)
    named = parsed.authors or parsed.license is not None
    is_package = Path(parsed.output).suffix.lower() == ".zip"
    if named and not is_package:
        raise CommandError("--author and --license are for BioImage.IO packages (.zip).")
    model = _find_model(parsed.model, trust=parsed.trust)
    if is_package:
        save_package(
            parsed.output,
            refuse_foreign(parsed.output, model),
            authors=parsed.authors,
            license_id=parsed.license,
        )
    else:
        write_model(parsed.output, model)
    _say(f"Wrote {parsed.output}.")


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

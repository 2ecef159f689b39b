"""The commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from napari_unet import __version__
from napari_unet.cli.evaluate import run_evaluate
from napari_unet.cli.info import run_info
from napari_unet.cli.models import run_export_model, run_models
from napari_unet.cli.opening import run_open
from napari_unet.cli.options import add_config, add_pixel_size, add_shared, add_trust
from napari_unet.cli.predict import run_predict
from napari_unet.cli.train import DEFAULT_STEPS, run_train
from napari_unet.core.config import AugmentationConfig, PredictionConfig, TrainingConfig

_PATHS = "; also a folder of sections, 'sections/*.png', or a data set as in file.h5/raw"


def build_parser() -> argparse.ArgumentParser:
    """The parser; ``run`` of what it returns is the function of the command."""
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

    opened = command(
        "open", run_open, "Open napari with the U-Net dock, and a stack if one is given."
    )
    stack = opened.add_mutually_exclusive_group()
    stack.add_argument("path", nargs="?", help=f"image or project (name.unet) to open{_PATHS}")
    stack.add_argument("--sample", choices=("synthetic", "isbi2012"), help="open a sample stack")

    predict = command(
        "predict", run_predict, "Predict a class mask: 1 = background, 2.. = structures."
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
    add_pixel_size(predict)
    add_shared(predict)
    add_config(predict, PredictionConfig)

    train = command(
        "train",
        run_train,
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
    add_pixel_size(train)
    train.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep the state of the training here; if the file is there, go on from it",
    )
    train.add_argument(
        "--checkpoint-minutes", type=float, default=5.0, metavar="N", help="how often [5]"
    )
    train.add_argument("--half", action="store_true", help="store float16 weights")
    add_shared(train, ", or new for an untrained one")
    add_config(train, TrainingConfig, exclusive=("steps", "minutes"))
    add_config(train, AugmentationConfig)

    evaluate = command(
        "evaluate",
        run_evaluate,
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
    add_trust(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    command("models", run_models, "List the bundled models.")

    export = command(
        "export-model",
        run_export_model,
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
    add_trust(export)

    info = command(
        "info", run_info, "Print shape, type, axes, scale and units of an image as JSON."
    )
    info.add_argument("file", metavar="FILE")
    return parser

"""Options that several commands have, and what was given of them."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from napari_unet.cli.errors import CommandError
from napari_unet.core.config import Config


def add_shared(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add the options of what predicts and what trains; ``more`` ends the help of --model."""
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        help=f"bundled model, model file, BioImage.IO package or ONNX file{more}",
    )
    add_trust(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--channel", type=int, metavar="N", help="channel of a multichannel image")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust, which :func:`napari_unet.cli.files.trusted_model` wants to know."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the code that some models of other programs bring, without asking",
    )


PIXEL_SIZES = (1e-3, 1e9)
"""Nanometres from the finest to the coarsest that a pixel can be."""


def add_pixel_size(parser: argparse.ArgumentParser) -> None:
    """Add --pixel-size, which is to be checked with :func:`check_pixel_size`."""
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="NM",
        help="side of a pixel in nanometres, where the file does not say it or is wrong",
    )


def check_pixel_size(given: float | None) -> None:
    """Complain about what is no size."""
    lowest, highest = PIXEL_SIZES
    if given is not None and not lowest <= given <= highest:
        raise CommandError(
            f"--pixel-size must lie between {lowest:g} and {highest:g} nm; got {given}."
        )


def add_config(
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


def given_options(parsed: argparse.Namespace, config: type[Config]) -> dict[str, Any]:
    """The options of :func:`add_config` that were given, by the names of the fields."""
    return {f.name: getattr(parsed, f.name) for f in fields(config) if hasattr(parsed, f.name)}


def listed_names(listed: str | None) -> list[str] | None:
    """The names in a list with commas."""
    return None if listed is None else [name.strip() for name in listed.split(",")]

"""What ``napari-unet train`` learns from, and what it judges by."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.errors import CommandError
from napari_unet.cli.options import listed_names

if TYPE_CHECKING:
    from napari_unet.core.model import UNetModel
    from napari_unet.core.patches import LabelledImage
    from napari_unet.io.recipes import DataSet, Recipe


def training_data(
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
            unlabelled=unlabelled_classes(model.classes, listed_names(parsed.unlabelled) or []),
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
        "unlabelled": listed_names(parsed.unlabelled),
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


def _wanted_validation(parsed: argparse.Namespace) -> tuple[list[str], float]:
    share = parsed.validation_share
    if share is not None and not 0 < share < 1:
        raise CommandError(f"--validation-share must lie between 0 and 1; got {share}.")
    wanted = listed_names(parsed.validation)
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

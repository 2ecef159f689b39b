"""Recipes: TOML files that say what is trained, from which data and how."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_unet.core.annotations import ClassTable, class_table
from napari_unet.core.config import AugmentationConfig, NetworkConfig, TrainingConfig
from napari_unet.core.patches import LabelledImage
from napari_unet.io.files import FileReadError
from napari_unet.io.folders import ImagePair, find_pairs, read_pairs, split, unlabelled_classes

NETWORK_OPTIONS = {each.name for each in fields(NetworkConfig)} - {"classes", "channels_in"}
"""What a recipe may say of a network; the rest follows from the classes and the images."""


@dataclass(frozen=True)
class DataSet:
    """A folder of images and labels in a recipe.

    Parameters
    ----------
    folder
        Where it lies, relative to the folder of all data.
    share
        How often patches are drawn from it, relative to the others.
    unlabelled
        Names of classes that nobody looked for there.
    pixel_size
        In nanometres, where the files do not say it.
    validation
        Names of images, or ``name:first-last``, to judge by.
    validation_share
        Share of the sections to judge by, the last ones.
    channel
        Channel of images that have several.
    """

    folder: str
    share: float = 1.0
    unlabelled: list[str] = field(default_factory=list)
    pixel_size: float | None = None
    validation: list[str] = field(default_factory=list)
    validation_share: float = 0.0
    channel: int | None = None

    def read(
        self, root: Path, classes: ClassTable
    ) -> tuple[list[LabelledImage], list[LabelledImage], list[ImagePair]]:
        """Return what to learn from, what to judge by, and the files.

        Raises
        ------
        FileReadError, ValueError
            See `find_pairs`, `read_pairs` and `split`.
        """
        pairs = find_pairs(root / self.folder)
        sources = read_pairs(
            pairs,
            classes,
            unlabelled=unlabelled_classes(classes, self.unlabelled),
            share=self.share,
            pixel_size=self.pixel_size,
            channel=self.channel,
        )
        learnt, judged = split(sources, self.validation, self.validation_share)
        left = sum(each.share for each in learnt)
        learnt = [replace(each, share=each.share / left * self.share) for each in learnt]
        return self._named(learnt), self._named(judged), pairs

    def _named(self, sources: list[LabelledImage]) -> list[LabelledImage]:
        return [replace(each, name=f"{self.folder}/{each.name}") for each in sources]


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says; what it leaves open is None or empty.

    Parameters
    ----------
    training
        Options of `TrainingConfig`, with a table ``augmentation``.
    network
        Options of `NetworkConfig`, for a network from nothing.
    model
        Name or file of the model to begin with instead.
    widen
        Channels at full resolution to which that model is widened first.
    classes
        Names, the background first.
    pixel_size
        Nanometres per pixel the network is to see.
    data
        Where to learn from.
    """

    training: dict[str, Any]
    network: dict[str, Any] | None = None
    model: str | None = None
    widen: int | None = None
    classes: list[str] | None = None
    pixel_size: float | None = None
    data: tuple[DataSet, ...] = ()


def read_recipe(path: Path | str) -> Recipe:
    """Return the recipe in a TOML file.

    Raises
    ------
    FileReadError
        If it cannot be read, or something in it makes no sense; the message names it.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileReadError(f"Cannot read the recipe {path}: {error}.") from error
    try:
        return _recipe(values)
    except ValueError as error:
        raise FileReadError(f"In the recipe {path}, {error}") from error


def _recipe(values: dict[str, Any]) -> Recipe:
    training_options = {each.name for each in fields(TrainingConfig)}
    others = {"classes", "pixel_size", "network", "model", "widen", "data"}
    _check_known("the top level", values, training_options | others)
    for name in ("augmentation", "network"):
        if not isinstance(values.get(name, {}), dict):
            raise ValueError(f"{name} must be a table; got {values[name]!r}.")
    training = {key: value for key, value in values.items() if key in training_options}
    augmentation_options = {each.name for each in fields(AugmentationConfig)}
    _check_known("[augmentation]", values.get("augmentation", {}), augmentation_options)
    TrainingConfig.from_dict(training)
    network = values.get("network")
    if network is not None:
        _check_known("[network]", network, NETWORK_OPTIONS)
        NetworkConfig.from_dict(network)
    model, widen = values.get("model"), values.get("widen")
    if not isinstance(model, str | None):
        raise ValueError(f"model must be a name or a file; got {model!r}.")
    if widen is not None and not (type(widen) is int and widen > 0):
        raise ValueError(f"widen must be a number of channels; got {widen!r}.")
    if network is not None and (model is not None or widen is not None):
        raise ValueError(
            "[network] makes a new network; leave it out, or leave out model and widen."
        )
    classes = values.get("classes")
    if classes is not None:
        if not _are_names(classes):
            raise ValueError(f"classes must be names; got {classes!r}.")
        class_table(classes)
    pixel_size = values.get("pixel_size")
    if not _fits_pixel_size(pixel_size):
        raise ValueError(f"pixel_size must be a positive number; got {pixel_size!r}.")
    tables = values.get("data", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ValueError("data must be tables headed [[data]].")
    data = tuple(_data_set(each) for each in tables)
    return Recipe(training, network, model, widen, classes, pixel_size, data)


def _check_known(what: str, values: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{what} has no option {', '.join(map(repr, unknown))}. Its options are "
            f"{', '.join(sorted(known))}."
        )


def _data_set(table: dict[str, Any]) -> DataSet:
    _check_known("[[data]]", table, {each.name for each in fields(DataSet)})
    if not isinstance(table.get("folder"), str):
        raise ValueError(f"each [[data]] must name its folder; got {table.get('folder')!r}.")
    share, held_out = table.get("share", 1.0), table.get("validation_share", 0.0)
    channel = table.get("channel")
    fitting = {
        "share": _is_number(share) and share > 0,
        "pixel_size": _fits_pixel_size(table.get("pixel_size")),
        "unlabelled": _are_names(table.get("unlabelled", [])),
        "validation": _are_names(table.get("validation", [])),
        "validation_share": _is_number(held_out) and 0 <= held_out < 1,
        "channel": channel is None or (type(channel) is int and channel >= 0),
    }
    for name, fits in fitting.items():
        if not fits:
            raise ValueError(
                f"{name} of the [[data]] in {table['folder']!r} makes no sense: {table[name]!r}."
            )
    return DataSet(**{**table, "folder": Path(table["folder"]).as_posix()})


def _fits_pixel_size(value: Any) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)

"""Checkpoints on disk: safetensors files, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_unet.core.checkpoint import Checkpoint
from napari_unet.core.model import UNetModel
from napari_unet.core.patches import LabelledImage
from napari_unet.io.files import FileReadError, replacing

FORMAT = "napari-unet checkpoint"
FORMAT_VERSION = "1"
_VALUES = {"config", "network", "step", "seconds", "curve", "places"}


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint.

    Raises
    ------
    FileWriteError
        If it cannot be written; an older one stays.
    """
    content = save(
        {key: value.contiguous() for key, value in checkpoint.tensors.items()},
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "values": json.dumps(checkpoint.values),
        },
    )
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Return the checkpoint in a file that `save_checkpoint` wrote.

    Raises
    ------
    FileReadError
        If the file is damaged, no checkpoint, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if (metadata.get("format"), metadata.get("format_version")) != (FORMAT, FORMAT_VERSION):
                raise FileReadError(
                    f"{path} is no checkpoint of this version of the program. Choose another "
                    "file name for the checkpoint."
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            values = json.loads(metadata["values"])
        if not isinstance(values, dict) or not values.keys() >= _VALUES:
            raise ValueError("its values are not those of a training")
        return Checkpoint(tensors, values)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileReadError(
            f"{path} is no whole checkpoint ({error}). To begin anew, choose another file name "
            "for the checkpoint."
        ) from error


def origin(
    model: UNetModel,
    sources: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    files: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """Return what a training began with, as plain values, fit for JSON."""
    weights = hashlib.sha256()
    for value in model.network.state_dict().values():
        weights.update(value.contiguous().numpy().tobytes())
    return {
        "files": files,
        "images to learn from": [_described(each) for each in sources],
        "images to judge by": [_described(each) for each in validation],
        "classes": [each.name for each in model.classes],
        "pixel size of the network": model.pixel_size,
        "starting model": weights.hexdigest(),
    }


def _described(source: LabelledImage) -> dict[str, Any]:
    return {
        "name": source.name,
        "sections": [list(index) for index in sorted(source.annotations.sections)],
        "unlabelled": sorted(source.unlabelled),
        "pixel_size": source.image.pixel_size,
        "share": source.share,
    }


def check_origin(path: Path | str, checkpoint: Checkpoint, now: dict[str, Any]) -> None:
    """Complain if a training that began with something else is to go on from a checkpoint.

    Raises
    ------
    FileReadError
        The message names what differs.
    """
    before = checkpoint.values.get("origin", now)
    differing = [name for name, value in now.items() if before.get(name) != value]
    if differing:
        raise FileReadError(
            f"The checkpoint {path} belongs to a training with other {', '.join(differing)}. Go on "
            "with the same, or begin anew with another checkpoint file."
        )

"""Models on disk: safetensors files whose header rebuilds the model. Nothing is unpickled."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_unet.core.annotations import SegmentationClass
from napari_unet.core.config import NetworkConfig
from napari_unet.core.model import UNetModel
from napari_unet.core.network import UNet
from napari_unet.io.files import FileReadError, check_there, replacing

FORMAT = "napari-unet"
FORMAT_VERSION = 1
DEFAULT_MODEL = "em-lite"
_PICKLED = {".pt", ".pth", ".pkl", ".ckpt", ".bin"}


def save_model(path: Path | str, model: UNetModel, *, half: bool = False) -> None:
    """Write a model to a safetensors file that holds all that is needed to rebuild it.

    Parameters
    ----------
    path
        Where to; ends with ``.safetensors``.
    model
        What to write.
    half
        Store float16 weights: half the size, and no difference that can be seen in a mask.

    Raises
    ------
    ValueError
        If the name has another ending.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"A model file ends with .safetensors; got {path.name!r}.")
    state = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous()
        for key, value in model.network.state_dict().items()
    }
    content = save(
        state,
        {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "model": json.dumps(model_header(model)),
        },
    )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def model_header(model: UNetModel) -> dict[str, Any]:
    """Return all of a model but its weights as plain values, fit for JSON."""
    return {
        "name": model.name,
        "network": model.network.config.to_dict(),
        "classes": [{"name": c.name, "colour": c.colour} for c in model.classes],
        "steps": model.steps,
        "history": list(model.history),
        "pixel_size": model.pixel_size,
        "added": model.added,
    }


def load_model(path: Path | str) -> UNetModel:
    """Return the model in a file that `save_model` wrote.

    Raises
    ------
    FileReadError
        If the file is missing, damaged, not a model of this program, or from a newer version.
        Pickled files are refused unread, since opening them could run foreign code.
    """
    path = Path(path)
    check_there(path)
    if path.suffix in _PICKLED:
        raise FileReadError(
            f"{path} looks like a pickled model. Opening one can run any code, so it was not "
            "opened. Convert it to a .safetensors file of this program first."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, struct.error) as error:
        raise FileReadError(
            f"{path} is not a whole safetensors file ({error}). It may have been cut short while "
            "it was copied; get it again."
        ) from error
    return rebuilt(path, header, state)


def _header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise FileReadError(
            f"{path} is a safetensors file of another program: its header does not say how to "
            "rebuild a U-Net."
        )
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise FileReadError(
            f"{path} was written by a newer version of this program (model format {version}; "
            f"this one reads up to {FORMAT_VERSION}). Update napari-unet-em to open it."
        )
    try:
        header = json.loads(metadata["model"])
    except (KeyError, ValueError) as error:
        raise FileReadError(f"The header of {path} is damaged ({error}).") from error
    if not isinstance(header, dict):
        raise FileReadError(f"The header of {path} is damaged (no object).")
    return header


def rebuilt(path: Path, header: dict[str, Any], state: dict[str, torch.Tensor]) -> UNetModel:
    """Return the model of a header (`model_header`) and weights that were read from a file.

    Raises
    ------
    FileReadError
        If they do not fit each other.
    """
    try:
        config = NetworkConfig.from_dict(header["network"])
        network = UNet(config)
        expected = network.state_dict()
        network.load_state_dict({k: v.to(expected[k].dtype) for k, v in state.items()})
        return UNetModel(
            name=str(header["name"]),
            network=network.eval(),
            classes=tuple(
                SegmentationClass(str(each["name"]), str(each["colour"]))
                for each in header["classes"]
            ),
            steps=int(header["steps"]),
            history=tuple(header["history"]),
            pixel_size=_pixel_size(header),
            added=int(header.get("added", 0)),  # files of earlier versions do not say it
        )
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise FileReadError(f"The weights in {path} do not fit its header ({error}).") from error


def _pixel_size(header: dict[str, Any]) -> float | None:
    """Files of earlier versions do not say it."""
    value = header.get("pixel_size")
    if value is None:
        return None
    if not 0 < float(value) < float("inf"):
        raise ValueError(f"the pixel size must be a positive number; it is {value!r}")
    return float(value)


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the program."""

    name: str
    path: Path


def bundled_models() -> list[BundledModel]:
    """Return the models that come with the program, by name."""
    folder = resources.files("napari_unet.models")
    with resources.as_file(folder) as path:
        return [BundledModel(each.stem, each) for each in sorted(path.glob("*.safetensors"))]


def bundled_name(model: UNetModel) -> str:
    """Return the name of the bundled model that this is; empty if it is none, or has learnt on."""
    for each in bundled_models():
        if each.name == model.name:
            with safe_open(each.path, framework="pt") as file:
                header = _header(each.path, file.metadata() or {})
            return each.name if header["steps"] == model.steps else ""
    return ""

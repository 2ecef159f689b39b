"""Models of every file format that is known; the suffix chooses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_unet.core.foreign import ForeignModel, Model
from napari_unet.core.model import UNetModel
from napari_unet.io import models
from napari_unet.io.bioimageio.export import save_package
from napari_unet.io.bioimageio.loading import load_package
from napari_unet.io.files import FileReadError, FileWriteError, check_there, reading
from napari_unet.io.onnx import load_onnx, save_onnx

WRITERS: dict[str, Callable[[Path, UNetModel], None]] = {
    ".safetensors": models.save_model,
    ".zip": save_package,
    ".onnx": save_onnx,
}
"""Function that writes a model, by suffix."""

PACKAGES = {".zip", ".yaml", ".yml"}
"""Suffixes of BioImage.IO packages and their descriptions."""


def find_model(name: str, *, trust: bool = False) -> Model:
    """Return a bundled model by its name, or the model of a file or folder by its path.

    Parameters
    ----------
    name
        ``em-lite``, or the path of a ``.safetensors`` or ``.onnx`` file, or of a BioImage.IO package
        (zip, folder, or the ``rdf.yaml`` in it).
    trust
        Whether code that the file brings may be run.

    Raises
    ------
    FileReadError
        If there is neither, or the file cannot be used; the message says why.
    CodeNotTrustedError
        If it cannot be used without running its code, and it is not trusted.
    """
    bundled = {each.name: each.path for each in models.bundled_models()}
    if name in bundled:
        return models.load_model(bundled[name])
    path = Path(name)
    with reading(path):
        is_there = path.exists()
    if not is_there:
        raise FileReadError(
            f"There is no model {name!r}: neither a file of that name nor one of the bundled "
            f"models ({', '.join(bundled)})."
        )
    suffix = path.suffix.lower()
    if not path.is_dir():
        check_there(path)
    if path.is_dir() or suffix in PACKAGES:
        return load_package(path, trust=trust)
    if suffix == ".onnx":
        return load_onnx(path)
    return models.load_model(path)


def write_model(path: Path | str, model: Model) -> None:
    """Write a model; the suffix chooses the format. It replaces an older file when it is whole.

    Raises
    ------
    ValueError
        If no format has this suffix.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    path = Path(path)
    writer_for(path)(path, refuse_foreign(path, model))


def refuse_foreign(path: Path | str, model: Model) -> UNetModel:
    """Return a model that can be written to files of any format.

    Raises
    ------
    FileWriteError
        If it is a network of another program.
    """
    if isinstance(model, ForeignModel):
        raise FileWriteError(
            f"{path} was not written: {model.name!r} is a network of another program, which only "
            "its own file can hold. Copy that file instead."
        )
    return model


def writer_for(path: Path | str) -> Callable[[Path, UNetModel], None]:
    """Return the function that writes models to files of this name.

    Raises
    ------
    ValueError
        If no format has this suffix.
    """
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise ValueError(
            f"{Path(path).name!r} has no known model format; these are written: "
            f"{', '.join(WRITERS)}."
        )
    return writer

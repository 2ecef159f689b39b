"""Networks from the weights of BioImage.IO packages."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_unet.core.foreign import Runner, TorchRunner
from napari_unet.io.bioimageio.package import Package, relative_path, short
from napari_unet.io.bioimageio.processing import UnsupportedError
from napari_unet.io.extras import MissingLibraryError, library
from napari_unet.io.files import CodeNotTrustedError, FileReadError
from napari_unet.io.onnx import OnnxRunner


def runner(package: Package, weights: Any, trust: bool) -> Runner:
    """Return what computes the network of a package.

    That is ONNX where there is some, since it runs no foreign code.

    Parameters
    ----------
    package
        Where the weights lie.
    weights
        What the description says of them.
    trust
        Whether code in the package may be run.

    Raises
    ------
    CodeNotTrustedError
        If that cannot be done without, and it is not trusted.
    UnsupportedError
        If there are only weights of other kinds.
    FileReadError
        If they are damaged.
    """
    missing: MissingLibraryError | None = None
    if weights.onnx is not None:
        try:
            return _onnx(package, weights.onnx)
        except MissingLibraryError as error:
            missing = error
    if weights.torchscript is None and weights.pytorch_state_dict is None:
        if missing is not None:
            raise missing
        there = [name for name, entry in weights if entry is not None]
        raise UnsupportedError(
            f"it has weights for {', '.join(there)}; ONNX, TorchScript and PyTorch state dicts are "
            "understood."
        )
    if not trust:
        kind = "TorchScript" if weights.torchscript is not None else "Python source code"
        raise CodeNotTrustedError(
            f"{package.path} holds its network as {kind}. To use it, this code must be run, and it "
            "could do anything that you can do on this computer. Nothing of it was run."
        )
    if weights.torchscript is not None:
        return _torchscript(package, weights.torchscript)
    return _state_dict(package, weights.pytorch_state_dict)


def _onnx(package: Package, entry: Any) -> OnnxRunner:
    library("onnxruntime", "exchange", "Running ONNX files")
    content = package.file(entry)
    beside = getattr(entry, "external_data", None)
    try:
        if beside is None:
            return OnnxRunner(content)
        onnx = library("onnx", "exchange", "Reading ONNX files whose weights lie beside them")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "network.onnx").write_bytes(content)
            name = Path(str(relative_path(beside.source))).name
            (Path(folder) / name).write_bytes(package.file(beside))
            whole = onnx.load(Path(folder) / "network.onnx")
        return OnnxRunner(whole.SerializeToString())
    except (FileReadError, MissingLibraryError):
        raise
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise FileReadError(
            f"The ONNX weights in {package.path} are damaged ({short(error)}). Get the package "
            "again."
        ) from error


def _torchscript(package: Package, entry: Any) -> TorchRunner:
    content = package.file(entry)
    try:
        module: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(content), map_location="cpu"
        )
        return TorchRunner(module)
    except (RuntimeError, ValueError) as error:
        raise FileReadError(
            f"The TorchScript weights in {package.path} are damaged ({short(error)}). Get the "
            "package again."
        ) from error


def _state_dict(package: Package, entry: Any) -> TorchRunner:
    state = state_of(package, package.file(entry))
    make = _architecture(package, entry.architecture)
    try:
        network = make(**entry.architecture.kwargs)
        if not isinstance(network, nn.Module):
            raise TypeError(f"it gives {type(network).__name__}, no network of PyTorch")
        network.load_state_dict(state, strict=entry.strict)
    except Exception as error:  # it is foreign code
        raise FileReadError(
            f"The network in {package.path} cannot be made from its source ({short(error)}). It "
            "may need another version of PyTorch."
        ) from error
    return TorchRunner(network)


def _architecture(package: Package, architecture: Any) -> Callable[..., Any]:
    """The function or class that makes the network; runs its source."""
    name = str(architecture.callable)
    source = getattr(architecture, "source", None)
    content = None if source is None else package.file(architecture)
    try:
        if content is None:
            module = importlib.import_module(str(architecture.import_from))
        else:
            module = _imported(content)
        made: Callable[..., Any] = getattr(module, name)
    except (Exception, SystemExit) as error:  # it is foreign code
        raise FileReadError(
            f"The source of the network in {package.path} does not run here ({short(error)}). It "
            "may need a library that is not installed."
        ) from error
    return made


def _imported(source: bytes) -> Any:
    name = f"bioimageio_network_{hashlib.sha256(source).hexdigest()[:16]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.py"
        path.write_bytes(source)
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # dataclasses look themselves up there
        found.loader.exec_module(module)
    return module


def state_of(package: Package, content: bytes) -> dict[str, Tensor]:
    """Return a state dict; pickles that hold anything but tensors are refused, not run."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise FileReadError(
            f"The weights in {package.path} cannot be read: they are damaged, or hold more than "
            f"weights, which could be code and was not run ({short(error)})."
        ) from error
    if not isinstance(state, dict):
        raise FileReadError(f"The weights in {package.path} are no state dict, but {type(state)}.")
    return state

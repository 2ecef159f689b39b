"""Models as BioImage.IO packages: zip files that many programs for microscopy open.

A package holds the description ``rdf.yaml``, the weights twice (as PyTorch state dict with the source
of the network beside it, and as ONNX), documentation, and a test image with what the network says
of it. See https://bioimage.io and the model description of version 0.5.
"""

from __future__ import annotations

import inspect
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_unet import __version__
from napari_unet.core import network as network_source
from napari_unet.core.model import UNetModel, check_takes_grey
from napari_unet.core.network import ProbabilityUNet, Sight
from napari_unet.core.preprocessing import section_normalisation, zero_mean_unit_variance
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.io.bioimageio.package import CONFIG
from napari_unet.io.extras import library
from napari_unet.io.files import replacing
from napari_unet.io.models import bundled_models, model_header
from napari_unet.io.onnx import OPSET, onnx_content, probability_network

EPSILON = 1e-6
WEIGHTS, ARCHITECTURE, ONNX = "weights.pt", "unet.py", "weights.onnx"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
SMALLEST_TEST = 64
"""Side of the test image in pixels, where the network does not need a larger one."""

PAPER = {
    "text": "Ronneberger, Fischer, Brox 2015. U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation. MICCAI 2015, LNCS 9351, 234-241.",
    "doi": "10.1007/978-3-319-24574-4_28",
}


def save_package(
    path: Path | str,
    model: UNetModel,
    *,
    authors: Sequence[str] = (),
    license_id: str | None = None,
) -> None:
    """Write a model as a BioImage.IO package, whose description has been validated.

    Parameters
    ----------
    path
        Where to; ends with ``.zip``.
    model
        What to write.
    authors
        Who made the model.
    license_id
        SPDX identifier of the licence under which it is passed on, such as ``CC-BY-4.0``.

    Raises
    ------
    ValueError
        If the name has another ending, or the description is not valid, for instance since there
        is no such licence.
    MissingLibraryError
        If the extra ``exchange`` is not installed.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise ValueError(f"A BioImage.IO package ends with .zip; got {path.name!r}.")
    check_takes_grey(model)
    spec = library("bioimageio.spec", "exchange", "Writing BioImage.IO packages")
    network = probability_network(model)
    # Where files cannot be removed while they are open, the library may hold one of them.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        content = Path(folder)
        for name, data in _files(model, network).items():
            (content / name).write_bytes(data)
        described = _described(model, network.sight, authors, license_id)
        context = spec.ValidationContext(
            root=content, perform_io_checks=True, log_warnings=False, progressbar=False
        )
        with context:
            description = spec.build_description(described, context=context)
            if isinstance(description, spec.InvalidDescr):
                raise ValueError(f"{path} was not written: {description.get_reason()}")
            with replacing(path) as temporary:
                spec.save_bioimageio_package(description, output_path=temporary)


def _files(model: UNetModel, network: ProbabilityUNet) -> dict[str, bytes]:
    grey = example_image(network.sight)
    with torch.inference_mode():
        seen = section_normalisation([zero_mean_unit_variance(EPSILON)], grey).normalise(grey)
        answer = network(torch.from_numpy(seen)[None, None]).numpy()
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    return {
        WEIGHTS: weights.getvalue(),
        ARCHITECTURE: inspect.getsource(network_source).encode(),
        ONNX: onnx_content(model),
        TEST_INPUT: _npy(grey[None, None]),
        TEST_OUTPUT: _npy(answer),
        "README.md": _documentation(model).encode(),
    }


def example_image(sight: Sight) -> npt.NDArray[np.float32]:
    """Return a made-up image (Y, X) of a size that a network takes."""
    side = sight.side(max(SMALLEST_TEST, _smallest_side(sight)))
    grey, _ = synthetic_stack(sections=1, size=side)
    image: npt.NDArray[np.float32] = grey[0].astype(np.float32)
    return image


def _smallest_side(sight: Sight) -> int:
    """What is left of the smallest input without its margin must be something."""
    return sight.side(2 * sight.margin + 1) if sight.padded else sight.smallest


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _described(
    model: UNetModel, sight: Sight, authors: Sequence[str], license_id: str | None
) -> dict[str, Any]:
    """The content of ``rdf.yaml``, version 0.5 of the model description."""
    spacing: dict[str, Any] = {}
    if model.pixel_size is not None:
        spacing = {"scale": model.pixel_size, "unit": "nanometer"}
    sizes = {"min": _smallest_side(sight), "step": sight.step}
    halo = {"halo": sight.margin} if sight.padded else {}

    def output_axis(axis: str) -> dict[str, Any]:
        size = {"tensor_id": "grey", "axis_id": axis, "offset": -sight.lost}
        return {"type": "space", "id": axis, "size": size, **halo, **spacing}

    torch_version = torch.__version__.partition("+")[0]
    described: dict[str, Any] = {
        "type": "model",
        "format_version": "0.5.0",
        "name": f"U-Net {_plain(model.name)[:100]}",
        "description": "U-Net for electron microscopy. Classes: "
        + ", ".join(c.name for c in model.classes),
        "authors": [{"name": name} for name in authors],
        "cite": [PAPER],
        "tags": ["unet2d", "electron-microscopy", "semantic-segmentation", "2d", "pytorch", "onnx"],
        "documentation": "README.md",
        "inputs": [
            {
                "id": "grey",
                "description": "grey values of one section",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "id": "channel", "channel_names": ["grey"]},
                    *({"type": "space", "id": a, "size": sizes, **spacing} for a in "yx"),
                ],
                "data": {"type": "float32"},
                "preprocessing": [
                    {
                        "id": "zero_mean_unit_variance",
                        "kwargs": {"axes": ["channel", "y", "x"], "eps": EPSILON},
                    }
                ],
                "test_tensor": {"source": TEST_INPUT},
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "description": "probability of each class",
                "axes": [
                    {"type": "batch"},
                    {
                        "type": "channel",
                        "id": "channel",
                        "channel_names": [c.name for c in model.classes],
                    },
                    output_axis("y"),
                    output_axis("x"),
                ],
                "data": {"type": "float32", "range": [0.0, 1.0]},
                "test_tensor": {"source": TEST_OUTPUT},
            }
        ],
        "weights": {
            "pytorch_state_dict": {
                "source": WEIGHTS,
                "architecture": {
                    "source": ARCHITECTURE,
                    "callable": ProbabilityUNet.__name__,
                    "kwargs": model.network.config.to_dict(),
                },
                "pytorch_version": torch_version,
            },
            "onnx": {"source": ONNX, "opset_version": OPSET, "parent": "pytorch_state_dict"},
        },
        # As text, since colours and records of trainings are no concern of other programs.
        "config": {CONFIG: {"version": __version__, "model": json.dumps(model_header(model))}},
    }
    if license_id is not None:
        described["license"] = license_id
    return described


def _plain(name: str) -> str:
    """A name of letters, digits and what else the description allows in one."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_+- ()") else " " for c in name)


def _documentation(model: UNetModel) -> str:
    seen = "not known" if model.pixel_size is None else f"{model.pixel_size:.4g} nm"
    lines = [
        f"# {model.name}",
        "",
        f"A U-Net with {len(model.classes)} classes: {', '.join(c.name for c in model.classes)}. "
        "It takes one section of an electron-microscopy stack and gives the probability of each "
        "class in every pixel.",
        "",
        f"- Pixel size that it has learnt: {seen}.",
        f"- Training steps: {model.steps}.",
        f"- Written by napari-unet {__version__}.",
        "",
        "## Grey values",
        "",
        "The description asks for mean 0 and deviation 1 in each section (zero_mean_unit_variance). "
        "napari-unet itself measures mean and deviation over the whole stack, and clips the half "
        "percent darkest and brightest pixels before it measures; it also resamples images whose "
        "pixel size differs by more than a twentieth from the one above. Sections that are stained "
        "unevenly, or hold hot pixels, therefore come out slightly different in other programs, and "
        "so does everything in programs that mirror an image beyond its border before they measure "
        "it. For the same result, normalise the stack like that yourself and leave the preprocessing out.",
        "",
        "## Terms",
        "",
        "The licence, if one is named, was chosen by whoever wrote this package. The terms of the "
        "data that the network was trained on apply as well. Please cite the paper of the U-Net.",
        "",
        "## Validation",
        "",
        "Predict sections that were annotated by hand and were not learnt from, and compare class "
        "by class (F1, IoU). With napari-unet: `napari-unet evaluate PREDICTION TRUTH`.",
    ]
    card = next((b.path.with_suffix(".md") for b in bundled_models() if b.name == model.name), None)
    if card is not None and card.exists():
        lines += ["", "## What it is, or began as", "", card.read_text(encoding="utf-8")]
    return "\n".join(lines) + "\n"

"""Networks as ONNX files, which many programs run without PyTorch."""

from __future__ import annotations

import io
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_unet.core.annotations import SegmentationClass
from napari_unet.core.foreign import ForeignModel, ForeignNetwork
from napari_unet.core.model import UNetModel
from napari_unet.core.network import ProbabilityUNet, Sight
from napari_unet.io.extras import library
from napari_unet.io.files import FileReadError, replacing
from napari_unet.io.models import model_header

OPSET = 20
"""The newest operators that the exporter which traces networks knows."""

INPUT, OUTPUT = "grey", "probabilities"
HEADER = "napari-unet"
"""Under this key the file holds what the model means."""

NORMALISATION = (
    "Grey values minus their mean, divided by their standard deviation, both over the stack with "
    "the half percent darkest and brightest pixels clipped."
)


def save_onnx(path: Path | str, model: UNetModel) -> None:
    """Write a network to an ONNX file: normalised grey values in, probabilities out.

    It takes float32 (N, 1, H, W) of any size that the network takes, and gives the probabilities of
    the classes. Batch normalisation is folded into the convolutions. What the classes are, and how
    grey values are normalised, stands in the metadata of the file.

    Raises
    ------
    ValueError
        If the name has another ending.
    MissingLibraryError
        If the extra ``exchange`` is not installed.
    FileWriteError
        If it cannot be written; an older file stays.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"An ONNX file ends with .onnx; got {path.name!r}.")
    content = onnx_content(model)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def onnx_content(model: UNetModel) -> bytes:
    """Return what an ONNX file of a model holds (see `save_onnx`)."""
    onnx = library("onnx", "exchange", "Writing ONNX files")
    network = probability_network(model)
    buffer = io.BytesIO()
    sides = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is called old
        torch.onnx.export(
            network.folded(),
            (torch.zeros(1, network.config.channels_in, *(_example_side(network.sight),) * 2),),
            buffer,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={
                INPUT: {0: "images", **sides},
                OUTPUT: {0: "images", **{axis: f"answer {name}" for axis, name in sides.items()}},
            },
            opset_version=OPSET,
            # The newer exporter takes a hundred times as long for the same graph, since it proves
            # every size of it.
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    sight = network.sight
    graph.producer_name = "napari-unet"
    onnx.helper.set_model_props(
        graph,
        {
            HEADER: json.dumps(model_header(model)),
            "sight": json.dumps([sight.margin, sight.smallest, sight.step, sight.lost]),
            "classes": json.dumps([each.name for each in model.classes]),
            "normalisation": NORMALISATION,
        },
    )
    content: bytes = graph.SerializeToString()
    return content


def probability_network(model: UNetModel) -> ProbabilityUNet:
    """Return the network of a model as other programs get it: it gives probabilities."""
    network = ProbabilityUNet(**model.network.config.to_dict())
    network.load_state_dict(model.network.state_dict())
    return network.eval()


def _example_side(sight: Sight) -> int:
    return sight.smallest + 2 * sight.step


class OnnxRunner:
    """A network that onnxruntime computes; of several answers it gives the first.

    Parameters
    ----------
    source
        The content of an ONNX file.
    graphics_card
        Whether a graphics card computes it, where onnxruntime can use one.
    """

    def __init__(self, source: bytes, *, graphics_card: bool = False) -> None:
        runtime = library("onnxruntime", "exchange", "Running ONNX files")
        wanted = ["CPUExecutionProvider"]
        if graphics_card:
            wanted = ["CUDAExecutionProvider", *wanted]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors are raised as well
        there = set(runtime.get_available_providers())
        self._source = source
        self._session = runtime.InferenceSession(
            source, options, providers=[each for each in wanted if each in there]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: Tensor) -> Tensor:
        found = self._session.run(None, {self._input: batch.cpu().numpy()})[0]
        return torch.from_numpy(found).to(batch.device)

    def on_device(self, device: torch.device) -> OnnxRunner:
        """Return the same network on a device; on the CPU where onnxruntime knows no other."""
        return self._on_card if device.type == "cuda" else self

    @cached_property
    def _on_card(self) -> OnnxRunner:
        return OnnxRunner(self._source, graphics_card=True)

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found


def load_onnx(path: Path | str) -> ForeignModel:
    """Return the model in an ONNX file that `save_onnx` wrote. It predicts, but does not learn.

    Raises
    ------
    FileReadError
        If the file is damaged, or does not say what its classes are and how grey values are to be
        normalised.
    MissingLibraryError
        If the extra ``exchange`` is not installed.
    """
    path = Path(path)
    library("onnxruntime", "exchange", "Running ONNX files")
    try:
        runner = OnnxRunner(path.read_bytes())
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise FileReadError(
            f"{path} is not a whole ONNX file ({_short(error)}). It may have been cut short while "
            "it was copied; get it again."
        ) from error
    if HEADER not in runner.metadata:
        raise FileReadError(
            f"{path} is an ONNX file of another program, and does not say what its classes are and "
            "how grey values are to be normalised. Open it as a BioImage.IO package, which says so."
        )
    try:
        header = json.loads(runner.metadata[HEADER])
        return _foreign_model(runner, header, json.loads(runner.metadata["sight"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileReadError(f"The metadata of {path} are damaged ({error}).") from error


def _foreign_model(runner: OnnxRunner, header: dict[str, Any], sight: list[int]) -> ForeignModel:
    """One of our networks, computed by another library."""
    margin, smallest, step, lost = sight
    pixel_size = header["pixel_size"]
    return ForeignModel(
        str(header["name"]),
        ForeignNetwork(runner, "bcyx", "bcyx", Sight(margin, smallest, step, lost)),
        tuple(SegmentationClass(str(c["name"]), str(c["colour"])) for c in header["classes"]),
        pixel_size=None if pixel_size is None else float(pixel_size),
    )


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

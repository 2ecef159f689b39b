"""BioImage.IO packages of a network that is not ours, made with the format's own library."""

import functools
import hashlib
import io
import warnings
import zipfile

import numpy as np
import torch
from torch import nn

SOURCE = '''
from torch import nn


class Blobs(nn.Module):
    """A small network with one pooling; its answer is as large as its input."""

    def __init__(self, answers=1, unpadded=False):
        super().__init__()
        padding = 0 if unpadded else 1
        self.before = nn.Conv2d(1, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.inside = nn.Conv2d(6, 6, 3, padding=padding)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.last = nn.Conv2d(6, answers, 1)

    def forward(self, x):
        return self.last(self.up(self.inside(self.pool(self.before(x).relu())).relu()))
'''

ALL_WEIGHTS = ("pytorch_state_dict", "torchscript", "onnx")


def network(**wishes) -> nn.Module:
    """The network of `SOURCE`, always with the same weights."""
    made: dict = {}
    exec(SOURCE, made)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = made["Blobs"](**wishes).eval()
    with torch.no_grad():
        module.last.weight.mul_(8)  # so that its scores are no probabilities by chance
        module.last.bias.zero_()
    return module


@functools.cache
def weights_of(kind: str, answers: int, unpadded: bool) -> bytes:
    """The same network in one of three formats."""
    module = network(answers=answers, unpadded=unpadded)
    example = torch.zeros(1, 1, 16, 16)
    buffer = io.BytesIO()
    if kind == "pytorch_state_dict":
        torch.save(module.state_dict(), buffer)
        return buffer.getvalue()
    axes = {0: "n", 2: "y", 3: "x"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters are called old, and are what people use
        if kind == "torchscript":
            torch.jit.save(torch.jit.trace(module, example), buffer)
        else:
            torch.onnx.export(
                module,
                (example,),
                buffer,
                input_names=["raw"],
                output_names=["found"],
                dynamic_axes={"raw": axes, "found": axes},
                opset_version=17,
                dynamo=False,
            )
    return buffer.getvalue()


def package_files(
    kinds=ALL_WEIGHTS,
    *,
    preprocessing=({"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}},),
    postprocessing=({"id": "sigmoid"},),
    names=("mitochondrion",),
    unpadded=False,
    size=None,
    change=lambda described: None,
) -> tuple[dict, dict[str, bytes]]:
    """The description of a package, and its other files by name."""
    module = network(answers=len(names), unpadded=unpadded)
    kwargs = {"answers": len(names), "unpadded": unpadded}
    files = {f"{kind}.weights": weights_of(kind, len(names), unpadded) for kind in kinds}
    files["network.py"] = SOURCE.encode()
    side = size or 32
    raw = np.random.default_rng(3).integers(0, 255, (1, 1, side, side)).astype(np.float32)
    seen = (raw - raw.mean()) / (raw.std() + 1e-6)
    with torch.inference_mode():
        found = module(torch.from_numpy(seen)).sigmoid().numpy()
    for name, array in (("raw.npy", raw), ("found.npy", found)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        files[name] = buffer.getvalue()

    def source(name):
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    entries = {
        "pytorch_state_dict": {
            "pytorch_version": "2.4.0",
            "architecture": {**source("network.py"), "callable": "Blobs", "kwargs": kwargs},
        },
        "torchscript": {"pytorch_version": "2.4.0"},
        "onnx": {"opset_version": 17},
    }
    weights = {kind: {**source(f"{kind}.weights"), **entries[kind]} for kind in kinds}
    for child in list(weights)[1:]:
        weights[child]["parent"] = next(iter(weights))
    halo = {} if unpadded else {"halo": 6}

    def out(axis):
        of = {"tensor_id": "raw", "axis_id": axis, "offset": -4 if unpadded else 0}
        return {"type": "space", "id": axis, "unit": "nanometer", "scale": 8.0, "size": of, **halo}

    described = {
        "type": "model",
        "format_version": "0.5.3",
        "name": "blobs of another program",
        "description": "a test",
        "authors": [{"name": "somebody"}],
        "cite": [{"text": "nobody", "doi": "10.1007/978-3-319-24574-4_28"}],
        "license": "MIT",
        "documentation": "README.md",
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "id": "channel", "channel_names": ["grey"]},
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "unit": "nanometer",
                            "scale": 8.0,
                            "size": size or {"min": 16, "step": 2},
                        }
                        for axis in "yx"
                    ),
                ],
                "preprocessing": list(preprocessing),
                "test_tensor": source("raw.npy"),
            }
        ],
        "outputs": [
            {
                "id": "found",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "id": "channel", "channel_names": list(names)},
                    out("y"),
                    out("x"),
                ],
                "postprocessing": list(postprocessing),
                "test_tensor": source("found.npy"),
            }
        ],
        "weights": weights,
    }
    files["README.md"] = b"# Blobs\n\n## Validation\n\nNone.\n"
    change(described)
    return described, files


def earlier_files() -> tuple[dict, dict[str, bytes]]:
    """The same network with a description of version 0.4."""
    described, files = package_files(("pytorch_state_dict",))
    weights = described["weights"]["pytorch_state_dict"]
    architecture = weights.pop("architecture")
    name = architecture["callable"]
    return {
        **{k: described[k] for k in ("type", "name", "description", "authors", "cite", "license")},
        "format_version": "0.4.10",
        "documentation": "README.md",
        "timestamp": "2023-01-01T00:00:00",
        "tags": [],
        "covers": [],
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 1, 16, 16], "step": [0, 0, 2, 2]},
                "preprocessing": [
                    {
                        "name": "zero_mean_unit_variance",
                        "kwargs": {"mode": "per_sample", "axes": "cyx"},
                    }
                ],
            }
        ],
        "outputs": [
            {
                "name": "found",
                "axes": "bcyx",
                "data_type": "float32",
                "halo": [0, 0, 6, 6],
                "shape": {"reference_tensor": "raw", "scale": [1.0] * 4, "offset": [0] * 4},
                "postprocessing": [{"name": "sigmoid"}],
            }
        ],
        "test_inputs": ["raw.npy"],
        "test_outputs": ["found.npy"],
        "weights": {
            "pytorch_state_dict": {
                **weights,
                "architecture": f"{architecture['source']}:{name}",
                "architecture_sha256": architecture["sha256"],
                "kwargs": architecture["kwargs"],
            }
        },
    }, files


def save_foreign(path, *arguments, **wishes):
    """Write a package: a zip file, or a folder where the path has no suffix."""
    return _save(path, *package_files(*arguments, **wishes))


def save_earlier(path):
    """Write a package of version 0.4."""
    return _save(path, *earlier_files())


def _save(path, described, files):
    from bioimageio.spec.utils import write_yaml

    text = io.StringIO()
    write_yaml(described, text)
    files["rdf.yaml"] = text.getvalue().encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
    return path

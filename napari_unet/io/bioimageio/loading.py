"""Models from BioImage.IO packages: zip files, folders, or the description ``rdf.yaml`` in one.

Packages that this program wrote give the model back as it was. Networks of other programs predict,
but do not learn. No code of a package is run unless it is trusted, and state dicts, which are
pickles, are read by PyTorch's reader that takes nothing but weights.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.annotations import ClassTable, class_table
from napari_unet.core.foreign import ForeignModel, ForeignNetwork, Model
from napari_unet.core.model import UNetModel
from napari_unet.core.network import Sight, rounded_up
from napari_unet.core.notices import tell
from napari_unet.core.preprocessing import Step, section_normalisation
from napari_unet.core.units import nanometres
from napari_unet.io.bioimageio.package import CONFIG, Package, short
from napari_unet.io.bioimageio.processing import UnsupportedError, activations, preprocessing
from napari_unet.io.bioimageio.weights import runner, state_of
from napari_unet.io.extras import library
from napari_unet.io.files import FileReadError
from napari_unet.io.models import rebuilt

UNKNOWN_HALO = 64
"""Pixels around a tile that a network sees whose description names no halo."""

TOLERANCE = 0.01
"""Probabilities may differ by so much from those that the package says to expect."""


def load_package(path: Path | str, *, trust: bool = False) -> Model:
    """Return the model in a BioImage.IO package.

    Parameters
    ----------
    path
        Zip file, folder, or the description in a folder.
    trust
        Whether code in the package may be run. Only TorchScript, and state dicts whose network is
        given as source code, need that; ONNX is preferred to both.

    Raises
    ------
    FileReadError
        If the package is damaged or incomplete, or its network does not fit images with one grey
        value per pixel in two dimensions; the message says what is the matter.
    CodeNotTrustedError
        If its code would have to be run, and it is not trusted.
    MissingLibraryError
        If the extra ``exchange`` is not installed.
    """
    library("bioimageio.spec", "exchange", "Reading BioImage.IO packages")
    with Package(Path(path)) as package:
        described = package.description()
        own = _own_model(package, described)
        if own is not None:
            return own
        try:
            return _foreign_model(package, described, trust)
        except UnsupportedError as error:
            raise FileReadError(
                f"The model in {package.path} cannot be used: {error} Choose another model."
            ) from error


# --- our own packages -------------------------------------------------------------------------


def _own_model(package: Package, described: Any) -> UNetModel | None:
    """The model, if this program wrote the package."""
    own = getattr(described.config, CONFIG, None)
    weights = described.weights.pytorch_state_dict
    if not isinstance(own, dict) or weights is None:
        return None
    try:
        header = json.loads(own["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileReadError(
            f"What {package.path} says of the model is damaged ({error})."
        ) from error
    return rebuilt(package.path, header, state_of(package, package.file(weights)))


# --- packages of other programs ---------------------------------------------------------------


def _foreign_model(package: Package, described: Any, trust: bool) -> ForeignModel:
    axes_in, fixed, (smallest, step) = _input(described)
    axes_out, names, halo = _output(described)
    steps = preprocessing(described.inputs[0].preprocessing)
    network = ForeignNetwork(
        runner(package, described.weights, trust),
        axes_in,
        axes_out,
        Sight(0, smallest, step),
        activations(described.outputs[0].postprocessing),
        fixed=fixed,
    )
    network = _tried(package, described, network, steps, halo, (smallest, step))
    classes, background = _classes(names, network.exclusive)
    network = replace(network, background=background)
    return ForeignModel(str(described.name), network, classes, steps, _pixel_size(described))


def _input(described: Any) -> tuple[str, tuple[int, int] | None, tuple[int, int]]:
    """Axes of the input, its height and width where they are fixed, and else the allowed sides."""
    if len(described.inputs) != 1:
        raise UnsupportedError(
            f"it takes {len(described.inputs)} inputs, and here there is one image."
        )
    letters = []
    sizes: dict[str, Any] = {}
    for axis in described.inputs[0].axes:
        letter = _letter(axis)
        letters.append(letter)
        if letter == "c" and axis.size != 1:
            raise UnsupportedError(
                f"it takes images of {axis.size} channels; the images here have one grey value per "
                "pixel."
            )
        if letter == "z" and axis.size != 1:
            raise UnsupportedError("it takes volumes; here each section is segmented by itself.")
        if letter in "yx":
            sizes[letter] = axis.size
    if set(sizes) != {"y", "x"}:
        raise UnsupportedError(f"its input has the axes {', '.join(letters)}, not y and x.")
    sides = list(_resolved(sizes).values())
    if all(step == 0 for _, step in sides):
        return "".join(letters), (sides[0][0], sides[1][0]), (1, 1)
    if any(step == 0 for _, step in sides):
        raise UnsupportedError("it takes images of one fixed side and one that may vary.")
    step = int(np.lcm(sides[0][1], sides[1][1]))
    smallest = max(smallest for smallest, _ in sides)
    for each, of in sides:
        if (smallest - each) % of:
            raise UnsupportedError(
                "its height and width must differ, and here both are of one kind."
            )
    return "".join(letters), None, (smallest, step)


def _resolved(sizes: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Smallest side and step of y and x; the step is 0 where the side is fixed."""
    found = {}
    for letter in "yx":
        size = sizes[letter]
        if not isinstance(size, int) and not hasattr(size, "step"):  # as large as the other one
            if getattr(size, "offset", 0):
                raise UnsupportedError("its height and width must differ by a fixed length.")
            size = sizes["x" if letter == "y" else "y"]
        if isinstance(size, int):
            found[letter] = (size, 0)
        elif hasattr(size, "step"):
            found[letter] = (int(size.min), int(size.step))
        else:
            raise UnsupportedError("it does not say which sizes of images it takes.")
    return found


def _output(described: Any) -> tuple[str, list[str], int]:
    """Axes of the output, what its channels are called, and the halo."""
    if len(described.outputs) > 1:
        tell(
            f"{described.name!r} gives {len(described.outputs)} outputs; the first one, "
            f"{str(described.outputs[0].id)!r}, is used.",
            stacklevel=2,
        )
    letters, names, halo = [], ["foreground"], 0
    for axis in described.outputs[0].axes:
        letter = _letter(axis)
        letters.append(letter)
        if letter == "c":
            names = [str(name) for name in axis.channel_names]
        if letter == "z" and axis.size != 1:
            raise UnsupportedError("it gives volumes; here each section is segmented by itself.")
        if letter in "yx":
            halo = max(halo, int(getattr(axis, "halo", 0)))
            if float(axis.scale) != float(_scale_in(described, letter)):
                raise UnsupportedError("its output has another pixel size than its input.")
    if not {"y", "x"} <= set(letters):
        raise UnsupportedError(
            f"its output has the axes {', '.join(letters)}: it is no image of classes."
        )
    return "".join(letters), names, halo


def _letter(axis: Any) -> str:
    kind, name = str(axis.type), str(axis.id)
    letter = {"batch": "b", "channel": "c"}.get(kind, name if kind == "space" else "")
    if letter not in tuple("bczyx"):
        raise UnsupportedError(f"it has an axis {name!r} of type {kind}.")
    return letter


def _scale_in(described: Any, letter: str) -> float:
    return next(float(axis.scale) for axis in described.inputs[0].axes if str(axis.id) == letter)


def _pixel_size(described: Any) -> float | None:
    sides = [
        nanometres(float(axis.scale), str(axis.unit))
        for axis in described.inputs[0].axes
        if str(axis.id) in "yx" and axis.type == "space" and axis.unit is not None
    ]
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        return None
    return float(np.sqrt(sides[0] * sides[1]))


def _classes(names: list[str], exclusive: bool) -> tuple[ClassTable, int]:
    """The classes, the background first, and which channel the background is."""
    distinct = [n if names.count(n) == 1 else f"{n} {i}" for i, n in enumerate(names, start=1)]
    if not exclusive:
        if len(names) == 1 and names[0].lower().startswith(("channel", "output", "prob")):
            distinct = ["foreground"]
        if "background" in distinct:
            distinct = [f"{n} channel" if n == "background" else n for n in distinct]
        return class_table(["background", *distinct]), 0
    background = next((i for i, n in enumerate(distinct) if n.lower() == "background"), 0)
    others = [n for i, n in enumerate(distinct) if i != background]
    return class_table([distinct[background], *others]), background


# --- a first look -----------------------------------------------------------------------------


def _tried(
    package: Package,
    described: Any,
    network: ForeignNetwork,
    steps: tuple[Step, ...],
    halo: int,
    sides: tuple[int, int],
) -> ForeignNetwork:
    """Run the network once, on the test image of its package, and note what cannot be read.

    How much smaller its answer is, and of what kind, is measured rather than believed.
    """
    axes = network.axes_in
    given = _test_array(package, described.inputs[0], axes)
    if given is None:
        side = (sides[0] + 4 * sides[1],) * 2 if network.fixed is None else network.fixed
        given = np.random.default_rng(0).uniform(0, 255, side).astype(np.float32)
    grey = section_normalisation(steps, given).normalise(given)
    try:
        with torch.inference_mode():
            answer = network.answer(torch.from_numpy(grey))
    except Exception as error:  # whatever a foreign network does not like
        raise FileReadError(
            f"The network in {package.path} fails on its own test image ({short(error)}). The "
            "package may be damaged, or need another version of a library."
        ) from error
    channels = next((a.size for a in described.outputs[0].axes if a.type == "channel"), 1)
    if len(answer) != channels:
        raise UnsupportedError(
            f"it gives {len(answer)} channels, while its description names {channels}."
        )
    lost = [a - b for a, b in zip(grey.shape, answer.shape[-2:], strict=True)]
    if lost[0] != lost[1] or lost[0] < 0 or lost[0] % 2:
        raise UnsupportedError(
            f"its answer to {grey.shape[0]} x {grey.shape[1]} pixels has "
            f"{answer.shape[-2]} x {answer.shape[-1]}, which do not lie around the middle."
        )
    exclusive = _is_exclusive(answer)
    expected = _test_array(package, described.outputs[0], network.axes_out, several=True)
    if expected is not None and expected.shape == tuple(answer.shape):
        difference = float(np.abs(expected - answer.numpy()).max())
        if difference > TOLERANCE:
            tell(
                f"{described.name!r} does not say of its own test image what its package tells to "
                f"expect: values differ by up to {difference:.2g}. Look at the masks with care.",
                stacklevel=2,
            )
    sight = _sight(network, halo, lost[0])
    return replace(network, sight=sight, exclusive=exclusive)


def _sight(network: ForeignNetwork, halo: int, lost: int) -> Sight:
    """How the answer lies in what is seen, the halo that the description names added."""
    smallest, step = network.sight.smallest, network.sight.step
    if not halo and not lost:
        halo = UNKNOWN_HALO if network.fixed is None else min(UNKNOWN_HALO, min(network.fixed) // 8)
    margin = halo + lost // 2
    if network.fixed is None:
        return Sight(margin if lost else rounded_up(margin, step), smallest, step, lost)
    if min(network.fixed) <= 2 * margin:
        raise UnsupportedError(
            f"nothing is left of the {min(network.fixed)} pixels that it takes without a halo of "
            f"{margin} on both sides."
        )
    return Sight(margin, smallest, step)


def _test_array(
    package: Package, tensor: Any, axes: str, *, several: bool = False
) -> npt.NDArray[Any] | None:
    """The test image of a tensor as (y, x), or with `several` as (channel, y, x)."""
    if tensor.test_tensor is None:
        return None
    try:
        array = np.load(io.BytesIO(package.file(tensor.test_tensor)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FileReadError(
            f"The test image in {package.path} cannot be read ({short(error)})."
        ) from error
    if array.ndim != len(axes):
        raise UnsupportedError(
            f"its test image has {array.ndim} axes, its description {len(axes)}."
        )
    index = tuple(0 if a in "bz" or (a == "c" and not several) else slice(None) for a in axes)
    left = [a for a in axes if a in "yx" or (a == "c" and several)]
    array = np.transpose(array[index], [left.index(a) for a in "cyx" if a in left])
    return array[None] if several and "c" not in left else array


def _is_exclusive(answer: Tensor) -> bool:
    """Whether the channels of an answer are probabilities of which every pixel has 1 in all."""
    low, high = float(answer.min()), float(answer.max())
    if low < -1e-3 or high > 1 + 1e-3 or not np.isfinite([low, high]).all():
        raise UnsupportedError(
            f"it gives values from {low:.3g} to {high:.3g}, which are no probabilities, and names "
            "no sigmoid or softmax that would make some of them."
        )
    return len(answer) > 1 and bool((answer.sum(dim=0) - 1).abs().max() < 1e-2)

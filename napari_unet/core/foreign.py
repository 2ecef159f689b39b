"""Networks of other programs: they predict like ours, but neither learn nor answer strokes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.core.model import UNetModel, magnification
from napari_unet.core.network import Sight
from napari_unet.core.preprocessing import SectionNormalisation, Step, section_normalisation
from napari_unet.core.tiling import mirrored_indices, plan_tiles


class Runner(Protocol):
    """What computes a foreign network."""

    def __call__(self, batch: Tensor, /) -> Tensor: ...

    def on_device(self, device: torch.device) -> Runner: ...


class TorchRunner:
    """A network that PyTorch computes; of several answers it gives the first."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval()

    def __call__(self, batch: Tensor) -> Tensor:
        answer = self._module(batch)
        first: Tensor = answer[0] if isinstance(answer, tuple | list) else answer
        return first

    def on_device(self, device: torch.device) -> TorchRunner:
        """Return the same network on a device."""
        if device.type == "cpu":
            return self
        return TorchRunner(copy.deepcopy(self._module).to(device))


@dataclass(frozen=True, eq=False)
class ForeignNetwork:
    """A network of another program, called like ours: (1, 1, H, W) to probabilities.

    Parameters
    ----------
    runner
        What computes it.
    axes_in, axes_out
        One letter per axis of what goes in and comes out: ``b`` batch, ``c`` channel, ``z``
        (of length 1), ``y`` and ``x``.
    activations
        What turns its answer (channels, h, w) into probabilities.
    exclusive
        Whether the channels are classes of which every pixel has one, the background among them;
        else each tells of a structure by itself, and the background is where none of them is.
    background
        Which channel is the background, where they are exclusive.
    sight
        How its answer lies in what it sees.
    fixed
        Height and width of what it takes, where it takes nothing else. It is then asked piece by
        piece, and `sight` is that of the whole.
    """

    runner: Runner
    axes_in: str
    axes_out: str
    sight: Sight
    activations: tuple[Callable[[Tensor], Tensor], ...] = ()
    exclusive: bool = True
    background: int = 0
    fixed: tuple[int, int] | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        grey = batch[0, 0]
        return self.probabilities(self._in_pieces(grey) if self.fixed else self.answer(grey))[None]

    def on_device(self, device: torch.device) -> ForeignNetwork:
        """Return the same network on a device."""
        return replace(self, runner=self.runner.on_device(device))

    def answer(self, grey: Tensor) -> Tensor:
        """Return what the network says of (h, w), as float32 (channels, h', w')."""
        seen = grey if self.axes_in.index("y") < self.axes_in.index("x") else grey.T
        for place, axis in enumerate(self.axes_in):
            if axis not in "yx":
                seen = seen.unsqueeze(place)
        found = self.runner(seen.contiguous())
        if found.ndim != len(self.axes_out):
            raise ValueError(
                f"The network answers with an array of shape {tuple(found.shape)}, but its "
                f"description names the axes {', '.join(self.axes_out)}."
            )
        axes = self.axes_out
        for axis in "bz":
            if axis in axes:
                found, axes = found.select(axes.index(axis), 0), axes.replace(axis, "")
        if "c" not in axes:
            found, axes = found[None], f"c{axes}"
        found = found.permute(*(axes.index(axis) for axis in "cyx")).float()
        for activation in self.activations:
            found = activation(found)
        return found

    def probabilities(self, answer: Tensor) -> Tensor:
        """Return an answer (channels, h, w) as probabilities of classes, the background first."""
        found = answer.clamp(0, 1)
        if self.exclusive:
            others = [n for n in range(len(found)) if n != self.background]
            return found[[self.background, *others]]
        found = torch.cat([1 - found.amax(dim=0, keepdim=True), found])
        return found / found.sum(dim=0).clamp_min(1e-6)

    def _in_pieces(self, grey: Tensor) -> Tensor:
        """Ask a network of fixed size about pieces of (h, w) that overlap by its margin."""
        assert self.fixed is not None
        margin = self.sight.margin
        height, width = grey.shape
        inner = min(self.fixed) - 2 * margin
        whole: Tensor | None = None
        for tile in plan_tiles(height, width, inner, 1):
            rows, columns = (
                torch.from_numpy(mirrored_indices(start - margin, start - margin + side, length))
                for start, side, length in zip(
                    (tile.top, tile.left), self.fixed, (height, width), strict=True
                )
            )
            found = self.answer(grey[rows.to(grey.device)][:, columns.to(grey.device)])
            trimmed = [
                margin - (side - size) // 2
                for side, size in zip(self.fixed, found.shape[-2:], strict=True)
            ]
            if whole is None:
                whole = found.new_empty(len(found), height, width)
            whole[(..., *tile.slices)] = found[
                :, trimmed[0] : trimmed[0] + tile.height, trimmed[1] : trimmed[1] + tile.width
            ]
        assert whole is not None
        return whole


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A network of another program and its meaning; it predicts, but does not learn.

    Parameters
    ----------
    name
        What the model is called.
    network
        The network, on the CPU.
    classes
        What it tells apart; class number 1 is the background.
    preprocessing
        What each section goes through before the network sees it; None where it takes grey values
        that are normalised as for our networks, over the stack.
    pixel_size
        Nanometres per pixel at which the network sees best; None if that is not known.
    """

    name: str
    network: ForeignNetwork
    classes: ClassTable
    preprocessing: tuple[Step, ...] | None = None
    pixel_size: float | None = None
    steps: int = field(default=0, init=False)
    history: tuple[dict[str, Any], ...] = field(default=(), init=False)

    def on_device(self, device: torch.device) -> ForeignNetwork:
        """Return the network as it predicts, on a device."""
        return self.network.on_device(device)

    def magnification(self, image: ImageArray) -> float:
        """Return by how much an image is enlarged for the network (see `magnification`)."""
        return magnification(self.pixel_size, image)

    def normalisation(self, section: Any) -> SectionNormalisation | None:
        """Return how the network wants a section (Y, X); None if as our networks do."""
        if self.preprocessing is None:
            return None
        return section_normalisation(self.preprocessing, section)

    def with_classes(self, classes: ClassTable) -> ForeignModel:
        """Return the same under other names; classes that the network does not know are left out.

        Raises
        ------
        ValueError
            If there are fewer classes than the network knows.
        """
        known = len(self.classes)
        if len(classes) < known:
            raise ValueError(
                f"The model {self.name!r} knows {known} classes; {len(classes)} are too few for it."
            )
        return replace(self, classes=classes[:known])


Model = UNetModel | ForeignModel
"""What predicts."""


def check_can_learn(model: Model) -> UNetModel:
    """Return a model that can learn.

    Raises
    ------
    ValueError
        If it is of another program.
    """
    if isinstance(model, ForeignModel):
        raise ValueError(
            f"The model {model.name!r} is a network of another program: it predicts, but cannot "
            "learn here. Choose a model of this program to learn from corrections."
        )
    return model

"""The U-Net (Ronneberger, Fischer and Brox 2015), from one class for every size of it."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:  # packages for other programs hold this file alone
    from napari_unet.core.config import NetworkConfig


class StoppedError(Exception):
    """The end of a pass through a network was not waited for."""


_should_stop: ContextVar[Callable[[], bool] | None] = ContextVar("should_stop", default=None)


@contextmanager
def stoppable(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Let the passes of U-Nets in this thread be given up, since one may take many seconds.

    Parameters
    ----------
    should_stop
        Asked after every block, forwards and backwards. It may as well wait.

    Raises
    ------
    StoppedError
        Out of the pass, when it was to stop. A pass that was given up backwards leaves gradients
        of some parameters.
    """
    before = _should_stop.set(should_stop)
    try:
        yield
    finally:
        _should_stop.reset(before)


def _may_stop_at(x: Tensor) -> Tensor:
    """Return the output of a block, and ask whether to stop, also when its gradient is there."""
    should_stop = _should_stop.get()
    if should_stop is None:
        return x

    def ask(gradient: Tensor | None = None) -> None:
        if should_stop():
            raise StoppedError

    ask()
    if x.requires_grad:
        x.register_hook(ask)  # type: ignore[no-untyped-call]
    return x


class DoubleConvolution(nn.Sequential):
    """Twice a 3x3 convolution and a ReLU; with padding "valid" 4 rows and columns are lost."""

    def __init__(self, channels_in: int, channels_out: int, config: NetworkConfig) -> None:
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            layers.append(
                nn.Conv2d(
                    channels,
                    channels_out,
                    kernel_size=3,
                    padding=1 if config.padding == "same" else 0,
                    bias=config.normalisation == "none",
                )
            )
            if config.normalisation == "batch":
                layers.append(nn.BatchNorm2d(channels_out))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net with the depth, width, padding and normalisation of its configuration.

    With the default configuration this is the network of the paper (section 2, figure 1):
    23 convolutional layers, 572x572 pixels in, 388x388 out. As in the authors' published
    network, dropout follows the last two levels of the contracting path.

    Parameters
    ----------
    config
        The shape of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        inputs = [config.channels_in, *widths[:-2]]
        self.contracting = nn.ModuleList(
            DoubleConvolution(i, o, config) for i, o in zip(inputs, widths[:-1], strict=True)
        )
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.bottleneck = DoubleConvolution(widths[-2], widths[-1], config)
        self.dropout = nn.Dropout(config.dropout)
        self.up_convolutions = nn.ModuleList(
            nn.ConvTranspose2d(w, w // 2, kernel_size=2, stride=2) for w in reversed(widths[1:])
        )
        self.expanding = nn.ModuleList(
            DoubleConvolution(2 * w, w, config) for w in reversed(widths[:-1])
        )
        self.classifier = nn.Conv2d(config.width, config.classes, kernel_size=1)
        initialise(self)
        # Measured on a CPU: a third less time per step with the channels last in memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:  # (N, channels_in, H, W) -> (N, classes, h, w)
        finest = deque(self.decoder_maps(x), maxlen=1).pop()  # the others are let go
        logits: Tensor = self.classifier(finest)
        return logits

    def decoder_maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the maps of the expansive path, from the bottleneck to full resolution.

        The map ``2**n`` times coarser than the input, (N, width * 2**n, h, w), lies on its centre.
        """
        skipped: list[Tensor] = []
        for level, block in enumerate(self.contracting):
            x = _may_stop_at(block(x))
            if level == len(self.contracting) - 1:
                x = self.dropout(x)
            skipped.append(x)
            x = self.pool(x)
        x = self.dropout(_may_stop_at(self.bottleneck(x)))
        yield x
        for up, block in zip(self.up_convolutions, self.expanding, strict=True):
            x = up(x)
            x = _may_stop_at(block(torch.cat([centre_crop(skipped.pop(), x), x], dim=1)))
            yield x

    def folded(self) -> UNet:
        """Return the same function for prediction, its normalisation part of the convolutions.

        A sixth less time for a small network on a CPU.
        """
        if self.config.normalisation == "none":
            return self
        network = copy.deepcopy(self).eval()
        for block in network.modules():
            if isinstance(block, DoubleConvolution):
                for place, (part, following) in enumerate(itertools.pairwise(list(block))):
                    if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                        block[place] = fuse_conv_bn_eval(part, following)
                        block[place + 1] = nn.Identity()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    @property
    def sight(self) -> Sight:
        """How the answer lies in what the network sees."""
        config = self.config
        return Sight(
            margin=context(config),
            smallest=smallest_input(config, 1),
            step=2**config.depth,
            lost=lost(config),
        )


class ProbabilityUNet(UNet):
    """The U-Net as other programs run it: made from plain values, with probabilities as answer.

    Parameters
    ----------
    config
        The fields of a `NetworkConfig`.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(cast("NetworkConfig", SimpleNamespace(**config)))

    def forward(self, x: Tensor) -> Tensor:  # (N, channels_in, H, W) -> (N, classes, h, w)
        return super().forward(x).softmax(dim=1)


@dataclass(frozen=True)
class Sight:
    """How the answer of a network lies in what it sees; lengths are in pixels.

    Parameters
    ----------
    margin
        How far around a tile the network must see.
    smallest, step
        The sides of an input are `smallest`, or larger by a multiple of `step`.
    lost
        By how much the answer is smaller than the input, on both sides together.
    """

    margin: int
    smallest: int
    step: int
    lost: int = 0

    @property
    def padded(self) -> bool:
        """Whether there is an answer up to the border of what is seen."""
        return self.lost == 0

    def side(self, wanted: int) -> int:
        """Return the smallest side of an input that is not below a length."""
        return self.smallest + rounded_up(max(0, wanted - self.smallest), self.step)


def initialise(module: nn.Module) -> None:
    """Draw all weights from N(0, 2 / fan_in) (He et al. 2015; paper, section 3); biases are 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(part, nn.ConvTranspose2d):
            # Each output pixel of a 2x2 up-convolution with stride 2 sees one input pixel only,
            # so that its fan-in is the number of input channels.
            nn.init.normal_(part.weight, std=(2.0 / part.in_channels) ** 0.5)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def centre_crop(feature_map: Tensor, like: Tensor) -> Tensor:
    """Return the centre of a map (N, C, H, W) with the height and width of another."""
    top = (feature_map.shape[-2] - like.shape[-2]) // 2
    left = (feature_map.shape[-1] - like.shape[-1]) // 2
    return feature_map[..., top : top + like.shape[-2], left : left + like.shape[-1]]


def output_size(config: NetworkConfig, input_size: int) -> int:
    """Return the side of the output for a square input.

    Raises
    ------
    ValueError
        If a map would be halved at an odd size, or vanish; the message names a size that works.
    """
    if config.padding == "same":
        if input_size % 2**config.depth:
            fitting = rounded_up(input_size, 1 << config.depth)
            raise ValueError(
                f"A side of {input_size} pixels cannot be halved {config.depth} times; "
                f"use {fitting}."
            )
        return input_size
    size = _valid_output(config.depth, input_size)
    if size is None:
        fitting = smallest_input(config, max(1, input_size - lost(config)))
        raise ValueError(
            f"A side of {input_size} pixels does not pass a network of depth {config.depth} "
            f"without padding; use {fitting}."
        )
    return size


def _valid_output(depth: int, size: int) -> int | None:
    for _ in range(depth):
        size -= 4
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        size = size * 2 - 4
    return size if size > 0 else None


def rounded_up(size: int, multiple: int) -> int:
    """Return the smallest multiple that is not below a size."""
    return -(-size // multiple) * multiple


def lost(config: NetworkConfig) -> int:
    """Return by how many pixels the output is smaller than the input (184 in the paper)."""
    if config.padding == "same":
        return 0
    # Two convolutions take 4 pixels at every level, there and back, and at the bottom.
    return sum(2 * 4 * (1 << level) for level in range(config.depth)) + 4 * (1 << config.depth)


def smallest_input(config: NetworkConfig, output: int) -> int:
    """Return the smallest side of an input whose output has at least `output` pixels a side."""
    if config.padding == "same":
        return rounded_up(output, 1 << config.depth)
    size = output + lost(config)
    while _valid_output(config.depth, size) is None:
        size += 1
    return size


def context(config: NetworkConfig) -> int:
    """Return how far around a tile the network must see, in pixels.

    Where the tile starts at a multiple of ``2**depth``, its result then does not depend on
    where else the input begins or ends, so that tiles join without a seam (paper, figure 2).
    """
    if config.padding == "valid":
        return lost(config) // 2
    reach = 0
    for _ in range(config.depth):
        reach = (reach + 3) // 2  # two 3x3 convolutions, then halved, rounded up
    reach += 2
    for _ in range(config.depth):
        reach = 2 * reach + 2
    return rounded_up(reach, 1 << config.depth)

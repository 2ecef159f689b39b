"""A wider network that begins as the function of a narrow one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_unet.core.model import UNetModel
from napari_unet.core.network import DoubleConvolution, UNet

DIVERSITY = 0.5
"""How unlike the copies of a channel are weighted, as a share of what would be drawn anew."""


def widened(model: UNetModel, width: int, *, seed: int = 0) -> UNetModel:
    """Return a model with more channels on every level that predicts the same.

    Every channel is there several times, and what reads it divides its weight among the copies,
    unevenly, so that they part as soon as the network learns. A wide network so goes on from
    what a narrow one has learnt in a fraction of the time.

    Parameters
    ----------
    model
        The narrow model.
    width
        Feature channels at full resolution.
    seed
        Of how the weights are divided.

    Raises
    ------
    ValueError
        If the model is as wide already.

    Notes
    -----
    Chen, Goodfellow and Shlens 2016, "Net2Net: Accelerating learning via knowledge transfer",
    section 2.2 (Net2WiderNet), for the U-Net with its concatenations.
    """
    narrow = model.network
    if width <= narrow.config.width:
        raise ValueError(
            f"The model {model.name!r} has {narrow.config.width} channels at full resolution; "
            f"it cannot be widened to {width}."
        )
    wide = UNet(narrow.config.replace(width=width))
    generator = torch.Generator().manual_seed(seed)

    def copies(level: int) -> Tensor:
        """Which narrow channel each wide channel of a level is a copy of."""
        return torch.arange(width << level) % (narrow.config.width << level)

    depth = narrow.config.depth
    grey = torch.arange(narrow.config.channels_in)
    with torch.no_grad():
        for level, (block, like) in enumerate(
            zip(wide.contracting, narrow.contracting, strict=True)
        ):
            source = copies(level - 1) if level else grey
            _widen_block(block, like, source, copies(level), generator)
        _widen_block(
            wide.bottleneck, narrow.bottleneck, copies(depth - 1), copies(depth), generator
        )
        for place, level in enumerate(reversed(range(depth))):
            up, like_up = wide.up_convolutions[place], narrow.up_convolutions[place]
            _widen(up, like_up, copies(level + 1), copies(level), generator)
            both = torch.cat([copies(level), copies(level) + (narrow.config.width << level)])
            _widen_block(
                wide.expanding[place], narrow.expanding[place], both, copies(level), generator
            )
        classes = torch.arange(narrow.config.classes)
        _widen(wide.classifier, narrow.classifier, copies(0), classes, generator)
    return replace(model, network=wide.eval())


def _widen_block(
    block: nn.Module, like: nn.Module, source: Tensor, target: Tensor, generator: torch.Generator
) -> None:
    assert isinstance(block, DoubleConvolution)
    assert isinstance(like, DoubleConvolution)
    for part, narrow in zip(block, like, strict=True):
        if isinstance(part, nn.Conv2d):
            _widen(part, narrow, source, target, generator)
            source = target
        elif isinstance(part, nn.BatchNorm2d):
            state = narrow.state_dict()
            part.load_state_dict(
                {name: value[target] if value.ndim else value for name, value in state.items()}
            )


def _widen(
    layer: nn.Module, like: nn.Module, source: Tensor, target: Tensor, generator: torch.Generator
) -> None:
    """Fill a convolution so that its channels are copies of the narrow one's."""
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(like, nn.Conv2d | nn.ConvTranspose2d)
    turned = isinstance(layer, nn.ConvTranspose2d)  # (in, out, h, w) instead of (out, in, h, w)
    narrow = like.weight.transpose(0, 1) if turned else like.weight
    times = torch.bincount(source)[source].float()  # how often the channel behind each is there
    shared = narrow[target][:, source] / times[None, :, None, None]
    deviation = DIVERSITY * float(narrow.std()) * (1 / times * (1 - 1 / times)).sqrt()
    noise = torch.randn(shared.shape, generator=generator) * deviation[None, :, None, None]
    # What is added to one copy is taken from the others.
    sums = torch.zeros(len(target), narrow.shape[1], *shared.shape[2:])
    sums.index_add_(1, source, noise)
    wide = shared + noise - (sums[:, source] / times[None, :, None, None])
    layer.weight.copy_(wide.transpose(0, 1) if turned else wide)
    if layer.bias is not None:
        assert like.bias is not None
        layer.bias.copy_(like.bias[target])

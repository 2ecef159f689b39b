"""A U-Net with all that is needed to use it: classes, what it was trained on, how it came about."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from napari_unet.core.annotations import ClassTable, class_table
from napari_unet.core.config import (
    LIGHT_NETWORK,
    ORIGINAL_NETWORK,
    NetworkConfig,
)
from napari_unet.core.image import ImageArray
from napari_unet.core.network import UNet

PRESETS = {"original": ORIGINAL_NETWORK, "light": LIGHT_NETWORK}
"""Networks that can be trained from nothing."""

SAME_PIXEL_SIZE = 1.05
"""Pixel sizes whose ratio is at most this are taken as the same.

A tenth beside the size that was learnt, resampling helps some structures and harms others a little;
it is done from a twentieth on, so that figures and strokes are always of about one size.
"""

LARGEST_MAGNIFICATION = 4.0
"""Images are neither enlarged nor reduced by more than this."""


@dataclass(frozen=True, eq=False)
class UNetModel:
    """A network and its meaning. The network is never changed in place; training copies it.

    Parameters
    ----------
    name
        What the model is called.
    network
        The network, in evaluation mode, on the CPU.
    classes
        What the output channels mean; channel 0 is class number 1, the background.
    steps
        Training steps that led here.
    history
        One record per training: recipe, data, versions, figures.
    pixel_size
        Nanometres per pixel at which the network sees best; None if that is not known.
    added
        How many of the classes, the last ones, it was given after it had learnt the others.
    """

    name: str
    network: UNet
    classes: ClassTable
    steps: int = 0
    history: tuple[dict[str, Any], ...] = field(default=())
    pixel_size: float | None = None
    added: int = 0

    def __post_init__(self) -> None:
        if self.network.config.classes != len(self.classes):
            raise ValueError(
                f"The network tells {self.network.config.classes} classes apart, but "
                f"{len(self.classes)} are named: {', '.join(c.name for c in self.classes)}."
            )
        if not 0 <= self.added < len(self.classes):
            raise ValueError(
                f"Of {len(self.classes)} classes {self.added} cannot have been added to others."
            )

    @cached_property
    def folded(self) -> UNet:
        """The network as it predicts (`UNet.folded`), made once."""
        return self.network.folded()

    def on_device(self, device: torch.device) -> UNet:
        """Return the network as it predicts, on a device."""
        if device.type == "cpu":
            return self.folded
        return copy.deepcopy(self.folded).to(device)

    def magnification(self, image: ImageArray) -> float:
        """Return by how much an image is enlarged for the network (see `magnification`)."""
        return magnification(self.pixel_size, image)

    def is_origin_of(self, model: UNetModel) -> bool:
        """Tell whether a model may have come of this one by training: all but classes is alike."""
        config, known = model.network.config, len(self.classes)
        return known <= len(model.classes) and (
            config.replace(classes=known) == self.network.config
        )

    def with_classes(self, classes: ClassTable, seed: int = 0) -> UNetModel:
        """Return a model for a longer class table, or the same classes under other names.

        What the network knows of its classes stays; the weights of new ones are drawn anew.

        Raises
        ------
        ValueError
            If there are fewer classes than the network knows.
        """
        known, wanted = len(self.classes), len(classes)
        if wanted < known:
            raise ValueError(
                f"The model {self.name!r} knows {known} classes; {wanted} are too few for it."
            )
        if wanted == known:
            return replace(self, classes=classes)
        config = self.network.config.replace(classes=wanted)
        network = copy.deepcopy(self.network)
        network.config = config
        old = network.classifier
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new = nn.Conv2d(old.in_channels, wanted, kernel_size=1)
        with torch.no_grad():
            # A new class starts small and improbable, so that it does not appear by chance.
            new.weight.mul_(0.1)
            assert new.bias is not None
            assert old.bias is not None
            new.bias.fill_(float(old.bias.min()) - 2.0)
            new.weight[:known] = old.weight
            new.bias[:known] = old.bias
        network.classifier = new
        added = self.added + wanted - known if self.steps else 0
        return replace(self, network=network.eval(), classes=classes, added=added)


def magnification(pixel_size: float | None, image: ImageArray) -> float:
    """Return by how much an image is enlarged for a network, so that it sees its pixel size.

    It is 1 where either pixel size is unknown, or both are the same within a twentieth.
    """
    if pixel_size is None or image.pixel_size is None:
        return 1.0
    factor = image.pixel_size / pixel_size
    if 1 / SAME_PIXEL_SIZE <= factor <= SAME_PIXEL_SIZE:
        return 1.0
    return float(min(max(factor, 1 / LARGEST_MAGNIFICATION), LARGEST_MAGNIFICATION))


def new_model(
    config: NetworkConfig,
    classes: ClassTable | None = None,
    *,
    seed: int = 0,
    name: str = "new",
) -> UNetModel:
    """Return an untrained model; the same seed gives the same weights."""
    if classes is None:
        classes = class_table(["background", *(f"class {n}" for n in range(2, config.classes + 1))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(config.replace(classes=len(classes)))
    return UNetModel(name, network.eval(), classes)


def check_takes_grey(model: UNetModel) -> None:
    """Complain if a network does not take images with one grey value per pixel.

    Raises
    ------
    ValueError
        If it wants more channels.
    """
    channels = model.network.config.channels_in
    if channels != 1:
        raise ValueError(
            f"The model {model.name!r} takes images of {channels} channels; the images here have "
            "one grey value per pixel. Choose another model."
        )

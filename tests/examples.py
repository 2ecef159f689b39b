"""Small images, networks and recipes that the tests share."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_unet.core.annotations import annotations_from_array, class_table
from napari_unet.core.config import LIGHT_NETWORK, AugmentationConfig, TrainingConfig
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.core.model import UNetModel, new_model
from napari_unet.core.network import UNet

TINY_NETWORK = LIGHT_NETWORK.replace(classes=2, depth=2, width=4, dropout=0.0)

UNVARIED = AugmentationConfig(
    rotation=0.0,
    mirror=False,
    scale=0.0,
    elastic=0.0,
    contrast=0.0,
    gamma=0.0,
    brightness=0.0,
    noise=0.0,
)

QUICK_TRAINING = TrainingConfig(
    steps=3,
    learning_rate=5e-3,
    patch_size=32,
    averaging=0.0,
    publish_seconds=0.0,
    augmentation=UNVARIED,
)


def tiny_model(*names, seed=0, **network) -> UNetModel:
    """An untrained model of a few hundred weights; two classes unless more are named."""
    classes = class_table(names or ("background", "disc"))
    return new_model(TINY_NETWORK.replace(classes=len(classes), **network), classes, seed=seed)


def with_lived_in_statistics(model: UNetModel, seed=0) -> UNetModel:
    """The same model whose batch normalisation has seen something: no statistic is 0 or 1."""
    network = copy.deepcopy(model.network)
    chance = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 2.0),
                (layer.weight.data, 0.5, 1.5),
                (layer.bias.data, -0.5, 0.5),
            ):
                tensor.uniform_(low, high, generator=chance)
    return replace(model, network=network)


def bright_discs(sections=1, size=64, seed=0):
    """Bright discs on dark noise, uint8 (sections, size, size), and their classes 1 and 2."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    labels = np.ones((sections, size, size), np.uint8)
    for section in labels:
        for row, column in chance.uniform(8, size - 8, (5, 2)):
            section[np.hypot(rows - row, columns - column) < 7] = 2
    grey = np.where(labels == 2, 170, 80) + chance.normal(0, 20, labels.shape)
    return grey.clip(0, 255).astype(np.uint8), labels


def disc_image(sections=1, size=64, seed=0):
    """An image of bright discs (Z, Y, X) and annotations that paint all of it."""
    grey, labels = bright_discs(sections, size, seed)
    annotations = annotations_from_array(labels, class_table(["background", "disc"]))
    return image_from_array(grey), annotations


def noise_image(*shape, seed=0, dtype=np.uint8) -> ImageArray:
    """An image of uniform noise with axes (T, Z, Y, X) or fewer."""
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return image_from_array(values.astype(dtype), "noise")


class NetworkShortOfMemory(UNet):
    """A U-Net on a device whose memory ends at a number of input pixels."""

    pixels = 64 * 64

    def decoder_maps(self, x):
        if x.shape[0] * x.shape[-2] * x.shape[-1] > self.pixels:
            raise torch.OutOfMemoryError("out of memory")
        return super().decoder_maps(x)


def short_of_memory(model: UNetModel, pixels: int) -> UNetModel:
    """The same model, where no more than so many input pixels fit into memory at once."""
    network = NetworkShortOfMemory(model.network.config)
    network.load_state_dict(model.network.state_dict())
    network.pixels = pixels
    return replace(model, network=network.eval())

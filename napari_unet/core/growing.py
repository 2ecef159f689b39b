"""A network that knows of new classes what the live head has learnt of them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from napari_unet.core.annotations import BACKGROUND, ClassTable
from napari_unet.core.live import NEW_CLASS_SCORE, LiveModel
from napari_unet.core.model import UNetModel


def grown_from_head(model: UNetModel, classes: ClassTable, live: LiveModel | None) -> UNetModel:
    """Return a model of more classes, which knows of them what the live head has learnt.

    The last layer sees the finest map of the network alone, so it takes over what the head says
    of that: the head's weights, brought from its feature space back to the channels of the map.
    Elsewhere a new class scores as the background does, less what makes it improbable.

    Parameters
    ----------
    model
        The network; its weights may be newer than those the head rests on.
    classes
        All classes; those of the model come first.
    live
        A head on features of the same network. Classes that it does not know, or all of them if
        there is none or if it belongs to another network, are drawn anew.
    """
    grown, known = model.with_classes(classes), len(model.classes)
    if live is None or live.model.network.config.width != model.network.config.width:
        return grown
    new = slice(known, min(len(classes), len(live.classes)))
    if new.stop <= known:
        return grown
    network = copy.deepcopy(grown.network)
    layer = network.classifier
    basis, mean = live.space.bases[0], live.space.means[0]
    finest = live.head.weights[: basis.shape[1], new]
    channels = basis @ finest  # (filters and channels of the finest map, new classes)
    first = len(channels) - layer.in_channels
    with torch.no_grad():
        assert layer.bias is not None
        background = BACKGROUND - 1
        layer.weight[new] = layer.weight[background] + channels[first:].T[:, :, None, None]
        layer.bias[new] = (
            layer.bias[background]
            - NEW_CLASS_SCORE
            + live.head.bias[new]
            - mean[first:] @ channels[first:]
        )
    return replace(grown, network=network.eval())

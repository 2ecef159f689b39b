"""A network that knows of new classes what the live head has learnt of them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from napari_unet.core.annotations import BACKGROUND
from napari_unet.core.live import NEW_CLASS_SCORE, LiveModel
from napari_unet.core.model import UNetModel


def grown_from_head(model: UNetModel, live: LiveModel) -> UNetModel:
    """Return a model that also has the classes which only the live head knows.

    The last layer sees the finest map of the network alone, so it takes over what the head says
    of that: the head's weights, brought from its feature space back to the channels of the map.
    Elsewhere a new class scores as the background does, less what makes it improbable.

    Parameters
    ----------
    model
        The network; its weights may be newer than those the head rests on.
    live
        A head on features of the same network.
    """
    known = len(model.classes)
    if len(live.classes) <= known or live.model.network.config.width != model.network.config.width:
        return model
    grown = model.with_classes((*model.classes, *live.classes[known:]))
    network = copy.deepcopy(grown.network)
    layer = network.classifier
    basis, mean = live.space.bases[0], live.space.means[0]
    finest = live.head.weights[: basis.shape[1], known:]
    channels = basis @ finest  # (filters and channels of the finest map, new classes)
    first = len(channels) - layer.in_channels
    with torch.no_grad():
        assert layer.bias is not None
        background = BACKGROUND - 1
        layer.weight[known:] = layer.weight[background] + channels[first:].T[:, :, None, None]
        layer.bias[known:] = (
            layer.bias[background]
            - NEW_CLASS_SCORE
            + live.head.bias[known:]
            - mean[first:] @ channels[first:]
        )
    return replace(grown, network=network.eval())

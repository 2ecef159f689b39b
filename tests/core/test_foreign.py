import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.core.annotations import class_table
from napari_unet.core.config import PredictionConfig
from napari_unet.core.foreign import ForeignModel, ForeignNetwork, TorchRunner
from napari_unet.core.image import image_from_array
from napari_unet.core.network import Sight
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.preprocessing import scale_linear
from tests.examples import noise_image

WITHOUT_MARGIN = Sight(margin=0, smallest=1, step=1)


def model_of(module, axes_in="bcyx", axes_out="bcyx", **wishes):
    runner = TorchRunner(module)
    network = ForeignNetwork(runner, axes_in, axes_out, WITHOUT_MARGIN, exclusive=False, **wishes)
    steps = (scale_linear(1 / 255, 0.0),)
    return ForeignModel("foreign", network, class_table(["background", "bright"]), steps)


def probabilities(model, image, **wishes):
    tiles = predict(model, image, PredictionConfig(**wishes), device="cpu")
    return finish(gather(tiles, image, 2, probabilities=True)).data


class Same(nn.Module):
    def forward(self, x):
        return x


class Brighter(nn.Module):
    """Says twice: a tuple, as some networks do."""

    def forward(self, x):
        return x.sqrt(), x


@pytest.mark.parametrize("axes", ["bcyx", "byxc", "cbxy", "xy", "yx", "bczyx", "xyb"])
def test_axes_may_come_in_any_order(axes):
    image = noise_image(2, 20, 30)

    found = probabilities(model_of(Same(), axes, axes), image)

    np.testing.assert_allclose(found[1], image.data / 255, atol=1e-6)
    np.testing.assert_allclose(found[0], 1 - image.data / 255, atol=1e-6)


def test_of_several_answers_the_first_counts():
    image = noise_image(8, 8)

    found = probabilities(model_of(Brighter()), image)

    np.testing.assert_allclose(found[1], np.sqrt(image.data / 255), atol=1e-6)


@pytest.mark.parametrize("average", ["symmetries", "rotations"])
def test_looks_are_averaged(average):
    flat = image_from_array(np.tile(np.linspace(100, 120, 24), (24, 1)).astype(np.uint8))

    found = probabilities(model_of(Same()), flat, test_time_augmentation=average)

    np.testing.assert_allclose(found[1], flat.data / 255, atol=0.01)


@pytest.mark.parametrize("fixed", [(8, 8), (16, 8)])
def test_a_fixed_size_is_asked_piece_by_piece(fixed):
    seen = set()

    class Watching(Same):
        def forward(self, x):
            seen.add(tuple(x.shape[-2:]))
            return x

    image = noise_image(21, 35)

    found = probabilities(model_of(Watching(), fixed=fixed), image)

    assert seen == {fixed}
    np.testing.assert_allclose(found[1], image.data / 255, atol=1e-6)


def test_another_number_of_axes_than_described_is_told_of():
    with pytest.raises(ValueError, match="description names the axes b, y, x"):
        model_of(Same(), "bcyx", "byx").network(torch.zeros(1, 1, 4, 4))

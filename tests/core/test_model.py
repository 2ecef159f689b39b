from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.annotations import class_table
from napari_unet.core.config import LIGHT_NETWORK, PredictionConfig
from napari_unet.core.image import image_from_array
from napari_unet.core.model import UNetModel, new_model
from napari_unet.core.prediction import finish, gather, predict
from tests.examples import noise_image, tiny_model


def probabilities(model, image):
    tiles = predict(model, image, PredictionConfig(precision="float32"), device="cpu")
    return finish(gather(tiles, image, len(model.classes), probabilities=True)).data


def test_the_same_seed_draws_the_same_weights():
    first, same, other = (tiny_model(seed=seed).network.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[k], same[k]) for k in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_making_a_model_leaves_the_chance_of_others_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    tiny_model(seed=1)

    assert torch.equal(torch.rand(3), expected)


def test_classes_without_names_are_numbered():
    model = new_model(LIGHT_NETWORK.replace(width=2, depth=1))

    assert [c.name for c in model.classes] == ["background", "class 2", "class 3"]


def test_a_model_whose_classes_do_not_fit_its_network_is_refused():
    network = tiny_model().network

    with pytest.raises(ValueError, match="tells 2 classes apart, but 3 are named: a, b, c"):
        UNetModel("wrong", network, class_table(["a", "b", "c"]))


def test_new_classes_do_not_change_what_is_known_of_the_old_ones():
    model, image = tiny_model(), noise_image(24, 24)

    grown = model.with_classes(class_table(["background", "disc", "ring", "dot"]))

    old, new = probabilities(model, image), probabilities(grown, image)
    known = new[:2] / new[:2].sum(axis=0)
    np.testing.assert_allclose(known, old, atol=1e-4)
    assert grown.network.config.classes == 4
    assert len(model.classes) == model.network.classifier.out_channels == 2


def test_classes_that_a_network_is_given_after_it_has_learnt_others_are_counted():
    learnt = replace(tiny_model(), steps=10)

    grown = learnt.with_classes(class_table(["background", "disc", "ring"]))

    assert (learnt.added, grown.added) == (0, 1)
    assert grown.with_classes(class_table(["a", "b", "c", "d", "e"])).added == 3
    assert grown.with_classes(class_table(["a", "b", "c"])).added == 1
    assert tiny_model().with_classes(class_table(["a", "b", "c"])).added == 0


@pytest.mark.parametrize("added", [-1, 2])
def test_a_model_cannot_have_more_classes_added_than_there_are_beside_others(added):
    with pytest.raises(ValueError, match=f"Of 2 classes {added} cannot"):
        replace(tiny_model(), added=added)


def test_a_new_class_does_not_appear_by_chance():
    image = noise_image(64, 64)
    for seed in range(5):
        grown = tiny_model(seed=seed).with_classes(class_table(["background", "disc", "ring"]))
        assert (probabilities(grown, image)[2] > 0.5).mean() < 0.02


def test_classes_can_be_renamed():
    renamed = tiny_model().with_classes(class_table(["outside", "inside"]))

    assert [c.name for c in renamed.classes] == ["outside", "inside"]


def test_classes_cannot_be_taken_away():
    with pytest.raises(ValueError, match="knows 3 classes; 2 are too few"):
        tiny_model("a", "b", "c").with_classes(class_table(["a", "b"]))


@pytest.mark.parametrize(
    ("of_model", "of_image", "magnification"),
    [
        (5.0, None, 1.0),
        (None, 5.0, 1.0),
        (None, None, 1.0),
        (5.0, 5.0, 1.0),
        (5.0, 5.2, 1.0),  # the same within a twentieth
        (5.0, 4.8, 1.0),
        (5.0, 4.5, 0.9),
        (5.0, 6.25, 1.25),
        (5.0, 4.0, 0.8),
        (5.0, 10.0, 2.0),
        (8.0, 2.0, 0.25),
        (5.0, 20.0, 4.0),
        (5.0, 21.0, 4.0),  # the limit
        (5.0, 1000.0, 4.0),
        (5.0, 0.5, 0.25),
    ],
)
def test_an_image_is_enlarged_to_the_pixel_size_of_the_model(of_model, of_image, magnification):
    model = replace(tiny_model(), pixel_size=of_model)
    image = image_from_array(np.zeros((4, 4)), pixel_size=of_image)

    assert model.magnification(image) == pytest.approx(magnification)


def test_a_new_model_sees_images_as_they_are():
    assert tiny_model().pixel_size is None


def test_new_classes_leave_the_pixel_size():
    model = replace(tiny_model(), pixel_size=5.0)

    assert model.with_classes(class_table(["a", "b", "c"])).pixel_size == 5.0
    assert model.with_classes(class_table(["a", "b"])).pixel_size == 5.0


def test_a_model_folds_its_network_once_and_a_copy_anew():
    model = tiny_model()

    assert model.folded is model.folded
    assert replace(model, name="copy").folded is not model.folded

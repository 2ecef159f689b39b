import numpy as np
import pytest
import torch

from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.config import LiveConfig
from napari_unet.core.features import feature_space, tile_features
from napari_unet.core.growing import grown_from_head
from napari_unet.core.image import grey_statistics
from napari_unet.core.live import LiveModel, fit_head, tile_examples
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.tiling import Tile
from napari_unet.core.training import train
from tests.core.test_training import trained
from tests.examples import QUICK_TRAINING, disc_image, tiny_model

CLASSES = class_table(["background", "disc", "rim"])


@pytest.fixture(scope="module")
def example():
    """An image of discs, a model that knows them, and a head that has learnt dark background, too."""
    image, annotations = disc_image(1, seed=5)
    model = trained(tiny_model(width=8), image, annotations, QUICK_TRAINING.replace(steps=80))
    painted = annotations.sections[0,].copy()
    dark = np.asarray(image.data[0]) < 60
    painted[(painted == 1) & dark] = 3  # dark background is another class
    statistics = grey_statistics(image)
    tile = Tile(0, 0, *painted.shape)
    found = tile_features(
        model.network, image.data[0], tile, statistics, device=torch.device("cpu")
    )
    config = LiveConfig()
    space = feature_space(found, config)
    head = fit_head(tile_examples(painted, space.reduce(found), config), 3, config)
    return image, model, painted, LiveModel(model, CLASSES, space, head)


def mask(model, image):
    return finish(gather(predict(model, image, device="cpu"), image, len(model.classes))).data[0]


def probability(model, image, number):
    work = gather(predict(model, image, device="cpu"), image, 3, probabilities=True)
    return finish(work).data[number - 1, 0]


def test_a_new_class_is_more_probable_where_the_head_sees_it(example) -> None:
    image, model, painted, live = example
    grown = grown_from_head(model, CLASSES, live)
    at_random = model.with_classes(CLASSES)
    assert [each.name for each in grown.classes] == ["background", "disc", "rim"]

    def contrast(each):
        found = np.log(probability(each, image, 3) + 1e-12)
        return found[painted == 3].mean() - found[painted == 2].mean()

    assert contrast(grown) > contrast(at_random) + 0.5


def test_known_classes_stay_as_they_were_beside_each_other(example) -> None:
    image, model, _, live = example
    grown = grown_from_head(model, CLASSES, live)
    known = grown.network.classifier.weight[:2]
    assert torch.equal(known, model.network.classifier.weight)
    before, after = mask(model, image), mask(grown, image)
    still = after != 3
    np.testing.assert_array_equal(after[still], before[still])


def test_a_head_without_new_classes_changes_nothing(example) -> None:
    _, model, _, live = example
    grown = grown_from_head(model, CLASSES, live)
    again = grown_from_head(grown, CLASSES, live)
    assert torch.equal(again.network.classifier.weight, grown.network.classifier.weight)


@pytest.mark.parametrize("there", [True, False])
def test_without_a_head_of_this_network_new_classes_are_drawn_anew(example, there) -> None:
    *_, live = example
    other = tiny_model(width=4)
    grown = grown_from_head(other, CLASSES, live if there else None)
    expected = other.with_classes(CLASSES).network.classifier.weight
    assert torch.equal(grown.network.classifier.weight, expected)


def test_a_class_painted_during_training_begins_with_what_the_head_knows(example) -> None:
    image, model, painted, live = example
    without = np.where(painted == 3, 1, painted).astype(np.uint8)
    config = QUICK_TRAINING.replace(steps=2, learning_rate=1e-8, averaging=0.0)
    strokes = Annotations(CLASSES[:2], {(0,): without})

    def learnt(section):
        """What comes of these strokes, and then of a section with a new class in its table."""
        work = train(
            model,
            image,
            strokes,
            config,
            device="cpu",
            grow=lambda model, classes: grown_from_head(model, classes, live),
        )
        next(work)
        work.send(Annotations(CLASSES, {(0,): section}))
        return finish(work)

    assert len(learnt(without).classes) == 2  # a class that nothing is painted of can wait
    result = learnt(painted)
    expected = grown_from_head(model, CLASSES, live).network.classifier.weight
    torch.testing.assert_close(result.network.classifier.weight, expected, atol=1e-5, rtol=0)


def test_the_model_that_grows_is_not_changed(example) -> None:
    _, model, _, live = example
    before = model.network.classifier.weight.clone()
    grown_from_head(model, CLASSES, live)
    assert torch.equal(model.network.classifier.weight, before)
    assert len(model.classes) == 2

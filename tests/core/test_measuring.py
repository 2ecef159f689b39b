from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.image import grey_statistics
from napari_unet.core.live import Examples, LiveHead
from napari_unet.core.measuring import Rivals, measure, measure_head
from napari_unet.core.metrics import ClassScores, class_scores, mean_iou
from napari_unet.core.prediction import finish, gather, predict
from tests.examples import noise_image, short_of_memory, tiny_model, with_lived_in_statistics

CLASSES = class_table(["background", "disc"])


def patches(image, count=5, side=9):
    """Squares of both classes in some of the sections."""
    chance = np.random.default_rng(3)
    sections = {}
    for z in range(0, len(image.data), 2):
        section = np.zeros(image.shape[1:], np.uint8)
        for number in range(count):
            row, column = chance.integers(0, np.array(section.shape) - side)
            section[row : row + side, column : column + side] = 1 + number % 2
        sections[z,] = section
    return Annotations(CLASSES, sections)


def iou_only(value):
    return ClassScores(None, value, None, None, None, 1)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("magnified", [False, True])
def test_painted_pixels_are_measured_as_the_whole_stack_would_be(padding, magnified) -> None:
    image = noise_image(3, 70, 90)
    model = with_lived_in_statistics(tiny_model(padding=padding))
    if magnified:
        image, model = (
            replace(image, scale=(50.0, 6.0, 6.0), units=("nm",) * 3),
            replace(model, pixel_size=4.0),
        )
    held_out = patches(image)
    mask = finish(gather(predict(model, image, device="cpu"), image, 2)).data
    truth = np.zeros(image.shape, np.uint8)
    for index, section in held_out.sections.items():
        truth[index] = section
    expected = class_scores(mask, truth)
    found = measure(model, image, held_out, statistics=grey_statistics(image), device="cpu")
    assert found.keys() == {"background", "disc"}
    for number, name in enumerate(("background", "disc"), start=1):
        assert found[name].pixels == expected[number].pixels
        assert found[name].iou == pytest.approx(expected[number].iou, abs=0.01)


def test_nothing_is_measured_where_nothing_is_painted() -> None:
    image = noise_image(1, 40, 40)
    found = measure(
        tiny_model(), image, Annotations(CLASSES), statistics=grey_statistics(image), device="cpu"
    )
    assert found == {}


def test_short_memory_is_answered_with_smaller_tiles() -> None:
    image = noise_image(1, 300, 300)
    section = np.zeros((300, 300), np.uint8)
    section[::4], section[::5] = 1, 2
    held_out = Annotations(CLASSES, {(0,): section})
    model = tiny_model()
    enough = measure(model, image, held_out, statistics=grey_statistics(image), device="cpu")
    short = short_of_memory(model, 160 * 160)
    found = measure(short, image, held_out, statistics=grey_statistics(image), device="cpu")
    assert found["disc"].pixels == enough["disc"].pixels
    assert found["disc"].iou == pytest.approx(enough["disc"].iou, abs=0.01)


def test_memory_too_short_for_any_tile_is_an_error() -> None:
    image = noise_image(1, 300, 300)
    held_out = Annotations(CLASSES, {(0,): np.ones((300, 300), np.uint8)})
    with pytest.raises(RuntimeError, match="memory"):
        measure(
            short_of_memory(tiny_model(), 100),
            image,
            held_out,
            statistics=grey_statistics(image),
            device="cpu",
        )


def test_mean_iou_is_that_of_all_classes() -> None:
    assert mean_iou({"a": iou_only(0.5), "b": iou_only(1.0)}) == 0.75
    assert mean_iou({"a": iou_only(None), "b": iou_only(1.0)}) == 0.5


def test_one_class_alone_has_no_mean_iou() -> None:
    assert mean_iou({}) is None
    assert mean_iou({"a": iou_only(1.0)}) is None


@pytest.mark.parametrize(("network", "better"), [(0.70, False), (0.74, False), (0.76, True)])
def test_the_network_takes_over_from_the_head_only_where_it_does_clearly_better(
    network, better
) -> None:
    network, head = ({"a": iou_only(value), "b": iou_only(value)} for value in (network, 0.7))
    assert Rivals(network, head).network_is_better == better


def test_the_network_does_not_take_over_while_nothing_can_be_measured() -> None:
    assert not Rivals({"a": iou_only(1.0)}, {"a": iou_only(0.0)}).network_is_better


def test_the_network_does_not_take_over_where_it_does_not_know_what_was_painted() -> None:
    network, head = ({"a": iou_only(value), "b": iou_only(value)} for value in (1.0, 0.0))
    assert Rivals(network, head).network_is_better
    assert not Rivals(network, head, network_knows_all=False).network_is_better


@pytest.mark.parametrize(("painted", "knows"), [((1, 2), True), ((0, 1), True), ((1, 3), False)])
@pytest.mark.parametrize("is_learnt", [True, False])
def test_painted_classes_tell_whether_the_network_knows_them_all(painted, knows, is_learnt) -> None:
    examples = Examples(torch.zeros(2, 4), torch.zeros(2, 2), torch.tensor(painted), torch.ones(2))
    head = LiveHead(torch.zeros(4, 3), torch.zeros(3))
    classes = class_table(["background", "disc", "vesicle"])
    learnt, held_out = ([examples], []) if is_learnt else ([], [examples])
    assert measure_head(head, held_out, classes, learnt).network_knows_all == knows


def test_pixels_that_stand_for_several_count_as_so_many() -> None:
    examples = Examples(
        torch.zeros(40, 4),
        torch.zeros(40, 2),
        torch.tensor([1] * 30 + [2] * 10),
        torch.tensor([1.4] * 30 + [1.6] * 10),
    )
    head = LiveHead(torch.zeros(4, 2), torch.tensor([1.0, 0.0]))  # finds background everywhere
    found = measure_head(head, [examples], CLASSES).head
    assert [found[each.name].pixels for each in CLASSES] == [42, 16]
    assert found["background"].iou == pytest.approx(42 / 58)

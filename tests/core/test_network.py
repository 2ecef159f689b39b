import copy
import re
import threading

import pytest
import torch
from torch import nn

from napari_unet.core.config import ORIGINAL_NETWORK, NetworkConfig
from napari_unet.core.network import (
    StoppedError,
    UNet,
    context,
    lost,
    output_size,
    smallest_input,
    stoppable,
)
from tests.examples import tiny_model, with_lived_in_statistics


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def original_network():
    """The original network without memory for its weights."""
    with torch.device("meta"):
        return UNet(ORIGINAL_NETWORK)


def test_the_original_network_has_31_030_658_parameters():
    assert sum(p.numel() for p in original_network().parameters()) == 31_030_658


def test_the_original_network_has_23_convolutional_layers():
    kernels = [layer.kernel_size for layer in convolutions(original_network())]

    assert len(kernels) == 23
    assert kernels.count((3, 3)) == 18
    assert kernels.count((2, 2)) == 4
    assert kernels.count((1, 1)) == 1


def test_the_original_network_makes_388_pixels_of_572():
    grey = torch.empty(1, 1, 572, 572, device="meta")

    assert original_network()(grey).shape == (1, 2, 388, 388)
    assert output_size(ORIGINAL_NETWORK, 572) == 388
    assert lost(ORIGINAL_NETWORK) == 184


def test_weights_are_drawn_with_variance_two_over_fan_in():
    torch.manual_seed(0)
    looked_at = 0
    for layer in convolutions(UNet(NetworkConfig(width=32, depth=2))):
        assert not layer.bias.any()
        if layer.weight.numel() < 8000:
            continue
        looked_at += 1
        seen = 1 if isinstance(layer, nn.ConvTranspose2d) else layer.kernel_size[0] ** 2
        expected = 2 / (layer.in_channels * seen)
        weights = layer.weight.detach()
        assert weights.var().item() == pytest.approx(expected, rel=0.06)
        assert abs(weights.mean().item()) < 0.05 * expected**0.5
    assert looked_at >= 9


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_sizes_without_padding_are_those_of_the_real_network(depth):
    config = NetworkConfig(depth=depth, width=1)
    network = UNet(config).eval()
    for wanted in (1, 2, 3, 17, 40):
        size = smallest_input(config, wanted)
        found = network(torch.zeros(1, 1, size, size)).shape[-1]
        assert found == output_size(config, size) >= wanted
        assert found == size - lost(config)
        # the next smaller size that fits gives too little
        assert found - 2**depth < wanted


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_padding_keeps_the_size(depth):
    config = NetworkConfig(depth=depth, width=1, padding="same")
    size = smallest_input(config, 2 * 2**depth + 1)

    found = UNet(config)(torch.zeros(1, 1, size, 2 * size)).shape

    assert found == (1, 2, size, 2 * size)
    assert size == output_size(config, size) == 3 * 2**depth
    assert lost(config) == 0


def pixels_seen(config: NetworkConfig) -> tuple[int, int]:
    """How far beyond one square of 2**depth output pixels the network looks, before and after."""
    network = UNet(config).eval()
    network.pool = nn.AvgPool2d(2)  # the largest value would hide what it is the largest of
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)  # every way through the network counts
    side = 2**config.depth
    margin = context(config) + 2 * side
    size = smallest_input(config, side + 2 * margin)
    grey = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = network.double()(grey)
    start = margin - (lost(config) // 2 if config.padding == "valid" else 0)
    logits[..., start : start + side, start : start + side].sum().backward()
    seen = grey.grad[0, 0].sum(dim=0).nonzero().flatten()
    return margin - int(seen.min()), int(seen.max()) - (margin + side - 1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_context_is_how_far_the_network_looks(depth, padding):
    config = NetworkConfig(depth=depth, width=1, padding=padding)

    before, after = pixels_seen(config)

    assert context(config) - 2**depth < before <= context(config)
    margins = context(config) if padding == "same" else 0
    assert before + 2**depth + after <= smallest_input(config, 2**depth) + 2 * margins


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_size_that_does_not_fit_gives_an_error_with_one_that_does(depth, padding):
    config = NetworkConfig(depth=depth, padding=padding)
    refused = 0
    for size in range(1, 120):
        try:
            output_size(config, size)
        except ValueError as error:
            refused += 1
            fitting = int(re.search(r"use (\d+)\.", str(error)).group(1))
            assert output_size(config, fitting) >= 1
            assert fitting > size
    assert refused > 50


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_normalised_convolutions_have_no_bias_of_their_own(normalisation):
    network = UNet(NetworkConfig(depth=1, width=2, normalisation=normalisation))

    counts = [isinstance(m, nn.BatchNorm2d) for m in network.modules()]

    assert sum(counts) == (6 if normalisation == "batch" else 0)
    assert (network.bottleneck[0].bias is None) == (normalisation == "batch")


def test_dropout_is_active_in_training_only():
    torch.manual_seed(0)
    network = UNet(NetworkConfig(depth=2, width=4, padding="same", dropout=0.5))
    grey = torch.randn(1, 1, 32, 32)

    network.train()
    assert not torch.equal(network(grey), network(grey))
    network.eval()
    assert torch.equal(network(grey), network(grey))


def counted_until(times):
    """A function that says to stop when asked for so many times, and how often it was."""
    asked = []

    def should_stop():
        asked.append(True)
        return len(asked) >= times

    return should_stop, asked


def test_a_pass_can_be_stopped_after_every_block_forwards_and_backwards():
    model = tiny_model(depth=3)
    blocks = 2 * 3 + 1
    grey = torch.randn(1, 1, 32, 32)
    for times in range(1, 2 * blocks + 1):
        should_stop, asked = counted_until(times)
        with stoppable(should_stop):
            if times <= blocks:
                with pytest.raises(StoppedError):
                    model.network(grey)
            else:
                answer = model.network(grey).sum()
                with pytest.raises(StoppedError):
                    answer.backward()
        assert len(asked) == times

    should_stop, asked = counted_until(2 * blocks + 1)
    with stoppable(should_stop):
        model.network(grey).sum().backward()
    assert len(asked) == 2 * blocks


def test_passes_that_may_be_stopped_compute_the_same():
    models = [tiny_model(), tiny_model()]
    grey = torch.randn(1, 1, 32, 32)
    with stoppable(lambda: False):
        models[0].network(grey).square().sum().backward()
    models[1].network(grey).square().sum().backward()

    for one, other in zip(*(model.network.parameters() for model in models), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_whoever_may_be_stopped_stops_nobody_else():
    network, grey = tiny_model().network, torch.randn(1, 1, 32, 32)
    answers = []
    other = threading.Thread(target=lambda: answers.append(network(grey)))
    with stoppable(lambda: True):
        other.start()
        other.join()
        with pytest.raises(StoppedError):
            network(grey)

    assert torch.equal(answers[0], network(grey))


def test_several_grey_channels_are_taken_in():
    network = UNet(NetworkConfig(channels_in=3, classes=5, depth=1, width=2, padding="same"))

    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5, 8, 8)


def batch_norm_network(padding):
    """A network whose statistics are not those it is made with, and grey values for it."""
    model = with_lived_in_statistics(
        tiny_model("a", "b", "c", padding=padding, normalisation="batch", dropout=0.3)
    )
    size = smallest_input(model.network.config, 20)
    return model.network, torch.randn(2, 1, size, size + 8)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_folded_network_is_the_same_function_without_normalisation(padding):
    network, grey = batch_norm_network(padding)

    folded = network.folded()

    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        expected = network(grey)
        torch.testing.assert_close(folded(grey), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_folding_leaves_the_network_itself_alone(padding):
    network, _ = batch_norm_network(padding)
    before = copy.deepcopy(network.state_dict())
    network.train()

    folded = network.folded()

    assert network.training
    assert not folded.training
    assert network.config.normalisation == "batch"
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_network_without_normalisation_is_its_own_folded_one():
    network = tiny_model(normalisation="none").network

    assert network.folded() is network


def test_folding_draws_nothing_at_random():
    network, _ = batch_norm_network("same")
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    network.folded()

    assert torch.equal(torch.rand(3), expected)

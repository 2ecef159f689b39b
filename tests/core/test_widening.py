import pytest
import torch

from napari_unet.core.annotations import class_table
from napari_unet.core.config import NetworkConfig
from napari_unet.core.model import UNetModel, new_model
from napari_unet.core.widening import widened


def narrow_model(**options: object) -> UNetModel:
    config = NetworkConfig(
        **{"depth": 2, "width": 3, "padding": "same", "normalisation": "batch", **options}
    )
    model = new_model(config, class_table(["background", "membrane", "vesicle"]), seed=4)
    for name, value in model.network.state_dict().items():  # as after training
        if value.is_floating_point() and value.ndim == 1:
            torch.manual_seed(len(name))
            value.copy_(torch.rand_like(value) + 0.5)
    return model


@pytest.mark.parametrize("width", [4, 6, 8])
@pytest.mark.parametrize("normalisation", ["none", "batch"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_widened_network_predicts_the_same(width: int, normalisation: str, padding: str) -> None:
    narrow = narrow_model(normalisation=normalisation, padding=padding)
    wide = widened(narrow, width)
    assert wide.network.config == narrow.network.config.replace(width=width)
    grey = torch.randn(2, 1, 60, 60, generator=torch.Generator().manual_seed(1))
    expected, found = narrow.network(grey), wide.network(grey)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_copies_of_a_channel_part_at_the_first_step() -> None:
    wide = widened(narrow_model(), 6).network.train()
    grey = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    wide(grey).square().mean().backward()
    for name, value in wide.named_parameters():
        if name.endswith("0.weight") and name.startswith(("contracting", "expanding")):
            gradient = value.grad
            assert gradient is not None
            half = len(gradient) // 2
            assert not torch.allclose(gradient[:half], gradient[half:], rtol=1e-2), name


def test_the_same_seed_divides_the_weights_alike() -> None:
    first, again, other = (widened(narrow_model(), 6, seed=s).network for s in (1, 1, 2))
    one, two, three = (n.bottleneck[0].weight for n in (first, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_the_narrow_model_stays_as_it_was() -> None:
    narrow = narrow_model()
    before = {name: value.clone() for name, value in narrow.network.state_dict().items()}
    widened(narrow, 6)
    for name, value in narrow.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_is_not_made_narrower() -> None:
    with pytest.raises(ValueError, match=r"3 channels .* cannot be widened to 3"):
        widened(narrow_model(), 3)

import json
from dataclasses import fields

import pytest

from napari_unet.core.config import (
    LIGHT_NETWORK,
    ORIGINAL_NETWORK,
    ORIGINAL_TRAINING,
    AugmentationConfig,
    Config,
    NetworkConfig,
    PredictionConfig,
    TrainingConfig,
)

ALL = [NetworkConfig, AugmentationConfig, TrainingConfig, PredictionConfig]


@pytest.mark.parametrize("kind", ALL)
def test_every_option_explains_itself(kind):
    for each in fields(kind):
        if each.name != "augmentation":
            assert each.metadata["explanation"].endswith(".") or each.metadata["choices"]


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (NetworkConfig, "depth", 0, "depth must be at least 1; got 0"),
        (NetworkConfig, "depth", 8, "depth must be at most 7; got 8"),
        (NetworkConfig, "depth", 2.0, "depth must be of type int; got 2.0"),
        (NetworkConfig, "depth", True, "depth must be of type int; got True"),
        (NetworkConfig, "padding", "mirror", "padding must be one of valid, same; got 'mirror'"),
        (NetworkConfig, "classes", 1, "classes must be at least 2"),
        (NetworkConfig, "dropout", float("nan"), "dropout must be a finite number"),
        (AugmentationConfig, "mirror", 1, "mirror must be of type bool; got 1"),
        (AugmentationConfig, "coarser", 0.5, "coarser must be at least 1.0; got 0.5"),
        (AugmentationConfig, "inversion", 1.5, "inversion must be at most 1.0; got 1.5"),
        (AugmentationConfig, "blur", -1.0, "blur must be at least 0.0; got -1.0"),
        (TrainingConfig, "validate_every", -1, "validate_every must be at least 0; got -1"),
        (TrainingConfig, "learning_rate", float("inf"), "learning_rate must be a finite number"),
        (TrainingConfig, "learning_rate", "1e-3", "learning_rate must be of type float"),
        (TrainingConfig, "momentum", 1.0, "momentum must be at most 0.9999; got 1.0"),
        (TrainingConfig, "steps", -1, "steps must be at least 0"),
        (TrainingConfig, "augmentation", 3, "augmentation must be"),
        (PredictionConfig, "tile_size", 8, "tile_size must be at least 16"),
        (
            PredictionConfig,
            "test_time_augmentation",
            "mirror",
            "test_time_augmentation must be one of none, symmetries, rotations; got 'mirror'",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})
    with pytest.raises(ValueError, match=message):
        kind.from_dict({name: value})
    with pytest.raises(ValueError, match=message):
        kind().replace(**{name: value})


def test_a_whole_number_does_for_a_real_one():
    assert TrainingConfig(learning_rate=1).learning_rate == 1


@pytest.mark.parametrize("kind", ALL)
def test_an_unknown_option_is_named_with_those_there_are(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} has no option 'sped'. Its options are"):
        kind.from_dict({"sped": 1})


def test_an_unknown_augmentation_option_is_named():
    with pytest.raises(ValueError, match="AugmentationConfig has no option 'twist'"):
        TrainingConfig.from_dict({"augmentation": {"twist": 1}})


@pytest.mark.parametrize(
    "config",
    [
        ORIGINAL_NETWORK,
        LIGHT_NETWORK,
        ORIGINAL_TRAINING,
        TrainingConfig(augmentation=AugmentationConfig(rotation=5.0, mirror=False)),
        PredictionConfig(tile_size=64),
    ],
)
def test_a_configuration_survives_json(config: Config):
    text = json.dumps(config.to_dict())

    assert type(config).from_dict(json.loads(text)) == config


def test_the_original_network_is_that_of_the_paper():
    assert ORIGINAL_NETWORK.to_dict() == {
        "channels_in": 1,
        "classes": 2,
        "depth": 4,
        "width": 64,
        "padding": "valid",
        "normalisation": "none",
        "dropout": 0.5,
    }


def test_the_original_recipe_is_that_of_the_paper():
    recipe = ORIGINAL_TRAINING

    assert (recipe.optimiser, recipe.momentum, recipe.batch_size) == ("sgd", 0.99, 1)
    assert (recipe.loss, recipe.patch_size) == ("cross-entropy", 572)
    assert (recipe.border_weight, recipe.border_sigma) == (10.0, 5.0)
    assert (recipe.augmentation.elastic, recipe.augmentation.elastic_grid) == (10.0, 3)
    assert recipe.class_balance == 1.0

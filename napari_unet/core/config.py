"""Every choice of the method, said once.

A field carries its default, its limits and the sentence that explains it; the form in the
dock, the command-line options and the files are made from these fields. This module imports
nothing heavy, so that the command line can answer ``--help`` at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import Any, Self


def option(
    default: Any,
    explanation: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a dataclass field that knows its limits and explains itself."""
    metadata = {
        "explanation": explanation,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configurations: checks its fields when made.

    Raises
    ------
    ValueError
        If a value lies outside the limits of its field, or is not one of its choices.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each, getattr(self, each.name))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that `to_dict` described.

        Raises
        ------
        ValueError
            If a name is unknown or a value is not allowed.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no option {', '.join(map(repr, unknown))}. "
                f"Its options are {', '.join(sorted(known))}."
            )
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed (and checked)."""
        return replace(self, **changes)


def _check(each: Field[Any], value: Any) -> None:
    if each.default is MISSING or not each.metadata:
        return
    expected = type(each.default)
    allowed = (int, float) if expected is float else (expected,)
    if isinstance(value, bool) != (expected is bool) or not isinstance(value, allowed):
        raise ValueError(f"{each.name} must be of type {expected.__name__}; got {value!r}.")
    choices = each.metadata["choices"]
    if choices and value not in choices:
        raise ValueError(f"{each.name} must be one of {', '.join(choices)}; got {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{each.name} must be a finite number; got {value!r}.")
    minimum, maximum = each.metadata["minimum"], each.metadata["maximum"]
    if minimum is not None and value < minimum:
        raise ValueError(f"{each.name} must be at least {minimum}; got {value}.")
    if maximum is not None and value > maximum:
        raise ValueError(f"{each.name} must be at most {maximum}; got {value}.")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Config):
    """Shape of a U-Net. The defaults are the original network (Ronneberger et al. 2015)."""

    channels_in: int = option(1, "Grey channels of the input.", minimum=1, maximum=64)
    classes: int = option(2, "Classes the network tells apart.", minimum=2, maximum=255)
    depth: int = option(4, "How many times the image is halved.", minimum=1, maximum=7)
    width: int = option(64, "Feature channels at full resolution.", minimum=1, maximum=512)
    padding: str = option(
        "valid",
        "valid: unpadded convolutions as in the paper; same: zero-padded ones.",
        choices=("valid", "same"),
    )
    normalisation: str = option(
        "none", "Normalisation behind each convolution.", choices=("none", "batch")
    )
    dropout: float = option(
        0.5, "Dropout at the end of the contracting path.", minimum=0.0, maximum=0.95
    )


ORIGINAL_NETWORK = NetworkConfig()
LIGHT_NETWORK = NetworkConfig(
    classes=3, depth=4, width=24, padding="same", normalisation="batch", dropout=0.2
)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Config):
    """How patches are varied while training (paper, section 3.1)."""

    rotation: float = option(180.0, "Largest rotation, in degrees.", minimum=0.0, maximum=180.0)
    mirror: bool = option(True, "Mirror patches at random.")
    scale: float = option(
        0.15, "Largest change of scale (0.15: from 1/1.15 to 1.15).", minimum=0.0, maximum=1.0
    )
    coarser: float = option(
        1.0,
        "Half of the patches are shown with pixels up to this many times larger, so that "
        "other magnifications become familiar; 1 leaves them.",
        minimum=1.0,
        maximum=8.0,
    )
    elastic: float = option(
        10.0,
        "Standard deviation of the elastic displacements, in pixels (paper: 10).",
        minimum=0.0,
        maximum=100.0,
    )
    elastic_grid: int = option(
        3, "Nodes per side of the coarse displacement grid (paper: 3).", minimum=2, maximum=16
    )
    contrast: float = option(0.25, "Largest relative change of contrast.", minimum=0.0, maximum=0.9)
    gamma: float = option(0.25, "Largest relative change of gamma.", minimum=0.0, maximum=0.9)
    brightness: float = option(
        0.25, "Largest shift of the grey values, in standard deviations.", minimum=0.0, maximum=3.0
    )
    noise: float = option(
        0.1,
        "Largest standard deviation of the noise that is added to a patch.",
        minimum=0.0,
        maximum=2.0,
    )
    blur: float = option(
        0.0,
        "Half of the patches are blurred, by at most this standard deviation in pixels.",
        minimum=0.0,
        maximum=10.0,
    )
    inversion: float = option(
        0.0, "Share of patches whose dark and bright are exchanged.", minimum=0.0, maximum=1.0
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How a network learns from annotations. The defaults suit corrections with a brush."""

    steps: int = option(0, "Training steps; 0 sets no number.", minimum=0)
    minutes: float = option(0.0, "Stop after so many minutes; 0 sets no limit.", minimum=0.0)
    seed: int = option(0, "Seed of everything that is drawn at random.", minimum=0)
    optimiser: str = option("adamw", "sgd is the paper's choice.", choices=("adamw", "sgd"))
    learning_rate: float = option(
        1e-4,
        "Size of a step. Larger ones make a trained network forget sooner than learn; with train "
        "--model new it is 0.0005 unless given.",
        minimum=1e-8,
        maximum=10.0,
    )
    momentum: float = option(0.99, "Momentum of sgd (paper: 0.99).", minimum=0.0, maximum=0.9999)
    weight_decay: float = option(1e-4, "Weight decay.", minimum=0.0, maximum=1.0)
    schedule: str = option(
        "constant",
        "cosine lowers the learning rate to zero over the given steps.",
        choices=("constant", "cosine"),
    )
    patch_size: int = option(
        256,
        "Side of a training patch, in pixels, before fitting it to the network.",
        minimum=16,
        maximum=4096,
    )
    batch_size: int = option(2, "Patches in a step (paper: 1, a large one).", minimum=1)
    loss: str = option(
        "cross-entropy",
        "Loss on the painted pixels.",
        choices=("cross-entropy", "dice", "cross-entropy+dice"),
    )
    class_balance: float = option(
        0.5,
        "0 counts every painted pixel alike, 1 every class alike.",
        minimum=0.0,
        maximum=1.0,
    )
    border_weight: float = option(
        0.0,
        "w0 of the paper (10): extra weight between cells that nearly touch, where all around "
        "is annotated; 0 switches it off.",
        minimum=0.0,
    )
    border_sigma: float = option(
        5.0, "How far the border weight reaches, in pixels (paper: 5).", minimum=0.1
    )
    border_class: str = option(
        "membrane",
        "The class that lies between the cells; where there is none of this name, the background.",
    )
    memory: float = option(
        10.0,
        "How strongly pixels that nobody painted are held to what the network was sure of before "
        "anything was learnt here, so that one correction does not undo another; 0 lets go.",
        minimum=0.0,
        maximum=100.0,
    )
    replay: float = option(
        0.1,
        "Share of the patches that are drawn from anywhere in the image instead of around paint, "
        "so that the network remembers what lies far from it, too.",
        minimum=0.0,
        maximum=0.9,
    )
    averaging: float = option(
        0.99,
        "Decay of the running average of the weights that is shown; 0 shows the last ones.",
        minimum=0.0,
        maximum=0.99999,
    )
    frozen_statistics: float = option(
        0.0,
        "Share of the steps, at the end, in which batch normalisation keeps its statistics, so "
        "that the network learns as it will predict.",
        minimum=0.0,
        maximum=0.95,
    )
    validate_every: int = option(
        0, "Steps between two looks at the validation sections; 0 takes none.", minimum=0
    )
    publish_seconds: float = option(
        3.0, "Seconds between two sets of weights handed out while training.", minimum=0.0
    )
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.augmentation, AugmentationConfig):
            raise ValueError(f"augmentation must be a table of options; got {self.augmentation!r}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        changes = dict(values)
        if isinstance(changes.get("augmentation"), Mapping):
            changes["augmentation"] = AugmentationConfig.from_dict(changes["augmentation"])
        return super().from_dict(changes)


@dataclass(frozen=True, kw_only=True)
class LiveConfig(Config):
    """How the live head learns from strokes."""

    dimensions: int = option(
        24, "Features kept of each level of the network.", minimum=1, maximum=1024
    )
    coarser: float = option(
        0.5,
        "How much a level counts, beside the one that is twice as fine: a stroke tells of few "
        "coarse pixels.",
        minimum=0.01,
        maximum=1.0,
    )
    penalty: float = option(
        0.1, "How strongly the head is held to what the network says.", minimum=1e-6, maximum=1e3
    )
    memory: float = option(
        8.0,
        "Weight of pixels that nobody painted, which are to stay what the network is sure they "
        "are, beside the painted ones.",
        minimum=0.0,
        maximum=100.0,
    )
    class_balance: float = option(
        0.25,
        "0 counts every painted pixel alike, 1 every class alike.",
        minimum=0.0,
        maximum=1.0,
    )
    pixels: int = option(3000, "Painted pixels that are learnt from.", minimum=10)
    iterations: int = option(20, "Steps of the optimiser after a stroke.", minimum=1)
    seed: int = option(0, "Seed of the pixels that are chosen.", minimum=0)


NEW_TRAINING = TrainingConfig(learning_rate=5e-4)
"""The recipe for a light network that has not learnt anything yet."""

ORIGINAL_TRAINING = TrainingConfig(
    optimiser="sgd",
    learning_rate=1e-3,
    momentum=0.99,
    weight_decay=0.0,
    patch_size=572,
    batch_size=1,
    class_balance=1.0,
    border_weight=10.0,
    memory=0.0,
    averaging=0.0,
    augmentation=AugmentationConfig(scale=0.0, mirror=False, noise=0.0),
)
"""The paper's recipe: momentum 0.99, one large tile a step, border weights, elastic deformation."""


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(Config):
    """How a mask is computed. The result does not depend on the tile size."""

    tile_size: int = option(
        512,
        "Side of a tile, in pixels; smaller tiles need less memory.",
        minimum=16,
        maximum=16384,
    )
    test_time_augmentation: str = option(
        "none",
        "Average over symmetries (8 mirror images and quarter turns) or over rotations (7, as in "
        "the paper): better masks, in 8 or more times the time.",
        choices=("none", "symmetries", "rotations"),
    )
    precision: str = option(
        "auto",
        "auto computes in bfloat16 where the processor is quicker with it.",
        choices=("auto", "float32", "bfloat16"),
    )

"""All that is needed to go on with an interrupted training as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_unet.core.config import TrainingConfig
from napari_unet.core.network import UNet
from napari_unet.core.patches import PatchSampler


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training between two steps.

    Parameters
    ----------
    tensors
        Weights, their running average, the optimiser's moments and the states of chance.
    values
        Plain values, fit for JSON: recipe, network, steps, loss, seconds, curve.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def check_fits(self, config: TrainingConfig, network: UNet) -> None:
        """Complain if another recipe or network is to go on from here.

        For how long may differ where nothing in the recipe depends on it.

        Raises
        ------
        ValueError
            The message names what differs.
        """
        now = _flat(config.to_dict())
        if config.schedule == "constant" and network.config.normalisation != "batch":
            step, seconds = self.values["step"], self.values["seconds"]
            if 0 < config.steps < step:
                raise ValueError(
                    f"The checkpoint is of step {step}, beyond the {config.steps} steps asked for. "
                    "Ask for more, or begin anew with another checkpoint file."
                )
            if config.minutes != self.values["config"]["minutes"] and (
                0 < 60 * config.minutes < seconds
            ):
                raise ValueError(
                    f"The checkpoint is of {seconds / 60:.1f} minutes of training, beyond the "
                    f"{config.minutes:g} asked for. Ask for more, or begin anew with another "
                    "checkpoint file."
                )
            del now["steps"], now["minutes"]
        for what, mine, other in (
            ("recipe", _flat(self.values["config"]), now),
            ("network", self.values["network"], network.config.to_dict()),
        ):
            differing = [name for name, value in other.items() if mine.get(name) != value]
            if differing:
                raise ValueError(
                    f"The checkpoint belongs to a training with another {what}: "
                    + "; ".join(f"{n} was {mine.get(n)!r}, now {other[n]!r}" for n in differing)
                    + f". Go on with the same {what}, or begin anew with another checkpoint file."
                )


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a table within the options beside the others."""
    inner = {
        k: v for value in options.values() if isinstance(value, dict) for k, v in value.items()
    }
    return {k: v for k, v in options.items() if not isinstance(v, dict)} | inner


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of an optimiser by ``parameter number.name``, on the CPU."""
    return {
        f"{number}.{name}": torch.as_tensor(value).to("cpu", copy=True)
        for number, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser the moments that `optimiser_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value.clone()  # it is changed in place
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)


def chance_tensors(sampler: PatchSampler) -> dict[str, Tensor]:
    """Return the states of everything that is drawn at random, but for NumPy's."""
    states = {"global": torch.get_rng_state(), "sampler": sampler.generator.get_state()}
    if sampler.generator.device.type == "cuda":  # asking of another one would begin to use it
        states["cuda"] = torch.cuda.get_rng_state(sampler.generator.device)
    return states


def restore_chance(sampler: PatchSampler, tensors: dict[str, Tensor]) -> None:
    """Give everything that is drawn at random the states that `chance_tensors` returned."""
    torch.set_rng_state(tensors["global"])
    # Another kind of device has another kind of generator; chance then goes another way.
    if tensors["sampler"].shape == sampler.generator.get_state().shape:
        sampler.generator.set_state(tensors["sampler"])
    if "cuda" in tensors and sampler.generator.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], sampler.generator.device)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix/``, without it."""
    return {
        key.removeprefix(f"{prefix}/"): value
        for key, value in tensors.items()
        if key.startswith(f"{prefix}/")
    }


def named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with ``prefix/`` before their names."""
    return {f"{prefix}/{key}": value for key, value in tensors.items()}

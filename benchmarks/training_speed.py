"""Measure how long a step of learning takes, with weights laid out in memory either way.

Usage: python -m benchmarks.training_speed

A step is the forward and the backward pass of one patch, as while learning: of the bundled
networks and the original one, the median of several, with the channels first and last in memory.
`training_layout` is to choose the quicker of the two. Writes the table into
``docs/benchmarks.md``, in a section of its own for every kind of processor.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.report import table, write_section
from napari_unet.core.config import ORIGINAL_NETWORK
from napari_unet.core.devices import choose_device, computing, describe, training_layout
from napari_unet.core.model import new_model
from napari_unet.core.network import UNet
from napari_unet.io.models import bundled_models, load_model

STEPS = 5
LAYOUTS = {"first": torch.contiguous_format, "last": torch.channels_last}


def seconds(network: UNet, side: int, device: torch.device) -> list[float]:
    """Return the median time of a step in either layout, taken in turn.

    The first step of each, which warms up, does not count.
    """
    grey = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    networks = [
        copy.deepcopy(network).to(device).train().to(memory_format=layout)
        for layout in LAYOUTS.values()
    ]
    taken = np.empty((STEPS + 1, len(networks)))
    for step, which in np.ndindex(*taken.shape):
        began = time.perf_counter()
        with computing(device):
            logits = networks[which](grey)
        truth = torch.zeros((1, *logits.shape[2:]), dtype=torch.long, device=device)
        cross_entropy(logits.float(), truth).backward()
        float(logits.detach().sum())  # a GPU computes behind our back
        taken[step, which] = time.perf_counter() - began
    return [float(each) for each in np.median(taken[1:], axis=0)]


def main() -> None:
    """Measure and write the table."""
    device = choose_device()
    chosen = {layout: name for name, layout in LAYOUTS.items()}[training_layout(device)]
    models = [(load_model(each.path), 256) for each in bundled_models()]
    models.append((new_model(ORIGINAL_NETWORK, name="original"), 572))
    rows = []
    for model, side in models:
        first, last = seconds(model.network, side, device)
        rows.append(
            [model.name, f"{side} × {side}", f"{first:.2f}", f"{last:.2f}", f"{first / last:.2f}"]
        )
        print(rows[-1], flush=True)
    write_section(
        f"How long a step of learning takes, {describe(device)}",
        f"Made by `python -m benchmarks.training_speed`, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}: forward and backward pass of\none patch, "
        f"median of five, in seconds. Here networks learn with the channels {chosen}.\n\n"
        + table(["network", "patch", "channels first", "channels last", "first to last"], rows),
    )


if __name__ == "__main__":
    main()

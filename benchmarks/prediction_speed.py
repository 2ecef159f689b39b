"""Measure how long a 512x512 section takes, from grey values to the mask.

Usage: python -m benchmarks.prediction_speed

Every bundled network and the original one, in bfloat16 (where the processor has it) and float32;
the median of several runs, and its ratio to the original network in float32 in the same run.
Writes the table into ``docs/benchmarks.md``, in a section of its own for every kind of processor.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.report import table, write_section
from napari_unet.core.config import ORIGINAL_NETWORK, PredictionConfig
from napari_unet.core.devices import choose_device, describe, prefers_bfloat16
from napari_unet.core.image import grey_statistics, image_from_array
from napari_unet.core.model import UNetModel, new_model
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.models import bundled_models, load_model

SIDE, RUNS = 512, 5


def seconds(model: UNetModel, config: PredictionConfig) -> float:
    """Return the median time for a section; the first run, which warms up, does not count."""
    grey = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    image = image_from_array(grey)
    statistics = grey_statistics(image)
    taken = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        finish(gather(predict(model, image, config, statistics=statistics), image, 3))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[1:]))


def main() -> None:
    """Measure and write the table."""
    device = choose_device()
    models = [load_model(each.path) for each in bundled_models()]
    models.append(new_model(ORIGINAL_NETWORK, name="original, untrained"))
    precisions = ["float32", *(["bfloat16"] if prefers_bfloat16(device) else [])]
    found = {
        (model.name, precision, averaging): seconds(
            model, PredictionConfig(precision=precision, test_time_augmentation=averaging)
        )
        for model in models
        for precision in precisions
        for averaging in (("none", "symmetries") if model.name == "em-lite" else ("none",))
    }
    reference = found["original, untrained", "float32", "none"]
    rows = [
        [*key[:2], "8 symmetries" if key[2] == "symmetries" else "one look", f"{taken:.3f}",
         f"{taken / reference:.3f}"]
        for key, taken in found.items()
    ]  # fmt: skip
    for row in rows:
        print(row)
    write_section(
        f"How long a section takes, {describe(device)}",
        f"Made by `python -m benchmarks.prediction_speed`, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}: a section of\n{SIDE}x{SIDE} pixels, from grey "
        "values to the mask, median of five runs.\n\n"
        + table(["network", "precision", "", "seconds", "to the original in float32"], rows),
    )


if __name__ == "__main__":
    main()

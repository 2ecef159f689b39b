"""Measure how much memory `napari-unet predict` needs for volumes of different sizes.

Usage: python -m benchmarks.memory [--gigabytes 0.25 1 4] [--folder FOLDER]

Each volume is an OME-Zarr of uint8 noise, predicted in a process of its own by a tiny untrained
network, so that memory and not arithmetic is measured. Writes the table into
``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from benchmarks.report import table, write_section
from napari_unet.core.config import LIGHT_NETWORK
from napari_unet.core.devices import choose_device, describe
from napari_unet.core.model import new_model
from napari_unet.io.models import save_model

SIDE = 2048
CHUNKS = (8, 256, 256)
NETWORK = LIGHT_NETWORK.replace(depth=1, width=2, classes=2, dropout=0.0)
MEGABYTE = 1024


@dataclass(frozen=True)
class Measurement:
    """What a prediction needed."""

    sections: int
    megabytes: float
    """Most memory that the process had at once (resident set)."""


def write_volume(path: Path, sections: int) -> None:
    """Write noise, uint8 (sections, SIDE, SIDE), a few sections at a time."""
    volume = zarr.create_array(
        path, shape=(sections, SIDE, SIDE), chunks=CHUNKS, dtype=np.uint8, compressors=None
    )
    chance = np.random.default_rng(0)
    depth = CHUNKS[0]
    for start in range(0, sections, depth):
        count = min(depth, sections - start)
        volume[start : start + count] = chance.integers(0, 256, (count, SIDE, SIDE), np.uint8)


def measure(volume: Path, output: Path, model: Path, sections: int) -> Measurement:
    """Predict a volume in a process of its own."""
    options = ["--model", model, "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_unet.cli", "predict", volume, "-o", output, *options]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"The prediction of {volume} failed with status {status}.")
    return Measurement(sections, usage.ru_maxrss / MEGABYTE)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.25, 1.0, 4.0])
    parser.add_argument("--folder", help="where volumes are made for a while [temporary]")
    parsed = parser.parse_args()
    found = []
    if parsed.folder:
        Path(parsed.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parsed.folder) as name:
        folder = Path(name)
        save_model(folder / "tiny.safetensors", new_model(NETWORK))
        for gigabytes in parsed.gigabytes:
            sections = max(1, round(gigabytes * 2**30 / SIDE**2))
            volume, output = folder / f"{sections}.zarr", folder / f"{sections}-mask.zarr"
            write_volume(volume, sections)
            found.append(measure(volume, output, folder / "tiny.safetensors", sections))
            print(found[-1])
            for each in (volume, output):
                shutil.rmtree(each)
    smallest = found[0].megabytes
    rows = [
        [
            f"{each.sections} × {SIDE} × {SIDE}",
            f"{each.sections * SIDE**2 / 2**30:.2f}",
            f"{each.megabytes:.0f}",
            f"{each.megabytes / smallest:.2f}",
        ]
        for each in found
    ]
    sizes = " ".join(f"{each:g}" for each in parsed.gigabytes)
    write_section(
        "How much memory a large volume takes",
        f"Made by `python -m benchmarks.memory --gigabytes {sizes}` on {describe(choose_device('cpu'))}: peak resident "
        "memory of `napari-unet predict IN.zarr -o OUT.zarr`,\nfrom the start of the process to "
        "its end, with a tiny untrained network.\n\n"
        + table(["volume, uint8", "GB", "peak memory, MB", "to the first"], rows)
        + "\n\nWhat grows is dask's cache of the names of tasks, a few for each section, which ends "
        "at 100,000 of them.",
    )


if __name__ == "__main__":
    main()

"""Train the bundled network em-lite anew, with the project's own command, and measure it.

Usage: python -m benchmarks.train_bundled [FOLDER]

FOLDER (default ``work/``) takes the training pair made from ISBI 2012 pages 0-19 and the
weights; pages 20-22 are predicted afterwards and compared with their labels. The data lies in
``NAPARI_UNET_DATA`` (default ``../shared/data``).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import tifffile

from napari_unet.cli import main
from napari_unet.core.image import image_from_array
from napari_unet.core.metrics import class_scores
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.images import write_image
from napari_unet.io.models import load_model

DATA = Path(os.environ.get("NAPARI_UNET_DATA", "../shared/data")) / "isbi2012"
RECIPE = Path(__file__).parents[1] / "napari_unet" / "models" / "em-lite.toml"
CLASSES = "background,membrane,mitochondrion"
TRAINING_PAGES, VALIDATION_PAGES = slice(0, 20), slice(20, 23)
PIXEL_SIZE = 4.0


def class_mask(membranes: np.ndarray, mitochondria: np.ndarray) -> np.ndarray:
    """Return 1 = background, 2 = membrane, 3 = mitochondrion from the challenge's labels."""
    mask = np.ones(membranes.shape, np.uint8)
    mask[mitochondria > 0] = 3
    mask[membranes == 0] = 2
    return mask


def train_and_measure(folder: Path) -> None:
    """Make the training pair, train, and print the record and the figures as JSON."""
    folder.mkdir(exist_ok=True)
    grey = tifffile.imread(DATA / "train-volume.tif")
    mask = class_mask(
        tifffile.imread(DATA / "train-labels.tif"), tifffile.imread(DATA / "train-mitochondria.tif")
    )
    for name, data in (("isbi2012-image", grey), ("isbi2012-annotations", mask)):
        write_image(
            folder / f"{name}.tif", image_from_array(data[TRAINING_PAGES], name, PIXEL_SIZE)
        )
    weights = folder / "em-lite.safetensors"
    status = main(
        ["train", str(folder / "isbi2012-image.tif"), str(folder / "isbi2012-annotations.tif"),
         "-o", str(weights), "--half", "--model", "new", "--preset", "light",
         "--classes", CLASSES, "--config", str(RECIPE)]
    )  # fmt: skip
    if status:
        sys.exit(status)
    model = load_model(weights)
    image = image_from_array(grey[VALIDATION_PAGES], "validation", PIXEL_SIZE)
    found = finish(gather(predict(model, image), image, len(model.classes)))
    scores = class_scores(found.data, mask[VALIDATION_PAGES])
    print(
        json.dumps(
            {
                "training": model.history[-1],
                "pages 20-22": {
                    model.classes[n - 1].name: {"f1": s.f1, "iou": s.iou} for n, s in scores.items()
                },
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    train_and_measure(Path(sys.argv[1] if len(sys.argv) > 1 else "work"))

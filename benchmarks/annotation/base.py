"""The network that every task begins with: small, and acquainted with ISBI membranes only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.train_bundled import ISBI_TRAINING, MEMBRANE, isbi2012
from napari_unet.cli import main
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image

STEPS = 2000

RECIPE = f"""\
# The base network of the simulated annotator: ISBI 2012, sections 0-19, membranes only.
classes = ["background", "membrane"]
pixel_size = 4.0
steps = {STEPS}
seed = 1
learning_rate = 1e-3
weight_decay = 0.01
schedule = "cosine"
patch_size = 256
batch_size = 2
class_balance = 0.15
border_weight = 3.0
averaging = 0.995
frozen_statistics = 0.3
publish_seconds = 86400.0  # nobody looks on

[network]
depth = 4
width = 24
padding = "same"
normalisation = "batch"
dropout = 0.1

[augmentation]
scale = 0.25
coarser = 2.2
contrast = 0.3
gamma = 0.3
brightness = 0.3
noise = 0.2
blur = 1.0

[[data]]
folder = "isbi2012"
"""


def base_network(folder: Path) -> Path:
    """Return the weights in a folder, trained by the project's own command if they are not there.

    An interrupted training goes on from its checkpoint.

    Raises
    ------
    RuntimeError
        If the training did not come to its end.
    """
    weights = folder / "base.safetensors"
    if weights.exists():
        return weights
    grey, mask = isbi2012()
    labels = np.where(mask[ISBI_TRAINING] == MEMBRANE, MEMBRANE, 1).astype(np.uint8)
    for kind, data in (("images", grey[ISBI_TRAINING]), ("labels", labels)):
        path = folder / "data" / "isbi2012" / kind / "training.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image_from_array(data, "training", 4.0))
    recipe = folder / "base.toml"
    recipe.write_text(RECIPE)
    unfinished = folder / "base-unfinished.safetensors"
    status = main(
        ["train", "--config", str(recipe), "--data", str(folder / "data"), "-o", str(unfinished),
         "--half", "--checkpoint", str(folder / "base.checkpoint")]
    )  # fmt: skip
    if status:
        raise RuntimeError(f"The base network was not trained to its end (status {status}).")
    unfinished.replace(weights)
    return weights

"""Train a bundled network anew, with the project's own command.

Usage: python -m benchmarks.train_bundled NAME [FOLDER]

NAME is em, teacher, em-lite or foundation, the name of a recipe in ``napari_unet/models``. FOLDER
(default ``work/``) takes the training data, made from ``NAPARI_UNET_DATA`` (default
``../shared/data``), checkpoints and weights. What the recipe begins with is trained first, unless
FOLDER holds it, and labels the sections that nobody has labelled. Started again, it goes on from
the checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import tifffile
from skimage.segmentation import find_boundaries

from napari_unet.cli import main
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image
from napari_unet.io.recipes import read_recipe

DATA = Path(os.environ.get("NAPARI_UNET_DATA", "../shared/data"))
RECIPES = Path(__file__).parents[1] / "napari_unet" / "models"
BACKGROUND, MEMBRANE, MITOCHONDRION = 1, 2, 3

UNLABELLED = {
    "isbi2012-unlabelled": ("isbi2012/test-volume-unlabelled.tif", slice(0, 30), 4.0),
    "vnc-drosophila": ("vnc-drosophila/stack2-raw-unlabelled.tif", slice(0, 20, 2), 4.6),
}
"""Which sections of which file nobody has labelled, and the side of their pixels in nm."""

ISBI_TRAINING, ISBI_VALIDATION = slice(0, 20), slice(20, 23)
EPFL_TRAINING_Z, EPFL_VALIDATION_Z = range(0, 81), range(90, 200)


def class_mask(membranes: np.ndarray, mitochondria: np.ndarray | None = None) -> np.ndarray:
    """Return 1 = background, 2 = membrane, 3 = mitochondrion from what is true where."""
    mask = np.full(membranes.shape, BACKGROUND, np.uint8)
    if mitochondria is not None:
        mask[mitochondria] = MITOCHONDRION
    mask[membranes] = MEMBRANE
    return mask


def isbi2012() -> tuple[np.ndarray, np.ndarray]:
    """Return grey values and classes of all sections of the ISBI 2012 stack."""
    folder = DATA / "isbi2012"
    mask = class_mask(
        tifffile.imread(folder / "train-labels.tif") == 0,
        tifffile.imread(folder / "train-mitochondria.tif") > 0,
    )
    return tifffile.imread(folder / "train-volume.tif"), mask


def epfl(heights: range) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values and classes of the EPFL sections whose z lies in a range."""
    folder = DATA / "epfl-ca1"
    slices = json.loads((folder / "slices.json").read_text())
    pages = [each["page"] for each in slices if each["z"] in heights]
    membranes, mitochondria = (
        tifffile.imread(folder / f"{name}.tif")[pages] > 0 for name in ("membranes", "mitochondria")
    )
    return tifffile.imread(folder / "raw.tif")[pages], class_mask(membranes, mitochondria)


def gala(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values and classes of a gala crop; its mitochondria are not labelled."""
    folder = DATA / "gala-fibsem-mini"
    with h5py.File(folder / f"{name}-image.h5") as file:
        grey = file["stack"][:]
    with h5py.File(folder / f"{name}-gt.lzf.h5") as file:
        bodies = file["stack"][:]
    boundaries = np.stack([find_boundaries(each, mode="thick") for each in bodies])
    return grey, class_mask(boundaries | (bodies == 0))


def prepare(folder: Path) -> None:
    """Write the data sets of the recipes as folders of images and labels."""
    grey, mask = isbi2012()
    stacks = {
        "isbi2012/training": (grey[ISBI_TRAINING], mask[ISBI_TRAINING], 4.0),
        "isbi2012/validation": (grey[ISBI_VALIDATION], mask[ISBI_VALIDATION], 4.0),
        "epfl-ca1/training": (*epfl(EPFL_TRAINING_Z), 5.0),
        "epfl-ca1/validation": (*epfl(EPFL_VALIDATION_Z), 5.0),
        "gala/training": (*gala("train"), 10.0),
        "gala/validation": (*gala("test"), 10.0),
    }
    for name, (grey, mask, pixel_size) in stacks.items():
        data_set, part = name.split("/")
        for kind, data in (("images", grey), ("labels", mask)):
            write_stack(folder / data_set / kind / f"{part}.tif", data, pixel_size)


def write_stack(path: Path, data: np.ndarray, pixel_size: float) -> None:
    """Write a stack whose pixels have sides of so many nanometres."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image_from_array(data, path.stem, pixel_size))


def label(data_set: str, folder: Path, teacher: Path) -> None:
    """Write a data set that nobody has labelled with the masks of a network, unless it is there."""
    source, sections, pixel_size = UNLABELLED[data_set]
    image, labels = (folder / data_set / kind / "training.tif" for kind in ("images", "labels"))
    if labels.exists():
        return
    write_stack(image, tifffile.imread(DATA / source)[sections], pixel_size)
    labels.parent.mkdir(parents=True, exist_ok=True)
    status = main(
        ["predict", str(image), "-o", str(labels), "--model", str(teacher),
         "--test-time-augmentation", "symmetries"]
    )  # fmt: skip
    if status:
        raise SystemExit(status)


def train_bundled(name: str, folder: Path) -> int:
    """Train a bundled network and return the exit status of the command."""
    recipe = RECIPES / f"{name}.toml"
    weights = folder / f"{name}.safetensors"
    read = read_recipe(recipe)
    options: list[str] = []
    if read.model:
        begins_with = folder / f"{read.model}.safetensors"
        options = ["--model", str(begins_with)]
        if not begins_with.exists():
            status = train_bundled(read.model, folder)
            if status:
                return status
        for each in read.data:
            if each.folder in UNLABELLED:
                label(each.folder, folder / "data", begins_with)
    prepare(folder / "data")
    status = main(
        ["train", "--config", str(recipe), "--data", str(folder / "data"),
         "-o", str(weights), "--half", "--checkpoint", str(folder / f"{name}.checkpoint"), *options]
    )  # fmt: skip
    if status:
        weights.unlink(missing_ok=True)  # unfinished; the checkpoint goes on
    return status


if __name__ == "__main__":
    sys.exit(train_bundled(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "work")))

"""Write what was recorded and measured of a bundled network into its card.

Usage: python -m benchmarks.model_card NAME

Replaces the sections *Training*, *Convergence* and *Figures* of ``napari_unet/models/NAME.md``; the
others are written by hand. The figures are of the validation sections in ``NAPARI_UNET_DATA``.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import numpy as np

from benchmarks.report import REPOSITORY, table, write_section
from benchmarks.train_bundled import (
    EPFL_VALIDATION_Z,
    ISBI_VALIDATION,
    MEMBRANE,
    MITOCHONDRION,
    epfl,
    gala,
    isbi2012,
)
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import image_from_array
from napari_unet.core.metrics import class_scores
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.core.segmentation_metrics import boundary_scores, compare_section
from napari_unet.io.models import load_model
from napari_unet.io.recipes import read_recipe

MODELS = REPOSITORY / "napari_unet" / "models"
AVERAGINGS = {"none": "one look", "symmetries": "8 symmetries", "rotations": "7 rotations"}


def training_text(model: UNetModel) -> str:
    """Return how the network was trained, from the record in its file."""
    record = model.history[-1]
    network = model.network.config
    weights = sum(p.numel() for p in model.network.parameters())
    recipes = [model.name]
    while (earlier := read_recipe(MODELS / f"{recipes[0]}.toml").model) is not None:
        recipes.insert(0, earlier)
    facts = [
        ["Network", f"U-Net, depth {network.depth}, {network.width} to "
         f"{network.width * 2**network.depth} channels, padding {network.padding}, normalisation "
         f"{network.normalisation}, dropout {network.dropout:g}; {weights / 1e6:.1f} M weights, "
         "stored as float16"],
        ["Classes", ", ".join(c.name for c in model.classes)],
        ["Pixel size", f"{model.pixel_size:g} nm; images of other sizes are resampled on the fly"],
        ["Recipes", ", then ".join(f"[{name}.toml]({name}.toml)" for name in recipes)
         + f"; seed {record['config']['seed']}"],
        ["Trained", ", then ".join(_trained(each) for each in model.history) + "; "
         + ", ".join(f"{name} {version}" for name, version in record["versions"].items())],
        ["Again", f"`python -m benchmarks.train_bundled {model.name}`, then "
         f"`python -m benchmarks.model_card {model.name}`"],
    ]  # fmt: skip
    data = [
        [
            each["image"],
            str(each["sections"]),
            f"{each['pixel_size']:g}",
            f"{each['share']:.2f}",
            ", ".join(
                f"{name} {count / sum(each['painted'].values()):.1%}"
                for name, count in each["painted"].items()
                if name not in each["unlabelled"]
            ),
            ", ".join(each["unlabelled"]) or "-",
        ]
        for each in record["data"]
    ]
    hashes = [
        [name, *(f"`{found[kind]}`" for kind in ("image", "labels"))]
        for name, found in record["files"].items()
    ]
    heading = ["learnt from", "sections", "nm/px", "share of patches", "pixels", "not labelled"]
    return "\n\n".join(
        [
            table(["", ""], facts),
            table(heading, data),
            "SHA-256 of the files that `benchmarks/train_bundled.py` makes of the data sets:",
            table(["files", "image", "labels"], hashes),
        ]
    )


def _trained(record: dict[str, Any]) -> str:
    """How long a training took."""
    config = record["config"]
    return (
        f"{record['steps']} steps of {config['batch_size']} patches in "
        f"{timedelta(seconds=round(record['seconds']))} on {record['device']}"
    )


def convergence_text(model: UNetModel) -> str:
    """Return the curves of all its trainings, from the records in its file."""
    tables = [_curve(record["curve"]) for record in model.history]
    return (
        "On sections that were not learnt from, while it learned (averaged weights, one look); a "
        "table for each training:\n\n" + "\n\n".join(tables)
    )


def _curve(points: list[dict[str, Any]]) -> str:
    columns = [
        (image, name)
        for image, found in points[-1]["validation"].items()
        for name in found
        if name != "background"
    ]
    heading = [
        "step",
        "mean loss",
        *(f"{image.split('/')[0]} {name} F1" for image, name in columns),
    ]
    rows = [
        [
            str(point["step"]),
            f"{point['loss']:.4f}",
            *(f"{point['validation'][image][name]['f1'] or 0:.3f}" for image, name in columns),
        ]
        for point in points
    ]
    return table(heading, rows)


def figures_text(model: UNetModel) -> str:
    """Return how well the network does on sections that it has not learnt from."""
    grey, mask = isbi2012()
    sections = [
        ("ISBI 2012, sections 20-22", grey[ISBI_VALIDATION], mask[ISBI_VALIDATION], 4.0),
        ("EPFL CA1, z 90 and above", *epfl(EPFL_VALIDATION_Z), 5.0),
        ("gala, test crop", *gala("test"), 10.0),
    ]
    rows = []
    for name, grey, mask, pixel_size in sections:
        image = image_from_array(grey, pixel_size=pixel_size)
        for averaging, said in AVERAGINGS.items():
            config = PredictionConfig(test_time_augmentation=averaging)
            work = gather(
                predict(model, image, config), image, len(model.classes), probabilities=True
            )
            probabilities = np.asarray(finish(work).data)
            predicted = probabilities.argmax(axis=0) + 1
            if not (mask == MITOCHONDRION).any():
                predicted[predicted == MITOCHONDRION] = 1
            scores = class_scores(predicted, mask)
            boundaries = boundary_scores(
                [
                    compare_section(found, truth == MEMBRANE)
                    for found, truth in zip(probabilities[MEMBRANE - 1], mask, strict=True)
                ]
            )
            membrane, mitochondrion = scores[MEMBRANE], scores.get(MITOCHONDRION)
            rows.append(
                [
                    name,
                    said,
                    f"{boundaries.v_rand:.4f}",
                    f"{boundaries.v_info:.4f}",
                    f"{membrane.f1:.3f}",
                    f"{mitochondrion.f1:.3f}" if mitochondrion else "-",
                    f"{mitochondrion.iou:.3f}" if mitochondrion else "-",
                ]
            )
            print(rows[-1], flush=True)
    heading = ["sections", "", "V_rand", "V_info", "membrane F1", "mitochondrion F1", "IoU"]
    return (
        "On sections that were not learnt from; V_rand and V_info of the membranes at their best "
        "threshold, F1 and IoU of the\nmost probable class:\n\n" + table(heading, rows)
    )


def main(name: str) -> None:
    """Write the generated sections of a card."""
    model = load_model(MODELS / f"{name}.safetensors")
    card = MODELS / f"{name}.md"
    write_section("Training", training_text(model), card)
    write_section("Convergence", convergence_text(model), card)
    write_section("Figures", figures_text(model), card)


if __name__ == "__main__":
    main(sys.argv[1])

"""Measure what knowing the pixel size gains: the same sections, with and without it.

Usage: python -m benchmarks.pixel_size

Sections that no bundled network has learnt from are shown to it as they are and, where they are
reduced first, at coarser pixels; once with their pixel size and once as if it were not known.
Writes the table into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import numpy as np
from skimage.transform import resize

from benchmarks.report import table, write_section
from benchmarks.train_bundled import (
    EPFL_VALIDATION_Z,
    ISBI_VALIDATION,
    MEMBRANE,
    MITOCHONDRION,
    epfl,
    gala,
    isbi2012,
)
from napari_unet.core.image import image_from_array
from napari_unet.core.metrics import class_scores
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.models import bundled_models, load_model


def reduced(grey: np.ndarray, mask: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return sections with pixels `factor` times as large, and the class in the middle of each."""
    height, width = (round(n / factor) for n in grey.shape[1:])
    smaller = np.stack(
        [resize(each, (height, width), anti_aliasing=True, preserve_range=True) for each in grey]
    )
    rows, columns = (
        ((np.arange(n) + 0.5) * whole / n).astype(int)
        for n, whole in zip((height, width), grey.shape[1:], strict=True)
    )
    return smaller.astype(np.uint8), mask[:, rows[:, None], columns[None, :]]


def f1(model: UNetModel, grey: np.ndarray, mask: np.ndarray, pixel_size: float | None) -> list[str]:
    """Return the F1 of membranes and mitochondria, as text."""
    image = image_from_array(grey, pixel_size=pixel_size)
    found = finish(gather(predict(model, image), image, len(model.classes)))
    scores = class_scores(np.asarray(found.data), mask)
    return [f"{scores[n].f1:.3f}" if (mask == n).any() else "-" for n in (MEMBRANE, MITOCHONDRION)]


def main() -> None:
    """Measure and write the table."""
    grey, mask = isbi2012()
    sections = {
        "ISBI 2012, sections 20-22": (grey[ISBI_VALIDATION], mask[ISBI_VALIDATION], 4.0),
        "EPFL CA1, z 90 and above": (*epfl(EPFL_VALIDATION_Z), 5.0),
        "gala FIB-SEM, test crop": (*gala("test"), 10.0),
    }
    cases = []
    for name, (grey, mask, pixel_size) in sections.items():
        cases.append((name, grey, mask, pixel_size))
        if pixel_size < 10:
            for wanted in (2 * pixel_size, 3 * pixel_size):
                cases.append(
                    (f"{name}, reduced", *reduced(grey, mask, wanted / pixel_size), wanted)
                )
    rows = []
    for bundled in bundled_models():
        model = load_model(bundled.path)
        for name, grey, mask, pixel_size in cases:
            unknown, known = (f1(model, grey, mask, size) for size in (None, pixel_size))
            figures = [f"{a} → {b}" for a, b in zip(unknown, known, strict=True)]
            rows.append([bundled.name, name, f"{pixel_size:g}", *figures])
            print(rows[-1], flush=True)
    write_section(
        "What the pixel size gains",
        "Made by `python -m benchmarks.pixel_size`: F1 without → with the pixel size. Reduced "
        "sections were averaged over\nlarger pixels before; as fewer pixels hold the same "
        "membrane, their figures do not compare with\nthose of whole ones. A tenth beside the size "
        "that was learnt it changes little, in either direction.\n\n"
        + table(["network", "sections", "nm/px", "membrane F1", "mitochondrion F1"], rows),
    )


if __name__ == "__main__":
    main()

"""How well a model does on labelled sections that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_unet.core.annotations import BACKGROUND
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import SectionIndex
from napari_unet.core.metrics import Scores, confusion_counts, scores_from_counts
from napari_unet.core.model import UNetModel
from napari_unet.core.patches import LabelledImage
from napari_unet.core.prediction import known_statistics, never, predict


def validate(
    model: UNetModel,
    sources: Sequence[LabelledImage],
    *,
    device: str = "auto",
    config: PredictionConfig | None = None,
    should_stop: Callable[[], bool] = never,
) -> dict[str, Scores]:
    """Return the scores of every class that an image labels, by the name of the image.

    Classes that an image does not label count as its background. Stopped, it returns the scores
    of the images that were finished.
    """
    found: dict[str, Scores] = {}
    for source in sources:
        count = max(len(model.classes), len(source.annotations.classes))
        total = np.zeros((count + 1, count + 1), np.int64)
        painted = source.annotations.sections
        masks: dict[SectionIndex, np.ndarray] = {}
        for done in predict(
            model,
            source.image,
            config,
            sections=list(painted),
            statistics=source.statistics or known_statistics(source.image),
            device=device,
            should_stop=should_stop,
        ):
            mask = masks.setdefault(done.section, np.zeros(painted[done.section].shape, np.uint8))
            mask[done.tile.slices] = done.classes
            if done.finishes_section:
                mask = masks.pop(done.section)
                mask[np.isin(mask, list(source.unlabelled))] = BACKGROUND
                total += confusion_counts(mask, painted[done.section], count)
        if should_stop():
            break
        found[source.name or source.image.name] = {
            source.annotations.classes[number - 1].name: scores
            for number, scores in scores_from_counts(total).items()
            if scores.pixels and number not in source.unlabelled
        }
    return found

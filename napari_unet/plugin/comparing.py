"""A small widget that compares two masks."""

from __future__ import annotations

from functools import partial
from typing import Any

import napari.viewer
import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.core.metrics import ClassScores, confusion_counts, scores_from_counts
from napari_unet.core.reading import read
from napari_unet.plugin.forms import aligned
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import itself
from napari_unet.plugin.shown import stored

MOST = 255
"""The largest number of a class."""


class MaskComparison(QWidget):
    """F1, IoU, precision and recall per class of one labels layer against another."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = itself(viewer)
        self.prediction = ComboBox(
            label="Mask", choices=self._labels, tooltip="The mask to judge; class 1 is background"
        )
        self.truth = ComboBox(
            label="Truth",
            choices=self._labels,
            tooltip="The true classes; where they are 0 (not annotated) nothing is compared",
        )
        self.button = QPushButton("Compare")
        self.button.setToolTip("Count the pixels on which the two agree")
        self.result = QLabel()
        self.result.setToolTip("F1 is the same as the Dice coefficient; IoU is the Jaccard index")
        layout = QVBoxLayout(self)
        layout.addWidget(aligned(self.prediction, self.truth))
        layout.addWidget(self.button)
        layout.addWidget(self.result)
        layout.addStretch()
        self.button.clicked.connect(self.compare)

    def reset_choices(self, event: Any = None) -> None:
        """Follow the layer list; napari calls this when layers come and go."""
        self.prediction.reset_choices()
        self.truth.reset_choices()

    def _labels(self, _: object = None) -> list[Labels]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels)]

    def compare(self) -> None:
        """Compare the two chosen layers in a thread, and show the result."""
        if self.prediction.value is None or self.truth.value is None:
            show_error("Open the mask and the truth as labels layers first.")
            return
        masks = [stored(layer.data) for layer in (self.prediction.value, self.truth.value)]
        job = Job("Compare masks", call(partial(_scores, *masks)), parent=self)
        job.returned.connect(self._show)
        job.start()

    def _show(self, scores: dict[int, ClassScores]) -> None:
        rows = ["<tr><th>Class</th><th>F1</th><th>IoU</th><th>Precision</th><th>Recall</th></tr>"]
        for number, score in scores.items():
            figures = (score.f1, score.iou, score.precision, score.recall)
            cells = "".join(f"<td>{'–' if f is None else format(f, '.3f')}</td>" for f in figures)
            rows.append(f"<tr><td>{number}</td>{cells}</tr>")
        self.result.setText(f"<table cellpadding=4>{''.join(rows)}</table>")


def _scores(predicted: Any, truth: Any) -> dict[int, ClassScores]:
    """Compare masks section by section, since they may be larger than memory."""
    if predicted.shape != truth.shape:
        raise ValueError(
            f"The mask has the shape {predicted.shape}, the truth {truth.shape}; they must be the "
            "same."
        )
    counts = np.zeros((MOST + 1, MOST + 1), np.int64)
    for index in np.ndindex(predicted.shape[:-2]):
        found, true = read(predicted[index]), read(truth[index])
        if min(found.min(), true.min()) < 0 or max(found.max(), true.max()) > MOST:
            raise ValueError(
                f"A mask holds numbers above {MOST}, so these are objects, not classes."
            )
        counts += confusion_counts(found, true, MOST)
    return scores_from_counts(counts)

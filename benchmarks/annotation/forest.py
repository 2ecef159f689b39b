"""A random forest on the many-scaled filters of scikit-image, fitted anew after every stroke."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from benchmarks.annotation.annotator import HandStroke
from benchmarks.annotation.tasks import Task
from benchmarks.annotation.tool import Mask, Stopwatch
from napari_unet.core.image import ImageArray


class Forest:
    """Scikit-image's trainable segmentation; it knows nothing but the strokes.

    Parameters
    ----------
    task
        Its sections are filtered as they are needed.
    """

    model = None

    def __init__(self, task: Task) -> None:
        self._grey = task.grey
        self._painted = np.zeros_like(task.truth)
        self._features: dict[int, np.ndarray] = {}
        self._forest: RandomForestClassifier | None = None
        self._section = task.painted[0]
        self._mask = np.ones(task.truth.shape[1:], np.uint8)
        self.watch = Stopwatch()
        self._released = 0.0

    def show(self, section: int) -> None:
        self._section = section
        self._mask = self._seen(section)

    def mask(self) -> Mask:
        return self._mask

    def painted(self) -> Mask:
        return self._painted[self._section]

    def paint(self, stroke: HandStroke) -> tuple[int, ...]:
        self._painted[stroke.section].flat[list(stroke.pixels)] = stroke.number
        self._released = self.watch.seconds
        return stroke.pixels

    def answer(self) -> float:
        sections = np.flatnonzero(self._painted.any(axis=(1, 2)))
        features = [self._filtered(z)[self._painted[z] > 0] for z in sections]
        painted = [self._painted[z][self._painted[z] > 0] for z in sections]
        forest = RandomForestClassifier(100, max_depth=20, n_jobs=2, random_state=0)
        self._forest = forest.fit(np.concatenate(features), np.concatenate(painted))
        self._mask = self._seen(self._section)
        return self.watch.seconds - self._released

    def masks(self, image: ImageArray | None, sections: Sequence[int]) -> Mask | None:
        if image is not None:
            return None
        with self.watch.held():
            return np.stack([self._seen(z) for z in sections])

    def close(self) -> None:
        self._features.clear()

    def _filtered(self, section: int) -> np.ndarray:
        if section not in self._features:
            self._features[section] = multiscale_basic_features(
                self._grey[section], sigma_min=1, sigma_max=16
            )
        return self._features[section]

    def _seen(self, section: int) -> Mask:
        """The classes of a section; all background while nothing was painted."""
        if self._forest is None:
            return np.ones(self._grey.shape[1:], np.uint8)
        features = self._filtered(section)
        found = self._forest.predict(features.reshape(-1, features.shape[-1]))
        return found.reshape(features.shape[:2]).astype(np.uint8)

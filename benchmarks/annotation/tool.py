"""What every tool can do, and the watch that says how long its machine was at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.annotation.annotator import HandStroke
from napari_unet.core.image import ImageArray
from napari_unet.core.model import UNetModel

Mask = npt.NDArray[np.uint8]


class Stopwatch:
    """Seconds that go by while it is not held."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let it stand still meanwhile."""
        at = self.seconds
        yield
        self._began = self._clock() - at

    def restart(self) -> None:
        """Begin at 0."""
        self._began = self._clock()


class Tool(Protocol):
    """Something that is painted on, answers, and is scored.

    Its machine may be at work for so many seconds a stroke; what learns in the background has to
    be given them.
    """

    watch: Stopwatch
    model: Any
    """What the overlay is predicted with; None where the tool cannot say."""

    def show(self, section: int) -> None:
        """Go to a section and wait until its mask is there."""

    def mask(self) -> Mask:
        """Return what the overlay shows of the section in view."""

    def painted(self) -> Mask:
        """Return what is painted on the section in view."""

    def paint(self, stroke: HandStroke) -> tuple[int, ...]:
        """Paint on the section in view; return the pixels that have changed, as flat indices."""

    def answer(self) -> float:
        """Let the machine have its time; return after how many seconds the overlay had answered.

        The seconds count from the end of the stroke; 0 where nothing answers a single stroke.
        """

    def masks(self, image: ImageArray | None, sections: Sequence[int]) -> Mask | None:
        """Return what is seen in sections of another image, or of its own if that is None.

        None is returned where the tool can say nothing of another image. The watch stands still.
        """

    def close(self) -> None:
        """End all work."""


def classes_of(model: UNetModel) -> tuple[str, ...]:
    """Return the names of a model's classes."""
    return tuple(each.name for each in model.classes)

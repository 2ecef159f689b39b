"""Prediction in blocks that anybody may compute at any time: the rows of tiles of each section."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import GreyStatistics, ImageArray, SectionIndex
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import TileDone, never, predict


@dataclass(frozen=True, order=True)
class Block:
    """A row of tiles: part of a section, as wide as it is."""

    section: SectionIndex
    top: int
    bottom: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)


@dataclass(frozen=True)
class Finding:
    """What is kept of a prediction.

    Parameters
    ----------
    probabilities
        Probabilities (float32) rather than a mask (uint8).
    class_number
        Only of this class, from 1, a mask as 0 and 255; 0 means all classes.
    """

    probabilities: bool = False
    class_number: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(np.float32 if self.probabilities else np.uint8)
        return found

    @property
    def is_class_mask(self) -> bool:
        return not self.probabilities and not self.class_number

    def of(self, tile: TileDone) -> npt.NDArray[Any]:
        """Return what is kept of a tile: (height, width), or (classes, height, width)."""
        if self.probabilities:
            return tile.probabilities[self.class_number - 1 if self.class_number else slice(None)]
        if self.class_number:
            chosen: npt.NDArray[Any] = (tile.classes == self.class_number).astype(np.uint8)
            return chosen * np.uint8(255)
        return tile.classes


def block_height(model: UNetModel, config: PredictionConfig) -> int:
    """Return how many rows a block has, and how many columns a tile."""
    multiple = int(2**model.network.config.depth)
    return config.tile_size // multiple * multiple


def plan_blocks(image: ImageArray, height: int) -> list[Block]:
    """Return blocks that cover an image once, section by section from the top."""
    rows = image.shape[-2]
    return [
        Block(section, top, min(top + height, rows))
        for section in image.sections()
        for top in range(0, rows, height)
    ]


def predict_block(
    model: UNetModel,
    image: ImageArray,
    block: Block,
    finding: Finding,
    config: PredictionConfig,
    *,
    statistics: GreyStatistics,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
) -> Generator[TileDone, None, npt.NDArray[Any] | None]:
    """Predict a block; the tiles are those of `predict`, and so is what they say.

    Parameters
    ----------
    statistics
        Those of the whole image, so that blocks agree.

    Returns
    -------
    ndarray or None
        (height, width), or (classes, height, width); None if it was stopped before its end.
    """
    height, width = block.bottom - block.top, image.shape[-1]
    several = finding.probabilities and not finding.class_number
    sides = (len(model.classes), height, width) if several else (height, width)
    found = np.zeros(sides, finding.dtype)
    tiles = predict(
        model,
        image,
        config,
        sections=[block.section],
        rows=range(block.top, block.bottom),
        statistics=statistics,
        device=device,
        should_stop=should_stop,
    )
    finished = False
    for each in tiles:
        # Where memory ran out, smaller tiles may reach beyond the block.
        top = max(each.tile.top, block.top)
        bottom = min(each.tile.top + each.tile.height, block.bottom)
        inside = finding.of(each)[..., top - each.tile.top : bottom - each.tile.top, :]
        found[..., top - block.top : bottom - block.top, each.tile.slices[1]] = inside
        finished = each.finishes_section
        yield each
    return found if finished else None

"""How well a network does on strokes that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import Annotations, ClassTable
from napari_unet.core.config import PredictionConfig
from napari_unet.core.devices import choose_device, is_out_of_memory
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.live import Examples, LiveHead
from napari_unet.core.metrics import Scores, confusion_counts, mean_iou, scores_from_counts
from napari_unet.core.model import UNetModel
from napari_unet.core.network import StoppedError, stoppable
from napari_unet.core.prediction import SMALLEST_TILE, never
from napari_unet.core.tiles import tile_probabilities
from napari_unet.core.tiling import Tile, plan_tiles


def measure(
    model: UNetModel,
    image: ImageArray,
    annotations: Annotations,
    *,
    statistics: GreyStatistics,
    device: str = "auto",
    tile_size: int = PredictionConfig().tile_size,
    should_stop: Callable[[], bool] = never,
) -> Scores:
    """Return the scores of a network on painted pixels, of every class that is painted.

    Only what lies around the paint is predicted; where memory runs out, in smaller tiles.

    Parameters
    ----------
    model
        Whose network is measured.
    image
        Grey image whose axes end with (Y, X).
    annotations
        The painted pixels; all others do not count.
    statistics
        Grey statistics of the image.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    tile_size
        Side of what is predicted at once, in pixels.
    should_stop
        Asked before each tile, and while the network looks at it (see `stoppable`).

    Raises
    ------
    StoppedError
        If it was to stop.
    """
    target = choose_device(device)
    network = model.on_device(target)
    multiple = 2**network.config.depth
    count = max(len(model.classes), len(annotations.classes))
    total = np.zeros((count + 1, count + 1), np.int64)
    try:
        for index, painted in annotations.sections.items():
            section = image.data[index] if index else image.data
            height, width = painted.shape
            for tile in plan_tiles(height, width, tile_size, multiple):
                near = _around_paint(painted, tile, multiple)
                if near is None:
                    continue
                if should_stop():
                    raise StoppedError
                with stoppable(should_stop):
                    probabilities = tile_probabilities(
                        network,
                        section,
                        near,
                        statistics,
                        magnification=model.magnification(image),
                        device=target,
                    )
                found = probabilities.argmax(axis=0) + 1
                total += confusion_counts(found, painted[near.slices], count)
    except RuntimeError as error:
        if not is_out_of_memory(error) or tile_size // 2 < max(SMALLEST_TILE, multiple):
            raise
        return measure(
            model,
            image,
            annotations,
            statistics=statistics,
            device=device,
            tile_size=tile_size // 2,
            should_stop=should_stop,
        )
    return scores_of_painted(total, annotations.classes)


CLEARLY_BETTER = 0.05
"""By so much of mean IoU a network must do better than the live head to be shown without it, and
what learning began with than the best weights since, to be gone back to while it still learns.

Figures of a few strokes differ by a few hundredths by chance; only the head answers at once, and
only what was learnt can become better.
"""


@dataclass(frozen=True)
class Rivals:
    """A network and the live head on it, measured on the same held-out pixels.

    Parameters
    ----------
    network, head
        Of every class that is held out.
    network_knows_all
        Whether the network knows all classes that are painted.
    """

    network: Scores
    head: Scores
    network_knows_all: bool = True

    @property
    def network_iou(self) -> float | None:
        """Mean IoU of the network alone; None while there are too few strokes."""
        return mean_iou(self.network)

    @property
    def head_iou(self) -> float | None:
        """Mean IoU of the head; None while there are too few strokes."""
        return mean_iou(self.head)

    @property
    def network_is_better(self) -> bool:
        """Whether strokes tell that the head does harm (see `CLEARLY_BETTER`).

        Never of a network that does not know what was painted: that would vanish from the view.
        """
        network, head = self.network_iou, self.head_iou
        if not self.network_knows_all:
            return False
        return network is not None and head is not None and network > head + CLEARLY_BETTER


def measure_head(
    head: LiveHead,
    held_out: Sequence[Examples],
    classes: ClassTable,
    learnt: Sequence[Examples] = (),
) -> Rivals:
    """Return the scores of a live head, and those of its network, on held-out pixels.

    Parameters
    ----------
    head
        What has learnt from other pixels.
    held_out
        Painted pixels of each tile.
    classes
        What the head tells apart.
    learnt
        What the head has learnt from.
    """
    count = len(classes)
    of_network, of_head = (np.zeros((count + 1, count + 1)) for _ in range(2))
    for each in held_out:
        painted = each.painted > 0
        truth = each.painted[painted].numpy().astype(np.uint8)
        # Where there were too many to look at all, each stands for several.
        amounts = each.counts[painted].numpy()
        for total, scores in (
            (of_network, each.own_scores[painted]),
            (of_head, head.point_scores(each.features[painted], each.own_scores[painted])),
        ):
            found = (scores.argmax(dim=1) + 1).numpy()
            np.add.at(total, (truth, found), amounts)
    knows_all = all(
        int(each.painted.max()) <= each.own_scores.shape[1]
        for each in (*learnt, *held_out)
        if len(each)
    )
    alone, together = (
        scores_of_painted(np.rint(total).astype(np.int64), classes)
        for total in (of_network, of_head)
    )
    return Rivals(alone, together, knows_all)


def scores_of_painted(counts: npt.NDArray[np.int64], classes: ClassTable) -> Scores:
    """Return the scores of every class that was painted, from `confusion_counts`."""
    return {
        classes[number - 1].name: scores
        for number, scores in scores_from_counts(counts).items()
        if scores.pixels
    }


def _around_paint(painted: npt.NDArray[np.uint8], tile: Tile, multiple: int) -> Tile | None:
    """The part of a tile that holds its paint; None if it holds none."""
    there = painted[tile.slices] > 0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return None
    # Begun at a multiple, so that poolings fall on the same pixels as in every other plan.
    top, left = (int(axis[0]) // multiple * multiple for axis in (rows, columns))
    return Tile(
        tile.top + top, tile.left + left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    )

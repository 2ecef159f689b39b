"""Masks from a network, tile by tile, nearest sections first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.config import PredictionConfig
from napari_unet.core.devices import choose_device, is_out_of_memory
from napari_unet.core.features import piece_features, tile_features
from napari_unet.core.foreign import ForeignModel, Model
from napari_unet.core.image import (
    GreyStatistics,
    ImageArray,
    Normalisation,
    SectionIndex,
    grey_statistics,
)
from napari_unet.core.live import LiveModel
from napari_unet.core.model import check_takes_grey
from napari_unet.core.network import StoppedError, UNet, stoppable
from napari_unet.core.notices import tell
from napari_unet.core.obeying import REACH, obey
from napari_unet.core.tiles import tile_probabilities
from napari_unet.core.tiling import RowStrips, Tile, plan_tiles, with_surroundings

Yielded = TypeVar("Yielded")
Returned = TypeVar("Returned")

SMALLEST_TILE = 64
"""Tiles are not halved below this when memory runs out."""


@dataclass(frozen=True, eq=False)
class TileDone:
    """A finished tile: where it lies, what was found, and how far the work has come."""

    section: SectionIndex
    tile: Tile
    classes: npt.NDArray[np.uint8]
    """Most probable class of each pixel, (height, width), 1 = background."""
    probabilities: npt.NDArray[np.float32]
    """Probability of each class, (classes, height, width)."""
    done: float
    """Sections finished so far, with fractions."""
    total: int
    """Sections to do."""

    @property
    def finishes_section(self) -> bool:
        return float(self.done).is_integer()


def never() -> bool:
    """The `should_stop` of work that is not to be stopped."""
    return False


def nearest_first(sections: Iterable[SectionIndex], centre: SectionIndex) -> list[SectionIndex]:
    """Return sections by their distance from one of them; later axes count first."""
    return sorted(sections, key=lambda s: tuple(abs(a - b) for a, b in zip(s, centre, strict=True)))


def predict(
    model: Model | LiveModel,
    image: ImageArray,
    config: PredictionConfig | None = None,
    *,
    sections: Sequence[SectionIndex] | None = None,
    rows: range | None = None,
    statistics: GreyStatistics | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] = never,
) -> Generator[TileDone, SectionIndex | None, None]:
    """Predict the classes of an image, section by section and tile by tile.

    Sections are cut into tiles that see as much of their surroundings as the network needs
    (see `tile_probabilities`). Where memory runs out the tiles are halved, which is said once in
    a warning. Where the pixel size of the image is known and another than that of the model, the
    network sees the image at its own pixel size.

    Parameters
    ----------
    model
        The network and its classes. Of a live model, what was painted is found as it was painted.
    image
        Grey image whose axes end with (Y, X).
    config
        Tile size and precision.
    sections
        Which sections, in this order; all of them by default.
    rows
        Only tiles that reach into these rows of each section.
    statistics
        Grey statistics of the image, if they are known already.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    should_stop
        Asked before every tile, and while the network looks at it (see `stoppable`).

    Yields
    ------
    TileDone
        A section index sent back is where somebody looks: the sections nearest to it go next.

    Raises
    ------
    ValueError
        If the image holds nothing to segment (see `grey_statistics`) or the device is missing.
    """
    live = model if isinstance(model, LiveModel) else None
    model = model.model if isinstance(model, LiveModel) else model
    foreign = model if isinstance(model, ForeignModel) else None
    if not isinstance(model, ForeignModel):
        check_takes_grey(model)
    config = config or PredictionConfig()
    target = choose_device(device)
    statistics = statistics or known_statistics(image)
    remaining = list(image.sections() if sections is None else sections)
    total = len(remaining)
    network = model.on_device(target)
    magnification = model.magnification(image)
    height, width = image.shape[-2:]
    multiple = network.sight.step
    tile_size = config.tile_size

    def planned() -> list[Tile]:
        tiles = plan_tiles(height, width, tile_size, multiple)
        if rows is None:
            return tiles
        return [t for t in tiles if t.top < rows.stop and t.top + t.height > rows.start]

    def ask_head(grey: Tensor) -> Tensor:
        assert live is not None
        assert isinstance(network, UNet)
        seen = piece_features(network, grey, device=target, precision=config.precision)
        return live.head.scores(live.space.reduce(seen)).softmax(dim=0).to(target)

    def ask_foreign(grey: Tensor) -> Tensor:
        return network(grey[None, None])[0]

    def look(section: Any, tile: Tile, statistics: Normalisation) -> npt.NDArray[np.float32]:
        if live and config.test_time_augmentation == "none":
            # As the overlay is drawn at every stroke (between pixels, scores are interpolated).
            assert isinstance(network, UNet)
            seen = tile_features(
                network,
                section,
                tile,
                statistics,
                magnification=magnification,
                device=target,
                precision=config.precision,
            )
            scores = live.head.scores(live.space.reduce(seen))
            return np.asarray(scores.softmax(dim=0))
        return tile_probabilities(
            network,
            section,
            tile,
            statistics,
            magnification=magnification,
            test_time_augmentation=config.test_time_augmentation,
            ask=ask_head if live else ask_foreign if foreign else None,
            device=target,
            precision=config.precision,
        )

    def look_at_painted(
        section: Any, tile: Tile, statistics: Normalisation, painted: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        # Paint has an effect beyond the tile that it lies in.
        wide = with_surroundings(tile, REACH, multiple, height, width)
        if not painted[wide.slices].any():
            return look(section, tile, statistics)
        found = _obeying(look(section, wide, statistics), painted[wide.slices])
        top, left = tile.top - wide.top, tile.left - wide.left
        return found[:, top : top + tile.height, left : left + tile.width]

    finished = 0
    refused = 0  # side of the tile for which memory ran out, until a smaller one fits
    while remaining and not should_stop():
        index = remaining.pop(0)
        section = image.data[index] if index else image.data
        normalisation = (foreign.normalisation(section) if foreign else None) or statistics
        strips = section if isinstance(section, np.ndarray) else RowStrips(section)
        tiles = planned()
        number = 0
        while number < len(tiles):
            if should_stop():
                return
            tile = tiles[number]
            painted = live.painted.get(index) if live else None
            try:
                with stoppable(should_stop):
                    probabilities = (
                        look(strips, tile, normalisation)
                        if painted is None
                        else look_at_painted(strips, tile, normalisation, painted)
                    )
            except StoppedError:
                return
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                refused = refused or min(tile_size, max(height, width))
                tile_size = _smaller_tile(min(tile_size, max(height, width)), error)
                tiles = planned()
                number = 0  # the section begins anew: its earlier tiles would overlap
                if target.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            if refused:
                tell(
                    f"Not enough memory for tiles of {refused} pixels a side; going on with "
                    f"{tile_size}.",
                    stacklevel=2,
                )
                refused = 0
            number += 1
            looked_at = yield TileDone(
                index,
                tile,
                probabilities.argmax(axis=0).astype(np.uint8) + np.uint8(1),
                probabilities,
                finished + number / len(tiles),
                total,
            )
            if looked_at is not None:
                remaining = nearest_first(remaining, looked_at)
        finished += 1


def _obeying(
    probabilities: npt.NDArray[np.float32], painted: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Return probabilities (classes, height, width) that obey paint (see `obey`)."""
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    obey(scores, painted)
    return np.asarray(torch.from_numpy(scores).softmax(dim=0))


def known_statistics(image: ImageArray) -> GreyStatistics:
    """Return the grey statistics of an image, with a warning if some pixels are not numbers."""
    statistics = grey_statistics(image)
    if statistics.missing:
        tell(
            f"{statistics.missing:.1%} of the pixels of {image.name!r} are not finite numbers "
            "(NaN or infinity); they are taken as average grey.",
            stacklevel=2,
        )
    return statistics


def _smaller_tile(size: int, error: Exception) -> int:
    if size // 2 < SMALLEST_TILE:
        raise MemoryError(
            f"The device has not enough memory even for tiles of {size} pixels a side. Close "
            "other programs that use it, or choose the CPU."
        ) from error
    return size // 2


def gather(
    tiles: Generator[TileDone, SectionIndex | None, None],
    image: ImageArray,
    classes: int,
    *,
    probabilities: bool = False,
    zeros: Callable[[Sequence[int], Any], npt.NDArray[Any]] = np.zeros,
) -> Generator[TileDone, SectionIndex | None, ImageArray]:
    """Pass tiles on, and return in the end what they make up.

    A section index sent back is passed on, too.

    Parameters
    ----------
    tiles, image, classes
        From `predict`, what is predicted, and how many classes there are.
    probabilities
        Whether to keep the probability of each class, rather than the most probable one.
    zeros
        Makes the array from its shape and type; it lies in memory by default.

    Returns
    -------
    ImageArray
        Class mask, uint8, of the shape of the image (0 where nothing was predicted), or with
        `probabilities` float32 with the axis C in front.
    """
    if probabilities:
        found = zeros((classes, *image.shape), np.float32)
    else:
        found = zeros(image.shape, np.uint8)
    looked_at: SectionIndex | None = None
    while True:
        try:
            done = tiles.send(looked_at)
        except StopIteration:
            break
        where: tuple[Any, ...] = (*done.section, *done.tile.slices)
        if probabilities:
            found[(slice(None), *where)] = done.probabilities
        else:
            found[where] = done.classes
        looked_at = yield done
    if not probabilities:
        return image.with_data(found)
    return ImageArray(found, "C" + image.axes, (1.0, *image.scale), ("", *image.units), image.name)


def finish(
    work: Generator[Yielded, Any, Returned], on_value: Callable[[Yielded], object] = lambda v: None
) -> Returned:
    """Run a generator to its end, show each value to a function, and return its result."""
    while True:
        try:
            value = next(work)
        except StopIteration as end:
            result: Returned = end.value
            return result
        on_value(value)


def only_class(mask: ImageArray, number: int) -> ImageArray:
    """Return the mask of one class: uint8, 255 where it is, 0 elsewhere."""
    computes = hasattr(mask.data, "__array_ufunc__")  # as NumPy does, or dask when it is asked
    data = mask.data if computes else np.asarray(mask.data)
    chosen = (data == number).astype(np.uint8) * np.uint8(255)
    return mask.with_data(chosen)

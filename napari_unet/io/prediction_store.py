"""A prediction that is written while it is made, block by block, and goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import ClassTable
from napari_unet.core.blocks import Block, Finding, plan_blocks, predict_block
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.model import UNetModel
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.locks import Lock
from napari_unet.io.ome_zarr import (
    FULL,
    add_levels,
    as_ome,
    check_replaceable,
    new_group,
    placing,
    write_lock,
)

if TYPE_CHECKING:
    import zarr

JOURNAL = ".finished-blocks"
"""File in the store with a line for each block that is whole; gone when all are."""

RECORD = "napari-unet"
"""Attribute of the store that says where the prediction comes from."""


@dataclass(frozen=True)
class Origin:
    """What a prediction depends on; nothing else may be mixed with it.

    Parameters
    ----------
    model
        SHA-256 of network, weights and classes.
    options
        How it is predicted, and what is kept.
    image
        Shape, spacing and grey values of the image.
    """

    model: str
    options: dict[str, Any]
    image: dict[str, Any]

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the names of what another prediction, as plain values, has otherwise."""
        mine = json.loads(json.dumps(asdict(self)))
        return [name for name, value in mine.items() if other.get(name) != value]


def origin_of(
    model: UNetModel,
    image: ImageArray,
    config: PredictionConfig,
    finding: Finding,
    statistics: GreyStatistics,
) -> Origin:
    """Return what a prediction depends on.

    An image is known by its meaning and by its grey statistics, not by where it lies, so that it
    may be moved.
    """
    content = hashlib.sha256(
        json.dumps(
            [model.network.config.to_dict(), [c.name for c in model.classes], model.pixel_size]
        ).encode()
    )
    for key, value in model.network.state_dict().items():
        content.update(key.encode())
        content.update(value.contiguous().numpy().tobytes())
    return Origin(
        content.hexdigest(),
        {**config.to_dict(), **asdict(finding)},
        {
            "shape": list(image.shape),
            "type": image.dtype.name,
            "axes": image.axes,
            "scale": list(image.scale),
            "units": list(image.units),
            "mean": statistics.mean,
            "deviation": statistics.deviation,
        },
    )


class PredictionStore:
    """An OME-Zarr image that grows by blocks; made by `open_store`.

    A block is written chunk by chunk, each under another name until it is whole, and is called
    finished when all of them are on the disk.

    Parameters
    ----------
    path
        The store.
    image
        What is predicted.
    described
        What the store holds.
    classes
        Names of the values, if it holds a class mask.
    """

    def __init__(
        self, path: Path, image: ImageArray, described: ImageArray, classes: ClassTable
    ) -> None:
        self.path = path
        self._image = image
        self.described = described
        self.classes = classes
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let other processes write to the store."""
        if self._lock is not None:
            self._lock.give_back()

    @property
    def is_finished(self) -> bool:
        return not (self.path / JOURNAL).exists()

    def finished_blocks(self) -> set[Block]:
        """Return the blocks that are whole, and forget a line that was cut short."""
        journal = self.path / JOURNAL
        whole, end, _ = journal.read_bytes().rpartition(b"\n")
        os.truncate(journal, len(whole) + len(end))
        records = [json.loads(line) for line in whole.split(b"\n") if line]
        return {Block(tuple(section), top, bottom) for section, top, bottom in records}

    def write(self, block: Block, values: npt.NDArray[Any]) -> None:
        """Write a block to the disk; it is not called finished yet.

        Raises
        ------
        FileWriteError
            If the disk is full, or the store is gone.
        """
        import zarr

        try:
            array = zarr.open_array(self.path / FULL, mode="r+")
            where = self._place(block)
            array[where] = values
            for chunk in self._chunks(array, where):
                _flush(chunk)
        except OSError as error:
            raise self._problem(error) from error

    def call_finished(self, block: Block) -> None:
        """Remember that a block is written.

        Raises
        ------
        FileWriteError
            If the disk is full.
        """
        line = json.dumps([block.section, block.top, block.bottom]) + "\n"
        try:
            with (self.path / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._problem(error) from error

    def close(self) -> None:
        """Add what the image looks like from afar, and call all of it finished.

        Raises
        ------
        FileWriteError
            If the disk is full.
        """
        import zarr

        try:
            for unfinished in (self.path / FULL).rglob("*.partial"):
                unfinished.unlink()  # of a process that was killed
            add_levels(zarr.open_group(self.path, mode="r+"), self.described, self.classes)
            (self.path / JOURNAL).unlink()
        except OSError as error:
            raise self._problem(error) from error

    def _place(self, block: Block) -> tuple[int | slice, ...]:
        index = dict(zip(self._image.axes, block.section, strict=False))
        return tuple(
            block.rows if axis == "Y" else index.get(axis, slice(None))
            for axis in self.described.axes
        )

    def _chunks(self, array: zarr.Array[Any], where: tuple[int | slice, ...]) -> list[Path]:
        """Files of the chunks of a block; those of nothing but zeros are left out."""
        ranges = []
        for each, length, chunk in zip(where, array.shape, array.chunks, strict=True):
            inside = range(length)[each] if isinstance(each, slice) else range(each, each + 1)
            ranges.append(range(inside[0] // chunk, inside[-1] // chunk + 1))
        keys = (
            array.metadata.encode_chunk_key(tuple(r[i] for r, i in zip(ranges, place, strict=True)))
            for place in np.ndindex(*map(len, ranges))
        )
        return [path for key in keys if (path := self.path / FULL / key).exists()]

    def _problem(self, error: OSError) -> FileWriteError:
        reason = error.strerror or str(error)
        return FileWriteError(
            f"Cannot write {self.path}: {reason}. What is finished stays there; the same command "
            "goes on with it."
        )


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def open_store(
    path: Path,
    model: UNetModel,
    image: ImageArray,
    finding: Finding,
    origin: Origin,
    *,
    height: int,
    overwrite: bool = False,
) -> PredictionStore:
    """Return a new store, or one that was begun with the same model, options and image.

    It is this process's alone until it is left as a context.

    Parameters
    ----------
    path
        Where it lies.
    model, image, finding
        Who predicts, what, and what is kept.
    origin
        What the prediction depends on.
    height
        Rows of a block, columns of a tile, and so the sides of a chunk.
    overwrite
        Replace what is there, whatever it is.

    Raises
    ------
    FileWriteError
        If something else is there, another process writes to it, or nothing can be written.
    """
    store = described_store(path, image, finding, model.classes)
    with ExitStack() as stack:
        store._lock = write_lock(path)
        stack.push(store)
        _begin(store, origin, height=height, overwrite=overwrite)
        stack.pop_all()
    return store


def _begin(store: PredictionStore, origin: Origin, *, height: int, overwrite: bool) -> None:
    """Make the store, or see that it can go on."""
    path = store.path
    check_replaceable(path)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        begun = _record(path)
        if begun is None:
            raise FileWriteError(
                f"{path} is there already, and no prediction that could go on. Choose another "
                "name, or replace it with --overwrite."
            )
        differing = origin.differing(begun)
        if differing:
            state = "of" if store.is_finished else "begun with"
            raise FileWriteError(
                f"{path} is a prediction {state} another {' and '.join(differing)}. Choose "
                "another name, go on with the same, or begin anew with --overwrite."
            )
        return
    with placing(path) as (temporary, source):
        new_group(
            temporary,
            store.described,
            store.classes,
            chunk=height,
            source=source,
            attributes={RECORD: asdict(origin)},
        )
        (temporary / JOURNAL).touch()


def described_store(
    path: Path, image: ImageArray, finding: Finding, classes: ClassTable
) -> PredictionStore:
    """Return the store that holds what is found in an image, whether it is there or not."""
    described = as_ome(_described(image, finding, len(classes)))
    return PredictionStore(path, image, described, classes if finding.is_class_mask else ())


def _record(path: Path) -> dict[str, Any] | None:
    """Where the prediction in a store comes from; None if it is none."""
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not (path / FULL / "zarr.json").is_file():
        return None
    found = attributes.get(RECORD) if isinstance(attributes, dict) else None
    return found if isinstance(found, dict) else None


def _described(image: ImageArray, finding: Finding, classes: int) -> ImageArray:
    """What the store holds; the pixels are those of nobody."""
    shape, axes, scale, units = image.shape, image.axes, image.scale, image.units
    if finding.probabilities and not finding.class_number:
        shape, axes = (classes, *shape), "C" + axes
        scale, units = (1.0, *scale), ("", *units)
    nothing = np.broadcast_to(np.zeros((), finding.dtype), shape)
    return ImageArray(nothing, axes, scale, units, image.name)


def predict_into(
    store: PredictionStore,
    model: UNetModel,
    image: ImageArray,
    finding: Finding,
    config: PredictionConfig,
    blocks: Sequence[Block],
    *,
    statistics: GreyStatistics,
    device: str = "auto",
) -> Generator[float, None, None]:
    """Predict blocks and write each as soon as it is whole.

    Yields
    ------
    float
        Blocks done so far, with fractions.

    Raises
    ------
    FileWriteError
        If the disk is full; what is finished stays.
    """
    for number, block in enumerate(blocks):
        work = predict_block(
            model, image, block, finding, config, statistics=statistics, device=device
        )
        while True:
            try:
                tile = next(work)
            except StopIteration as end:
                store.write(block, end.value)
                store.call_finished(block)
                yield number + 1.0
                break
            yield number + min(tile.done, 0.99)


def remaining_blocks(store: PredictionStore, image: ImageArray, height: int) -> list[Block]:
    """Return the blocks that are not finished, in order.

    Raises
    ------
    FileReadError
        If the list of finished ones is damaged.
    """
    try:
        finished = store.finished_blocks()
    except (OSError, ValueError, TypeError) as error:
        raise FileReadError(
            f"The list of finished blocks {store.path / JOURNAL} cannot be read ({error}). Begin "
            "anew with --overwrite."
        ) from error
    return [block for block in plan_blocks(image, height) if block not in finished]

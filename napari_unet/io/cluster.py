"""The blocks of a prediction on the workers of a Dask cluster, bit for bit as on one machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.core.annotations import ClassTable
from napari_unet.core.blocks import Block, Finding, predict_block
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.model import UNetModel
from napari_unet.core.prediction import finish
from napari_unet.io.files import FileReadError
from napari_unet.io.prediction_store import PredictionStore, described_store

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 3
"""Blocks that wait at each worker, so that none is idle; the others wait here."""

PATIENCE = 60
"""Seconds until a scheduler that does not answer, or has no workers, is given up."""


@dataclass(frozen=True)
class Errand:
    """All that a worker needs to know to predict any block: names of files rather than pixels.

    Parameters
    ----------
    image, channel, pixel_size
        What `read_grey` is asked.
    model
        Name or file of the model.
    output
        The store, which all workers write into.
    finding, config, statistics, device
        As in `predict_block`.
    """

    image: str
    channel: int | None
    pixel_size: float | None
    model: str
    output: str
    finding: Finding
    config: PredictionConfig
    statistics: GreyStatistics
    device: str


def predict_on_cluster(
    store: PredictionStore,
    errand: Errand,
    blocks: Sequence[Block],
    *,
    address: str | None = None,
    workers: int | None = None,
) -> Generator[float, None, None]:
    """Predict blocks on workers, and call those finished that they have written.

    Blocks of workers that are lost are given to others.

    Parameters
    ----------
    store
        Where the list of finished blocks is kept.
    errand
        What workers are told.
    blocks
        What is to be predicted.
    address
        Of a Dask scheduler.
    workers
        How many processes are started on this machine, if there is no address.

    Yields
    ------
    float
        Blocks done so far.

    Raises
    ------
    FileReadError
        If the scheduler does not answer, or has no workers.
    """
    from distributed import as_completed

    with _connected(address, workers) as client:
        threads = sum(client.nthreads().values())
        waiting = iter(blocks)
        running = as_completed(
            [_submitted(client, errand, each) for each in islice(waiting, AHEAD * threads)]
        )
        for number, future in enumerate(running, start=1):
            store.call_finished(future.result())
            yield float(number)
            for block in islice(waiting, 1):
                running.add(_submitted(client, errand, block))


def _submitted(client: Client, errand: Errand, block: Block) -> Any:
    # Not pure: a block whose result was lost must be written anew, not remembered.
    return client.submit(predict_and_write, errand, block, pure=False)


@contextmanager
def _connected(address: str | None, workers: int | None) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if address is None:
        with (
            LocalCluster(
                n_workers=workers or 1,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise FileReadError(
            f"The Dask scheduler {address} does not answer ({error}). Check the address that it "
            "printed when it was started."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise FileReadError(
                f"The Dask scheduler {address} has no workers after {PATIENCE} seconds. Start some."
            ) from error
        yield client


def predict_and_write(errand: Errand, block: Block) -> Block:
    """Predict a block and write it into the store; this runs on a worker.

    Raises
    ------
    FileReadError, FileWriteError
        If the image, the model or the store cannot be reached from there.
    """
    import dask
    import torch
    from distributed import get_worker

    torch.set_num_threads(max(1, get_worker().state.nthreads))
    model, image = _opened(errand.model, errand.image, errand.channel, errand.pixel_size)
    work = predict_block(
        model,
        image,
        block,
        errand.finding,
        errand.config,
        statistics=errand.statistics,
        device=errand.device,
    )
    # Pixels are read here: else they would be asked of the cluster, which waits for this block.
    with dask.config.set(scheduler="synchronous"):
        values = finish(work)
    assert values is not None  # nobody stops it
    classes: ClassTable = model.classes
    described_store(Path(errand.output), image, errand.finding, classes).write(block, values)
    return block


@lru_cache(maxsize=1)
def _opened(
    model: str, image: str, channel: int | None, pixel_size: float | None
) -> tuple[UNetModel, ImageArray]:
    """Model and image, opened once by each worker."""
    from napari_unet.io.images import read_grey
    from napari_unet.io.model_files import find_model

    found = find_model(model)
    assert isinstance(found, UNetModel)  # others are not predicted in blocks
    return found, read_grey(image, channel, pixel_size)

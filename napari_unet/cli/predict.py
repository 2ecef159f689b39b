"""``napari-unet predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.errors import CommandError
from napari_unet.cli.files import check_output, grey_image, trusted_model
from napari_unet.cli.options import given_options
from napari_unet.cli.printing import progress, say
from napari_unet.core.config import PredictionConfig

if TYPE_CHECKING:
    from napari_unet.core.blocks import Finding
    from napari_unet.core.image import ImageArray
    from napari_unet.core.model import UNetModel


def run_predict(parsed: argparse.Namespace) -> None:
    """Write a mask, or probabilities, of an image."""
    from napari_unet.core.annotations import class_number
    from napari_unet.core.blocks import Finding
    from napari_unet.core.model import UNetModel
    from napari_unet.core.prediction import finish, gather, only_class, predict
    from napari_unet.io.images import check_keeps_source, write_image, writer_for
    from napari_unet.io.models import DEFAULT_MODEL
    from napari_unet.io.ome_zarr import write_ome_zarr

    in_blocks = writer_for(parsed.output) is write_ome_zarr
    _check_cluster(parsed, in_blocks)
    check_output(parsed.output, may_be_folder=in_blocks or parsed.output.endswith(".png"))
    check_keeps_source(parsed.output, parsed.image)
    model = trusted_model(parsed.model or DEFAULT_MODEL, trust=parsed.trust)
    if _on_cluster(parsed) and not isinstance(model, UNetModel):
        raise CommandError(
            f"{model.name!r} is a network of another program; leave --workers and "
            "--cluster out to predict with it."
        )
    number = class_number(model.classes, parsed.class_name) if parsed.class_name else None
    image = grey_image(parsed.image, parsed.channel, parsed.pixel_size)
    config = PredictionConfig(**given_options(parsed, PredictionConfig))
    if in_blocks and isinstance(model, UNetModel):
        finding = Finding(parsed.probabilities, number or 0)
        _predict_in_blocks(parsed, model, image, finding, config)
        return
    with progress(sum(1 for _ in image.sections()), "sections") as bar:
        tiles = predict(model, image, config, device=parsed.device)
        found = finish(
            gather(tiles, image, len(model.classes), probabilities=parsed.probabilities),
            lambda tile: bar.update(tile.done - bar.n),
        )
    if number is not None and parsed.probabilities:
        found = image.with_data(found.data[number - 1])
    elif number is not None:
        found = only_class(found, number)
    is_mask = number is None and not parsed.probabilities
    write_image(parsed.output, found, model.classes if is_mask else ())


def _predict_in_blocks(
    parsed: argparse.Namespace,
    model: UNetModel,
    image: ImageArray,
    finding: Finding,
    config: PredictionConfig,
) -> None:
    """Predict straight into a store, and go on where an earlier run stopped."""
    from napari_unet.core.blocks import block_height, plan_blocks
    from napari_unet.core.devices import choose_device
    from napari_unet.core.model import check_takes_grey
    from napari_unet.core.prediction import finish, known_statistics
    from napari_unet.io.prediction_store import (
        open_store,
        origin_of,
        predict_into,
        remaining_blocks,
    )

    output = Path(parsed.output)
    check_takes_grey(model)
    choose_device(parsed.device)
    statistics = known_statistics(image)
    height = block_height(model, config)
    origin = origin_of(model, image, config, finding, statistics)
    with open_store(
        output, model, image, finding, origin, height=height, overwrite=parsed.overwrite
    ) as store:
        if store.is_finished:
            say(f"{output} is finished already, by the same model with the same options.")
            return
        total = len(plan_blocks(image, height))
        blocks = remaining_blocks(store, image, height)
        if len(blocks) < total:
            say(f"Going on with {output}: {total - len(blocks)} of {total} blocks are finished.")
        if _on_cluster(parsed):
            from napari_unet.io.cluster import Errand, predict_on_cluster

            errand = Errand(
                image=str(Path(parsed.image).resolve()),
                channel=parsed.channel,
                pixel_size=parsed.pixel_size,
                model=_model_for_others(parsed.model),
                output=str(output.resolve()),
                finding=finding,
                config=config,
                statistics=statistics,
                device=parsed.device,
            )
            work = predict_on_cluster(
                store, errand, blocks, address=parsed.cluster, workers=parsed.workers
            )
        else:
            work = predict_into(
                store,
                model,
                image,
                finding,
                config,
                blocks,
                statistics=statistics,
                device=parsed.device,
            )
        with progress(total, "blocks") as bar:
            bar.update(total - len(blocks))
            finish(work, lambda done: bar.update(total - len(blocks) + done - bar.n))
        store.close()


def _on_cluster(parsed: argparse.Namespace) -> bool:
    return parsed.cluster is not None or parsed.workers is not None


def _check_cluster(parsed: argparse.Namespace, in_blocks: bool) -> None:
    """Complain before the work if others cannot help with it."""
    from importlib.util import find_spec

    if not _on_cluster(parsed):
        return
    if not in_blocks:
        raise CommandError(
            "--workers and --cluster go with an output that ends with .zarr, into which many can "
            "write at a time."
        )
    if parsed.workers is not None and parsed.workers < 1:
        raise CommandError(f"--workers must be at least 1; got {parsed.workers}.")
    if find_spec("distributed") is None:
        raise CommandError(
            "--workers and --cluster need dask.distributed. Install it with: "
            'pip install "napari-unet-em[cluster]"'
        )


def _model_for_others(name: str | None) -> str:
    """The name of a bundled model, or a path that is the same for everybody."""
    from napari_unet.io.models import DEFAULT_MODEL, bundled_models

    name = name or DEFAULT_MODEL
    return name if name in {each.name for each in bundled_models()} else str(Path(name).resolve())

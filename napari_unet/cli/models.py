"""``napari-unet models`` and ``napari-unet export-model``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unet.cli.errors import CommandError
from napari_unet.cli.files import check_output, trusted_model
from napari_unet.cli.printing import say


def run_models(parsed: argparse.Namespace) -> None:
    """Print a line for each bundled model."""
    from napari_unet.io.models import bundled_models, load_model

    for each in bundled_models():
        model = load_model(each.path)
        size = sum(p.numel() for p in model.network.parameters()) / 1e6
        seen = f", {model.pixel_size:.4g} nm/px" if model.pixel_size else ""
        names = ", ".join(c.name for c in model.classes)
        say(f"{each.name}: {names} ({size:.1f} M parameters{seen})")


def run_export_model(parsed: argparse.Namespace) -> None:
    """Write a model as a package or as an ONNX file."""
    from napari_unet.io.bioimageio.export import save_package
    from napari_unet.io.model_files import refuse_foreign, write_model, writer_for

    writer_for(parsed.output)
    check_output(parsed.output)
    named = parsed.authors or parsed.license is not None
    is_package = Path(parsed.output).suffix.lower() == ".zip"
    if named and not is_package:
        raise CommandError("--author and --license are for BioImage.IO packages (.zip).")
    model = trusted_model(parsed.model, trust=parsed.trust)
    if is_package:
        save_package(
            parsed.output,
            refuse_foreign(parsed.output, model),
            authors=parsed.authors,
            license_id=parsed.license,
        )
    else:
        write_model(parsed.output, model)
    say(f"Wrote {parsed.output}.")

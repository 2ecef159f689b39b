"""``napari-unet info``."""

from __future__ import annotations

import argparse
import json

from napari_unet.cli.printing import say


def run_info(parsed: argparse.Namespace) -> None:
    """Print what is known of an image as one JSON object."""
    from napari_unet.io.images import read_image

    image = read_image(parsed.file)
    say(
        json.dumps(
            {
                "shape": list(image.shape),
                "dtype": image.dtype.name,
                "axes": image.axes,
                "scale": list(image.scale),
                "units": list(image.units),
            },
            ensure_ascii=False,
        )
    )

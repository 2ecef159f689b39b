"""Sample data that is downloaded on demand, once, and checked."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import pooch
from requests import RequestException

from napari_unet.core.annotations import class_table
from napari_unet.core.image import ImageArray
from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

ISBI_SOURCE = (
    "https://raw.githubusercontent.com/zhixuhao/unet/4b939a4dbd930eeaf3d6fffcb514860cb11c948d/"
)
ISBI_CLASSES = class_table(["background", "membrane"])
ISBI_SCALE = (50.0, 4.0, 4.0)
"""Nanometres along Z, Y and X (Cardona et al. 2010, PLoS Biol 8(10):e1000502)."""


def isbi2012(
    folder: Path | None = None, source: str = ISBI_SOURCE
) -> tuple[ImageArray, ImageArray]:
    """Return training sections of the ISBI 2012 challenge and their true classes.

    Serial-section electron microscopy of the nerve cord of a Drosophila larva: the data of the
    U-Net paper. It is free to use for non-commercial segmentation software; cite Cardona et
    al. 2010. Each section is downloaded once and its SHA-256 checked.

    Parameters
    ----------
    folder
        Where downloads are kept; the user's cache by default.
    source
        Address of the folder that holds the files.

    Returns
    -------
    tuple of ImageArray
        Grey values, and classes (1 background, 2 membrane), uint8 (20, 512, 512).

    Raises
    ------
    FileReadError
        If a section can neither be found in the folder nor downloaded.
    """
    table = resources.files("napari_unet.io").joinpath("isbi2012.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines(), delimiter="\t"))
    fetcher = pooch.create(
        path=folder or pooch.os_cache("napari-unet") / "isbi2012",
        base_url=source,
        registry={row["path"]: f"sha256:{row['sha256']}" for row in rows},
    )
    pooch.get_logger().setLevel("WARNING")
    sections: dict[str, list[np.ndarray]] = {"image": [], "label": []}
    for row in rows:
        try:
            path = fetcher.fetch(row["path"])
        except (OSError, RequestException, ValueError) as error:
            raise FileReadError(
                f"The sample ISBI 2012 could not be downloaded ({type(error).__name__} at "
                f"{row['path']}). It needs a connection to the internet, once; the sample "
                '"Synthetic EM" does without.'
            ) from error
        sections[row["path"].split("/")[2]].append(np.asarray(read_image(path).data))
    units = ("nm",) * 3
    membranes = np.where(np.stack(sections["label"]) < 128, 2, 1).astype(np.uint8)
    return (
        ImageArray(np.stack(sections["image"]), "ZYX", ISBI_SCALE, units, "ISBI 2012"),
        ImageArray(membranes, "ZYX", ISBI_SCALE, units, "ISBI 2012 true membranes"),
    )

"""Files that the commands are told to read and write."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.errors import CommandError
from napari_unet.cli.options import check_pixel_size

if TYPE_CHECKING:
    from napari_unet.core.foreign import Model
    from napari_unet.core.image import ImageArray


def trusted_model(name: str, *, trust: bool) -> Model:
    """The model of this name; who sits at a terminal is asked before its code is run."""
    from napari_unet.io.files import CodeNotTrustedError
    from napari_unet.io.model_files import find_model

    try:
        return find_model(name, trust=trust)
    except CodeNotTrustedError as error:
        if sys.stdin is None or not sys.stdin.isatty():
            raise CommandError(f"{error} If you trust its source, say --trust.") from error
        print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
        if not _agrees("Do you trust its source, and want to run it? [y/N] "):
            raise CommandError(f"{name} was not used, since it is not trusted.") from error
        return find_model(name, trust=True)


def _agrees(question: str) -> bool:
    """Whether somebody types y; an end of the input is none."""
    try:
        return input(question).strip().lower() == "y"
    except EOFError:
        print(file=sys.stderr)  # noqa: T201
        return False


def grey_image(path: str, channel: int | None, pixel_size: float | None = None) -> ImageArray:
    """The image, as grey values, of one channel and of the given pixel size in nanometres."""
    from napari_unet.io.images import read_grey

    check_pixel_size(pixel_size)
    try:
        return read_grey(path, channel, pixel_size)
    except ValueError as error:
        hint = " Say which with --channel." if "channel" in str(error) else ""
        raise CommandError(f"{error}{hint}") from error


def check_output(path: str, *, may_be_folder: bool = False) -> None:
    """Complain before the work, not after it."""
    folder = Path(os.path.realpath(path)).parent
    if may_be_folder and folder.name == "labels" and not folder.exists():
        folder = folder.parent  # labels of an image that has none so far
    if not folder.is_dir():
        raise CommandError(f"Cannot write {path}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"Cannot write {path}: the folder {folder} may not be written to.")
    if Path(path).is_dir() and not may_be_folder:
        raise CommandError(f"Cannot write {path}: it is a folder.")

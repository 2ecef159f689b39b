"""Libraries that only some people need, and what to install where they are missing."""

from __future__ import annotations

import importlib
from typing import Any


class MissingLibraryError(ImportError):
    """A library that is not installed; the message says how to install it."""


def library(name: str, extra: str, purpose: str) -> Any:
    """Return a library that comes with one of the extras of this program.

    Parameters
    ----------
    name
        Of the module.
    extra
        With which extra it is installed.
    purpose
        What it is needed for: "... needs the library".

    Raises
    ------
    MissingLibraryError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"{purpose} needs the library {name.partition('.')[0]} ({error}). Install it with: "
            f'pip install "napari-unet-em[{extra}]"'
        ) from error

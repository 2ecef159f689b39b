"""The command line: parse, call, print."""

from napari_unet.cli.parser import main

__all__ = ["main"]

"""``napari-unet open``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from napari_unet.cli.errors import CommandError


def run_open(parsed: argparse.Namespace) -> None:
    """Open a window with the dock, and in it the stack or project; return when it is closed."""
    from napari_unet.io.images import reader_for
    from napari_unet.io.projects import is_project

    project = parsed.path is not None and is_project(Path(parsed.path))
    if parsed.path and not project:
        reader_for(parsed.path)
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in screens):
        raise CommandError(
            "There is no display to open a window on. Without one, use the other commands, or a "
            "virtual display: xvfb-run -a napari-unet open ..."
        )
    try:
        import napari
        from napari.qt import get_qapp

        viewer = napari.Viewer()
    except ImportError as error:
        raise CommandError(
            f"napari cannot open a window ({error}). Install a Qt binding, for example with: "
            'pip install "napari-unet-em[pyqt5]"'
        ) from error
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-em", "U-Net")
    # The canvas gets its size now; a stack that is opened before does not fit into it.
    get_qapp().processEvents()
    if parsed.sample:
        viewer.open_sample("napari-unet-em", parsed.sample)
    elif project:
        dock.projects.open(Path(parsed.path))
    elif parsed.path and not viewer.open(parsed.path, plugin="napari-unet-em"):
        viewer.close()
        raise CommandError(f"{parsed.path} could not be opened.")
    napari.run()

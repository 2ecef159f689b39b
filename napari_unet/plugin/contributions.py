"""What napari asks of the plugin by name (see napari.yaml): readers, writers, samples, commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error

from napari_unet.core.image import ImageArray
from napari_unet.core.units import standard_unit
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import WRITERS, is_known, write_image
from napari_unet.io.ome_zarr import labelled_image
from napari_unet.io.projects import is_project
from napari_unet.io.scratch import one_by_one
from napari_unet.plugin.jobs import awaited
from napari_unet.plugin.layers import class_colours, class_features, layer_arguments, told_classes
from napari_unet.plugin.reading import NOTHING, PLUGIN, LayerData, read_layers

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_unet.plugin.dock import UNetDock

DOCK = "U-Net"


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the function that reads these files, or None if the format is unknown."""
    paths = [path] if isinstance(path, str) else path
    return read_layers if all(is_known(each) for each in paths) else None


def get_project_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the function that opens a project, or None if the folder is none."""
    if isinstance(path, str) and is_project(Path(path)):
        return open_as_project
    return None


def open_as_project(path: str | list[str]) -> list[LayerData]:
    """Open a project in the dock; its layers come a moment later."""
    _current_dock().projects.open(Path(path if isinstance(path, str) else path[0]))
    return NOTHING


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image or labels layer with its scale and units.

    Returns
    -------
    list of str
        The path; empty, and a message is shown, if it could not be written.
    """
    try:
        return [_write(path, data, meta)]
    except (FileWriteError, ValueError) as error:
        show_error(str(error))
        return []


def _write(path: str, data: Any, meta: dict[str, Any]) -> str:
    if not Path(path).suffix and labelled_image(Path(path)) is None:
        path = f"{path}.tif"
    data = data[0] if meta.get("multiscale") else data
    data = one_by_one(data) if hasattr(data, "dtype") else np.asarray(data)
    axes = _axes(data.ndim, bool(meta.get("rgb")))
    spatial = sum(a != "S" for a in axes)
    scale = [float(abs(s)) for s in meta.get("scale", [1.0] * spatial)]
    units = [standard_unit(str(u)) for u in meta.get("units") or ["pixel"] * spatial]
    extra = len(axes) - spatial
    write_image(
        path,
        ImageArray(
            data, axes, (*scale, *[1.0] * extra), (*units, *[""] * extra), meta.get("name", "image")
        ),
        told_classes(meta),
    )
    return path


def _axes(ndim: int, rgb: bool) -> str:
    spatial = ndim - rgb
    if not 2 <= spatial <= 4:
        raise FileWriteError(
            f"A layer with {spatial} axes cannot be written to {', '.join(WRITERS)}; two to four "
            "are understood."
        )
    return "TZYX"[4 - spatial :] + "S" * rgb


def synthetic_sample() -> list[LayerData]:
    """Return the synthetic stack and its true labels, hidden at first."""
    from napari_unet.core.synthetic import CLASSES, PIXEL_SIZE, SECTION_THICKNESS, synthetic_stack

    grey, labels = awaited("Make the synthetic stack", synthetic_stack)
    arguments = {
        "scale": (SECTION_THICKNESS, PIXEL_SIZE, PIXEL_SIZE),
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    truth = {
        **arguments,
        "name": "true labels",
        "visible": False,
        "colormap": class_colours(CLASSES, background=False),
        "features": class_features(CLASSES),
    }
    return [(grey, {**arguments, "name": "synthetic EM"}, "image"), (labels, truth, "labels")]


def isbi_sample() -> list[LayerData]:
    """Return the ISBI 2012 training sections and their membranes, downloaded once.

    Without a network the list is empty, and a message says so.
    """
    from napari_unet.io.samples import ISBI_CLASSES, isbi2012

    found = awaited("Download ISBI 2012", isbi2012)
    if found is None:
        return []
    image, labels = found
    arguments = layer_arguments(image)
    truth = {
        **arguments,
        "name": labels.name,
        "visible": False,
        "colormap": class_colours(ISBI_CLASSES, background=False),
        "features": class_features(ISBI_CLASSES),
    }
    return [
        (image.data, {**arguments, "name": image.name}, "image"),
        (labels.data, truth, "labels"),
    ]


def open_dock(viewer: Viewer) -> UNetDock:
    """Return the dock of a viewer, opened if it is not."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    return widget  # type: ignore[no-any-return]


def _current_dock() -> UNetDock:
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError("There is no viewer.")
    return open_dock(viewer)


def segment() -> None:
    """Open the dock and predict the section in view (layer menu *Segment*)."""
    dock = _current_dock()
    dock.use_selected_image()
    dock.predict_group.section.click()


def annotate() -> None:
    """Open the dock and choose the brush of the first structure (layer menu *Annotate*)."""
    dock = _current_dock()
    dock.use_selected_image()
    dock.correct_group.choose(2)


def compare() -> None:
    """Open the widget that compares masks (layer menu *Measure*)."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        viewer.window.add_plugin_dock_widget(PLUGIN, "Compare masks")

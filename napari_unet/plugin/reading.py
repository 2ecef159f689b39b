"""Files as layers: what napari's *Open*, projects and the dock show of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.layers.utils.stack_utils import split_channels
from napari.utils.notifications import show_error
from napari.viewer import Viewer

from napari_unet.core.annotations import ClassTable
from napari_unet.core.image import ImageArray
from napari_unet.io.class_names import read_classes
from napari_unet.io.files import FileReadError
from napari_unet.io.images import file_of, read_image
from napari_unet.plugin.layers import class_colours, class_features, layer_arguments
from napari_unet.plugin.shown import shown

PLUGIN = "napari-unet-em"

LayerData = tuple[Any, dict[str, Any], str]

NOTHING: list[LayerData] = [(None,)]  # type: ignore[list-item]
"""What napari takes for "read, but there is no layer in it"."""

LABEL_NAMES = ("corrections", "mask", "annotations", "labels")
"""Files whose names end so hold classes rather than grey values, and so do such groups in files."""

CLASSES = "napari-unet classes"
"""Key in a layer's metadata: the classes that its file tells of."""

FILE = "napari-unet file"
"""Key in a layer's metadata: which layer it is, and what was opened; a copy is another layer."""


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Return a layer for each file, with scale, units and axis names; channels are split."""
    paths = [path] if isinstance(path, str) else path
    try:
        return [layer for each in paths for layer in layers_of(Path(each), read_image(each))]
    except (FileReadError, ValueError) as error:
        show_error(str(error))
        return NOTHING


def open_layers(viewer: Viewer, path: Path, image: ImageArray) -> list[Layer]:
    """Add layers of an image that was read; unlike napari, also of one among several in a file.

    Parameters
    ----------
    path
        See `io.images.read_image`.
    image
        What was read from it.
    """
    layers = [Layer.create(*each) for each in layers_of(path, image)]
    for layer in layers:
        layer.metadata[FILE] = (layer.unique_id, str(path))
        viewer.add_layer(layer)
    return layers


def path_of(layer: Layer) -> str:
    """Return the path from which a layer was opened; empty if it came from no file.

    It may name an image in a file, and is then no path that exists.
    """
    opened, path = layer.metadata.get(FILE, (None, ""))
    return str(path) if opened == layer.unique_id else str(layer.source.path or "")


def read_here(layer: Layer) -> bool:
    """Tell whether a layer was opened by `read_layers` or `open_layers`."""
    return bool(path_of(layer)) and (
        layer.source.reader_plugin in (None, PLUGIN) and layer.source.parent is None
    )


def layers_of(path: Path, image: ImageArray) -> list[LayerData]:
    """Return an image of a file as napari takes it."""
    stem = image.name
    arguments = layer_arguments(image)
    # Files may hold colours plane by plane, and other numbers of samples than a colour has.
    split = next((a for a in "CS" if a in image.axes), None)
    data: Any = image.data
    if image.levels:
        data = [image.data, *image.levels]
        arguments["multiscale"] = True
    if split is None:
        classes = read_classes(path) if image.dtype.kind in "ui" else ()
        kind = "labels" if classes or _is_called_labels(path, image) else "image"
        if classes:
            arguments |= _class_arguments(classes)
        return [(shown(data), {**arguments, "name": stem}, kind)]
    axis = image.axes.index(split)
    for key, values in layer_arguments(image).items():
        arguments[key] = tuple(v for i, v in enumerate(values) if i != axis)
    if split == "S" and image.shape[axis] in (3, 4):
        last = [np.moveaxis(each, axis, -1) for each in (image.data, *image.levels)]
        data = last if image.levels else last[0]
        return [(shown(data), {**arguments, "name": stem, "rgb": True}, "image")]
    names = [f"{stem} channel {c}" for c in range(image.shape[axis])]
    # As napari does it, with its colours.
    channels = split_channels(data, axis, name=names, **arguments)
    return [(shown(each), options, kind) for each, options, kind in channels]


def _class_arguments(classes: ClassTable) -> dict[str, Any]:
    """Colours and names of the classes in a mask."""
    return {
        "colormap": class_colours(classes, background=True),
        "features": class_features(classes),
        "metadata": {CLASSES: classes},
    }


def _is_called_labels(path: Path, image: ImageArray) -> bool:
    file = file_of(path)
    within = path.relative_to(file).parts if path.is_relative_to(file) else ()
    named = image.name.lower().endswith(LABEL_NAMES) or any(
        part.lower() in LABEL_NAMES for part in within
    )
    return named and image.dtype.kind in "ui"

"""Between napari's layers and the arrays of the method: all conversions are here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.colormaps.standardize_color import rgb_to_hex
from napari.utils.notifications import show_error
from napari.utils.transforms import Affine
from napari.viewer import Viewer

from napari_unet.core.annotations import BACKGROUND, ClassTable, class_table
from napari_unet.core.image import ImageArray, SectionIndex, as_grey
from napari_unet.core.units import PIXEL, nanometres, standard_unit
from napari_unet.io.files import FileWriteError
from napari_unet.io.scratch import make_room, scratch_zeros
from napari_unet.plugin.shown import stored

MASK = "mask"
CORRECTIONS = "corrections"
CHANGES = "changes"
UNCERTAINTY = "uncertainty"
PLACE = "place to paint"
PAINTING = ("paint", "polygon", "fill", "erase")
"""Modes of a labels layer in which the mouse writes to it."""

NAME = "class"
"""Column of a layer's features: the names of its values, 0 included."""

OWNER = "napari-unet image"
"""Key in a layer's metadata: what the layer is to an image, and to which."""


def itself(viewer: Viewer) -> Viewer:
    """Return the viewer behind the proxy that napari hands to plugins.

    The proxy wraps every layer anew, so that a layer would not be the same object twice.
    """
    return getattr(viewer, "__wrapped__", viewer)


def image_from_layer(layer: Image) -> ImageArray:
    """Return a layer's grey values with their spacing; nothing is copied unless it has colour.

    Raises
    ------
    ValueError
        If it has fewer than two or more than four axes, is empty or not numeric.
    """
    data = stored(layer.data[0] if layer.multiscale else layer.data)
    if layer.ndim > 4:
        raise ValueError(
            f"{layer.name!r} has {layer.ndim} axes; at most four (T, Z, Y, X) are understood. "
            "Split its channels into layers of their own (right click on the layer)."
        )
    axes = "TZYX"[4 - layer.ndim :]
    image = ImageArray(
        data,
        axes + ("S" if layer.rgb else ""),
        tuple(float(abs(s)) for s in layer.scale) + ((1.0,) if layer.rgb else ()),
        units_of(layer) + (("",) if layer.rgb else ()),
        layer.name,
    )
    return as_grey(image)


def units_of(layer: Layer) -> tuple[str, ...]:
    """Return the unit of each axis of a layer, as files spell them."""
    return tuple(standard_unit(f"{unit:~}" if unit != "pixel" else PIXEL) for unit in layer.units)


def layer_arguments(image: ImageArray) -> dict[str, Any]:
    """Return the arguments with which a layer shows an image where and as large as it is."""
    return {
        "scale": image.scale,
        "units": tuple(unit or PIXEL for unit in image.units),
        "axis_labels": tuple(image.axes.lower()),
    }


def like(layer: Image) -> dict[str, Any]:
    """Return the arguments with which another layer lies exactly over this one."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def section_in_view(viewer: Viewer, layer: Image) -> SectionIndex:
    """Return the index of the section of a layer that the viewer shows."""
    leading = layer.ndim - 2
    if leading <= 0:
        return ()
    position = np.round(to_data(viewer, layer, viewer.dims.point)[:leading])
    limits = np.asarray(layer.data.shape[:leading]) - 1
    return tuple(int(p) for p in np.clip(position, 0, limits))


def show_section(viewer: Viewer, layer: Image, index: SectionIndex) -> None:
    """Move the viewer to a section of a layer."""
    data_point = to_data(viewer, layer, viewer.dims.point)
    data_point[: len(index)] = index
    world = to_world(viewer, layer, data_point)
    offset = viewer.dims.ndim - layer.ndim
    for axis in range(len(index)):
        viewer.dims.set_point(axis + offset, float(world[axis]))


def show_place(
    viewer: Viewer, layer: Image, index: SectionIndex, row: float, column: float, closest: float
) -> None:
    """Move the viewer to a section of a layer, with a pixel of it in the middle.

    Parameters
    ----------
    closest
        The view comes nearer if a pixel of the layer is smaller than this on the screen.
    """
    show_section(viewer, layer, index)
    camera, shown = camera_of(viewer), list(viewer.dims.displayed)
    place = np.array(viewer.dims.point, np.float64)
    place[-layer.ndim :] = to_world(viewer, layer, (*index, row, column))
    camera.center = (*camera.center[: -len(shown)], *place[shown])
    camera.zoom = max(camera.zoom, closest / _pixel_width(viewer, layer))


def to_data(viewer: Viewer, layer: Layer, point: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return where a point of the viewer's world lies in the data of a layer."""
    point = np.asarray(point, np.float64)[-layer.ndim :]
    own = point / _world_per_unit(viewer, layer)[-len(point) :]
    position: npt.NDArray[np.float64] = np.asarray(layer.world_to_data(own))
    return position


def to_world(viewer: Viewer, layer: Layer, position: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return where a position in the data of a layer lies in the viewer's world."""
    own: npt.NDArray[np.float64] = np.asarray(layer.data_to_world(position))
    return own * _world_per_unit(viewer, layer)


def _world_per_unit(viewer: Viewer, layer: Layer) -> npt.NDArray[np.float64]:
    """The units of a layer, measured in those of the viewer, for each axis.

    Where layers have different units of length, napari's world has the smallest of them, but
    its own ``data_to_world`` speaks of the layer's. Where they contradict each other, as pixels
    and nanometres do, it takes numbers as they are.
    """
    world = getattr(viewer.layers, "units", None)  # new in napari 0.9
    if world is None:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, world[-layer.ndim :], strict=True)
    return np.array([float((1 * own).to(shared).magnitude) for own, shared in pairs])


def set_pixel_size(viewer: Viewer, layer: Layer, pixel_size: float | None) -> None:
    """Give a layer this side of a pixel along Y and X, in nanometres; None makes it unknown.

    A layer keeps its unit of length, if it has one: napari paints into the wrong place of layers
    that differ in it.
    """
    scale, units, own = list(layer.scale), list(layer.units), units_of(layer)
    spoken = [unit for each in (layer, *viewer.layers) for unit in reversed(units_of(each))]
    usual = next(filter(_nanometres_in, spoken), "nm")
    for axis in (-2, -1):
        unit = own[axis] if _nanometres_in(own[axis]) else usual
        units[axis] = PIXEL if pixel_size is None else unit
        size = 1.0 if pixel_size is None else pixel_size / _nanometres_in(unit)
        scale[axis] = size if scale[axis] > 0 else -size
    layer.scale = scale
    layer.units = units


def _nanometres_in(unit: str) -> float:
    return nanometres(1.0, unit) or 0.0


def camera_of(viewer: Viewer) -> Any:
    """Return what looks at the layers."""
    return getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it


def middle_of_view(viewer: Viewer, layer: Layer) -> npt.NDArray[np.float64]:
    """Return which position in the data of a layer lies in the middle of the canvas."""
    shown = list(viewer.dims.displayed)
    place = np.array(viewer.dims.point, np.float64)
    place[shown] = camera_of(viewer).center[-len(shown) :]
    return to_data(viewer, layer, place)


@contextmanager
def view_kept(viewer: Viewer, layer: Layer) -> Iterator[None]:
    """Show the same pixels of a layer, as large as before, while its scale and units change."""
    camera = camera_of(viewer)
    shown = list(viewer.dims.displayed)
    section, width = section_in_view(viewer, layer), _pixel_width(viewer, layer)
    place = np.array(viewer.dims.point, np.float64)
    place[shown] = camera.center[-len(shown) :]
    seen = to_data(viewer, layer, place)
    yield
    show_section(viewer, layer, section)
    place[-layer.ndim :] = to_world(viewer, layer, seen)
    camera.center = (*camera.center[: -len(shown)], *place[shown])
    camera.zoom *= width / _pixel_width(viewer, layer)


def _pixel_width(viewer: Viewer, layer: Layer) -> float:
    """In the viewer's world."""
    return float(abs(layer.scale[-1]) * _world_per_unit(viewer, layer)[-1])


def class_colours(classes: ClassTable, *, background: bool) -> DirectLabelColormap:
    """Return a colormap for class numbers; what is not painted is transparent.

    Parameters
    ----------
    background
        Whether class 1 is drawn; in a mask it is not.
    """
    colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    for number, each in enumerate(classes, start=1):
        colours[number] = each.colour
    if not background:
        colours[BACKGROUND] = (0, 0, 0, 0)
    return DirectLabelColormap(color_dict=colours)


def class_features(classes: ClassTable) -> dict[str, list[str]]:
    """Return a table that makes the status bar name the class under the mouse."""
    return {NAME: ["", *(each.name for each in classes)]}


def show_classes(layer: Labels, classes: ClassTable, *, background: bool) -> None:
    """Let a layer have the colours and names of these classes; see `class_colours`."""
    layer.colormap = class_colours(classes, background=background)
    layer.features = class_features(classes)


def told_classes(meta: Mapping[str, Any]) -> ClassTable:
    """Return the classes that a labels layer names in its features, with its colours.

    Parameters
    ----------
    meta
        What napari gives to writers.

    Returns
    -------
    ClassTable
        Empty if it names none.
    """
    features = meta.get("features")
    if features is None or NAME not in features:
        return ()
    values = [str(value) for value in features[NAME]]
    if values[:1] != [""]:
        return ()  # somebody's own features
    try:
        classes = class_table(values[1:])
    except ValueError:
        return ()
    drawn = getattr(meta.get("colormap"), "color_dict", {})
    colours = [drawn.get(number) for number in range(1, len(classes) + 1)]
    return tuple(
        # What is not drawn, as the background of a mask, keeps the colour it would have.
        each
        if colour is None or not colour[3]
        else replace(each, colour=rgb_to_hex([colour])[0][:7])
        for each, colour in zip(classes, colours, strict=True)
    )


def find_layer(viewer: Viewer, kind: str, image_layer: Image) -> Labels | None:
    """Return the mask, the corrections or the changes of an image.

    Corrections of that shape which belong to no image yet, such as those that were opened from
    a file, count as this image's.
    """
    shape = spatial_shape(image_layer)
    named = None
    for layer in viewer.layers:
        if not isinstance(layer, Labels):
            continue
        owner = layer.metadata.get(OWNER)
        if owner == (kind, image_layer.unique_id) and layer.data.shape == shape:
            return layer  # otherwise the image got other data since then
        # Somebody's "mask" would be written over; corrections are only added to.
        if owner is None and kind == layer.name == CORRECTIONS and layer.data.shape == shape:
            named = layer
    if named is not None:
        named.metadata[OWNER] = (kind, image_layer.unique_id)
    return named


def new_layer(viewer: Viewer, kind: str, image_layer: Image, classes: ClassTable) -> Labels:
    """Add an empty layer of a kind over an image and return it."""
    selected = set(viewer.layers.selection)
    layer = viewer.add_labels(
        scratch_zeros(spatial_shape(image_layer)),
        name=kind,
        metadata={OWNER: (kind, image_layer.unique_id)},
        colormap=class_colours(classes, background=kind != MASK),
        features=class_features(classes),
        opacity=0.45 if kind == MASK else 0.8,
        **like(image_layer),
    )
    viewer.layers.selection = selected  # adding selects; the user's choice stays
    return layer


def draw(layer: Labels, index: SectionIndex, values: npt.NDArray[Any], place: Any = ...) -> bool:
    """Write values into a section of a layer, or into a place of it.

    Returns
    -------
    bool
        Whether there was room for them on the disk; if not, that is said.
    """
    try:
        make_room(layer.data, index)
    except FileWriteError as error:
        show_error(str(error))
        return False
    layer.data[index][place] = values
    return True


def add_quietly(viewer: Viewer, layer: Layer, under: Layer | None = None) -> None:
    """Add a layer, on top or under another one; the user's choice of layers stays."""
    selected = set(viewer.layers.selection)
    below = under is not None and under in viewer.layers
    place = viewer.layers.index(under) if below else len(viewer.layers)
    viewer.layers.insert(place, layer)
    viewer.layers.selection = selected


def like_from(image_layer: Image, first: npt.ArrayLike) -> dict[str, Any]:
    """Return the arguments with which a layer lies over an image, begun at one of its pixels."""
    arguments = like(image_layer)
    at_first = Affine(
        scale=image_layer.scale,
        translate=image_layer.translate,
        rotate=image_layer.rotate,
        shear=image_layer.shear,
    )(np.asarray(first, np.float64))
    return {**arguments, "translate": at_first}


def is_ours(layer: Layer) -> bool:
    """Tell whether a layer was made by the plugin to show something of an image."""
    return OWNER in layer.metadata


def lies_over(layer: Layer, image_layer: Image) -> bool:
    """Tell whether a layer shows something of an image, pixel on pixel.

    So do its mask and its corrections, and labels that belong to no image but lie exactly there.
    """
    _, owner = layer.metadata.get(OWNER, (None, None))
    if owner is not None or not isinstance(layer, Labels):
        return bool(owner == image_layer.unique_id)
    return (
        layer.data.shape == spatial_shape(image_layer)
        and layer.units == image_layer.units
        and np.allclose(layer.extent.world, image_layer.extent.world)
    )


def spatial_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape of a layer without its colours, at full resolution."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(n) for n in data.shape[: layer.ndim])

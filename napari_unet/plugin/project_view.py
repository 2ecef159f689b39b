"""What was in view, and how the layers looked, as values that a project can keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer

from napari_unet.plugin.layers import (
    camera_of,
    middle_of_view,
    section_in_view,
    show_place,
)
from napari_unet.plugin.session import Session


def look_of(viewer: Viewer, session: Session) -> dict[str, Any]:
    """Return section, middle and zoom of the view, and how the layers of the session look."""
    layer = session.image_layer
    if layer is None:
        return {}
    middle = middle_of_view(viewer, layer)
    return {
        "section": list(section_in_view(viewer, layer)),
        "middle": [float(n) for n in middle[-2:]],
        "zoom": float(camera_of(viewer).zoom),
        "layers": {
            name: {
                "visible": bool(each.visible),
                "opacity": float(each.opacity),
                **(
                    {"contrast_limits": [float(n) for n in each.contrast_limits]}
                    if name == "image"
                    else {}
                ),
            }
            for name, each in _layers(session).items()
        },
    }


def show_look(viewer: Viewer, session: Session, look: Mapping[str, Any]) -> None:
    """Bring back what `look_of` returned; what is missing stays as it is."""
    layer = session.image_layer
    if layer is None:
        return
    if "middle" in look:
        row, column = look["middle"]
        show_place(viewer, layer, tuple(look["section"]), row, column, 0.0)
        camera_of(viewer).zoom = look["zoom"]
    for name, each in _layers(session).items():
        for attribute, value in look.get("layers", {}).get(name, {}).items():
            setattr(each, attribute, value)


def _layers(session: Session) -> dict[str, Layer]:
    layers = {
        "image": session.image_layer,
        "mask": session.mask,
        "corrections": session.corrections,
    }
    return {name: layer for name, layer in layers.items() if layer is not None}

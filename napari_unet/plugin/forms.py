"""Forms made from configurations, so that each choice is described in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from magicgui.widgets import Container, Widget, create_widget
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_unet.core.config import Config

Configuration = TypeVar("Configuration", bound=Config)


def config_form(config: Config, names: Sequence[str]) -> Container:
    """Return a form for some fields of a configuration, with its values, limits and sentences."""
    by_name = {each.name: each for each in fields(config)}
    widgets = []
    for name in names:
        each = by_name[name]
        options: dict[str, Any] = {"tooltip": each.metadata["explanation"]}
        if each.metadata["choices"]:
            options["choices"] = each.metadata["choices"]
        elif isinstance(each.default, int | float) and not isinstance(each.default, bool):
            options["min"] = each.metadata["minimum"] or 0
            options["max"] = (
                1_000_000 if each.metadata["maximum"] is None else each.metadata["maximum"]
            )
            if isinstance(each.default, float):
                # The step also sets how many decimals are kept.
                magnitude = math.floor(math.log10(each.default)) if each.default else 0
                options["step"] = 10.0 ** (magnitude - 1)
        widget = create_widget(
            value=getattr(config, name),
            name=name,
            label=name.replace("_", " ").capitalize(),
            options=options,
        )
        widgets.append(widget)
    return Container(widgets=widgets, labels=False)


def aligned(*widgets: Widget) -> QWidget:
    """Return magicgui widgets as rows whose labels and fields line up."""
    rows = QWidget()
    layout = QFormLayout(rows)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
    for widget in widgets:
        layout.addRow(widget.label, widget.native)
        layout.labelForField(widget.native).setToolTip(widget.tooltip)
    return rows


def configured(form: Container, base: Configuration) -> Configuration:
    """Return the configuration with the values of a form.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """
    return base.replace(**{widget.name: widget.value for widget in form})

"""Forms made from configurations, so that each choice is described in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from magicgui.widgets import Container, Widget, create_widget
from qtpy.QtCore import QRegularExpression, Signal
from qtpy.QtGui import QRegularExpressionValidator
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QLineEdit, QWidget

from napari_unet.core.config import Config

Configuration = TypeVar("Configuration", bound=Config)

ROW_HEIGHT = 24
"""Of a table in the dock, in pixels."""


def config_form(
    config: Config, names: Sequence[str], called: Mapping[str, str] | None = None
) -> Container:
    """Return a form for some fields of a configuration, with its values, limits and sentences.

    Parameters
    ----------
    config
        Where the values come from.
    names
        Which fields, in this order.
    called
        What people read instead of the name of a field or of one of its choices.
    """
    called = called or {}
    by_name = {each.name: each for each in fields(config)}
    widgets = []
    for name in names:
        each = by_name[name]
        options: dict[str, Any] = {"tooltip": each.metadata["explanation"]}
        if each.metadata["choices"]:
            options["choices"] = [(called.get(c, c), c) for c in each.metadata["choices"]]
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
            label=called.get(name) or name.replace("_", " ").capitalize(),
            options=options,
        )
        widgets.append(widget)
    return Container(widgets=widgets, labels=False)


def aligned(*rows: Widget | tuple[str, QWidget] | QWidget) -> QWidget:
    """Return rows whose labels and fields line up.

    Parameters
    ----------
    rows
        A widget of magicgui with its label, a label and a widget of Qt, or one across both columns.
    """
    form = QWidget()
    layout = QFormLayout(form)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setVerticalSpacing(4)
    layout.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
    for row in rows:
        if isinstance(row, QWidget):
            layout.addRow(row)
            continue
        label, field = row if isinstance(row, tuple) else (row.label, row.native)
        layout.addRow(label, field)
        layout.labelForField(field).setToolTip(field.toolTip())
    return form


def with_unit(field: QWidget, unit: str) -> QWidget:
    """Return a field with its unit behind it."""
    row = QWidget()
    row.setToolTip(field.toolTip())
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(field)
    layout.addWidget(QLabel(unit))
    return row


class LengthField(QLineEdit):
    """A field that takes a positive number, or nothing for an unknown one."""

    changed = Signal(object)
    """The number that was entered, or None."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.shown = ""  # whatever is being typed
        self.setPlaceholderText("unknown")
        self.setValidator(_PositiveOrAsBefore(self))
        self.editingFinished.connect(self._on_edited)

    def show_value(self, value: float | None) -> None:
        """Show a number without telling of a change."""
        self.shown = "" if value is None else f"{value:.5g}"
        self.setText(self.shown)

    def _on_edited(self) -> None:
        text = self.text().replace(",", ".")
        if text != self.shown:  # which may be rounded
            value = float(text) if text else None
            self.show_value(value)
            self.changed.emit(value)


class _PositiveOrAsBefore(QRegularExpressionValidator):
    """Lets a positive number or nothing be typed; what is left unfinished is taken back."""

    def __init__(self, field: LengthField) -> None:
        some_digit_is_not_zero = r"(?=[0.,]*[1-9])"
        number = rf"{some_digit_is_not_zero}\d{{0,6}}([.,]\d{{0,4}})?"
        super().__init__(QRegularExpression(f"({number})?"), field)
        self._field = field

    def fixup(self, text: str) -> str:
        """Return what stands instead of an unfinished entry, such as a zero."""
        return self._field.shown


def configured(form: Container, base: Configuration) -> Configuration:
    """Return the configuration with the values of a form.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """
    return base.replace(**{widget.name: widget.value for widget in form})


def show_values(form: Container, config: Config) -> None:
    """Show the values of a configuration in a form."""
    for widget in form:
        value = getattr(config, widget.name)
        if widget.value != value:
            widget.value = value


@contextmanager
def blocked(widget: QWidget) -> Iterator[None]:
    """Keep a widget quiet for a while."""
    before = widget.blockSignals(True)
    yield
    widget.blockSignals(before)

"""A part of the dock under a title that opens and closes it."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QCollapsible

OPEN, CLOSED = "▾", "▸"

AS_HIGH_AS_IT_IS = 16777215
"""Qt's largest height of a widget, by which it means no limit."""

TITLE = """
QPushButton { text-align: left; font-weight: bold; padding: 2px; background: transparent;
              border: 1px solid transparent; border-top-color: rgba(128, 128, 128, 96); }
QPushButton:hover { background: rgba(128, 128, 128, 64); }
QPushButton:focus { border-color: #4c8df0; }
"""


class Group(QCollapsible):
    """Controls that belong together; closed, only their title is seen.

    Parameters
    ----------
    title
        What is read above them.
    explanation
        What they are for, told where the mouse rests on the title.
    """

    grown = Signal()
    """Somebody asked for something that takes more room than before."""

    def __init__(self, title: str, explanation: str, parent: QWidget | None = None) -> None:
        # Icons are drawn in the colour that text had before napari's theme came to it.
        super().__init__(title, parent, expandedIcon=QIcon(), collapsedIcon=QIcon())
        self._title = title
        self.setDuration(0)
        self.toggleButton().setStyleSheet(TITLE)
        self.toggleButton().setToolTip(explanation)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().setSpacing(2)
        self.rows: QVBoxLayout = self.content().layout()
        """Where the controls go, one beneath the other."""
        self.rows.setContentsMargins(6, 0, 2, 4)
        self.rows.setSpacing(4)
        self.toggled.connect(self._show_content)
        self._show_content(False)

    @property
    def is_open(self) -> bool:
        """Whether the controls are seen."""
        return bool(self.isExpanded())

    @is_open.setter
    def is_open(self, on: bool) -> None:
        if on != self.is_open:
            (self.expand if on else self.collapse)(animate=False)

    @property
    def title(self) -> str:
        """What is read above the controls."""
        return self._title

    @title.setter
    def title(self, title: str) -> None:
        self._title = title
        self.setText(f"{OPEN if self.is_open else CLOSED} {title}")

    def _show_content(self, on: bool) -> None:
        # Qt's keys would reach controls that are merely squeezed to no height, and what appears
        # later, such as a curve, would be squeezed by the height that a group had when it opened.
        self.content().setVisible(on)
        self.content().setMaximumHeight(AS_HIGH_AS_IT_IS if on else 0)
        self.title = self._title
        if on:
            self.grown.emit()

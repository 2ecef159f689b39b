"""*Correct*: the table of classes; choosing one chooses the brush."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from napari.layers import Labels
from napari.utils.notifications import show_warning
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_unet.core.annotations import Annotations, extended
from napari_unet.core.held_out import RULE
from napari_unet.core.measuring import CLEARLY_BETTER
from napari_unet.plugin.forms import ROW_HEIGHT, blocked
from napari_unet.plugin.group import Group
from napari_unet.plugin.live import Live
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.session import Session

COLOUR, NAME, PAINTED = range(3)
BRUSH_SIZE = 8
COUNT_MILLISECONDS = 200
"""How long after a stroke the painted pixels are counted, and how well the mask does told.

Whatever changes in the dock, Qt draws the window anew. The mask that answers the stroke comes first.
"""


class CorrectGroup(Group):
    """Classes with their colours, names and painted pixels."""

    def __init__(
        self,
        viewer: Viewer,
        session: Session,
        keeper: LayerKeeper,
        live: Live,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__("Correct", "Classes to paint with where the mask is wrong", parent)
        self._viewer = viewer
        self._session = session
        self._keeper = keeper
        self._watched: Labels | None = None
        self._counted: Annotations | None = None
        self._pieces = self._classes_held_out = 0
        self._filling = False
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["", "Class", "Painted"])
        self.table.setToolTip(
            "Click a class to paint it. Double-click its name to rename it, its colour to change "
            "it. With keys: arrows and Enter, F2 to rename"
        )
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setTabKeyNavigation(False)  # Tab goes on to the buttons, arrows to other cells
        # Not as soon as a letter is typed, which is more likely meant for the brush.
        self.table.setEditTriggers(
            QAbstractItemView.DoubleClicked | QAbstractItemView.EditKeyPressed
        )
        self.table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SingleSelection)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(NAME, QHeaderView.Stretch)
        header.setSectionResizeMode(PAINTED, QHeaderView.ResizeToContents)
        self.table.setColumnWidth(COLOUR, 28)
        header.setMinimumSectionSize(28)
        self.add = QPushButton("Add class")
        self.add.setToolTip("Add a class of your own; the network learns it from your strokes")
        self.erase = QPushButton("Erase")
        self.erase.setToolTip("Take paint away: what is not painted is not learnt from")
        self.answer = QCheckBox("Answer every stroke")
        self.answer.setToolTip(
            "Learn from each stroke at once, by a classifier on what the network sees, and draw "
            "the mask in view anew. The network itself learns when you start it below"
        )
        self.answer.setChecked(live.enabled)
        self.hold_out = QCheckBox("Hold out every fifth piece of paint")
        self.hold_out.setToolTip(
            f"{RULE} So one can see whether learning helps, and nothing gets worse unnoticed"
        )
        self.hold_out.setChecked(session.holds_out)
        self.held_out = QLabel()
        self.held_out.setWordWrap(True)
        self.held_out.setToolTip(
            "IoU is measured on the paint that is held out, as a mean over its classes. The network "
            f"alone is shown only where it does better there by more than {CLEARLY_BETTER:g}, since "
            "it does not answer strokes"
        )
        self.held_out.hide()
        self.hint = QLabel("Choose a class, and paint over mistakes.")
        self.hint.setWordWrap(True)
        layout = self.rows
        layout.addWidget(self.hint)
        layout.addWidget(self.table)
        buttons = QHBoxLayout()
        buttons.addWidget(self.add)
        buttons.addWidget(self.erase)
        layout.addLayout(buttons)
        layout.addWidget(self.answer)
        layout.addWidget(self.hold_out)
        layout.addWidget(self.held_out)

        self.answer.toggled.connect(partial(setattr, live, "enabled"))
        live.failed.connect(lambda _: self.answer.setChecked(False))
        self.table.itemClicked.connect(self._on_clicked)
        self.table.itemChanged.connect(self._on_edited)
        self.table.itemActivated.connect(self._on_activated)
        self.add.clicked.connect(self.add_class)
        self.erase.clicked.connect(self._on_erase)
        self.hold_out.toggled.connect(self._on_hold_out)
        session.events.holds_out.connect(self._show_hold_out)
        session.events.classes.connect(self._fill)
        self._count = QTimer(self)
        self._count.setSingleShot(True)
        self._count.setInterval(COUNT_MILLISECONDS)
        self._count.timeout.connect(self._show_counts)
        self._count.timeout.connect(self._show_held_out)
        for event in (session.events.annotations, session.events.rivals, session.events.live):
            event.connect(self._count_soon)
        session.events.corrections.connect(self._watch)
        session.events.image.connect(self._enable)
        self._fill()
        self._enable()

    # --- the brush -----------------------------------------------------------------------

    def choose(self, number: int) -> None:
        """Paint this class from now on."""
        layer = self._brush()
        if layer is None:
            return
        layer.selected_label = number
        layer.mode = "paint"
        with blocked(self.table):
            self.table.selectRow(number - 1)

    def _brush(self) -> Labels | None:
        layer = self._keeper.corrections()
        if layer is not None:
            self._viewer.layers.selection.active = layer
        return layer

    def _on_clicked(self, item: QTableWidgetItem) -> None:
        self.choose(item.row() + 1)
        self.window().setFocus()  # else the keys of the brush, and N, would rename the class

    def _on_erase(self) -> None:
        layer = self._brush()
        if layer is not None:
            layer.mode = "erase"

    def _watch(self, layer: Labels | None) -> None:
        if self._watched is not None:
            self._watched.events.selected_label.disconnect(self._follow_brush)
        self._watched = layer
        if layer is not None:
            layer.brush_size = BRUSH_SIZE
            layer.events.selected_label.connect(self._follow_brush)

    def _follow_brush(self) -> None:
        """Select the row of the class that was chosen with napari's own controls."""
        if self._watched is None:
            return
        with blocked(self.table):
            row = int(self._watched.selected_label) - 1
            if 0 <= row < self.table.rowCount():
                self.table.selectRow(row)
            else:
                self.table.clearSelection()

    # --- the classes ---------------------------------------------------------------------

    def add_class(self) -> None:
        """Add a class at the end of the table and let its name be edited."""
        classes = self._session.classes
        try:
            self._session.classes = extended(classes, len(classes) + 1)
        except ValueError as error:
            show_warning(str(error))
            return
        number = len(classes) + 1
        self.choose(number)
        self.table.editItem(self.table.item(number - 1, NAME))

    def recolour(self, number: int, colour: str) -> None:
        """Draw a class in another colour, ``#rrggbb``."""
        self._change(number, colour=colour)

    def rename(self, number: int, name: str) -> None:
        """Call a class something else; its number, and what was painted, stay."""
        name = name.strip()
        taken = {c.name for i, c in enumerate(self._session.classes, start=1) if i != number}
        if not name or name in taken:
            show_warning(
                f"A class called {name!r} is there already." if name else "A class needs a name."
            )
            self._fill()
            return
        self._change(number, name=name)

    def _change(self, number: int, **changes: str) -> None:
        classes = list(self._session.classes)
        classes[number - 1] = replace(classes[number - 1], **changes)
        self._session.classes = tuple(classes)

    def _on_edited(self, item: QTableWidgetItem) -> None:
        if not self._filling and item.column() == NAME:
            self.rename(item.row() + 1, item.text())

    def _on_activated(self, item: QTableWidgetItem) -> None:
        """Answer the Enter key, and a double click on what cannot be typed over."""
        number = item.row() + 1
        if item.column() != COLOUR:
            self.choose(number)
            return
        chosen = QColorDialog.getColor(
            QColor(self._session.classes[number - 1].colour), self, "Colour of the class"
        )
        if chosen.isValid():
            self.recolour(number, chosen.name())

    # --- showing -------------------------------------------------------------------------

    def _fill(self, _: Any = None) -> None:
        selected = self.table.currentRow()
        self._filling = True
        classes = self._session.classes
        self.table.setRowCount(len(classes))
        for row, each in enumerate(classes):
            colour = QTableWidgetItem()
            colour.setBackground(QColor(each.colour))
            colour.setFlags(Qt.ItemIsEnabled)
            colour.setToolTip("Double-click, or Enter, to change the colour")
            self.table.setItem(row, COLOUR, colour)
            self.table.setItem(row, NAME, QTableWidgetItem(each.name))
            count = QTableWidgetItem()
            count.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
            count.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
            self.table.setItem(row, PAINTED, count)
        self._filling = False
        height = self.table.horizontalHeader().sizeHint().height() + 4
        height += sum(self.table.rowHeight(row) for row in range(min(len(classes), 8)))
        self.table.setFixedHeight(height)
        self._show_counts()
        if 0 <= selected < len(classes):
            self.table.selectRow(selected)

    def _count_soon(self, _: Any = None) -> None:
        self._count.start()

    def _show_counts(self, _: Any = None) -> None:
        counts = self._session.annotations.counts()
        for row in range(self.table.rowCount()):
            count = int(counts[row]) if row < len(counts) else 0
            self.table.item(row, PAINTED).setText(f"{count:,} px" if count else "–")

    def _show_hold_out(self, on: bool) -> None:
        self.hold_out.setChecked(on)

    def _on_hold_out(self, on: bool) -> None:
        if on == self._session.holds_out:
            return
        self._session.holds_out = on
        self._session.paint(self._session.annotations)
        self._show_held_out()

    def _show_held_out(self) -> None:
        session = self._session
        if self._counted is not session.strokes.held_out:  # most strokes leave it as it is
            self._counted = session.strokes.held_out
            self._pieces = session.strokes.held_out_pieces
            self._classes_held_out = int((session.strokes.held_out.counts() > 0).sum())
        pieces = self._pieces
        self.held_out.setVisible(bool(pieces))
        if not pieces:
            return
        text = f"{pieces} piece{'s' if pieces > 1 else ''} of paint held out."
        rivals = session.rivals
        if session.live is not None and rivals is not None and rivals.head_iou is not None:
            shown = "network" if rivals.network_is_better else "live head"
            text += (
                f" IoU there: live head {rivals.head_iou:.2f}, network alone "
                f"{rivals.network_iou:.2f}; the {shown} is shown."
            )
        elif self._classes_held_out < 2:
            text += " Two classes are needed to measure."
        elif self.answer.isChecked():
            text += " It is measured with the next answer."
        self.held_out.setText(text)

    def _enable(self, _: Any = None) -> None:
        self.content().setEnabled(self._session.image is not None)

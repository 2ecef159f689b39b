"""*Versions*: the weights that did best so far, and the way back to them."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_unet.plugin.forms import ROW_HEIGHT, blocked
from napari_unet.plugin.group import Group
from napari_unet.plugin.learning import IDLE
from napari_unet.plugin.session import KeptVersion, Session
from napari_unet.plugin.versions import VersionViewer

NAME, IOU, STEPS = range(3)
ROWS = 6
"""So many are seen without scrolling."""


class VersionsGroup(Group):
    """A table of versions; choosing one shows its masks."""

    def __init__(
        self, session: Session, versions: VersionViewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(
            "Versions", "Weights that did best so far, and the way back to them", parent
        )
        self._session = session
        self._versions = versions
        self._learns = False
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Version", "IoU", "Steps"])
        self.table.setToolTip(
            "Click a version to see its masks; painting goes back to the one in use. IoU is the "
            "mean over the classes of which paint is held out; a version is new where it is "
            "better than the one before"
        )
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setTabKeyNavigation(False)  # Tab goes on to the buttons
        self.table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(NAME, QHeaderView.Stretch)
        header.setSectionResizeMode(IOU, QHeaderView.ResizeToContents)
        header.setSectionResizeMode(STEPS, QHeaderView.ResizeToContents)
        self.compare = QPushButton("Compare")
        self.compare.setCheckable(True)
        self.compare.setToolTip(
            "Show, in the layer 'changes', where what is in use differs from the chosen version"
        )
        self.use = QPushButton("Use this version")
        self.use.setToolTip("Go back to the chosen version; the others stay in the list")
        self.status = QLabel()
        self.status.setWordWrap(True)
        layout = self.rows
        layout.addWidget(self.table)
        buttons = QHBoxLayout()
        buttons.addWidget(self.compare)
        buttons.addWidget(self.use)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        self.hide()  # until there is one

        self.table.itemSelectionChanged.connect(self._on_selected)
        self.compare.toggled.connect(self._on_compare)
        self.use.clicked.connect(self._on_use)
        versions.changed.connect(self._fill)
        session.events.versions.connect(self._fill)
        session.events.version.connect(self._fill)
        self._fill()

    def follow_training(self, state: str) -> None:
        """Let nobody go back while the model learns; it would learn on from another."""
        self._learns = state != IDLE
        self._enable()

    def _on_selected(self) -> None:
        row = self.table.currentRow()
        if row >= 0:
            self._versions.view(self._session.versions[row].number)

    def _on_compare(self, on: bool) -> None:
        self._versions.compares = on

    def _on_use(self) -> None:
        if self._chosen is not None:
            self._versions.use(self._chosen)

    @property
    def _chosen(self) -> int | None:
        """The version that was clicked, also while it is still being loaded; None if none was."""
        wanted = self._versions.wanted
        return self._versions.number if wanted is None else wanted

    def _fill(self, _: Any = None) -> None:
        versions = self._session.versions
        chosen = self._session.version if self._chosen is None else self._chosen
        with blocked(self.table):
            self.table.setRowCount(len(versions))
            for row, version in enumerate(versions):
                self._fill_row(row, version)
                if version.number == chosen:
                    self.table.selectRow(row)
                    self.table.scrollToItem(self.table.item(row, NAME))
        height = self.table.horizontalHeader().sizeHint().height() + 4
        height += sum(self.table.rowHeight(row) for row in range(min(len(versions), ROWS)))
        self.table.setFixedHeight(height)
        self.setVisible(bool(versions))
        self._enable()

    def _fill_row(self, row: int, version: KeptVersion) -> None:
        in_use = version.number == self._session.version
        texts = (
            (f"{version.number}: {version.name}" if version.begins else f"{version.number}")
            + (" (in use)" if in_use else ""),
            "–" if version.iou is None else f"{version.iou:.3f}",
            f"{version.steps:,}",
        )
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable)
            if column != NAME:
                item.setTextAlignment(Qt.AlignRight | Qt.AlignVCenter)
            font = item.font()
            font.setBold(in_use)
            item.setFont(font)
            if column == IOU:
                item.setToolTip(
                    f"Of what the strokes make of it, on {version.pieces} held-out pieces of paint"
                    if version.iou is not None
                    else "Not measured yet: paint of two classes must be held out"
                )
            self.table.setItem(row, column, item)

    def _enable(self) -> None:
        chosen = self._chosen
        self.compare.setEnabled(self._versions.number is not None)
        self.use.setEnabled(chosen is not None and not self._learns)
        if self._versions.wanted is not None:
            self.status.setText(f"Version {chosen} is on its way to the mask …")
        else:
            self.status.setText(
                f"The mask is that of version {chosen}. Paint to go back to the one in use."
            )
        self.status.setVisible(chosen is not None)

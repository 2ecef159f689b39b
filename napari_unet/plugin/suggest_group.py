"""*Where next?*: buttons that lead to places worth painting, and what is in doubt there."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_unet.plugin.group import Group
from napari_unet.plugin.session import Session
from napari_unet.plugin.suggesting import Suggester
from napari_unet.plugin.uncertainty import UncertaintyView


class SuggestGroup(Group):
    """Buttons of the suggester, and the switch of the uncertainty."""

    def __init__(
        self,
        session: Session,
        suggester: Suggester,
        uncertainty: UncertaintyView,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__("Where next?", "Leads to places where painting is worth most", parent)
        self._suggester = suggester
        self.next = QPushButton("Next place")
        self.next.setToolTip(
            "Go to the next place where the model is unsure and nothing is painted yet (key N)"
        )
        self.previous = QPushButton("Previous")
        self.previous.setToolTip("Go back to the place before (Shift+N)")
        self.again = QPushButton("Look again")
        self.again.setToolTip(
            "Look for places anew, with what was learnt so far, from the section in view outwards"
        )
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setToolTip(
            "Which place this is, and between which classes the model is undecided there. If the "
            "mask is right, go on to the next one"
        )
        self.show_uncertainty = QCheckBox("Show uncertainty")
        self.show_uncertainty.setToolTip(
            "A layer over the section in view: dark where the model is sure, bright where several "
            "classes are about as probable. Borders are always a little uncertain"
        )
        layout = self.rows
        buttons = QHBoxLayout()
        for button in (self.next, self.previous, self.again):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        layout.addWidget(self.show_uncertainty)

        self.next.clicked.connect(suggester.next)
        self.previous.clicked.connect(suggester.previous)
        self.again.clicked.connect(suggester.look_again)
        self.show_uncertainty.toggled.connect(uncertainty.enable)
        uncertainty.enabled_changed.connect(self.show_uncertainty.setChecked)
        suggester.changed.connect(self._show)
        session.events.image.connect(self._show)
        self._show()

    def _show(self, _: object = None) -> None:
        suggester = self._suggester
        self.next.setEnabled(suggester.ready)
        self.previous.setEnabled(suggester.ready and suggester.can_go_back)
        self.again.setEnabled(suggester.ready and not suggester.searching)
        self.show_uncertainty.setEnabled(suggester.ready)
        self.status.setText(suggester.status())
        self.status.setVisible(bool(suggester.status()))

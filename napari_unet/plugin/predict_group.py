"""*Predict*: the section in view, the stack, or whatever comes into view."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_unet.plugin.forms import aligned, config_form, configured, show_values
from napari_unet.plugin.group import Group
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.predicting import Predictor
from napari_unet.plugin.session import Session

CALLED = {
    "test_time_augmentation": "Average over",
    "none": "one look",
    "symmetries": "8 symmetries",
    "rotations": "7 rotations",
}


class PredictGroup(Group):
    """Buttons of the predictor, and how far it is."""

    def __init__(
        self,
        session: Session,
        keeper: LayerKeeper,
        predictor: Predictor,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(
            "Predict", "The mask of the section in view, or of the whole stack", parent
        )
        self._session = session
        self._keeper = keeper
        self._predictor = predictor
        self.section = QPushButton("This section")
        self.section.setToolTip("Predict the mask of the section in view")
        self.stack = QPushButton("The stack")
        self.stack.setToolTip("Predict all sections, those nearest to the view first")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop predicting; what is done stays in the mask")
        self.keep_up = QCheckBox("Keep up with the view")
        self.keep_up.setToolTip(
            "Predict each section as it comes into view, and again when the network has learnt"
        )
        self.keep_up.setChecked(predictor.keeps_up)
        self.options = config_form(session.prediction, ("test_time_augmentation",), CALLED)
        for option in self.options:
            option.tooltip += (
                " While you paint or the network learns, the view follows with one look."
            )
        self.progress = QProgressBar()
        self.progress.setToolTip("Sections of the stack that are predicted")
        self.progress.setFormat("%v of %m sections")
        self.progress.hide()
        layout = self.rows
        buttons = QHBoxLayout()
        for button in (self.section, self.stack, self.stop):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        options = Group("Options", "When masks are computed, and over how many looks")
        options.rows.addWidget(self.keep_up)
        options.rows.addWidget(aligned(*self.options))
        options.grown.connect(self.grown)
        layout.addWidget(options)

        self.section.clicked.connect(self._predict_section)
        self.stack.clicked.connect(self._predict_stack)
        self.stop.clicked.connect(predictor.stop)
        self.keep_up.toggled.connect(self._set_keep_up)
        self.options.changed.connect(self._set_prediction)
        predictor.progress.connect(self._show_progress)
        predictor.changed.connect(self._enable)
        session.events.image.connect(self._enable)
        session.events.model.connect(self._enable)
        session.events.prediction.connect(partial(show_values, self.options))
        self._enable()

    def _predict_section(self) -> None:
        self._keeper.mask()
        self._predictor.predict_view()

    def _predict_stack(self) -> None:
        self._keeper.mask()
        self._predictor.predict_stack()

    def _set_keep_up(self, on: bool) -> None:
        self._predictor.keeps_up = on
        if on:
            self._predictor.predict_view()

    def _set_prediction(self) -> None:
        self._session.prediction = configured(self.options, self._session.prediction)

    def _show_progress(self, done: float, total: int) -> None:
        self.progress.setMaximum(total)
        self.progress.setValue(int(done))

    def _enable(self) -> None:
        ready = self._session.image is not None and self._session.model is not None
        self.section.setEnabled(ready)
        self.stack.setEnabled(ready and not self._predictor.predicts_stack)
        self.stop.setEnabled(self._predictor.busy)
        self.options.enabled = not self._predictor.predicts_stack
        self.progress.setVisible(self._predictor.predicts_stack)

"""The dock "U-Net": one column, read from top to bottom."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import napari.viewer
from napari.layers import Image
from qtpy.QtCore import QSettings, QSize, Qt, QTimer
from qtpy.QtWidgets import QApplication, QComboBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_unet.core.config import TrainingConfig
from napari_unet.io.project_state import ProjectState
from napari_unet.plugin.correct_group import CorrectGroup
from napari_unet.plugin.export_group import ExportGroup
from napari_unet.plugin.exporting import Exporter
from napari_unet.plugin.group import Group
from napari_unet.plugin.image_group import ImageGroup
from napari_unet.plugin.layers import is_ours, itself
from napari_unet.plugin.learn_group import LearnGroup
from napari_unet.plugin.learning import Trainer
from napari_unet.plugin.live import Live
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.painting import StrokeWatcher
from napari_unet.plugin.predict_group import PredictGroup
from napari_unet.plugin.predicting import Predictor
from napari_unet.plugin.project_group import ProjectGroup
from napari_unet.plugin.projects import ProjectKeeper
from napari_unet.plugin.session import Session, user_data_folder
from napari_unet.plugin.suggest_group import SuggestGroup
from napari_unet.plugin.suggesting import Suggester
from napari_unet.plugin.uncertainty import UncertaintyView
from napari_unet.plugin.versions import VersionViewer
from napari_unet.plugin.versions_group import VersionsGroup

WIDTH = 330

CLOSED_AT_FIRST = ("project", "suggest", "export")
"""Groups that nobody needs for a first correction; without them it fits a laptop's screen."""


FOCUS = """
QPushButton:focus, QCheckBox:focus, QComboBox:focus, QTableWidget:focus { border: 1px solid #4c8df0; }
"""
"""Shows where the keys go; napari's theme does not."""


class UNetDock(QScrollArea):
    """Open, predict, correct, learn, export.

    Parameters
    ----------
    viewer
        The viewer whose layers are worked on.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        viewer = itself(viewer)
        self._viewer = viewer
        self.session = Session()
        self.keeper = LayerKeeper(viewer, self.session, self)
        self.predictor = Predictor(viewer, self.session, self)
        self.watcher = StrokeWatcher(viewer, self.session, self)
        # It hears of strokes before they are answered: what is written in the midst of that takes
        # four times as long, and holds the answer up.
        self.projects = ProjectKeeper(
            viewer,
            self.session,
            self.keeper,
            self.predictor,
            lambda: self.learn_group.config(),
            self,
        )
        self.live = Live(viewer, self.session, self)
        self.suggester = Suggester(viewer, self.session, self)
        self.uncertainty = UncertaintyView(viewer, self.session, self)
        self.trainer = Trainer(self.session, self)
        self.versions = VersionViewer(viewer, self.session, self.live, self)
        self.exporter = Exporter(self.session, self.keeper, self.predictor, self)
        self.image_group = ImageGroup(viewer, self.session, self.keeper)
        self.predict_group = PredictGroup(self.session, self.keeper, self.predictor)
        self.correct_group = CorrectGroup(viewer, self.session, self.keeper, self.live)
        self.suggest_group = SuggestGroup(self.session, self.suggester, self.uncertainty)
        self.learn_group = LearnGroup(self.session, self.trainer, self.live)
        self.versions_group = VersionsGroup(self.session, self.versions)
        self.export_group = ExportGroup(self.session, self.exporter)
        self.project_group = ProjectGroup(self.session, self.projects)
        self.projects.opened.connect(self._show_recipe)

        self.trainer.state_changed.connect(self.image_group.follow_training)
        self.trainer.state_changed.connect(self.predictor.follow_training)
        self.trainer.state_changed.connect(self.live.follow_training)
        self.trainer.state_changed.connect(self.versions_group.follow_training)
        self.live.section_drawn.connect(self.predictor.drawn_over)
        self.live.section_answered.connect(self.predictor.take_over)

        column = QWidget()
        column.setStyleSheet(FOCUS)
        layout = QVBoxLayout(column)
        layout.setContentsMargins(4, 0, 4, 0)
        layout.setSpacing(2)
        self.groups: dict[str, Group] = {
            "image": self.image_group,
            "project": self.project_group,
            "predict": self.predict_group,
            "correct": self.correct_group,
            "suggest": self.suggest_group,
            "learn": self.learn_group,
            "versions": self.versions_group,
            "export": self.export_group,
        }
        for group in self.groups.values():
            layout.addWidget(group)
        layout.addStretch()
        for combo in column.findChildren(QComboBox):
            # A long layer or model name must not make the column wider than the dock.
            combo.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(8)
        self.setWidget(column)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.setMinimumWidth(WIDTH)
        # A dock's closeEvent is not reliably called when napari quits, and its own methods
        # are not called any more when it is destroyed: so its parts let go by themselves.
        parts = (
            self.keeper,
            self.predictor,
            self.watcher,
            self.live,
            self.suggester,
            self.uncertainty,
            self.trainer,
            self.versions,
            self.projects,
            self.image_group,
        )
        QApplication.instance().aboutToQuit.connect(self.trainer.close)
        QApplication.instance().aboutToQuit.connect(self.projects.close)
        self.destroyed.connect(partial(_let_go, parts))
        self._open_groups()
        self.image_group.begin()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size that the dock asks napari for."""
        return QSize(WIDTH, 900)

    def _open_groups(self) -> None:
        """Open the groups that were open last time, and from now on remember which are."""
        kept = QSettings(str(user_data_folder() / "dock.ini"), QSettings.IniFormat)
        for name, group in self.groups.items():
            group.is_open = kept.value(f"open/{name}", name not in CLOSED_AT_FIRST, type=bool)
            group.toggled.connect(partial(kept.setValue, f"open/{name}"))
            group.grown.connect(partial(self._bring_into_view, group))

    def _bring_into_view(self, group: Group) -> None:
        layout_is_done = QTimer(group, singleShot=True, interval=50)
        layout_is_done.timeout.connect(partial(self.ensureWidgetVisible, group, 0, 0))
        layout_is_done.timeout.connect(layout_is_done.deleteLater)
        layout_is_done.start()

    def _show_recipe(self, state: ProjectState) -> None:
        self.learn_group.show_config(TrainingConfig.from_dict(dict(state.settings["learn"])))

    def use_selected_image(self) -> None:
        """Work on the image that is selected in the layer list, if one is."""
        layer = self._viewer.layers.selection.active
        if isinstance(layer, Image) and not is_ours(layer):
            self.image_group.image.value = layer


def _let_go(parts: tuple[Any, ...], _: object = None) -> None:
    """End the threads and the callbacks of a dock that is gone."""
    with ExitStack() as all_of_them:  # also where one of them fails
        for part in reversed(parts):
            all_of_them.callback(part.let_go)

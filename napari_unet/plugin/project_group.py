"""*Project*: where the work on an image is kept."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from napari_unet.io.files import FileWriteError
from napari_unet.io.projects import SUFFIX
from napari_unet.plugin.group import Group
from napari_unet.plugin.projects import ProjectKeeper, default_folder
from napari_unet.plugin.session import Session

BEGIN = "Made with the first stroke; then nothing that is painted is lost."


class ProjectGroup(Group):
    """Name of the project, and buttons to open one and to save it elsewhere."""

    def __init__(
        self, session: Session, projects: ProjectKeeper, parent: QWidget | None = None
    ) -> None:
        super().__init__("Project", "Where the work on this image is kept", parent)
        self._session = session
        self._projects = projects
        self.name = QLabel(BEGIN)
        self.name.setWordWrap(True)
        self.open = QPushButton("Open …")
        self.open.setToolTip(
            "Open a project (a folder name.unet): image, corrections, versions, masks and view, as "
            "they were"
        )
        self.save = QPushButton("Save as …")
        self.save.setToolTip(
            "Make the project now, or go on with a copy of it in another folder. It is written at "
            "every stroke, so there is nothing else to save"
        )
        layout = self.rows
        layout.addWidget(self.name)
        buttons = QHBoxLayout()
        buttons.addWidget(self.open)
        buttons.addWidget(self.save)
        layout.addLayout(buttons)

        self.open.clicked.connect(self._on_open)
        self.save.clicked.connect(self._on_save)
        projects.changed.connect(self._show)
        session.events.image.connect(self._show)
        self._show()

    def _on_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a project: choose a folder *.unet")
        if folder:
            self._projects.open(Path(folder))

    def _on_save(self) -> None:
        session = self._session
        if session.image is None:
            return
        suggestion = default_folder(session.image_layer, session.image.name)
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save the project", str(suggestion), f"Projects (*{SUFFIX})"
        )
        if chosen:
            self.save_to(Path(chosen))

    def save_to(self, folder: Path) -> None:
        """Make the project in a folder, or go on with a copy of it there."""
        try:
            self._projects.save_as(folder)
        except FileWriteError as error:
            show_error(str(error))

    def _show(self) -> None:
        project, copying = self._projects.project, self._projects.copying
        text = BEGIN if project is None else f"{project.folder.name}, written as you go."
        if copying is not None:
            text += f" It is being copied to {copying.name}; go on meanwhile."
        self.name.setText(text)
        self.name.setToolTip("" if project is None else str(project.folder))
        self.title = "Project" if project is None else f"Project: {project.folder.name}"
        self.save.setEnabled(self._session.image is not None and copying is None)

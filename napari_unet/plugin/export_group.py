"""*Export*: masks, probabilities and the model, to files."""

from __future__ import annotations

from pathlib import Path

from magicgui.widgets import ComboBox
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_unet.io.files import FileWriteError
from napari_unet.io.images import WRITERS
from napari_unet.plugin.exporting import KINDS, MODEL, ONE_CLASS, PROBABILITIES, Exporter
from napari_unet.plugin.forms import aligned
from napari_unet.plugin.group import Group
from napari_unet.plugin.session import Session

ALL_CLASSES = "all classes"
MODEL_PATTERNS = (
    "Models of this program (*.safetensors)",
    "BioImage.IO packages (*.zip)",
    "ONNX (*.onnx)",
)


class ExportGroup(Group):
    """What to export, and where to."""

    def __init__(self, session: Session, exporter: Exporter, parent: QWidget | None = None) -> None:
        super().__init__("Export", "Writes masks, probabilities or the model to files", parent)
        self._session = session
        self._exporter = exporter
        self.kind = ComboBox(
            label="What",
            choices=KINDS,
            tooltip="What is written; sections without a mask are predicted first. The model is the "
            "network alone, without the answers to strokes",
        )
        self.class_choice = ComboBox(
            label="Class", choices=self._class_choices, tooltip="The class that is written"
        )
        self.button = QPushButton("Export …")
        self.button.setToolTip("Choose a file; it keeps the image's pixel size and units")
        layout = self.rows
        layout.addWidget(aligned(self.kind, self.class_choice))
        layout.addWidget(self.button)

        self.kind.changed.connect(self._enable)
        self.button.clicked.connect(self._on_export)
        exporter.changed.connect(self._enable)
        session.events.image.connect(self._enable)
        session.events.model.connect(self._enable)
        session.events.classes.connect(self.class_choice.reset_choices)
        self._enable()

    def _class_choices(self, _: object = None) -> list[tuple[str, int]]:
        choices = [(c.name, n) for n, c in enumerate(self._session.classes, start=1)]
        if self.kind.value == PROBABILITIES:
            return [(ALL_CLASSES, 0), *choices]
        return choices[1:] + choices[:1]  # a structure is more often wanted than the background

    def _on_export(self) -> None:
        kind = self.kind.value
        if kind == MODEL:
            suggestion = "model.safetensors"
            pattern = ";;".join(MODEL_PATTERNS)
        else:
            suggestion = f"{self._suggested_name()}.tif"
            pattern = "Images (" + " ".join(f"*{suffix}" for suffix in WRITERS) + ")"
        chosen, _ = QFileDialog.getSaveFileName(self, f"Export: {kind}", suggestion, pattern)
        if chosen:
            self.export_to(Path(chosen))

    def _suggested_name(self) -> str:
        image = self._session.image
        name = image.name if image is not None else "image"
        what = {ONE_CLASS: self.class_choice.current_choice, PROBABILITIES: "probabilities"}
        return f"{name}-{what.get(self.kind.value, 'mask')}"

    def export_to(self, path: Path) -> None:
        """Write what is chosen in the form to a file."""
        number = self.class_choice.value if self.kind.value in (ONE_CLASS, PROBABILITIES) else 0
        try:
            self._exporter.export(self.kind.value, path, int(number or 0))
        except (ValueError, FileWriteError) as error:
            show_error(str(error))

    def _enable(self) -> None:
        self.class_choice.reset_choices()
        self.class_choice.enabled = self.kind.value in (ONE_CLASS, PROBABILITIES)
        ready = self._session.image is not None and self._session.model is not None
        self.button.setEnabled(ready and not self._exporter.busy)

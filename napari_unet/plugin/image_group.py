"""*Image and model*: what is segmented, by which network, on which processor."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtWidgets import (
    QFileDialog,
    QLabel,
    QMessageBox,
    QPushButton,
    QWidget,
)

from napari_unet.core.devices import choose_device, describe
from napari_unet.core.foreign import Model
from napari_unet.core.image import ImageArray
from napari_unet.core.units import nanometres
from napari_unet.io.files import CodeNotTrustedError, FileWriteError
from napari_unet.io.model_files import find_model
from napari_unet.io.models import DEFAULT_MODEL, bundled_models
from napari_unet.plugin.data_sets import DataSets
from napari_unet.plugin.forms import LengthField, aligned, with_unit
from napari_unet.plugin.group import Group
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import is_ours
from napari_unet.plugin.learning import IDLE
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.session import Session, learnt_models_folder

FROM_FILE = "Open a model file …"
MODEL_FILES = ("*.safetensors", "*.zip", "*.onnx", "*.yaml", "*.yml")
"""Model files, packages and the descriptions in unpacked packages."""

NEWEST_LEARNT = 5


class ImageGroup(Group):
    """Choice of image layer, model and device."""

    def __init__(
        self, viewer: Viewer, session: Session, keeper: LayerKeeper, parent: QWidget | None = None
    ) -> None:
        super().__init__(
            "Image and model", "What is segmented, by which network, on which processor", parent
        )
        self._viewer = viewer
        self._session = session
        self._keeper = keeper
        self._opened: dict[str, Path] = {}
        self._shown: Image | None = None
        self._loading: Job | None = None
        self._name = DEFAULT_MODEL
        self._steps_when_loaded = 0
        self._learns = False
        self.image = ComboBox(
            label="Image",
            choices=self._image_layers,
            nullable=True,
            tooltip="The image layer that is segmented",
        )
        self.model = ComboBox(
            label="Model",
            choices=self._model_names,
            tooltip="The network: bundled with the program, learnt here before, or from a file",
        )
        self.data_sets = DataSets(viewer, session, keeper)
        self.device = ComboBox(
            label="Device",
            choices=_device_choices(),
            tooltip="The processor that predicts and learns; automatic takes a GPU if there is one",
        )
        self.pixel_size = LengthField()
        self.pixel_size.setToolTip(
            "Side of a pixel in nanometres; leave it empty if it is not known. The image, its mask "
            "and its corrections get it as their scale, and the network sees the image at the "
            "pixel size that it has learnt"
        )
        self.magnification = QLabel()
        self.magnification.setWordWrap(True)
        self.magnification.setToolTip("At which pixel size the network sees the image")
        self.size = QLabel()
        self.size.setWordWrap(True)
        self.size.setToolTip("Size of the image and distance of its sections")
        self.known = QLabel()
        self.known.setWordWrap(True)
        self.known.hide()  # until there is something to say; the classes are listed below
        self.back = QPushButton("Back to the model as it was")
        self.back.setToolTip("Use the chosen model again without what was learnt here")
        self.back.hide()
        form = aligned(
            self.image,
            ("In its file", self.data_sets),
            ("Pixel size", with_unit(self.pixel_size, "nm")),
            self.size,
            self.magnification,
            self.model,
            self.device,
        )
        self._data_sets_label = form.layout().labelForField(self.data_sets)
        self._show_data_sets(False)
        layout = self.rows
        for part in (form, self.known, self.back):
            layout.addWidget(part)

        self.image.changed.connect(self._on_image)
        self.data_sets.found.connect(self._show_data_sets)
        self.pixel_size.changed.connect(keeper.set_pixel_size)
        self.model.changed.connect(self._on_model)
        self.back.clicked.connect(lambda: self._on_model(self.model.value))
        self.device.changed.connect(self._on_device)
        session.events.image.connect(self._show_size)
        session.events.image_layer.connect(self._show_image)
        session.events.model.connect(self._show_model)
        session.events.model_source.connect(self._show_source)
        session.events.model.connect(self._show_magnification)
        self._layer_events = (
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.events.reordered,
        )
        for event in self._layer_events:
            event.connect(self._on_layers)
        self._show_size()

    def let_go(self) -> None:
        """Stop following the viewer."""
        for event in self._layer_events:
            event.disconnect(self._on_layers)
        if self._shown is not None:
            self._shown.events.name.disconnect(self._show_choice)

    def begin(self) -> None:
        """Load the bundled model, and choose an image if one is open."""
        self.model.value = DEFAULT_MODEL
        self._on_model(DEFAULT_MODEL)
        self._on_layers()

    # --- image ---------------------------------------------------------------------------

    def _image_layers(self, _: object = None) -> list[Image]:
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Image) and not is_ours(layer)
        ]

    def _on_layers(self, event: Any = None) -> None:
        self._show_choice()
        layers = self._image_layers()
        if self._session.image_layer is None and layers:
            self.image.value = layers[-1]
            self._on_image(layers[-1])

    def _on_image(self, layer: Image | None) -> None:
        try:
            self._keeper.choose(layer)
        except (ValueError, MemoryError, FileWriteError) as error:
            show_error(str(error))

    def _show_image(self, layer: Image | None) -> None:
        if self._shown is not None:
            self._shown.events.name.disconnect(self._show_choice)
        self._shown = layer
        if layer is not None:
            layer.events.name.connect(self._show_choice)
        self._show_choice()

    def _show_choice(self, event: Any = None) -> None:
        """List the layers anew; a choice whose name has changed would otherwise be lost."""
        with self.image.changed.blocked():
            self.image.reset_choices()
            layer = self._session.image_layer
            self.image.value = layer if layer in self._image_layers() else None

    def _show_data_sets(self, there: bool) -> None:
        self.data_sets.setVisible(there)
        self._data_sets_label.setVisible(there)

    def _show_size(self, image: ImageArray | None = None) -> None:
        self.size.setText("Open an image to begin." if image is None else size_text(image))
        self.pixel_size.show_value(image.pixel_size if image else None)
        self._enable_pixel_size()
        self._show_magnification()

    def _enable_pixel_size(self) -> None:
        self.pixel_size.setEnabled(self._session.image is not None and not self._learns)

    def _show_magnification(self) -> None:
        image, model = self._session.image, self._session.model
        text = magnification_text(model, image) if model and image else ""
        self.magnification.setText(text)
        self.magnification.setVisible(bool(text))

    # --- model ---------------------------------------------------------------------------

    def follow_training(self, state: str) -> None:
        """Let the model, and how it sees the image, be changed only while none is learning."""
        self._learns = state != IDLE
        self._enable_pixel_size()
        self.model.enabled = state == IDLE
        self.back.setEnabled(state == IDLE)

    def _model_names(self, _: object = None) -> list[str]:
        learnt = [
            path
            for path in learnt_models_folder().glob("*.safetensors")
            if not path.name.startswith(".")  # one that is being written
        ]
        # Names end with the moment at which learning began.
        learnt.sort(key=lambda path: path.stem[-len("20000101-000000") :], reverse=True)
        self._learnt = {f"learnt: {path.stem}": path for path in learnt[:NEWEST_LEARNT]}
        return [*(m.name for m in bundled_models()), *self._learnt, *self._opened, FROM_FILE]

    def _on_model(self, name: str) -> None:
        if name == FROM_FILE:
            chosen, _ = QFileDialog.getOpenFileName(
                self, "Open a model", "", f"Models ({' '.join(MODEL_FILES)});;All files (*)"
            )
            if not chosen:
                self._show_model_name()
                return
            self.load(Path(chosen))
            return
        path = self._learnt.get(name) or self._opened.get(name)
        self._load(str(path) if path else name)

    def load(self, path: Path) -> None:
        """Use the model in a file."""
        self._opened[path.name] = path
        with self.model.changed.blocked():
            self.model.reset_choices()
            self.model.value = path.name
        self._load(str(path))

    def _load(self, name: str, *, trust: bool = False) -> None:
        job = Job(f"Load {Path(name).name}", call(partial(_found, name, trust=trust)), parent=self)
        self._loading = job  # only the latest wish counts
        job.returned.connect(partial(self._on_found, job, self.model.value, name))
        job.failed.connect(lambda _: self._show_model_name())
        job.start()

    def _on_found(self, job: Job, name: str, source: str, found: Model | str) -> None:
        if job is not self._loading:
            return
        if not isinstance(found, str):
            self._adopt(name, source, found)
        elif self.ask_for_trust(found):
            self._load(source, trust=True)
        else:
            self._show_model_name()

    def ask_for_trust(self, message: str) -> bool:
        """Ask whether the code of a model may be run."""
        answer = QMessageBox.question(
            self,
            "Run the code of this model?",
            f"{message}\n\nDo you trust its source, and want to run it?",
            QMessageBox.Yes | QMessageBox.No,
            QMessageBox.No,
        )
        return bool(answer == QMessageBox.Yes)

    def _adopt(self, name: str, source: str, model: Model) -> None:
        before = self._steps_when_loaded
        self._steps_when_loaded = model.steps
        try:
            again = name == self._name and self._session.model is not None
            self._session.adopt_model(model, keep_names=again)
            self._name = name
            self._session.model_source = source
        except ValueError as error:
            self._steps_when_loaded = before
            show_error(str(error))
            self._show_model_name()

    def _show_source(self, source: str) -> None:
        """Show the file that a project has brought its model from."""
        path = Path(source)
        if not path.is_absolute():
            return
        names = {each: name for name, each in {**self._learnt, **self._opened}.items()}
        self._name = names.get(path, path.name)
        if path not in names:
            self._opened[path.name] = path
        self._show_model_name()

    def _show_model_name(self) -> None:
        """Show the model in use again, after another could not be had."""
        with self.model.changed.blocked():
            self.model.reset_choices()
            self.model.value = self._name

    def _show_model(self, model: Model | None) -> None:
        if model is not None:
            here = model.steps - self._steps_when_loaded
            text = f"Has learnt here for {here} steps." if here > 0 else ""
            if not self._session.learner:
                text = "It predicts, but cannot learn here."
            self.known.setText(text)
            self.known.setToolTip(f"Knows {', '.join(c.name for c in model.classes)}")
            self.known.setVisible(bool(text))
            self.back.setVisible(here > 0)

    # --- device --------------------------------------------------------------------------

    def _on_device(self, device: str) -> None:
        self._session.device = device


def _found(name: str, *, trust: bool) -> Model | str:
    """A model, or what is to be told and asked before it is used."""
    try:
        return find_model(name, trust=trust)
    except CodeNotTrustedError as error:
        return str(error)  # workers take an error that is returned for one that was raised


def _device_choices() -> list[tuple[str, str]]:
    automatic = choose_device("auto")
    choices = [(f"automatic: {describe(automatic)}", "auto")]
    if automatic.type != "cpu":
        choices.append((describe(choose_device("cpu")), "cpu"))
    return choices


def size_text(image: ImageArray) -> str:
    """Return the size of an image, such as ``12 × 512 × 512 px, sections 50 nm apart``."""
    text = " × ".join(str(n) for n in image.shape) + " px"
    length = {
        axis: nanometres(scale, unit)
        for axis, scale, unit in zip(image.axes, image.scale, image.units, strict=True)
    }
    y, x, z = length["Y"], length["X"], length.get("Z")
    if y and x and not math.isclose(y, x, rel_tol=1e-3):
        text += f" of {y:.4g} × {x:.4g} nm"
    return text + (f", sections {z:.4g} nm apart" if z else "")


def magnification_text(model: Model, image: ImageArray) -> str:
    """Return what is done to an image for the network to see its own pixel size; maybe nothing."""
    if model.pixel_size is None:
        return ""
    sees = f"{model.name} sees {model.pixel_size:.3g} nm"
    if image.pixel_size is None:
        return f"The pixel size is not known; the image is taken as it is. {sees}."
    factor = model.magnification(image)
    if factor == 1:
        return ""
    changed = f"enlarged {factor:.2g}" if factor > 1 else f"reduced {1 / factor:.2g}"
    wanted = image.pixel_size / model.pixel_size
    limit = "" if math.isclose(factor, wanted) else ", which is the most"
    return f"{sees}: {changed} times{limit}."

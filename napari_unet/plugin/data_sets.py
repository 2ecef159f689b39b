"""Which image of a file is worked on, where there are several in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_unet.core.image import ImageArray
from napari_unet.io.contents import StoredImage
from napari_unet.io.images import file_of, images_in, read_image
from napari_unet.plugin.jobs import Job, call
from napari_unet.plugin.layers import CORRECTIONS, MASK, OWNER
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.reading import open_layers, path_of, read_here
from napari_unet.plugin.session import Session


class DataSets(QComboBox):
    """Lists the images in the file of the session's image, and opens the one that is chosen.

    It is empty where the file holds no other.
    """

    found = Signal(bool)
    """Whether there is something to choose from."""

    def __init__(
        self, viewer: Viewer, session: Session, keeper: LayerKeeper, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._keeper = keeper
        self._listing: Job | None = None
        self._opening: Job | None = None
        self.setToolTip(
            "The images in this file, with their sizes; choosing one opens it. What was painted on "
            "the one before stays with it"
        )
        self.activated.connect(self._on_chosen)
        session.events.image_layer.connect(self._on_layer)
        self._show([])

    @property
    def path(self) -> Path | None:
        """What the session's image was read from; None if from nowhere, or by another program."""
        layer = self._session.image_layer
        return Path(path_of(layer)) if layer is not None and read_here(layer) else None

    # --- what there is -------------------------------------------------------------------

    def _on_layer(self) -> None:
        """List the images, in a thread since there may be many on a slow disk."""
        self._show([])
        path, self._listing = self.path, None
        if path is None:
            return
        job = Job(f"Look into {path.name}", call(partial(images_in, path)), parent=self)
        self._listing = job  # only the newest counts
        job.returned.connect(partial(self._on_listed, job))
        job.start()

    def _on_listed(self, job: Job, images: list[StoredImage]) -> None:
        if job is self._listing:
            self._listing = None
            self._show(images if len(images) > 1 else [])

    def _show(self, images: list[StoredImage]) -> None:
        self.clear()
        for each in images:
            self.addItem(str(each), each.name)
        self._show_current()
        self.found.emit(bool(images))

    def _show_current(self) -> None:
        path = self.path
        if path is None or not self.count():
            return
        file = file_of(path)
        named = path.relative_to(file).as_posix() if path.is_relative_to(file) else "."
        # Where none is named, the first one is read.
        self.setCurrentIndex(max(0, self.findData(named)))

    # --- another one ---------------------------------------------------------------------

    def _on_chosen(self, index: int) -> None:
        path = self.path
        if path is None:
            return
        chosen = file_of(path) / self.itemData(index)
        self._show_current()  # until the other one is there
        if self.currentIndex() == index:
            return
        job = Job(f"Open {self.itemData(index)}", call(partial(read_image, chosen)), parent=self)
        self._opening = job
        job.returned.connect(partial(self._on_read, job, chosen, self._session.image_layer))
        job.start()

    def _on_read(self, job: Job, path: Path, before: Image | None, image: ImageArray) -> None:
        if job is not self._opening or before is not self._session.image_layer:
            return  # something else was chosen meanwhile
        session = self._session
        painted = bool(session.annotations.sections) or session.project is not None
        opened = [
            each for each in open_layers(self._viewer, path, image) if isinstance(each, Image)
        ]
        if not opened:
            return  # labels lie over the image
        try:
            self._keeper.choose(opened[-1])
        except ValueError as error:
            show_error(str(error))
            return
        if before is not None and not painted:
            self._remove(before)

    def _remove(self, before: Image) -> None:
        """Remove an image on which nobody has painted, with what lies over it."""
        layers = self._viewer.layers
        for each in [each for each in layers if each is before or _owner(each) == before.unique_id]:
            layers.remove(each)
        for each, name in ((self._session.mask, MASK), (self._session.corrections, CORRECTIONS)):
            if each is not None:
                each.name = name  # which was still taken
        self._viewer.reset_view()


def _owner(layer: Layer) -> object:
    return layer.metadata.get(OWNER, (None, None))[1]

"""Keeps the project of the image on disk: every stroke, version and mask as it is finished."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.config import Config, PredictionConfig, TrainingConfig
from napari_unet.core.foreign import Model
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import SectionIndex
from napari_unet.core.model import UNetModel
from napari_unet.io.extras import MissingLibraryError
from napari_unet.io.files import FileReadError, FileWriteError, replacing
from napari_unet.io.images import file_of, read_image, write_image
from napari_unet.io.model_files import find_model
from napari_unet.io.models import (
    DEFAULT_MODEL,
    bundled_models,
    bundled_name,
    load_model,
    save_model,
)
from napari_unet.io.project_state import (
    ImageSource,
    ProjectState,
    StoredVersion,
    fingerprint,
    fingerprint_or_none,
    image_source,
)
from napari_unet.io.projects import (
    SUFFIX,
    VERSIONS,
    Project,
    copy_project,
    create_project,
    open_project,
)
from napari_unet.io.scratch import make_room, sections_in_use
from napari_unet.plugin.jobs import Job, Work, call
from napari_unet.plugin.layers import CORRECTIONS, find_layer, new_layer
from napari_unet.plugin.opening import LayerKeeper
from napari_unet.plugin.predicting import Predictor
from napari_unet.plugin.project_masks import ProjectMasks
from napari_unet.plugin.project_view import look_of, show_look
from napari_unet.plugin.reading import open_layers, path_of
from napari_unet.plugin.session import KeptVersion, Session, user_data_folder

SAVE_MILLISECONDS = 500
"""So long after a change the settings and the view are written; paint is written at once."""


class ProjectKeeper(QObject):
    """Makes, saves, opens and closes the project of the session's image."""

    changed = Signal()
    """Another project is open, or none any more."""
    opened = Signal(object)
    """A project was opened; its `ProjectState`."""

    def __init__(
        self,
        viewer: Viewer,
        session: Session,
        keeper: LayerKeeper,
        predictor: Predictor,
        recipe: Callable[[], TrainingConfig],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._session = session
        self._keeper = keeper
        self._recipe = recipe
        self._opening = False
        self._corrections: Labels | None = None
        self._maker = ThreadPoolExecutor(1, "make a project")
        self._made: Future[Project] | None = None
        self._copying: Path | None = None
        self._told = ""
        self._kept_models: dict[Path, UNetModel] = {}
        self._masks = ProjectMasks(viewer, session, predictor, self)
        self._masks.failed.connect(self._complain)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SAVE_MILLISECONDS)
        self._soon.timeout.connect(self.save)
        events = session.events
        events.image_layer.connect(self.close)
        events.corrections.connect(self._watch)
        events.strokes.connect(self._on_strokes)
        events.versions.connect(self.save)
        for each in (events.classes, events.image, events.model, events.prediction):
            each.connect(self._save_soon)
        viewer.dims.events.point.connect(self._save_soon)
        predictor.section_predicted.connect(self._on_predicted)

    def let_go(self) -> None:
        """Save, close, and stop following the viewer."""
        self._viewer.dims.events.point.disconnect(self._save_soon)
        self._watch(None)
        self._maker.shutdown(wait=False)
        self._masks.let_go()

    # --- what others may ask -------------------------------------------------------------

    @property
    def project(self) -> Project | None:
        return self._session.project

    @property
    def copying(self) -> Path | None:
        """Where a copy is being made, if one is."""
        return self._copying

    def save_as(self, folder: Path) -> None:
        """Make the project in this folder, or begin to copy it there and move on to the copy.

        Raises
        ------
        FileWriteError
            If the folder is there already, or cannot be written.
        """
        folder = folder if folder.suffix == SUFFIX else folder.with_name(folder.name + SUFFIX)
        project = self.project
        if project is None:
            self._discard()
            self._begin(folder)
            self._take_up()
            return
        if folder.exists():
            raise FileWriteError(f"{folder} is there already. Choose another name.")
        if self._copying is not None:
            raise FileWriteError(f"The project is being copied to {self._copying}. Wait for it.")
        self.save()
        self._masks.begin_copy()
        self._copying = folder

        def work(should_stop: Callable[[], bool]) -> Work:
            return copy_project(project, folder, should_stop=should_stop)

        job = Job(f"Copy to {folder.name}", work, parent=self)
        job.yielded.connect(job.show_progress)
        job.returned.connect(partial(self._on_copied, project, folder))
        job.finished.connect(self._on_copy_ended)
        job.start()
        self.changed.emit()

    def _on_copied(self, before: Project, folder: Path, there: bool) -> None:
        """Go on with the copy, if its project is still the one that is worked on."""
        session = self._session
        if not there or self.project is not before:
            return
        strokes = session.strokes
        with self._complaining():
            project = open_project(folder)
            self._end()
            session.project = project
            # What came while it was copied; only what differs is written.
            project.painted()
            project.paint(strokes)
            self.save()
            self._masks.keep_late()

    def _on_copy_ended(self) -> None:
        self._copying = None
        self.changed.emit()

    def open(self, folder: Path) -> None:
        """Open a project, and bring the viewer to where it was left.

        Its image is opened, if it is not the one that is worked on.
        """
        try:
            project = open_project(folder)
        except FileReadError as error:
            show_error(str(error))
            return

        def read() -> tuple[Strokes, Model, str]:
            return project.painted(), *_model_of(project)

        job = Job(f"Open {folder.name}", call(read), parent=self)
        job.returned.connect(partial(self._show, project))
        job.failed.connect(lambda _: project.close())
        job.start()

    def save(self) -> None:
        """Write which classes, versions, settings and view there are."""
        self._soon.stop()
        project = self.project
        if project is None or self._opening:
            return
        with self._complaining():
            # A training may have written into the project of which this is a copy by now.
            versions = self._session.versions
            bundled = {each.path for each in bundled_models()}
            brought = tuple(
                each
                if each.path is None or each.path in bundled
                else _brought(each, project.folder)
                for each in versions
            )
            if brought != versions:
                self._session.versions = brought  # which comes back here
                return
            self._keep_models(project)
            source = project.state.image
            if not source.fingerprint and self._session.image is not None:
                source = replace(source, fingerprint=fingerprint_or_none(self._session.image))
            project.save(self._state(source))

    def close(self) -> None:
        """Save the project, and let others open it."""
        if self._opening:
            return
        self._discard()
        if self.project is not None:
            self.save()
            self._end()
            self.changed.emit()

    def _end(self) -> None:
        self._masks.write_rest()
        project, self._session.project = self.project, None
        assert project is not None
        project.close()

    # --- making one ----------------------------------------------------------------------

    def _watch(self, layer: Labels | None) -> None:
        self.close()  # the paint of another layer is another's
        if self._corrections is not None:
            self._corrections.events.labels_update.disconnect(self._on_dab)
        self._corrections = layer
        if layer is not None:
            layer.events.labels_update.connect(self._on_dab)

    def _on_dab(self, _: object = None) -> None:
        """Have the project made while its first stroke is painted: the window need not wait."""
        if self.project is None and self._made is None and not self._opening:
            with suppress(FileWriteError, OSError):  # tried, and told of, when it has ended
                self._begin()

    def _on_strokes(self, strokes: Strokes) -> None:
        session = self._session
        if self._opening or session.image is None or session.corrections is None:
            return
        with self._complaining():
            if self.project is None:
                if not strokes.painted:
                    return
                if self._made is None:
                    self._begin()
                self._take_up()
            assert self.project is not None
            self.project.paint(strokes)

    def _begin(self, folder: Path | None = None) -> None:
        """Begin to make the project in a thread, if not told otherwise in the default folder."""
        session = self._session
        image, layer = session.image, session.image_layer
        if image is None or layer is None:
            raise FileWriteError("There is no image to make a project for. Open one first.")
        place = folder or default_folder(layer, image.name)
        path, sample = path_of(layer), layer.source.sample or ()
        source = image_source(image, place, path, tuple(sample))
        if not path and not sample:
            source = replace(source, path=str(place / IMAGE), beside=IMAGE)
        state = self._state(source)

        def make() -> Project:
            place.parent.mkdir(parents=True, exist_ok=True)
            known = replace(state.image, fingerprint=fingerprint_or_none(image))
            return create_project(place, replace(state, image=known))

        self._made = self._maker.submit(make)

    def _take_up(self) -> None:
        """Work in the project that is being made."""
        session = self._session
        made, self._made = self._made, None
        assert made is not None
        assert session.image is not None
        session.project = project = made.result()
        if project.state.image.beside == IMAGE:  # it is nowhere else
            write = partial(write_image, project.folder / IMAGE, session.image)
            Job("Keep the image", call(write), parent=self).start()
        with self._complaining():
            project.paint(session.strokes)
            self.save()
        self._masks.keep_all()
        self.changed.emit()

    def _discard(self) -> None:
        """Leave nothing of a project whose first stroke came to nothing."""
        made, self._made = self._made, None
        if made is not None:
            with suppress(FileReadError, FileWriteError, OSError, ValueError):
                project = made.result()
                project.close()
                shutil.rmtree(project.folder)

    def _keep_models(self, project: Project) -> None:
        """See that the project can be opened where files of models elsewhere are not."""
        session = self._session
        begun = {
            project.folder / begin_file(each.number): each.model
            for each in session.versions
            if each.model is not None and not bundled_name(each.model)
        }
        model = session.learner
        if model is not None and session.version is None and not bundled_name(model):
            begun[project.folder / OWN_MODEL] = model
        for path, each in begun.items():
            if self._kept_models.get(path) is not each:
                save_model(path, each, half=True)
                self._kept_models[path] = each

    def _state(self, source: ImageSource) -> ProjectState:
        session, folder = self._session, self.project.folder if self.project else None
        image = session.image
        if image is not None:  # the pixel size may have been typed in
            source = replace(source, scale=image.scale, units=image.units)
        return ProjectState(
            source,
            session.classes,
            _model_name(session),
            session.version,
            tuple(_stored(each, folder) for each in session.versions),
            tuple(int(n) for n in session.strokes.pieces),
            session.holds_out,
            {"learn": _plain(self._recipe()), "predict": _plain(session.prediction)},
            look_of(self._viewer, session),
        )

    # --- opening one ---------------------------------------------------------------------

    def _show(self, project: Project, found: tuple[Strokes, Model, str]) -> None:
        strokes, model, problem = found
        session = self._session
        self.close()
        self._opening = True
        try:
            layer = self._image_layer(project)
            self._keeper.choose(None)
            session.classes = project.state.classes
            corrections = find_layer(self._viewer, CORRECTIONS, layer)
            if corrections is None:
                corrections = new_layer(self._viewer, CORRECTIONS, layer, session.classes)
            else:
                for index in sections_in_use(corrections.data):
                    corrections.data[index] = 0
            # Filled before anybody watches it: an empty one would count as erased.
            for index, section in strokes.painted.items():
                make_room(corrections.data, index)
                corrections.data[index] = section
            self._keeper.choose(layer)
            corrections.refresh()
            session.classes = project.state.classes
            session.holds_out = project.state.holds_out
            session.paint(strokes.learnt.with_sections(strokes.painted, session.classes), strokes)
            session.versions = tuple(_kept(each, project) for each in project.state.versions)
            session.version = project.state.version
            session.model = session.named(model)
            if not isinstance(model, UNetModel):
                session.model_source = project.state.model
            session.prediction = PredictionConfig.from_dict(
                dict(project.state.settings.get("predict", {}))
            )
            session.project = project
            show_look(self._viewer, session, project.state.view)
        except (FileReadError, FileWriteError, MemoryError, ValueError) as error:
            project.close()
            show_error(str(error))
            return
        finally:
            self._opening = False
        if problem:
            show_warning(problem)
        self._masks.show(project)
        self.opened.emit(project.state)
        self.changed.emit()

    def _image_layer(self, project: Project) -> Image:
        """The layer of the project's image, opened if it is not there."""
        source = project.state.image

        def fits(layer: Image) -> bool:
            image = self._keeper.image_of(layer)
            if image is None or image.shape != source.shape:
                return False
            # Not known where the image could not be read when the project was made.
            return not source.fingerprint or fingerprint(image) == source.fingerprint

        here = self._session.image_layer
        if here is not None and fits(here):
            return here
        if source.sample:
            opened = self._viewer.open_sample(*source.sample)
        else:
            path = source.find(project.folder)
            opened = open_layers(self._viewer, path, read_image(path))
        for layer in opened:
            if isinstance(layer, Image) and fits(layer):
                layer.scale, layer.units = source.scale, source.units
                return layer
        raise FileReadError(
            f"The image of the project {project.folder} has changed since it was painted on: its "
            "grey values are not the same. Get the image as it was, and open the project again."
        )

    def _on_predicted(self, index: SectionIndex) -> None:
        if self.project is not None and not self._opening:
            self._masks.keep([index])

    # --- saying so -----------------------------------------------------------------------

    def _save_soon(self) -> None:
        if self.project is not None and not self._opening:
            self._soon.start()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except (FileReadError, FileWriteError, OSError, ValueError) as error:
            self._complain(str(error))
        else:
            self._told = ""

    def _complain(self, message: str) -> None:
        """Tell of a problem, once as long as it lasts."""
        if message != self._told:
            self._told = message
            show_error(message)


IMAGE, OWN_MODEL = "image.tif", f"{VERSIONS}/model.safetensors"


def begin_file(number: int) -> str:
    """Return where weights are kept that a training began with."""
    return f"{VERSIONS}/begin-{number}.safetensors"


def default_folder(layer: Image | None, name: str) -> Path:
    """Return where the project of an image is made: beside its file if one may write there."""
    path = file_of(path_of(layer)) if layer is not None and path_of(layer) else None
    place = path.absolute().parent if path else None
    if place is None or not os.access(place, os.W_OK):
        place = user_data_folder() / "projects"
    stem = path.name.split(".")[0] if path else name
    stem = "".join(c if c.isalnum() or c in "-_ ." else "-" for c in stem).strip() or "image"
    number = 1
    while (folder := place / f"{stem}{f'-{number}' if number > 1 else ''}{SUFFIX}").exists():
        number += 1
    return folder


def _model_of(project: Project) -> tuple[Model, str]:
    """The model that was in use; or the bundled one, and why."""
    state = project.state
    version = next((each for each in state.versions if each.number == state.version), None)
    name = version.file if version is not None else state.model
    if name in (each.name for each in bundled_models()):
        return find_model(name), ""
    if version is not None or not Path(name).is_absolute():
        return load_model(project.folder / name), ""
    try:
        return find_model(name), ""
    except (FileReadError, MissingLibraryError, OSError, ValueError) as error:
        return find_model(DEFAULT_MODEL), (
            f"The project {project.folder.name} was saved with the network {name}, which cannot be "
            f"used now: {str(error).rstrip('.')}. {DEFAULT_MODEL} is in use instead; the network "
            "can be opened again under Model."
        )


def _model_name(session: Session) -> str:
    """A bundled model's name, its file in the project, or that of a network of another program.

    The latter is not kept in the project.
    """
    model, source = session.learner, session.model_source
    if model is None and session.model is not None and source:
        return str(Path(source).absolute())
    return DEFAULT_MODEL if model is None else bundled_name(model) or OWN_MODEL


def _stored(version: KeptVersion, folder: Path | None) -> StoredVersion:
    path, model = version.path, version.model
    file = (model and bundled_name(model)) or begin_file(version.number)
    if path is not None:
        bundled = {each.path: each.name for each in bundled_models()}
        inside = folder is not None and path.is_relative_to(folder)
        file = path.relative_to(folder).as_posix() if inside and folder else str(path)
        file = bundled.get(path, file)
    return StoredVersion(
        version.number,
        version.name,
        version.steps,
        version.iou,
        version.pieces,
        version.begins,
        file,
    )


def _kept(version: StoredVersion, project: Project) -> KeptVersion:
    bundled = {each.name: each.path for each in bundled_models()}
    path = bundled.get(version.file) or project.folder / version.file
    return KeptVersion(
        version.number,
        version.name,
        version.steps,
        version.iou,
        version.pieces,
        path=path,
        begins=version.begins,
    )


def _brought(version: KeptVersion, folder: Path) -> KeptVersion:
    """A version whose weights lie in a project, wherever the training wrote them."""
    path = version.path
    assert path is not None
    if path.is_relative_to(folder):
        return version
    within = path.parts[-2:]
    if VERSIONS in path.parts:  # of another project
        last = len(path.parts) - path.parts[::-1].index(VERSIONS)
        within = path.parts[last:]
    copy = Path(folder, VERSIONS, *within)
    # Better weights of the same number may have come since it was copied.
    if not copy.exists() or path.stat().st_mtime_ns > copy.stat().st_mtime_ns:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as temporary:
            shutil.copyfile(path, temporary)
    return replace(version, path=copy)


def _plain(config: Config) -> dict[str, Any]:
    return config.to_dict()

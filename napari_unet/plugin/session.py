"""What is being worked on: the one thing of the plugin that changes, and that tells when it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, overload

import platformdirs
from napari.layers import Image, Labels
from psygnal import SignalGroupDescriptor

from napari_unet.core.annotations import Annotations, ClassTable, class_table
from napari_unet.core.config import PredictionConfig
from napari_unet.core.foreign import Model
from napari_unet.core.held_out import Strokes, all_learnt, parted
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.live import LiveModel
from napari_unet.core.measuring import Rivals
from napari_unet.core.model import UNetModel
from napari_unet.io.models import load_model
from napari_unet.io.projects import Project

NOTHING = Annotations(class_table(["background", "foreground"]))


@dataclass(frozen=True, eq=False)
class KeptVersion:
    """Weights that one can go back to.

    Parameters
    ----------
    number
        0 is what the first training began with.
    name
        Of the model.
    steps
        How long it had learnt by then.
    iou
        Mean IoU over the classes that were held out then; None while there were too few.
    pieces
        How many pieces of paint were held out then.
    model
        The weights, where they are not on disk.
    path
        Where they are on disk.
    begins
        Whether a training began with them, rather than brought them.
    """

    number: int
    name: str
    steps: int
    iou: float | None
    pieces: int
    model: UNetModel | None = None
    path: Path | None = None
    begins: bool = False

    def load(self) -> UNetModel:
        """Return the model.

        Raises
        ------
        FileReadError
            If its file is gone or damaged.
        """
        if self.model is not None:
            return self.model
        assert self.path is not None
        return load_model(self.path)


@dataclass(eq=False)
class Session:
    """State shared by the groups of the dock; every change of a field emits its event.

    Parameters
    ----------
    image_layer, image
        The layer that is segmented, and its grey values; both None while there is none.
    statistics
        Grey statistics of the image; None until they are known.
    model
        The model that predicts, and from which training goes on.
    model_source
        Name of the bundled model, or path of the file, that was chosen last.
    live
        The head that answers strokes, on the features of this or of an earlier model; None while
        nothing is painted.
    classes
        Names and colours; class number 1 is the background.
    annotations
        Snapshot of what is painted in the corrections layer.
    strokes
        The same, parted into what is learnt from and what is only measured.
    holds_out
        Whether some of what is painted from now on is only measured.
    rivals
        How the live head, and its network alone, do on what is held out.
    versions
        The weights that were in use for this image, and how they did on what was held out.
    version
        Number of the one that the model is; None where it is not among them.
    viewed, looked_at
        What the strokes so far make of an earlier model that somebody looks at, instead of what is
        in use, and its number among the versions; None while nobody does.
    mask, corrections
        The layers of this image, once they are there.
    project
        Where all of it is kept on disk; None until something is painted.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    prediction
        How the masks are computed that people ask for.
    """

    image_layer: Image | None = None
    image: ImageArray | None = None
    statistics: GreyStatistics | None = None
    model: Model | None = None
    model_source: str = ""
    live: LiveModel | None = None
    classes: ClassTable = field(default_factory=lambda: class_table(["background", "foreground"]))
    annotations: Annotations = NOTHING
    strokes: Strokes = field(default_factory=lambda: all_learnt(NOTHING))
    holds_out: bool = True
    rivals: Rivals | None = None
    versions: tuple[KeptVersion, ...] = ()
    version: int | None = None
    viewed: UNetModel | LiveModel | None = None
    looked_at: int | None = None
    mask: Labels | None = None
    corrections: Labels | None = None
    project: Project | None = None
    device: str = "auto"
    prediction: PredictionConfig = field(default_factory=PredictionConfig)

    events: ClassVar[Any] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(
            (
                "image_layer",
                "image",
                "statistics",
                "model",
                "live",
                "annotations",
                "strokes",
                "rivals",
                "versions",
                "viewed",
                "mask",
                "corrections",
                "project",
            ),
            lambda old, new: old is new,
        )
    )

    @property
    def shown(self) -> Model | LiveModel | None:
        """What masks are predicted with: what somebody looks at, else what is in use."""
        return self.viewed or self.in_use

    @property
    def in_use(self) -> Model | LiveModel | None:
        """The live head, which answers strokes; the network where it does better without it.

        That is told by strokes which are held out.
        """
        if self.live is None or (self.rivals is not None and self.rivals.network_is_better):
            return self.model
        return self.live

    @property
    def shows_answers(self) -> bool:
        """Whether the mask in view is drawn from the answers to strokes."""
        return self.live is not None and self.shown is self.live

    @property
    def learner(self) -> UNetModel | None:
        """The model, if it can learn; None where it is a network of another program."""
        return self.model if isinstance(self.model, UNetModel) else None

    @overload
    def named(self, model: UNetModel) -> UNetModel: ...

    @overload
    def named(self, model: Model) -> Model: ...

    def named(self, model: Model) -> Model:
        """Return a model under the names that classes have by now.

        It gets no classes that it has not learnt: those come with the live head's weights when
        they are painted and learnt, and until then are not held to what it thinks of them.
        """
        known = len(model.classes)
        return model.with_classes((*self.classes[:known], *model.classes[len(self.classes) :]))

    def paint(self, annotations: Annotations, strokes: Strokes | None = None) -> None:
        """Take over what is painted now.

        Parameters
        ----------
        annotations
            All of it.
        strokes
            How it is parted, if that is known already.
        """
        if strokes is None:
            part = parted if self.holds_out else all_learnt
            strokes = part(annotations, self.strokes)
        self.annotations = annotations
        self.viewed = None
        self.strokes = strokes

    def adopt_model(self, model: Model, *, keep_names: bool = False) -> None:
        """Use another model; its classes are taken over as far as nothing was painted.

        Parameters
        ----------
        model
            The model.
        keep_names
            Whether class numbers mean the same in it for certain, whatever they are called.

        Raises
        ------
        ValueError
            If strokes were painted for classes that this model calls by other names.
        """
        classes = list(self.classes if keep_names else model.classes)
        classes += (model.classes if keep_names else self.classes)[len(classes) :]
        painted = self.annotations.counts()
        for number, (mine, theirs) in enumerate(
            zip(self.classes, model.classes, strict=False), start=1
        ):
            if keep_names or number > len(painted) or not painted[number - 1]:
                continue
            classes[number - 1] = mine  # with the painter's colour
            if mine.name != theirs.name:
                raise ValueError(
                    f"Class {number} is {mine.name!r} in your corrections, but {theirs.name!r} in the model "
                    f"{model.name!r}. Rename the class, or export and remove the corrections first."
                )
        if not self.annotations.sections and not keep_names:
            classes = list(model.classes)
        self.classes = tuple(classes)
        self.live = self.viewed = self.version = None
        self.model = self.named(model)


def user_data_folder() -> Path:
    """Return the folder for what has no other place."""
    return Path(platformdirs.user_data_dir("napari-unet"))


def learnt_models_folder() -> Path:
    """Return the folder of models that learnt where there was no project to keep them."""
    return user_data_folder() / "learnt"

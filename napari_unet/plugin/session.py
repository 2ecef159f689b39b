"""What is being worked on: the one thing of the plugin that changes, and that tells when it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import platformdirs
from napari.layers import Image, Labels
from psygnal import SignalGroupDescriptor

from napari_unet.core.annotations import Annotations, ClassTable, class_table
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import GreyStatistics, ImageArray
from napari_unet.core.live import LiveModel
from napari_unet.core.model import UNetModel


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
    live
        The head that answers strokes, on the features of this or of an earlier model; None while
        nothing is painted.
    classes
        Names and colours; class number 1 is the background.
    annotations
        Snapshot of what is painted in the corrections layer.
    mask, corrections
        The layers of this image, once they are there.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    prediction
        How the masks are computed that people ask for.
    """

    image_layer: Image | None = None
    image: ImageArray | None = None
    statistics: GreyStatistics | None = None
    model: UNetModel | None = None
    live: LiveModel | None = None
    classes: ClassTable = field(default_factory=lambda: class_table(["background", "foreground"]))
    annotations: Annotations = field(default_factory=lambda: Annotations(class_table(["a", "b"])))
    mask: Labels | None = None
    corrections: Labels | None = None
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
                "mask",
                "corrections",
            ),
            lambda old, new: old is new,
        )
    )

    @property
    def shown(self) -> UNetModel | LiveModel | None:
        """What masks are predicted with."""
        return self.live or self.model

    def adopt_model(self, model: UNetModel, *, keep_names: bool = False) -> None:
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
        self.live = None
        self.model = model.with_classes(self.classes)


def learnt_models_folder() -> Path:
    """Return the folder where models are kept while they learn, so that none is lost."""
    return Path(platformdirs.user_data_dir("napari-unet")) / "learnt"

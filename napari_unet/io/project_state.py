"""What a project knows besides its arrays, as values that do not change, to and from JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.core.annotations import ClassTable, SegmentationClass
from napari_unet.core.image import ImageArray
from napari_unet.io.files import FileReadError

FORMAT = "napari-unet project"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ImageSource:
    """Where an image lies, and how to tell that it is the same.

    Parameters
    ----------
    name
        Of the layer.
    path
        Absolute path of the file, and the name of the image in it if it is one of several; empty
        if it came from none.
    beside
        The same from the folder of the project, for when both are moved together.
    sample
        Plugin and key of a sample that comes with a plugin; empty otherwise.
    shape, dtype
        Of the grey values.
    scale, units
        Of each axis.
    fingerprint
        See `fingerprint`; empty while the image cannot be read.
    """

    name: str
    path: str
    beside: str
    sample: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    units: tuple[str, ...]
    fingerprint: str

    def find(self, folder: Path) -> Path:
        """Return where the image is by now.

        Parameters
        ----------
        folder
            Where the project is by now.

        Raises
        ------
        FileReadError
            If it is not to be found.
        """
        places = [Path(os.path.normpath(folder / self.beside))] if self.beside else []
        places.append(Path(self.path))
        for place in places:
            if _is_there(place):
                return place
        raise FileReadError(
            f"The image of the project {folder} was not found. It was looked for at "
            f"{' and at '.join(map(str, dict.fromkeys(places)))}. Put it there, or open the image "
            "first and then the project."
        )


@dataclass(frozen=True)
class StoredVersion:
    """A version of the model: its figures, and its file in the project or a bundled model."""

    number: int
    name: str
    steps: int
    iou: float | None
    pieces: int
    begins: bool
    file: str


@dataclass(frozen=True)
class ProjectState:
    """What a project knows besides its arrays.

    Parameters
    ----------
    image
        What is segmented.
    classes
        What the values of corrections and mask mean.
    model
        Name of the bundled model or file of the model in use, if it is not a version.
    version
        Number of the version in use, if it is one.
    versions
        All of them.
    pieces
        See `core.held_out.Strokes`; trailing zeros may be left out.
    holds_out
        Whether some paint is only measured.
    settings
        Options of the forms.
    view
        What was in view, and how the layers looked.
    """

    image: ImageSource
    classes: ClassTable
    model: str
    version: int | None = None
    versions: tuple[StoredVersion, ...] = ()
    pieces: tuple[int, ...] = ()
    holds_out: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)


def image_source(
    image: ImageArray, folder: Path, path: str = "", sample: tuple[str, ...] = ()
) -> ImageSource:
    """Return where an image lies, for a project in a folder; nothing of it is read yet."""
    beside = ""
    if path and _is_there(Path(path)):
        path = os.path.abspath(path)  # noqa: PTH100 - links stay as the user made them
        if Path(path).anchor == folder.absolute().anchor:
            beside = os.path.relpath(path, folder.absolute())
    return ImageSource(
        image.name,
        path,
        beside,
        sample,
        image.shape,
        str(image.dtype),
        image.scale,
        image.units,
        fingerprint="",
    )


def _is_there(path: Path) -> bool:
    """Whether there is a file, or one whose content the path leads into."""
    return path.exists() or any(each.is_file() for each in path.parents)


def fingerprint(image: ImageArray) -> str:
    """Return a hash of shape, type and a few rows of an image; it does not read all of it."""
    digest = hashlib.sha256(repr((image.shape, str(image.dtype))).encode())
    count = int(np.prod(image.shape[:-2]))
    for number in sorted({0, count // 2, count - 1}):
        index = np.unravel_index(number, image.shape[:-2]) if image.shape[:-2] else ()
        row = image.shape[-2] // 2
        values = image.data[(*(int(i) for i in index), slice(row, row + 1))]
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fingerprint_or_none(image: ImageArray) -> str:
    """Return the fingerprint; empty if the image cannot be read just now.

    Paint is kept all the same.
    """
    try:
        return fingerprint(image)
    except FileReadError:
        return ""


def state_to_json(state: ProjectState) -> str:
    """Return the state as the text of a file."""
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(state)}
    return json.dumps(content, indent=1, ensure_ascii=False)


def state_from_json(text: str) -> ProjectState:
    """Return the state that `state_to_json` wrote.

    Raises
    ------
    ValueError
        If the text is damaged, something else, or of a newer version of the program.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop("format", "") != FORMAT:
        raise ValueError("it is no project of this program")
    version = content.pop("format_version", None)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"it was written by a newer version of this program (project format {version}; this "
            f"one reads up to {FORMAT_VERSION}). Update napari-unet-em to open it."
        )
    try:
        image: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content["image"].items()
        }
        return ProjectState(
            **{
                **content,
                "image": ImageSource(**image),
                "classes": tuple(SegmentationClass(**each) for each in content["classes"]),
                "versions": tuple(StoredVersion(**each) for each in content["versions"]),
                "pieces": tuple(content["pieces"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged ({error!r}). Get it from a copy of the project") from error

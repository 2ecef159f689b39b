"""Training data in folders: images and label images, paired by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotations import (
    BACKGROUND,
    Annotations,
    ClassTable,
    annotations_from_array,
    class_number,
)
from napari_unet.core.image import ImageArray, SectionIndex, as_grey
from napari_unet.core.notices import tell
from napari_unet.core.patches import LabelledImage
from napari_unet.core.prediction import known_statistics
from napari_unet.io.files import FileReadError
from napari_unet.io.images import KNOWN, READERS, read_image
from napari_unet.io.sections import natural_order
from napari_unet.io.zarrs import is_store

IMAGE_FOLDERS = ("images", "image", "raw")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "annotations")
LABEL_ENDINGS = tuple(f"{mark}{name}" for mark in "_-" for name in (*LABEL_FOLDERS, "gt"))
"""What may follow the name of an image in the name of its labels."""

MOST_NAMED = 10
"""Of many files so many are named."""


@dataclass(frozen=True)
class ImagePair:
    """An image file, or store, and the one with its labels."""

    name: str
    image: Path
    labels: Path

    def sha256(self) -> dict[str, str]:
        """Return the SHA-256 of both."""
        return {"image": _sha256(self.image), "labels": _sha256(self.labels)}


def _sha256(path: Path) -> str:
    """Of a file, or of names and contents of all files in a store."""
    if path.is_dir():
        digest = hashlib.sha256()
        for each in sorted(path.rglob("*")):
            if each.is_file():
                digest.update(each.relative_to(path).as_posix().encode() + b"\0")
                digest.update(bytes.fromhex(_sha256(each)))
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_pairs(folder: Path | str) -> list[ImagePair]:
    """Return the images of a folder with their labels, by name.

    Either the folder holds a folder ``images`` and one ``labels`` with files of the same names,
    or images and labels lie side by side and the labels' names end with ``_labels`` or the like.

    Raises
    ------
    FileReadError
        If there are none, or some have no or several counterparts; the message names them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileReadError(f"There is no folder {folder}.")
    within = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    images, labels = (
        next((within[name] for name in names if name in within), None)
        for names in (IMAGE_FOLDERS, LABEL_FOLDERS)
    )
    there = images or labels
    if there is not None and (images is None or labels is None):
        raise FileReadError(
            f"{folder} holds a folder {there.name!r}, but none with the "
            f"{'labels' if labels is None else 'images'}. Put images into 'images' and label "
            "images of the same names into 'labels'."
        )
    if images is not None and labels is not None:
        image_files, label_files = _image_files(images), _image_files(labels)
    else:
        files = _image_files(folder)
        image_files = [path for path in files if _bare(_stem(path)) == _stem(path)]
        label_files = [path for path in files if _bare(_stem(path)) != _stem(path)]
    if not image_files:
        raise FileReadError(
            f"{images or folder} holds no images ({KNOWN}). Put images into a folder "
            "'images' and label images of the same names into 'labels' beside it, or name the "
            "labels of 'a.tif' 'a_labels.tif'."
        )
    names = {_stem(path) for path in image_files}
    complaints: list[str] = []

    def by_name(
        what: str, files: Iterable[Path], name_of: Callable[[Path], str]
    ) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in files:
            first = found.setdefault(name_of(path), path)
            if first is not path:
                both = f"{first.relative_to(folder)} and {path.relative_to(folder)}"
                complaints.append(f"{both} are both {what} {name_of(path)!r}")
        return found

    image_of = by_name("the image", image_files, _stem)
    labels_of = by_name(
        "the labels of",
        label_files,
        lambda path: _stem(path) if _stem(path) in names else _bare(_stem(path)),
    )
    for name in sorted(image_of.keys() ^ labels_of.keys(), key=natural_order):
        path, missing = (
            (image_of[name], "labels") if name in image_of else (labels_of[name], "image")
        )
        complaints.append(f"{path.relative_to(folder)} has no {missing}")
    if complaints:
        raise FileReadError(f"Nothing was trained, since in {folder} {some(complaints, '; ')}.")
    return [
        ImagePair(name, image_of[name], labels_of[name])
        for name in sorted(image_of, key=natural_order)
    ]


def _image_files(folder: Path) -> list[Path]:
    """Files and stores of all formats that are read."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and (is_store(path) if path.is_dir() else _suffix(path.name) and path.is_file())
    )


def _suffix(name: str) -> str:
    """The ending of a name by which its format is known, such as ``.mrc.gz``; empty if none."""
    return max((s for s in READERS if name.lower().endswith(s)), key=len, default="")


def _stem(path: Path) -> str:
    """A file's name without the ending of its format."""
    return path.name[: len(path.name) - len(_suffix(path.name))]


def _bare(name: str) -> str:
    """The name of the image that labels of this name belong to."""
    ending = next((e for e in LABEL_ENDINGS if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def some(names: Sequence[str], between: str = ", ") -> str:
    """Return names as one text; of many only the first."""
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f"{between}and {more} more" if more > 0 else "")


def read_pairs(
    pairs: Sequence[ImagePair],
    classes: ClassTable,
    *,
    unlabelled: frozenset[int] = frozenset(),
    share: float = 1.0,
    pixel_size: float | None = None,
    channel: int | None = None,
    more_classes: bool = False,
) -> list[LabelledImage]:
    """Return the images of a folder with their labels; each counts by its number of sections.

    Where the label images hold 0 and 255 only, they are masks of the second class. Otherwise 0
    is what nobody annotated, and an image without annotations is left out, with a warning.

    Parameters
    ----------
    pairs
        See `find_pairs`.
    classes
        What the labels 1, 2, ... mean; 0 is not annotated.
    unlabelled, share
        See `LabelledImage`; the share is that of all together.
    pixel_size
        In nanometres, instead of what the files say.
    channel
        Channel of images that have several.
    more_classes
        Labels beyond the classes get names of their own, instead of a complaint.

    Raises
    ------
    FileReadError
        If shapes or label values do not agree, or there is nothing to see in an image; the
        message names every bad file.
    """
    complaints: list[str] = []
    found: list[tuple[ImagePair, LabelledImage, npt.NDArray[np.uint8]]] = []
    for pair in pairs:
        try:
            found.append((pair, *_read_pair(pair, classes, pixel_size, channel)))
        except (ValueError, FileReadError) as error:
            complaints.append(str(error).rstrip("."))
    masks = [_may_be_mask(values) for _, _, values in found]
    of_one_class = any(int(values.max()) == 255 for _, _, values in found) and all(masks)
    sources, empty = [], []
    for (pair, source, values), mask in zip(found, masks, strict=True):
        if of_one_class:
            values = (values > 0).astype(np.uint8) + np.uint8(1)
        elif mask and values.any():
            complaints.append(
                f"{pair.labels} holds 0 and 255, the mask of one class, but others hold "
                "classes 1, 2, ..."
            )
            continue
        highest = int(values.max())
        if highest > len(classes) and not more_classes:
            complaints.append(
                f"{pair.labels} holds values up to {highest}, but only the classes 1 to "
                f"{len(classes)} ({', '.join(c.name for c in classes)}) are known: name more with "
                "--classes, unless these are object numbers rather than classes"
            )
        elif not highest:
            empty.append(str(pair.labels))
        else:
            annotations = annotations_from_array(values, classes)
            try:
                sources.append(replace(source, annotations=annotations, unlabelled=unlabelled))
            except ValueError as error:
                complaints.append(str(error).rstrip("."))
    if complaints:
        begin = "Nothing was trained: " if len(pairs) > 1 else ""
        raise FileReadError(f"{begin}{some(complaints, '; ')}.")
    if not sources:
        raise FileReadError(
            f"Nothing is annotated in {some(empty)}: all labels are 0. 1 is the background, 2 and "
            "up are the structures."
        )
    if empty:
        tell(
            f"Nothing is annotated in {some(empty)} (all labels are 0); left out.",
            stacklevel=2,
        )
    total = sum(len(each.annotations.sections) for each in sources)
    return [replace(each, share=share * len(each.annotations.sections) / total) for each in sources]


def _read_pair(
    pair: ImagePair, classes: ClassTable, pixel_size: float | None, channel: int | None
) -> tuple[LabelledImage, npt.NDArray[np.uint8]]:
    """The image without annotations, and the labels as they are in the file."""
    # Messages of the steps below call the image by this name.
    whole = replace(read_image(pair.image), name=str(pair.image))
    try:
        image = as_grey(whole, channel)
    except ValueError as error:
        hint = " (--channel)" if "channel" in str(error) else ""
        raise ValueError(f"{str(error).rstrip('.')}{hint}") from error
    if pixel_size is not None:
        image = image.with_pixel_size(pixel_size)
    labels = read_image(pair.labels)
    if labels.shape != image.shape:
        raise ValueError(f"{pair.labels} has the shape {labels.shape}, its image {image.shape}")
    try:
        values = _label_values(labels)
    except ValueError as error:
        raise ValueError(f"{pair.labels} {error}") from error
    source = LabelledImage(
        image, Annotations(classes), statistics=known_statistics(image), name=pair.name
    )
    return source, values


def _label_values(labels: ImageArray) -> npt.NDArray[np.uint8]:
    """Labels as uint8; truth values as a mask of 0 and 255."""
    values = np.asarray(labels.data)
    if values.dtype.kind not in "bui":
        raise ValueError(
            f"holds values of type {values.dtype}; labels must be whole numbers (0 = not "
            "annotated, 1 = background, 2.. = structures)"
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"holds values from {low} to {high}; classes are numbers from 1. Are these object "
            "numbers?"
        )
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    return values.astype(np.uint8, copy=False)


def _may_be_mask(values: npt.NDArray[np.uint8]) -> bool:
    return bool(((values == 0) | (values == 255)).all())


def unlabelled_classes(classes: ClassTable, names: Iterable[str]) -> frozenset[int]:
    """Return the numbers of classes that nobody looked for.

    Raises
    ------
    ValueError
        If there is no such class, or it is the background.
    """
    numbers = frozenset(class_number(classes, name) for name in names)
    if BACKGROUND in numbers:
        raise ValueError(
            f"The background ({classes[0].name!r}) cannot be unlabelled: it is where no labelled "
            "class is."
        )
    return numbers


def split(
    sources: Sequence[LabelledImage], validation: Sequence[str] = (), share: float = 0.0
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return what to learn from and what to judge by.

    Parameters
    ----------
    sources
        Labelled images.
    validation
        Names of images to judge by, or ``name:first-last`` for some sections of a stack,
        counted from 0.
    share
        Hold out this share of the sections, at least one, the last ones: neighbours resemble
        each other too much to be judged by.

    Raises
    ------
    ValueError
        If a name or section is not there.
    """
    held_out = {number: set[SectionIndex]() for number in range(len(sources))}
    for wish in validation:
        for number, wished in _wished(sources, wish).items():
            held_out[number] |= wished
    if share:
        every = [
            (n, s) for n, each in enumerate(sources) for s in sorted(each.annotations.sections)
        ]
        for number, section in every[len(every) - max(1, round(share * len(every))) :]:
            held_out[number].add(section)
    training: list[LabelledImage] = []
    judging: list[LabelledImage] = []
    for number, each in enumerate(sources):
        sections = each.annotations.sections
        for into, wanted in ((training, False), (judging, True)):
            kept = {k: v for k, v in sections.items() if (k in held_out[number]) == wanted}
            if kept:
                annotations = Annotations(each.annotations.classes, kept)
                part_of_it = each.share * len(kept) / len(sections)
                into.append(replace(each, annotations=annotations, share=part_of_it))
    return training, judging


def _wished(sources: Sequence[LabelledImage], wish: str) -> dict[int, set[SectionIndex]]:
    name, _, numbers = wish.strip().partition(":")
    names = {name, name[: len(name) - len(_suffix(name))]}
    found = {n: each for n, each in enumerate(sources) if each.name in names}
    if not found:
        raise ValueError(
            f"There is no image {name!r} to validate with; there are "
            f"{some([each.name for each in sources])}."
        )
    if not numbers:
        return {n: set(each.annotations.sections) for n, each in found.items()}
    first, _, last = numbers.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise ValueError(f"{wish.strip()!r} names no sections; write {name}:3 or {name}:3-5.")
    wanted = range(int(first), int(last or first) + 1)
    held_out = {}
    for number, each in found.items():
        sections = {s for s in each.annotations.sections if s and s[0] in wanted}
        if not sections:
            raise ValueError(f"{name!r} has no labelled sections {numbers}.")
        held_out[number] = sections
    return held_out

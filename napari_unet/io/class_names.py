"""The names of classes that our writers leave in masks, read back from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_unet.core.annotations import ClassTable, class_table
from napari_unet.io.files import reading
from napari_unet.io.formats import FORMATS, format_of
from napari_unet.io.images import file_of
from napari_unet.io.zarrs import is_zarr


def read_classes(path: Path | str) -> ClassTable:
    """Return the classes of a mask with their names, and their colours where they are told.

    Returns
    -------
    ClassTable
        Empty where the file does not tell of them, or another program tells of something else.

    Raises
    ------
    FileReadError
        If the file is missing or damaged.
    """
    path = Path(path)
    file = file_of(path)
    if is_zarr(path):
        return _of_store(path)
    if not file.is_file():
        return ()
    found = format_of(file)
    name = found.name if found is not None else ""
    with reading(file):
        read = _READERS.get(name)
        return read(path) if read is not None else ()


def _told(words: str) -> ClassTable:
    """Classes of text such as ``1 background, 2 membrane``."""
    names: list[str] = []
    rest = words.strip()
    while rest:
        number = len(names) + 1
        if not rest.startswith(f"{number} "):
            return ()
        # A name may hold commas; the next one begins with the next number.
        name, _, rest = rest[len(f"{number} ") :].partition(f", {number + 1} ")
        rest = rest and f"{number + 1} {rest}"
        names.append(name)
    return _table(names)


def _table(names: Sequence[str], colours: Mapping[int, str] | None = None) -> ClassTable:
    """A table of these names; none if they are no names of classes."""
    try:
        table = class_table([str(name) for name in names])
    except ValueError:
        return ()
    colours = colours or {}
    return tuple(
        replace(each, colour=colours.get(number, each.colour))
        for number, each in enumerate(table, start=1)
    )


def _of_tiff(path: Path) -> ClassTable:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if file.is_imagej:
            words = str((file.imagej_metadata or {}).get("classes", ""))
        elif file.is_ome and file.ome_metadata:
            images = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
            first = images[0] if isinstance(images, list) else images
            words = _after_mark(str(first.get("Description", "")))
        else:
            return ()
    # Descriptions are ASCII; other letters are written as escapes.
    return _told(re.sub(r"\\(x..|u.{4}|U.{8})", lambda m: _letter(m[1]), words))


def _letter(escape: str) -> str:
    try:
        return chr(int(escape[1:], 16))
    except ValueError:
        return "\\" + escape


def _after_mark(words: str) -> str:
    mark, _, names = words.partition("classes: ")
    return names if not mark else ""


def _of_mrc(path: Path) -> ClassTable:
    import mrcfile

    from napari_unet.io.mrc_writer import LABEL_LENGTH

    with mrcfile.open(path, permissive=True, header_only=True) as file:
        labels = [str(label) for label in file.get_labels()]
    words = next((each for each in labels if _after_mark(each)), "")
    table = _told(_after_mark(words))
    # The last name of a full label may be cut.
    return table[:-1] if len(words) >= LABEL_LENGTH else table


def _of_hdf5(path: Path) -> ClassTable:
    import h5py

    from napari_unet.io.hdf5 import hdf5_images

    file = file_of(path)
    named = path.relative_to(file).as_posix()
    if named == ".":
        images = hdf5_images(file)
        named = images[0].name if images else ""
    with h5py.File(file, "r") as opened:
        attributes = opened[named].attrs if named in opened else {}
        names, colours = (attributes.get(key, ()) for key in ("class_names", "class_colours"))
    words = [each.decode() if isinstance(each, bytes) else str(each) for each in names]
    told = [each.decode() if isinstance(each, bytes) else str(each) for each in colours]
    return _table(words, _colours(dict(enumerate(told, start=1))))


def _of_png(path: Path) -> ClassTable:
    from PIL import Image

    with Image.open(path) as picture:
        return _told(str(picture.info.get("classes", "")))


def _of_store(path: Path) -> ClassTable:
    """Of the labels of an OME-Zarr, from 0.4 on."""
    for name in ("zarr.json", ".zattrs"):
        try:
            content: Any = json.loads((path / name).read_bytes())
        except (OSError, ValueError):
            continue
        if name == "zarr.json":
            content = content.get("attributes", {})
        try:
            told = content.get("ome", content)["image-label"]
            names = {int(e["label-value"]): str(e["name"]) for e in told["properties"]}
            rgb = {int(e["label-value"]): e["rgba"][:3] for e in told.get("colors", ())}
            colours = {n: "#" + "".join(f"{int(v):02x}" for v in each) for n, each in rgb.items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return ()
        if sorted(names) != list(range(1, len(names) + 1)):
            return ()
        return _table([names[number] for number in sorted(names)], _colours(colours))
    return ()


def _colours(told: Mapping[int, str]) -> dict[int, str]:
    return {n: each for n, each in told.items() if re.fullmatch(r"#[0-9a-fA-F]{6}", each)}


_READERS: dict[str, Callable[[Path], ClassTable]] = {
    each.name: read
    for each in FORMATS
    for suffix, read in (
        (".tif", _of_tiff),
        (".mrc", _of_mrc),
        (".h5", _of_hdf5),
        (".png", _of_png),
    )
    if suffix in each.suffixes
}
"""Function that looks for classes, by the format's name."""

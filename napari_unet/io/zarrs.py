"""Zarr 2 and 3, OME-Zarr 0.1 to 0.5 and N5, read where they are looked at."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.core.image import ImageArray
from napari_unet.core.notices import tell
from napari_unet.io import ngff
from napari_unet.io.chunked import NODE_FILES, lazy_array
from napari_unet.io.contents import StoredImage
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.ome_zarr import LABELS

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

SUFFIXES = (".zarr", ".n5", ".zr", ".ozx", ".zip")
"""Endings of names of stores."""

PREFERRED = ("raw", "data", "image", "volume", "em")
"""Of several images one of these names is read."""

MOST_IMAGES = 50
"""A store may hold thousands of images; no more are looked at."""


def is_zarr(path: Path) -> bool:
    """Tell whether a path is a Zarr or N5 store, or leads into one."""
    if any(part.suffix.lower() in SUFFIXES for part in (path, *path.parents)):
        return True
    return path.is_dir() and any((path / name).is_file() for name in NODE_FILES)


def is_store(path: Path) -> bool:
    """Tell whether a path is itself a store, rather than leads into one."""
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return any((path / name).is_file() for name in NODE_FILES)


def read_zarr(path: Path) -> ImageArray:
    """Return an image of a store; its pixels are read when they are looked at.

    A path may lead into a store, as ``x.zarr/raw`` does. Of an image at several resolutions
    the full one is the data, and the others are its `levels`. Of several images one that is
    called raw, data, image, volume or em is read, else the first, with a warning that names
    the others.

    Raises
    ------
    FileReadError
        If there is no such store or image, it is damaged, or holds no grey values.
    """
    store, inside = _store(path)
    try:
        with warnings.catch_warnings():
            # Other files in a store, or data types of other programs, are no concern of ours.
            warnings.simplefilter("ignore")
            found = _found(path, store, inside)
            image = found.image(path)
    except FileReadError:
        raise
    except Exception as error:
        # Whatever the library, its codecs and metadata of other programs come up with.
        raise FileReadError(_complaint(path, error)) from error
    if found.others:
        tell(
            f"{path} holds several images; {found.name!r} is read. To read another one, open "
            f"{path}/NAME with a NAME of {', '.join(found.others)}.",
            stacklevel=2,
        )
    return image


def _store(path: Path) -> tuple[Store, str]:
    """The store that a path leads to, and what follows within an archive."""
    from zarr.storage import LocalStore, ZipStore

    for archive in (path, *path.parents):
        if archive.is_file() and archive.suffix.lower() in (".zip", ".ozx"):
            inside = path.relative_to(archive).as_posix()
            try:
                return ZipStore(archive, mode="r", read_only=True), _within(archive, inside)
            except Exception as error:
                raise FileReadError(_complaint(path, error)) from error
    if path.is_file():
        raise FileReadError(
            f"{path} is a file; a Zarr or N5 store is a folder, or an archive that ends with .zip."
        )
    if not path.is_dir():
        raise FileReadError(_missing(path))
    if not any((path / name).is_file() for name in NODE_FILES[:-1]) and _is_n5(path):
        from napari_unet.io.n5 import N5Store

        return N5Store(LocalStore(path, read_only=True)), ""
    return LocalStore(path, read_only=True), ""


def _within(archive: Path, inside: str) -> str:
    """The place in an archive; a store may lie in a folder of it instead of at its root."""
    with zipfile.ZipFile(archive) as file:
        names = file.namelist()
    outermost = {name.partition("/")[0] for name in names}
    if len(outermost) == 1 and not outermost & set(NODE_FILES):
        inside = f"{outermost.pop()}/{inside}"
    return inside.strip("./")


def _is_n5(path: Path) -> bool:
    return (path / "attributes.json").is_file() or any(
        part.suffix.lower() == ".n5" for part in (path, *path.parents)
    )


def _missing(path: Path) -> str:
    """What to say of a path where nothing is."""
    there = next(parent for parent in path.parents if parent.exists())
    if not is_zarr(there) or there.is_file():
        return f"There is no file or folder {path}."
    try:
        names = _names(there)
    except FileReadError as error:
        return str(error)
    return (
        f"{there} holds no {path.relative_to(there).as_posix()!r}; its images are "
        f"{', '.join(names) or '(none)'}."
    )


def _names(path: Path) -> list[str]:
    store, _ = _store(path)
    return [each.name for each in _images(_opened(path, store, ""))]


def _complaint(path: Path, error: Exception) -> str:
    """What to say of an error of the library."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    advice = "It may be damaged or incomplete; copy it anew."
    if path.is_dir():
        for each in (p for name in (*NODE_FILES, ".zattrs") for p in sorted(path.rglob(name))):
            try:
                json.loads(each.read_bytes())
            except PermissionError:
                with reading(each):
                    raise
            except (OSError, ValueError) as damage:
                reason = f"{each.relative_to(path).as_posix()} is no whole JSON ({damage})"
                break
    return f"Cannot read {path}: {reason.rstrip('.')}. {advice}"


@dataclass(frozen=True, eq=False)
class _Image:
    """An array or several levels of one in a store."""

    name: str
    arrays: tuple[zarr.Array[Any], ...]
    meaning: ngff.Meaning
    others: tuple[str, ...] = ()

    def image(self, path: Path) -> ImageArray:
        shape = self.arrays[0].shape
        axes = self.meaning.axes
        lengthy = [n for a, n in zip(axes, shape, strict=True) if a == "?" and n > 1]
        if lengthy:
            raise FileReadError(
                f"Cannot read {path}: it has {len(shape)} axes {tuple(shape)}; no more than time, "
                "channel, Z, Y and X are understood. Cut it into images of these axes."
            )
        kept = [i for i, axis in enumerate(axes) if axis != "?"]
        # Sections are wanted; other programs may count X first.
        order = sorted(kept, key=lambda i: "TCZYXS".index(axes[i]))
        if "".join(axes[i] for i in kept).removesuffix("S").endswith("YX"):
            order = kept
        levels = []
        for array in self.arrays:
            where = f"{path}/{array.path}" if array.path else str(path)
            data = lazy_array(_numeric(array, where), where)
            if order != list(range(array.ndim)):  # only then: slices would not reach the store
                data = data[tuple(slice(None) if i in kept else 0 for i in range(array.ndim))]
                data = data.transpose([kept.index(i) for i in order])
            levels.append(data)
        stem = path.name.split(".")[0] or path.name
        try:
            return ImageArray(
                levels[0],
                "".join(axes[i] for i in order),
                tuple(self.meaning.scale[i] for i in order),
                tuple(self.meaning.units[i] for i in order),
                stem,
                tuple(levels[1:]),
            )
        except ValueError as error:
            others = f" The images there are {', '.join(self.others)}." if self.others else ""
            raise FileReadError(f"Cannot read {path}: {error}{others}") from error


def _numeric(array: zarr.Array[Any], where: str) -> zarr.Array[Any]:
    if getattr(array.dtype, "kind", "O") not in "buif":
        raise FileReadError(
            f"Cannot read {where}: it holds values of type {array.dtype}; an image holds whole or "
            "real numbers."
        )
    return array


def _opened(path: Path, store: Store, inside: str) -> zarr.Array[Any] | zarr.Group:
    import zarr

    try:
        return zarr.open(store, path=inside, mode="r", use_consolidated=False)
    except FileNotFoundError:
        pass
    names = sorted(each.parent.name for each in path.glob("*/*") if each.name in NODE_FILES)
    within = f" The folders in it that are stores: {', '.join(dict.fromkeys(names))}."
    raise FileReadError(
        f"Cannot read {path}: there is no Zarr or N5 data{f' at {inside!r}' if inside else ''} in "
        f"it.{within if names else ' It may be empty, or have been copied without hidden files.'}"
    )


def _found(path: Path, store: Store, inside: str) -> _Image:
    """The image to read, of those that there are."""
    import zarr

    node = _opened(path, store, inside)
    if isinstance(node, zarr.Array):
        return _plain(path, node, "")
    images = list(islice(_images(node), MOST_IMAGES))
    if not images and (path / ".zmetadata").is_file():  # all there is of metadata, maybe
        node = zarr.open_consolidated(store, path=inside, mode="r")
        images = list(islice(_images(node), MOST_IMAGES))
    if not images:
        raise FileReadError(f"Cannot read {path}: no arrays are in it; it is an empty group.")
    if len(images) == 1:
        return _described(path, node, images[0])
    preferred = _preferred(images)
    chosen = _described(path, node, preferred or images[0])
    if preferred:
        return chosen
    names = tuple(each.name for each in images if each.name != chosen.name)
    return _Image(chosen.name, chosen.arrays, chosen.meaning, names)


def _preferred(images: Sequence[_Candidate]) -> _Candidate | None:
    by_name = {each.name.rpartition("/")[2].lower(): each for each in reversed(images)}
    return next((by_name[name] for name in PREFERRED if name in by_name), None)


def zarr_images(path: Path) -> list[StoredImage]:
    """Return the images in a store, the one first that is read where none is named.

    The labels of an OME-Zarr image count among them.

    Raises
    ------
    FileReadError
        If there is no such store, or it is damaged.
    """
    import zarr

    store, inside = _store(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = _opened(path, store, inside)
            images = list(islice(_images(node), MOST_IMAGES))
            labels = None
            if not isinstance(node, zarr.Array) and [each.name for each in images] == ["."]:
                labels = node.get(LABELS)
            if labels is not None:
                images += islice(_images(labels, LABELS), MOST_IMAGES)
            preferred = _preferred(images)
            images.sort(key=lambda each: each is not preferred)
            return [
                StoredImage(each.name, tuple(array.shape), str(array.dtype))
                for each in images
                if (array := each.full) is not None
            ]
    except FileReadError:
        raise
    except Exception as error:
        raise FileReadError(_complaint(path, error)) from error


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An image in a group that nobody has looked at yet."""

    name: str
    node: zarr.Array[Any] | zarr.Group
    levels: tuple[str, ...] = ()

    @property
    def full(self) -> zarr.Array[Any] | None:
        """The array at full resolution; None if it is not there."""
        import zarr

        node = self.node if isinstance(self.node, zarr.Array) else self.node.get(self.levels[0])
        return node if isinstance(node, zarr.Array) else None


def _images(group: zarr.Array[Any] | zarr.Group, name: str = "") -> Iterator[_Candidate]:
    """The images in a group and in the groups within, outermost first."""
    import zarr

    if isinstance(group, zarr.Array):
        yield _Candidate(name, group)
        return
    multiscale = ngff.multiscale_of(group.attrs.asdict())
    if multiscale is not None:
        yield _Candidate(name or ".", group, tuple(ngff.level_paths(multiscale)))
        return
    members = sorted(group.members(), key=lambda member: _by_numbers(member[0]))
    arrays = {key: node for key, node in members if isinstance(node, zarr.Array)}
    levels = tuple(key for key in arrays if re.fullmatch(r"s[0-9]+", key))
    if "s0" in levels:
        yield _Candidate(name or ".", group, levels)
    for key, array in arrays.items():
        if "s0" not in levels or key not in levels:
            yield _Candidate(f"{name}/{key}".strip("/"), array)
    for key, node in members:
        if isinstance(node, zarr.Group):
            yield from _images(node, f"{name}/{key}".strip("/"))


def _by_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(n or 0), text) for text, n in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _described(path: Path, root: zarr.Group, candidate: _Candidate) -> _Image:
    import zarr

    if isinstance(candidate.node, zarr.Array):
        return _plain(path, candidate.node, candidate.name)
    group = candidate.node
    arrays: list[zarr.Array[Any]] = []
    for level in candidate.levels:
        try:
            array = group[level]
        except KeyError:
            array = None
        if isinstance(array, zarr.Array):
            arrays.append(array)
        elif not arrays:
            raise FileReadError(
                f"Cannot read {path}: its metadata tell of an array {level!r}, which is not there. "
                "It may have been copied incompletely; copy it anew."
            )
    attributes = group.attrs.asdict()
    multiscale = ngff.multiscale_of(attributes)
    first = arrays[0]
    if multiscale is not None:
        meaning = ngff.ome_meaning(multiscale, 0, first.shape)
    else:
        meaning = _by_attributes(first, attributes)
    same = tuple(array for array in arrays if array.ndim == first.ndim)
    return _Image(candidate.name, same, meaning)


def _plain(path: Path, array: zarr.Array[Any], name: str) -> _Image:
    """An array by itself; groups around it may know more of it."""
    meaning = _by_attributes(array, {})
    folder, inside = path, array.path
    for _ in range(3):
        inside = f"{folder.name}/{inside}".strip("/")
        folder = folder.parent
        attributes = _attributes_of(folder)
        multiscale = ngff.multiscale_of(attributes)
        if multiscale is not None and inside in ngff.level_paths(multiscale):
            level = ngff.level_paths(multiscale).index(inside)
            meaning = ngff.ome_meaning(multiscale, level, array.shape)
            break
        if attributes and _is_n5_array(array):
            meaning = _by_attributes(array, attributes)
            break
    return _Image(name, (array,), meaning)


def _attributes_of(folder: Path) -> Mapping[str, Any]:
    """Attributes of a group on disk; none if they cannot be read."""
    for name in ("zarr.json", ".zattrs", "attributes.json"):
        try:
            found = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        attributes = found.get("attributes") if name == "zarr.json" else found
        return attributes if isinstance(attributes, dict) else {}
    return {}


def _is_n5_array(array: zarr.Array[Any]) -> bool:
    from napari_unet.io.n5 import is_data_set

    return is_data_set(array.attrs.asdict())


def _by_attributes(array: zarr.Array[Any], group: Mapping[str, Any]) -> ngff.Meaning:
    attributes = array.attrs.asdict()
    if _is_n5_array(array):
        return ngff.n5_meaning(attributes, group, array.shape)
    names: Sequence[str | None] | None = getattr(array.metadata, "dimension_names", None)
    return ngff.named_meaning({**group, **attributes}, names, array.shape)

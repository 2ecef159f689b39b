"""Data sets of HDF5 files that lie elsewhere: behind links, or gathered from other files."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.io.files import FileReadError, reading

if TYPE_CHECKING:
    import h5py


def data_sets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset | None]]:
    """Yield every data set by name, those behind links last; None where a link leads nowhere.

    A data set of several names comes under each; what lies in a group comes once.
    """
    import h5py

    seen: set[h5py.Group] = set()
    links: list[tuple[str, h5py.Group, str]] = []

    def look(name: str, found: object) -> Iterator[tuple[str, h5py.Dataset | None]]:
        if isinstance(found, h5py.Dataset):
            yield name, found
        elif isinstance(found, h5py.Group) and found not in seen:
            seen.add(found)
            for key in found:
                within = f"{name}/{key}".strip("/")
                if found.get(key, getclass=True, getlink=True) is h5py.HardLink:
                    yield from look(within, found[key])
                else:
                    links.append((within, found, key))

    yield from look("", file["/"])
    for name, group, key in links:  # which grow, as links lead to groups with links
        target = followed(group, key)
        if target is None:
            yield name, None
        else:
            yield from look(name, target)


def followed(group: h5py.Group, name: str) -> Any:
    """Return what a name leads to, through links; None if there is nothing."""
    try:
        return group.get(name)
    except (RuntimeError, OSError):  # a ring of links
        return None


def opened(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set that was there when the file was looked at.

    Raises
    ------
    FileReadError
        If it is there no more; the message names the file that it was in.
    """
    import h5py

    found = followed(file, name)
    if not isinstance(found, h5py.Dataset):
        raise FileReadError(
            broken_link(path, file, name)
            or f"{path} has no data set {name!r} any more; it was changed. Open it anew."
        )
    return found


def broken_link(path: Path, file: h5py.File, name: str) -> str:
    """Return what to say of a name that leads nowhere; empty if no link is to blame."""
    import h5py

    said, seen = "", set()
    group, within = file["/"], name.strip("/")
    # Until it leads no further, or in a circle.
    while (group.file.filename, within) not in seen:
        seen.add((group.file.filename, within))
        first, *rest = within.split("/")
        link, target = group.get(first, getlink=True), followed(group, first)
        if target is None and isinstance(link, h5py.ExternalLink):
            holder = Path(group.file.filename).parent / link.filename
            reason = "is not there. Copy that file there"
            if holder.exists():
                reason = f"holds no {link.path!r} or cannot be opened. Copy that file anew"
            return (
                f"Cannot read {name!r} of {path}: it is in another file, {holder}, which {reason}."
            )
        if target is None and isinstance(link, h5py.SoftLink):
            said = (
                f"Cannot read {name!r} of {path}: it is a link to {link.path!r}, where nothing is. "
                "Copy the file anew, or name another data set."
            )
            # There may be a link to another file.
            within = posixpath.join(group.name, link.path, *rest).strip("/")
            group = group.file["/"]
        elif rest and isinstance(target, h5py.Group):
            group, within = target, "/".join(rest)
    return said


def sources_of(path: Path, dataset: h5py.Dataset) -> tuple[Path, ...]:
    """Return the files that a virtual data set is gathered from; none of any other.

    The library reads fill values where they are missing, which look like an image.

    Raises
    ------
    FileReadError
        If one is missing or damaged, or does not hold what it should.
    """
    import h5py

    if not dataset.is_virtual:
        return ()
    wanted: dict[str, set[str]] = defaultdict(set)
    for part in dataset.virtual_sources():
        # Numbered files begin with 0, and nobody knows how many there should be.
        file, name = (
            each.replace("%b", "0").replace("%%", "%") for each in (part.file_name, part.dset_name)
        )
        wanted[file].add(name)
    found: dict[Path, None] = {}
    for file, names in wanted.items():
        source = _source(dataset, file)
        check_sources(path, (source,))
        with reading(source), h5py.File(source, "r") as holder:
            for name in sorted(names):
                part = followed(holder, name)
                if not isinstance(part, h5py.Dataset):
                    raise FileReadError(
                        f"Cannot read {path}: it is gathered from other files, of which {source} "
                        f"holds no data set {name!r}. Copy that file anew."
                    )
                found.update(dict.fromkeys((source, *sources_of(path, part))))
    return tuple(found)


def check_sources(path: Path, sources: tuple[Path, ...]) -> None:
    """Complain if one of the files is missing that a virtual data set is gathered from.

    Raises
    ------
    FileReadError
        It names the file.
    """
    for source in sources:
        if not source.exists():
            raise FileReadError(
                f"Cannot read {path}: it is gathered from other files, of which {source} is not "
                f"there. Copy that file there, or beside {path.name}."
            )


def _source(dataset: h5py.Dataset, file: str) -> Path:
    """Where the library finds a source, or where it should be."""
    holder = Path(dataset.file.filename)
    if file == ".":
        return holder
    prefixes = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(holder.parent))
    folders = [Path(prefix) for prefix in prefixes.split(os.pathsep) if prefix]
    folders += [holder.parent, holder.resolve().parent, Path()]
    # Of a whole path that leads nowhere the library goes on with the name.
    names = (file, Path(file).name) if Path(file).is_absolute() else (file,)
    named = (folder / name for name in names for folder in folders)
    return next((each for each in named if each.is_file()), holder.parent / file)

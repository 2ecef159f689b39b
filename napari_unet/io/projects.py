"""Projects: folders that keep what was painted, learnt and predicted of an image, as it happens.

A folder ``name.unet`` holds

``project.json``
    which image, classes, versions, settings and view; replaced as a whole (`io.project_state`)
``arrays.zarr``
    arrays of the shape of the image, in chunks: ``corrections``, the ``sides`` on which paint is
    (learnt from, or held out), and the ``mask``
``predicted.jsonl``
    a line for each section of the mask: its checksum, and what it was predicted with
``versions/``
    weights, a file each

Every chunk, file and line is there or not, whenever the program is killed.
"""

from __future__ import annotations

import json
import shutil
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from napari_unet.core.annotations import Annotations
from napari_unet.core.held_out import Strokes, all_learnt, restored
from napari_unet.core.image import SectionIndex
from napari_unet.io.files import FileReadError, FileWriteError, replacing
from napari_unet.io.locks import InUseError, Lock
from napari_unet.io.project_state import ProjectState, state_from_json, state_to_json

SUFFIX = ".unet"
CHUNK = 256
"""Side of a chunk in pixels: what a stroke writes."""

STATE, ARRAYS, PREDICTED, VERSIONS, LOCK, OWNER = (
    "project.json", "arrays.zarr", "predicted.jsonl", "versions", "lock", "opened-by.txt",
)  # fmt: skip
_UNFINISHED = ("*.partial", ".project-*.json", ".*.safetensors")
"""Names that files have while they are written."""

_NAMES = ("corrections", "sides", "mask")

Section = npt.NDArray[np.uint8]
"""Classes of the pixels of a section, (Y, X)."""


@dataclass(frozen=True, eq=False)
class Paint:
    """What a project keeps of strokes."""

    sections: Mapping[SectionIndex, Section]
    sides: Mapping[SectionIndex, Section]


class Project:
    """A project that this process has open; nobody else can write to it meanwhile.

    Made by `create_project` and `open_project`.
    """

    def __init__(self, folder: Path, state: ProjectState, lock: Lock) -> None:
        self.folder = folder
        self.state = state
        self._lock = lock
        group = zarr.open_group(folder / ARRAYS, mode="r+")
        self._arrays: dict[str, Any] = {name: group[name] for name in _NAMES}
        self._written = Paint({}, {})
        self._masks = threading.Lock()

    @property
    def name(self) -> str:
        return self.folder.stem

    @property
    def versions(self) -> Path:
        """The folder of weights."""
        return self.folder / VERSIONS

    def close(self) -> None:
        """Let others open the project."""
        self._lock.give_back()

    def save(self, state: ProjectState) -> None:
        """Write which image, classes, versions, settings and view.

        Raises
        ------
        FileWriteError
            If it cannot be written; what was saved before stays.
        """
        if state != self.state or not (self.folder / STATE).exists():
            _write_state(self.folder, state)
            self.state = state

    # --- paint ---------------------------------------------------------------------------

    def paint(self, strokes: Strokes) -> None:
        """Write what was painted or erased since the last time.

        When this returns, killing the program does not lose it.

        Raises
        ------
        FileWriteError
            If some of it cannot be written; it is tried again the next time.
        """
        before = self._written
        now = Paint(dict(strokes.painted), dict(strokes.sides))
        # Sides first: paint whose side is not known would be learnt from.
        self._write("sides", before.sides, now.sides)
        self._write("corrections", before.sections, now.sections)
        self._written = now
        pieces = tuple(int(n) for n in strokes.pieces)
        self.save(replace(self.state, pieces=pieces, classes=strokes.learnt.classes))

    def _write(
        self,
        name: str,
        before: Mapping[SectionIndex, Section],
        now: Mapping[SectionIndex, Section],
    ) -> None:
        array = self._arrays[name]
        try:
            for index in before.keys() | now.keys():
                old, new = before.get(index), now.get(index)
                if old is new:
                    continue
                height, width = array.shape[-2:]
                old, new = (_or_empty(each, height, width) for each in (old, new))
                for rows, columns in _chunks(height, width):
                    if not np.array_equal(old[rows, columns], new[rows, columns]):
                        array[(*index, rows, columns)] = new[rows, columns]
        except OSError as error:
            raise FileWriteError(
                f"Strokes cannot be written to {self.folder}: {error.strerror or error}. What was "
                "painted before is safe. Make room, or save the project elsewhere."
            ) from error

    def painted(self) -> Strokes:
        """Return all that was painted, parted as it was then.

        Raises
        ------
        FileReadError
            If a chunk is damaged.
        """
        sections, sides = (dict(self._sections(name)) for name in ("corrections", "sides"))
        for index, section in sections.items():
            sides.setdefault(index, np.zeros_like(section))
        self._written = Paint(sections, sides)
        annotations = Annotations(self.state.classes, sections)
        if not sections:
            return all_learnt(annotations)
        pieces = np.zeros(256, np.int64)
        pieces[: len(self.state.pieces)] = self.state.pieces
        return restored(annotations, sides, pieces)

    def _sections(self, name: str) -> Iterator[tuple[SectionIndex, Section]]:
        """The sections of an array that hold something; only chunks that exist are looked at."""
        array, found = self._arrays[name], set()
        root = self.folder / ARRAYS / name / "c"
        for path in root.rglob("*") if root.is_dir() else ():
            parts = path.relative_to(root).parts
            if len(parts) == array.ndim and all(part.isdecimal() for part in parts):
                found.add(tuple(int(part) for part in parts[:-2]))
        for index in sorted(found):
            try:
                section = np.asarray(array[index])
            except (OSError, ValueError, RuntimeError) as error:
                raise FileReadError(
                    f"Section {index} of the {name} in {self.folder} is damaged ({error}). Take "
                    f"the folder {root.joinpath(*map(str, index))} away to open the project "
                    "without it."
                ) from error
            if section.any():
                yield index, section

    # --- mask ----------------------------------------------------------------------------

    def keep_mask(self, index: SectionIndex, mask: Section, way: str) -> None:
        """Write a section of the mask; any thread may.

        Parameters
        ----------
        index
            Which section.
        mask
            Its classes.
        way
            What it was predicted with.

        Raises
        ------
        FileWriteError
            If it cannot be written.
        """
        try:
            with self._masks:
                # The line first: killed in between, the section is the old one, which has its own.
                line = json.dumps({"section": list(index), "way": way, "checksum": _checksum(mask)})
                with (self.folder / PREDICTED).open("a", encoding="utf-8") as file:
                    file.write(f"\n{line}")  # the line before may be cut
                self._arrays["mask"][index] = mask
        except OSError as error:
            raise FileWriteError(
                f"The mask cannot be written to {self.folder}: {error.strerror or error}."
            ) from error

    def masks(
        self, order: Callable[[Iterable[SectionIndex]], Iterable[SectionIndex]] = sorted
    ) -> Iterator[tuple[SectionIndex, Section, str]]:
        """Yield index, classes and way of each section of the mask that is whole.

        Parameters
        ----------
        order
            Returns the sections in the order in which they are wanted.
        """
        path = self.folder / PREDICTED
        ways: dict[SectionIndex, dict[int, str]] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
                index = tuple(int(n) for n in entry["section"])
                ways.setdefault(index, {})[int(entry["checksum"])] = str(entry["way"])
            except (ValueError, KeyError, TypeError):
                continue  # the program was killed while it wrote the line
        for index in order(ways):
            section = np.asarray(self._arrays["mask"][index])
            way = ways[index].get(_checksum(section))
            if way is not None:
                yield index, section, way


def create_project(folder: Path, state: ProjectState) -> Project:
    """Make a project and open it.

    Parameters
    ----------
    folder
        Its name ends with ``.unet``; it does not exist yet.
    state
        Which image, classes and settings.

    Raises
    ------
    FileWriteError
        If the folder is there already, or cannot be made.
    """
    if folder.suffix != SUFFIX:
        folder = folder.with_name(folder.name + SUFFIX)
    try:
        folder.mkdir()
    except FileExistsError:
        raise FileWriteError(
            f"{folder} is there already. Open it, or choose another name."
        ) from None
    except OSError as error:
        raise _not_made(folder, error) from error
    lock = None
    try:
        lock = _locked(folder)
        (folder / VERSIONS).mkdir()
        _make_arrays(folder, state.image.shape)
        _write_state(folder, state)  # last of all: without it, the folder is no project
        return Project(folder, state, lock)
    except BaseException as error:
        if lock is not None:
            lock.give_back()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise _not_made(folder, error) from error
        raise


def _make_arrays(folder: Path, shape: tuple[int, ...]) -> None:
    group = zarr.open_group(folder / ARRAYS, mode="w")
    for name in _NAMES:
        # A section of the mask is replaced as a whole, so that it is never of two models.
        sides = shape[-2:] if name == "mask" else [min(CHUNK, n) for n in shape[-2:]]
        group.create_array(
            name,
            shape=shape,
            dtype=np.uint8,
            chunks=(*(1,) * (len(shape) - 2), *sides),
            dimension_names=[f"axis {n}" for n in range(len(shape) - 2)] + ["y", "x"],
        )


def _not_made(folder: Path, error: OSError) -> FileWriteError:
    return FileWriteError(f"The project {folder} cannot be made: {error.strerror or error}.")


def open_project(folder: Path) -> Project:
    """Open a project.

    Raises
    ------
    FileReadError
        If it is none, is damaged, open in another process, or of a newer version.
    """
    state = read_state(folder)
    try:
        lock = _locked(folder)
    except OSError as error:
        raise FileReadError(
            f"{folder} cannot be written to ({error.strerror or error})."
        ) from error
    try:
        _clear_away(folder)
        return Project(folder, state, lock)
    except (OSError, KeyError, ValueError) as error:
        lock.give_back()
        raise FileReadError(
            f"The arrays of {folder} cannot be read ({error}). Get the folder {ARRAYS} from a "
            "copy of the project."
        ) from error


def copy_project(
    project: Project, folder: Path, *, should_stop: Callable[[], bool] = lambda: False
) -> Generator[float, None, bool]:
    """Copy all of a project to a folder that does not exist yet.

    The project may be written to meanwhile; the copy then has some of it. It is made under another
    name and moved when it is whole.

    Yields
    ------
    float
        The share that is copied.

    Returns
    -------
    bool
        Whether the copy is there; not so where it was stopped.

    Raises
    ------
    FileWriteError
        If the folder is there already, or cannot be written; what was copied is removed again.
    """
    taken = FileWriteError(f"{folder} is there already. Choose another name.")
    if folder.exists():
        raise taken
    try:
        with TemporaryDirectory(prefix=f".{folder.stem}-", dir=folder.parent) as around:
            temporary = Path(around) / folder.name
            files = [each for each in project.folder.rglob("*") if _outlasts(each, project.folder)]
            for number, path in enumerate(files):
                if should_stop():
                    return False
                copy = temporary / path.relative_to(project.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
                yield (number + 1) / len(files)
            if folder.exists():
                raise taken
            temporary.rename(folder)
    except OSError as error:
        raise FileWriteError(
            f"The project cannot be copied to {folder}: {error.strerror or error}. It stays where "
            "it is."
        ) from error
    return True


def _outlasts(path: Path, folder: Path) -> bool:
    """Whether a file is the project's, and none that is just being written or says who has it."""
    return (
        path.is_file()
        and path.name not in (LOCK, OWNER)
        and not any(path.relative_to(folder).match(pattern) for pattern in _UNFINISHED)
    )


def is_project(path: Path) -> bool:
    """Tell whether a path is the folder of a project."""
    return path.suffix == SUFFIX and (path / STATE).is_file()


def read_state(folder: Path) -> ProjectState:
    """Return which image, classes, versions, settings and view a project has, without opening it.

    Raises
    ------
    FileReadError
        If the folder is no project, damaged, or of a newer version of the program.
    """
    path = folder / STATE
    if not path.is_file():
        raise FileReadError(f"{folder} is no project: it holds no {STATE}.")
    try:
        return state_from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise FileReadError(f"{path} cannot be read: {error}") from error


def _write_state(folder: Path, state: ProjectState) -> None:
    with replacing(folder / STATE) as temporary:
        temporary.write_text(state_to_json(state), "utf-8")


def _locked(folder: Path) -> Lock:
    try:
        return Lock(folder / LOCK, folder / OWNER).take()
    except InUseError as who:
        raise FileReadError(f"{folder} is open in {who}. Close it there first.") from None


def _clear_away(folder: Path) -> None:
    """Remove what was being written when the program was killed."""
    for pattern in _UNFINISHED:
        for path in folder.rglob(pattern):
            path.unlink(missing_ok=True)


def _checksum(section: Section) -> int:
    return zlib.crc32(np.ascontiguousarray(section).tobytes())


def _or_empty(section: Section | None, height: int, width: int) -> Section:
    return np.zeros((height, width), np.uint8) if section is None else section


def _chunks(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, CHUNK):
        for left in range(0, width, CHUNK):
            yield slice(top, min(top + CHUNK, height)), slice(left, min(left + CHUNK, width))

"""Kill a process that works on a project, at random moments, and see whether anything is lost.

Usage: python -m benchmarks.kills [KILLS]

The process paints, erases, keeps masks and versions, and says of each when it is finished. It is
killed (SIGKILL), the project is opened again and compared with what was finished, and the next
process goes on from there.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.killing import OPEN, run_and_kill, say
from benchmarks.report import table, write_section
from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.held_out import parted
from napari_unet.core.image import image_from_array
from napari_unet.io.files import FileReadError, replacing
from napari_unet.io.project_state import ProjectState, StoredVersion, image_source
from napari_unet.io.projects import Project, create_project, open_project

SHAPE = (4, 600, 600)
CLASSES = class_table(["background", "membrane", "mitochondrion"])
EVERY_MASK, EVERY_VERSION = 7, 11
"""After so many strokes a mask, or a version, is kept."""

Painted = npt.NDArray[np.uint8]


def stroke(number: int) -> tuple[tuple[int, slice, slice], int]:
    """Return where the stroke of this number goes, and its class; 0 erases."""
    chance = np.random.default_rng(number)
    z, top, left = (int(n) for n in chance.integers(0, (4, 500, 400)))
    return (z, slice(top, top + 60), slice(left, left + 200)), int(chance.integers(0, 4))


def mask_of(number: int) -> tuple[int, Painted]:
    """Return the section and the mask that are kept after this stroke."""
    chance = np.random.default_rng((1, number))
    return int(chance.integers(0, SHAPE[0])), chance.integers(1, 4, SHAPE[1:], np.uint8)


def weights_of(number: int) -> bytes:
    """Return what stands for the weights that are kept after this stroke."""
    return np.random.default_rng((2, number)).bytes(200_000)


def work(folder: Path, first: int) -> None:
    """Paint strokes from this number on until somebody kills the process."""
    project = open_project(folder)
    strokes = project.painted()
    say(OPEN, first)
    for number in range(first, first + 10_000):
        (z, rows, columns), value = stroke(number)
        section = strokes.painted.get((z,), np.zeros(SHAPE[1:], np.uint8)).copy()
        section[rows, columns] = value
        sections = {k: v for k, v in {**strokes.painted, (z,): section}.items() if v.any()}
        strokes = parted(Annotations(CLASSES, sections), strokes)
        project.paint(strokes)
        say("stroke", number)
        if number % EVERY_MASK == 0:
            z, mask = mask_of(number)
            project.keep_mask((z,), mask, str(number))
            say("mask", number)
        if number % EVERY_VERSION == 0:
            keep_version(project, number)
            say("version", number)


def keep_version(project: Project, number: int) -> None:
    """Write weights, and then that they are there."""
    file = f"versions/version-{number}.safetensors"
    with replacing(project.folder / file) as temporary:
        temporary.write_bytes(weights_of(number))
    version = StoredVersion(number, "example", number, 0.5, 2, False, file)
    others = tuple(each for each in project.state.versions if each.number != number)
    project.save(replace(project.state, versions=(*others, version), version=number))


def survive(folder: Path, kills: int, seed: int) -> tuple[list[str], int]:
    """Kill as often, and return what was lost and how many things had been finished.

    Parameters
    ----------
    folder
        Where the project is made.
    kills
        How often.
    seed
        For the moments.
    """
    chance = np.random.default_rng(seed)
    path = folder / "example.unet"
    image = image_from_array(np.zeros(SHAPE, np.uint8), "example")
    create_project(path, ProjectState(image_source(image, path), CLASSES, "em-lite")).close()
    expected = np.zeros(SHAPE, np.uint8)
    masks: dict[int, int] = {}
    versions: set[int] = set()
    lost: list[str] = []
    first = finished = 0
    for _ in range(kills):
        said = run_and_kill("benchmarks.kills", path, first, float(chance.uniform(0.0, 1.0)))
        finished += len(said)
        for what, number in said:
            if what == "stroke":
                place, value = stroke(number)
                expected[place] = value
                first = number + 1
            elif what == "mask":
                masks[mask_of(number)[0]] = number
            else:
                versions.add(number)
        try:
            project = open_project(path)
        except FileReadError as error:
            return [*lost, f"it does not open: {error}"], finished
        lost += _missing(project, expected, first, masks, versions)
        project.close()
    return lost, finished


def _missing(
    project: Project, expected: Painted, first: int, masks: dict[int, int], versions: set[int]
) -> list[str]:
    """Compare a project with what was finished; what came after it may be there or not."""
    missing = []
    found = np.zeros(SHAPE, np.uint8)
    strokes = project.painted()
    for (z,), section in strokes.painted.items():
        found[z] = section
    place, value = stroke(first)
    unfinished = np.zeros(SHAPE, bool)
    unfinished[place] = True
    wrong = (found != expected) & ~(unfinished & (found == value))
    if wrong.any():
        missing.append(f"{int(wrong.sum())} pixels of paint before stroke {first}")
    kept = {index[0]: (section, int(way)) for index, section, way in project.masks()}
    for z, number in masks.items():
        section, newest = kept.get(z, (None, -1))
        if section is None or newest < number:
            missing.append(f"the mask after stroke {number}")
        elif not np.array_equal(section, mask_of(newest)[1]):
            missing.append(f"a part of the mask after stroke {newest}")
    stored = {each.number: each.file for each in project.state.versions}
    for number in versions:
        file = project.folder / stored.get(number, "-")
        if not file.is_file() or file.read_bytes() != weights_of(number):
            missing.append(f"version {number}")
    return missing


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), int(sys.argv[3]))
        sys.exit()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as place:
        what_is_lost, how_many = survive(Path(place), count, seed=0)
    print(*what_is_lost, sep="\n")
    write_section(
        "Killed while it writes",
        "Made by `python -m benchmarks.kills`: a process that paints, erases, and keeps masks and "
        "versions in a project\nis killed (SIGKILL) at random moments, and the project is opened "
        "again.\n\n"
        + table(
            ["kills", "finished strokes, masks and versions", "lost"],
            [[str(count), str(how_many), str(len(what_is_lost))]],
        ),
    )
    sys.exit(bool(what_is_lost))

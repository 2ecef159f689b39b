"""Kill the program while somebody paints in its window, and see whether a stroke is lost.

Usage: python -m benchmarks.window_kills [KILLS]   (without a display: under xvfb-run)

A process opens the real window, paints strokes with a real mouse while the network learns from
them, and says of each stroke and version when it has ended. It is killed (SIGKILL) at a random
moment, the project is read and compared with what was painted, and the next process opens it and
paints on. Writes how often that was done, and what was lost, into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.killing import OPEN, run_and_kill, say
from benchmarks.report import table, write_section
from napari_unet.core.image import image_from_array
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.io.files import FileReadError
from napari_unet.io.images import write_image
from napari_unet.io.models import load_model
from napari_unet.io.projects import Project, open_project

SECTIONS, SIDE = 3, 160
LONGEST_LIFE = 8.0
"""Seconds from the first sign of life of a process to its end, at most."""
BRUSH = 6
ERASES_EVERY = 5


@dataclass(frozen=True)
class Stroke:
    """A stroke of the mouse: in which section, of which class (0 erases), and along which pixels."""

    section: int
    number: int
    path: list[tuple[int, int]]


def stroke(number: int) -> Stroke:
    """Return the stroke of this number."""
    chance = np.random.default_rng(number)
    z, row, column = (int(n) for n in chance.integers((0, 30, 30), (SECTIONS, 130, 100)))
    path = [(row, column + 3 * step) for step in range(10)]
    erases = number % ERASES_EVERY == ERASES_EVERY - 1
    return Stroke(z, 0 if erases else 1 + number % 3, path)


def paint_until_killed(folder: Path, first: int) -> None:
    """Open the window, go on with the project if there is one, and paint from this stroke on."""
    import napari

    from demo.mouse import paint_stroke, wait_until
    from napari_unet.plugin.contributions import PLUGIN, open_dock
    from napari_unet.plugin.learning import IDLE

    viewer = napari.Viewer()
    viewer.window.resize(1200, 900)
    dock = open_dock(viewer)
    project = folder / "stack.unet"
    if project.exists():
        dock.projects.open(project)
        wait_until(lambda: dock.session.project is not None, 60, "the project")
    else:
        viewer.open(str(folder / "stack.tif"), plugin=PLUGIN)
    wait_until(lambda: dock.session.mask is not None, 60, "the mask")
    corrections = dock.keeper.corrections()
    assert corrections is not None
    session = dock.session
    known: list[int] = []
    say(OPEN, first)
    for number in itertools.count(first):
        each = stroke(number)
        viewer.dims.set_current_step(0, each.section)
        if each.number:
            dock.correct_group.choose(each.number)
        else:
            dock.correct_group.erase.click()
        corrections.brush_size = BRUSH
        paint_stroke(viewer, corrections, each.path)

        def is_known(z: int = each.section) -> bool:
            painted = session.strokes.painted.get((z,), np.zeros((SIDE, SIDE), np.uint8))
            return bool(np.array_equal(painted, corrections.data[z]))

        wait_until(is_known, 60, "the stroke")
        temporary = folder / "painted.npy.tmp"
        with temporary.open("wb") as file:
            np.save(file, np.asarray(corrections.data))
        temporary.replace(folder / f"painted-{number}.npy")
        say("stroke", number)
        if known != (versions := [each.number for each in session.versions]):
            known = versions
            for version in versions:
                say("version", version)
        if dock.trainer.state == IDLE and number > 8:
            dock.learn_group.start.click()


def survive(folder: Path, kills: int, seed: int) -> tuple[list[str], int, int]:
    """Kill as often; return what was lost, and how many strokes and versions were finished.

    Parameters
    ----------
    folder
        Where the image and its project lie.
    kills
        How often.
    seed
        For the moments.
    """
    chance = np.random.default_rng(seed)
    grey, _ = synthetic_stack(SECTIONS, SIDE, seed=1)
    write_image(folder / "stack.tif", image_from_array(grey, "stack", 4.0))
    lost: list[str] = []
    last, versions = -1, set[int]()
    for _ in range(kills):
        said = run_and_kill(
            "benchmarks.window_kills", folder, last + 1, float(chance.uniform(0, LONGEST_LIFE))
        )
        last = max([last, *(number for what, number in said if what == "stroke")])
        versions |= {number for what, number in said if what == "version"}
        if last < 0:
            continue
        try:
            project = open_project(folder / "stack.unet")
        except FileReadError as error:
            return [*lost, f"it does not open: {error}"], last + 1, len(versions)
        lost += _missing(project, np.load(folder / f"painted-{last}.npy"), last, versions)
        project.close()
    return lost, last + 1, len(versions)


def _missing(project: Project, expected: np.ndarray, last: int, versions: set[int]) -> list[str]:
    """Compare a project with what was finished; the stroke after that may be there or not."""
    missing = []
    found = np.zeros(expected.shape, np.uint8)
    for (z,), section in project.painted().painted.items():
        found[z] = section
    coming = stroke(last + 1)
    rows, columns = (np.array([place[axis] for place in coming.path]) for axis in (0, 1))
    near = np.zeros(expected.shape, bool)
    near[
        coming.section,
        rows.min() - BRUSH : rows.max() + BRUSH + 1,
        columns.min() - BRUSH : columns.max() + BRUSH + 1,
    ] = True
    wrong = (found != expected) & ~(near & (found == coming.number))
    if wrong.any():
        missing.append(f"{int(wrong.sum())} pixels of paint up to stroke {last}")
    stored = {each.number: each.file for each in project.state.versions}
    if versions and max(stored, default=0) <= max(versions):  # else some were let go for newer ones
        missing += [f"version {number}" for number in versions if number not in stored]
    for file in stored.values():
        if file.endswith(".safetensors"):
            load_model(project.folder / file)
    for _, section, _ in project.masks():
        if not section.all():
            missing.append("a part of a mask")
    return missing


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        paint_until_killed(Path(sys.argv[2]), int(sys.argv[3]))
        sys.exit()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as place:
        what_is_lost, strokes_done, versions_done = survive(Path(place), count, seed=0)
    print(*what_is_lost, sep="\n")
    write_section(
        "Killed while somebody paints",
        "Made by `python -m benchmarks.window_kills`: a real window, in which a mouse paints while "
        "the network learns, is\nkilled (SIGKILL) at random moments, and its project is opened "
        "again.\n\n"
        + table(
            ["kills", "finished strokes", "finished versions", "lost"],
            [[str(count), str(strokes_done), str(versions_done), str(len(what_is_lost))]],
        ),
    )
    sys.exit(bool(what_is_lost))

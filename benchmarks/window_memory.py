"""Measure how much memory the window needs for volumes of different sizes.

Usage: python -m benchmarks.window_memory [--gigabytes 0.05 0.5 5] [--folder FOLDER]

Each volume is an OME-Zarr of uint8, all of whose chunks hold the same noise, so that it takes little
disk and decodes to its full size. A window in a process of its own opens it, paints on three
sections, predicts some with a tiny untrained network, writes the whole mask to an OME-Zarr, saves
the project and opens it again. Writes the table into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import table, write_section
from napari_unet.core.config import LIGHT_NETWORK
from napari_unet.core.image import image_from_array
from napari_unet.core.model import new_model
from napari_unet.io.models import save_model
from napari_unet.io.ome_zarr import CHUNK, FULL, new_group

if TYPE_CHECKING:
    from napari.layers import Labels

SIDE = 1024
NETWORK = LIGHT_NETWORK.replace(depth=2, width=4, classes=2, dropout=0.0)
PREDICTED = 3
"""Sections that are predicted, those nearest to the one in view."""

LINKS = 50_000
"""Names that one file is given; file systems allow for 65,000."""

PATIENCE = 1800
"""Seconds after which something that does not come about is an error."""

MEGABYTE = 1024  # of the kilobytes in /proc


@dataclass(frozen=True)
class Measurement:
    """What a window needed."""

    sections: int
    anonymous: float
    """Most megabytes that the process had at once and that nothing on disk stands for."""
    resident: float
    """Most megabytes at once, with the parts of files that were looked at."""
    seconds: float


def write_volume(path: Path, sections: int) -> None:
    """Write an OME-Zarr, uint8 (sections, SIDE, SIDE)."""
    shape = (sections, SIDE, SIDE)
    blank = image_from_array(np.broadcast_to(np.uint8(0), shape), pixel_size=4.0)
    group = new_group(path, blank)
    noise = np.random.default_rng(0).integers(0, 256, (CHUNK, CHUNK), np.uint8)
    group[FULL][0, :CHUNK, :CHUNK] = noise
    (first,) = (each for each in (path / FULL / "c").rglob("*") if each.is_file())
    for number, index in enumerate(np.ndindex(sections, SIDE // CHUNK, SIDE // CHUNK)):
        chunk = path.joinpath(FULL, "c", *map(str, index))
        chunk.parent.mkdir(parents=True, exist_ok=True)
        if chunk == first:
            continue
        if number % LINKS == 0:
            first = Path(shutil.copyfile(first, chunk))
        else:
            os.link(first, chunk)


def measure(folder: Path, sections: int, model: Path) -> Measurement:
    """Work on a volume in a window of a process of its own."""
    volume = folder / "volume.zarr"
    write_volume(volume, sections)
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.window_memory", "--work", volume, model]
    environment = {**os.environ, "XDG_DATA_HOME": str(folder / "data")}
    process = subprocess.Popen(command, env=environment)
    anonymous = resident = 0
    while process.poll() is None:
        memory = _memory_of(process.pid)
        anonymous = max(anonymous, memory.get("RssAnon", 0))
        resident = max(resident, memory.get("VmHWM", 0))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"The window ended with status {process.returncode}.")
    seconds = time.perf_counter() - began
    return Measurement(sections, anonymous / MEGABYTE, resident / MEGABYTE, seconds)


def _memory_of(process: int) -> dict[str, int]:
    """Kilobytes by the name that Linux has for them; none once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    parts = (line.partition(":") for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, _, value in parts}


def work(volume: Path, model: Path) -> None:
    """Open, paint, predict, export, save and open again, in a real window."""
    import napari

    from demo.mouse import paint_stroke, wait_until
    from napari_unet.plugin.contributions import PLUGIN, open_dock
    from napari_unet.plugin.layers import section_in_view, show_place

    viewer = napari.Viewer()
    viewer.window.resize(1500, 1000)
    dock = open_dock(viewer)
    session, predictor, live = dock.session, dock.predictor, dock.live

    def wait(what: str, claim: Callable[[], bool]) -> None:
        began = time.perf_counter()
        wait_until(claim, PATIENCE, what)
        memory = _memory_of(os.getpid())
        told = ", ".join(f"{n} {memory[n] // MEGABYTE}" for n in ("RssAnon", "RssFile", "RssShmem"))
        print(f"{what}: {time.perf_counter() - began:.0f} s, {told} MB", flush=True)

    def paint(section: int) -> Labels:
        corrections = dock.keeper.corrections()
        show_place(viewer, session.image_layer, (section,), SIDE / 2, SIDE / 2, 2.0)
        for number in (1, 2):
            dock.correct_group.choose(number)
            corrections.brush_size = 10
            row = SIDE / 2 + 30 * number
            path = [(row, SIDE / 2 - 40 + 10 * step) for step in range(8)]
            paint_stroke(viewer, corrections, path)
        wait(
            f"strokes on section {section} are seen",
            lambda: (
                (section,) in session.annotations.sections
                and session.live is not None
                and not live.answering
            ),
        )
        return corrections

    wait("the bundled model", lambda: session.model is not None)
    dock.image_group.load(model)
    wait("the tiny model", lambda: session.model.network.config == NETWORK)
    (layer,) = viewer.open(str(volume), plugin=PLUGIN)
    seen = section_in_view(viewer, layer)
    wait("the mask of the section in view", lambda: predictor.is_predicted(seen))
    count = layer.data.shape[0]
    painted = sorted({1, count // 2, count - 2})
    for section in painted:
        corrections = paint(section)
    folder = session.project.folder
    live.enabled = False  # its answers are found again, and not kept in the project
    wait("the network again", lambda: session.live is None and not predictor.busy)
    done: list[tuple[int, ...]] = []
    predictor.section_predicted.connect(done.append)
    predictor.predict_stack()
    wanted = min(PREDICTED, len(predictor.missing_sections()))
    wait(f"{wanted} sections", lambda: len(done) >= wanted)
    predictor.stop()
    wait("the end of the prediction", lambda: not predictor.busy)
    nearest = [abs(index[0] - painted[-1]) for index in done]
    assert nearest == sorted(nearest), done
    exported = volume.with_name("mask.zarr")
    assert session.mask.save(str(exported), plugin=PLUGIN)
    wait("the mask is written", exported.exists)
    dock.projects.save()
    viewer.layers.clear()
    wait("everything is closed", lambda: session.image is None and session.project is None)
    dock.projects.open(folder)
    wait("the project is open again", lambda: session.project is not None)
    wait("its masks are there", lambda: set(done) <= set(predictor.ways))
    assert set(session.annotations.sections) == {(section,) for section in painted}
    assert session.corrections.data is not corrections.data
    viewer.close()


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.05, 0.5, 5.0])
    parser.add_argument("--folder", help="where volumes are made for a while [temporary]")
    parser.add_argument("--work", type=Path, nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.work:
        work(*parsed.work)
        return
    found = []
    for gigabytes in parsed.gigabytes:
        with tempfile.TemporaryDirectory(dir=parsed.folder) as name:
            folder = Path(name)
            save_model(folder / "tiny.safetensors", new_model(NETWORK))
            sections = max(8, round(gigabytes * 2**30 / SIDE**2))
            found.append(measure(folder, sections, folder / "tiny.safetensors"))
            print(found[-1], flush=True)
    write(found)


def write(found: list[Measurement]) -> None:
    """Write the table into the documentation."""
    smallest = found[0]
    rows = [
        [
            f"{each.sections} × {SIDE} × {SIDE}",
            f"{each.sections * SIDE**2 / 2**30:.2f}",
            f"{each.anonymous:.0f}",
            f"{each.anonymous / smallest.anonymous:.2f}",
            f"{each.resident:.0f}",
            f"{each.resident / smallest.resident:.2f}",
        ]
        for each in found
    ]
    write_section(
        "How much memory a large volume takes in the window",
        "Made by `python -m benchmarks.window_memory`: peak memory of a window, in a virtual display "
        "and on the CPU, that opens\nan OME-Zarr, paints on three sections, predicts those in view "
        f"and {PREDICTED} more with a tiny untrained network, writes the whole\nmask to an OME-Zarr, "
        "saves the project and opens it again. *Anonymous* memory is what no file stands for; "
        "*resident* is\nwith libraries and parts of files, which the system may take back. Not all "
        "of the volume was predicted.\n\n"
        + table(
            [
                "volume, uint8",
                "GB",
                "anonymous, MB",
                "to the first",
                "resident, MB",
                "to the first",
            ],
            rows,
        ),
    )


if __name__ == "__main__":
    main()

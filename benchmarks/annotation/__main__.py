"""Compare tools by what a simulated annotator reaches with them.

Usage: python -m benchmarks.annotation [FOLDER] [--task NAME ...] [--tool NAME ...]
(without a display: under xvfb-run)

FOLDER (default ``work/annotation``) takes the base network, RootPainter's environment and every
run that is finished; started again, it goes on with those that are missing or failed. The tables
and plots are written into ``docs/benchmarks.md``. The data lies in ``NAPARI_UNET_DATA`` (default
``../shared/data``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.annotation.base import base_network
from benchmarks.annotation.records import Records, Settings
from benchmarks.annotation.tasks import REHEARSALS, TASKS
from benchmarks.annotation.telling import tell
from benchmarks.annotation.tools import RECORDED, TOOLS
from benchmarks.report import BENCHMARKS, REPOSITORY

STROKES, SECONDS = 20, 10.0

PATIENCE = 3600
"""Seconds, beside those for the strokes, after which a run is given up."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.annotation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("work/annotation"))
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this; again")
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="only this; again")
    parser.add_argument("--strokes", type=int, default=STROKES, help="painted in a run [20]")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of the machine for each stroke [10]"
    )
    parser.add_argument("--base", type=Path, help="weights to begin with, instead of training them")
    parser.add_argument("--docs", type=Path, default=BENCHMARKS, help="file that takes the tables")
    return parser.parse_args(arguments)


def missing(records: Records, tasks: Sequence[str], tools: Sequence[str]) -> list[tuple[str, str]]:
    """Return the runs that have to be made, by task and tool, those that are recorded first."""
    wanted = []
    for task in tasks:
        needs = any(TOOLS[tool].places is None for tool in tools)
        names = [RECORDED] if needs and RECORDED not in tools else []
        for tool in [*names, *sorted(tools, key=lambda tool: tool != RECORDED)]:
            if not records.is_done(task, tool):
                wanted.append((task, tool))
    return wanted


def make(task: str, tool: str, folder: Path, settings: Settings, records: Records) -> None:
    """Make a run in a process of its own; where that fails, the reason is kept."""
    if TOOLS[tool].places is None and not records.is_done(task, RECORDED):
        records.write(task, tool, {"failed": "there are no recorded strokes"})
        return
    log = folder / "logs" / f"{task}-{tool}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    patience = PATIENCE + 10 * settings.strokes * settings.seconds
    command = [sys.executable, "-m", "benchmarks.annotation.run", folder.absolute(), task, tool]
    command += [settings.strokes, settings.seconds, settings.base.absolute()]
    with log.open("w") as output:
        try:
            subprocess.run(
                list(map(str, command)), cwd=REPOSITORY, check=True, timeout=patience,
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            reason = f"it was not done after {patience:.0f} s"
        except subprocess.CalledProcessError:
            reason = (log.read_text().strip().splitlines() or ["it ended without a word"])[-1]
        else:
            return
    if not records.is_done(task, tool):  # it may have failed when all was written
        records.write(task, tool, {"failed": reason})


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and tell what is there."""
    asked = parse(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    base = asked.base or base_network(asked.folder)
    settings = Settings(asked.strokes, asked.seconds, base)
    records = Records(asked.folder, settings)
    tasks = asked.task or [task for task in TASKS if task not in REHEARSALS]
    for task, tool in missing(records, tasks, asked.tool or list(TOOLS)):
        print(f"{task}: {TOOLS[tool].title} …", flush=True)
        make(task, tool, asked.folder, settings, records)
        done = records.read(task, tool) or {}
        points = done.get("points")
        print(done.get("failed") or f"  F1 {points[0]['f1']:.3f} to {points[-1]['f1']:.3f}")
    tell(records, settings, tasks, asked.docs)


if __name__ == "__main__":
    main()

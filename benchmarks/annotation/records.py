"""What is kept of runs: a JSON file for each task and tool."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.annotation.annotator import HandStroke
from benchmarks.annotation.tools import RECORDED, TOOLS

Record = dict[str, Any]
"""Settings, strokes, points of the curves and scores of a run; or why it failed."""


@dataclass(frozen=True)
class Settings:
    """What runs must have in common to be compared.

    Parameters
    ----------
    strokes
        How many are painted.
    seconds
        How long the machine may be at work for each of them, where it learns in the background.
    base
        The file of the base network.
    """

    strokes: int
    seconds: float
    base: Path

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON has them, with the base network by its content."""
        digest = hashlib.sha256(self.base.read_bytes()).hexdigest()[:12]
        return {**asdict(self), "base": digest}


class Records:
    """The runs in a folder that were made with the same settings.

    Parameters
    ----------
    folder, settings
        Runs with other settings, and runs on strokes that were recorded anew since then, count
        as not done.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings.to_dict()

    def path(self, task: str, tool: str) -> Path:
        """Return where a run is kept."""
        return self._folder / "runs" / task / f"{tool}.json"

    def read(self, task: str, tool: str) -> Record | None:
        """Return a run; None if it was not made yet, or with other settings."""
        path = self.path(task, tool)
        if not path.exists():
            return None
        record: Record = json.loads(path.read_text())
        if record["settings"] != self._settings:
            return None
        if TOOLS[tool].places is None and record.get("recording") != self.recording(task):
            return None
        return record

    def is_done(self, task: str, tool: str) -> bool:
        """Tell whether a run came to its end; one that failed is tried again."""
        record = self.read(task, tool)
        return record is not None and "failed" not in record

    def write(self, task: str, tool: str, values: Record) -> None:
        """Keep a run; it is there whole or not at all."""
        path = self.path(task, tool)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"task": task, "tool": tool, "settings": self._settings, **values}
        if TOOLS[tool].places is None:
            record["recording"] = self.recording(task)
        hidden = path.with_name(f".{path.name}")
        hidden.write_text(json.dumps(record) + "\n")
        hidden.replace(path)

    def strokes(self, task: str) -> list[HandStroke]:
        """Return the recorded strokes of a task."""
        record = self.read(task, RECORDED) or {}
        return [HandStroke.from_dict(each) for each in record.get("strokes", ())]

    def recording(self, task: str) -> str:
        """Return a name for the recorded strokes of a task, by their content."""
        strokes = (self.read(task, RECORDED) or {}).get("strokes", ())
        return hashlib.sha256(json.dumps(strokes).encode()).hexdigest()[:12]

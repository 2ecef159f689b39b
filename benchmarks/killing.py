"""Processes that say what is finished, and are killed in the middle."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPEN = "open"


def say(what: str, number: int) -> None:
    """Tell the process that kills this one that something is finished, `OPEN` first of all."""
    print(json.dumps([what, number]), flush=True)


def run_and_kill(module: str, folder: Path, first: int, seconds: float) -> list[tuple[str, int]]:
    """Return what a process says was finished before it was killed.

    Parameters
    ----------
    module
        Run with ``--work FOLDER FIRST``.
    seconds
        From when it says `OPEN` to its end.

    Raises
    ------
    RuntimeError
        If it ended by itself; the message tells what it said.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--work", str(folder), str(first)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        said: list[tuple[str, int]] = []
        for line in process.stdout:
            said += _read(line)
            if said:
                break
        time.sleep(seconds)
        ended = process.poll() is not None
        process.kill()
        said += [each for line in process.stdout for each in _read(line)]
        process.wait()
        if ended:
            errors.seek(0)
            raise RuntimeError(f"{module} ended by itself: {errors.read()[-2000:]}")
    return [each for each in said if each[0] != OPEN]


def _read(line: str) -> list[tuple[str, int]]:
    with contextlib.suppress(ValueError):  # the last line may be cut; libraries print, too
        what, number = json.loads(line)
        return [(str(what), int(number))]
    return []

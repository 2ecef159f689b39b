"""What the commands print, and how far they are."""

from __future__ import annotations

from typing import Any


def say(text: str) -> None:
    """Print a line of the answer, at once."""
    print(text, flush=True)  # noqa: T201  # a report is to be seen before the work


def progress(total: float | None, unit: str) -> Any:
    """A bar of tqdm that goes up to ``total``, where that is known."""
    from tqdm import tqdm

    # disable=None: no bar where standard error is not a terminal
    return tqdm(total=total, unit=unit, disable=None, bar_format=None if total is None else _BAR)


_BAR = "{l_bar}{bar}| {n:.1f}/{total:.0f} {unit} [{elapsed}<{remaining}]"

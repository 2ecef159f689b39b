"""Write measurements into the documentation, each into a section of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BENCHMARKS = REPOSITORY / "docs" / "benchmarks.md"


def write_section(heading: str, text: str, target: Path = BENCHMARKS) -> None:
    """Replace the section with this heading, or add it at the end; the others stay."""
    old = target.read_text(encoding="utf-8") if target.exists() else "# Benchmarks"
    title, *sections = old.rstrip().split("\n## ")
    found = {each.partition("\n")[0].strip(): each.partition("\n")[2].strip() for each in sections}
    found[heading] = text.strip()
    parts = [title.rstrip(), *(f"## {name}\n\n{body}" for name, body in found.items())]
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def rows_of(heading: str, target: Path = BENCHMARKS) -> list[list[str]]:
    """Return the rows of the table in the section with this heading; none if there is none."""
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

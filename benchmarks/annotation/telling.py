"""What the runs have shown, as a section of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from benchmarks.annotation.base import STEPS
from benchmarks.annotation.plots import plot
from benchmarks.annotation.records import Record, Records, Settings
from benchmarks.annotation.rootpainter import EPOCH_TILES, PATCH_SIZE
from benchmarks.annotation.tasks import TASKS
from benchmarks.annotation.tools import RECORDED, TOOLS
from benchmarks.report import table, write_section

HEADING = "What a simulated annotator reaches"

TABLED = (1, 5, 10, 20)
"""Strokes after which the table tells F1."""

AGAINST_EACH_OTHER = (RECORDED, "head-only", "forest", "rootpainter", "random", "suggested")
"""Tools that the table of all tasks sets side by side."""

NOTHING = "–"


def tell(records: Records, settings: Settings, tasks: Sequence[str], target: Path) -> None:
    """Write tables and plots of all runs that are there."""
    parts = [_protocol(settings)]
    told = {}
    for name in tasks:
        runs = {tool: records.read(name, tool) for tool in TOOLS}
        there = {tool: run for tool, run in runs.items() if run is not None}
        if there:
            told[name] = there
    parts += _in_short(told)
    for name, there in told.items():
        finished = _finished(there)
        parts.append(f"### {TASKS[name].title}\n\nThey were {TASKS[name].sections}.")
        parts.append(table(_heading(), [_row(tool, run) for tool, run in there.items()]))
        parts += [
            f"{TOOLS[tool].title.strip('— ')}: {run['failed']}"
            for tool, run in there.items()
            if "failed" in run
        ]
        shares = {
            TOOLS[tool].title.strip("— "): _share_alike(run, there[RECORDED])
            for tool, run in finished.items()
            if TOOLS[tool].places is None and RECORDED in finished
        }
        unlike = [f"{title} {share:.1%}" for title, share in shares.items() if share < 1]
        if unlike:
            parts.append(
                "Pixels that were painted in the recording and in the replay, of those that were "
                f"in one of them: {'; '.join(unlike)}; else all."
            )
        if finished:
            picture = target.parent / "images" / f"annotation-{name}.png"
            plot(finished, picture)
            parts.append(f"![F1 of the class by strokes and by time](images/{picture.name})")
    text = "\n\n".join(parts)
    print(text)
    write_section(HEADING, text, target)


def _finished(runs: Mapping[str, Record]) -> dict[str, Record]:
    return {tool: run for tool, run in runs.items() if "failed" not in run}


def _share_alike(run: Record, recorded: Record) -> float:
    """Which share of the pixels that strokes changed in one of two runs they changed in both."""
    pairs = [
        (set(one["pixels"]), set(two["pixels"]))
        for one, two in zip(run["strokes"], recorded["strokes"], strict=True)
    ]
    together = sum(len(one | two) for one, two in pairs)
    return sum(len(one & two) for one, two in pairs) / together if together else 1.0


def _in_short(told: Mapping[str, Mapping[str, Record]]) -> list[str]:
    """Return a table of all tasks, and what its columns mean."""
    rows = []
    for name, runs in told.items():
        finished = _finished(runs)
        if RECORDED not in finished:
            continue
        membranes = [point["membranes"] for point in finished[RECORDED]["points"]]
        rows.append(
            [
                TASKS[name].title,
                *(_last_and_mean(finished.get(tool)) for tool in AGAINST_EACH_OTHER),
                _strokes_to_match(finished.get("suggested"), finished.get("random")),
                NOTHING if membranes[-1] is None else f"{membranes[-1] - membranes[0]:+.3f}",
            ]
        )
    if not rows:
        return []
    heading = ["task", *(TOOLS[tool].title.strip("— ") for tool in AGAINST_EACH_OTHER)]
    heading += ["strokes at suggested places", "membranes"]
    return [
        table(heading, rows),
        "F1 after the last stroke, and in brackets its mean over all looks after a stroke, since "
        "single looks go up and down. *Strokes at suggested places*: after how many F1 was first "
        "as high as at the end of those at random places. *Membranes*: by how much their F1 "
        "changed on unpainted sections of the stack, where another class was learnt.",
    ]


def _last_and_mean(run: Record | None) -> str:
    if run is None:
        return NOTHING
    found = [point["f1"] for point in run["points"] if point["strokes"]]
    return f"{found[-1]:.3f} ({fmean(found):.3f})" if found else NOTHING


def _strokes_to_match(run: Record | None, other: Record | None) -> str:
    """Return after how many strokes a run first was as good as another one at its end."""
    if run is None or other is None:
        return NOTHING
    aim = other["points"][-1]
    for point in run["points"]:
        if point["f1"] >= aim["f1"]:
            return f"{point['strokes']} of {aim['strokes']}"
    return f"more than {run['points'][-1]['strokes']} of {aim['strokes']}"


def _heading() -> list[str]:
    return [
        "tool", "F1 before", *(f"after {n}" for n in TABLED), "last", "hand, s", "machine, s",
        "answer, s", "membranes before → after", "ISBI membranes before → after",
    ]  # fmt: skip


def _row(tool: str, run: Record) -> list[str]:
    """Return the line of a run in the table."""
    title = TOOLS[tool].title
    if "failed" in run:
        return [title, "failed", *[NOTHING] * (len(_heading()) - 2)]
    points = {point["strokes"]: point for point in run["points"]}
    last = run["points"][-1]
    before, after = run["known"]
    forgets = before is not None and last["membranes"] is not None
    answers = [each for each in run["answers"] if each]
    return [
        title,
        f"{points[0]['f1']:.3f}",
        *(f"{points[n]['f1']:.3f}" if n in points else NOTHING for n in TABLED),
        f"{last['f1']:.3f} ({last['strokes']})",
        f"{last['annotation_seconds']:.0f}",
        f"{last['machine_seconds']:.0f}",
        f"{median(answers):.2f}" if answers else NOTHING,
        f"{points[0]['membranes']:.3f} → {last['membranes']:.3f}" if forgets else NOTHING,
        NOTHING if before is None else f"{before:.3f} → {after:.3f}",
    ]


def _protocol(settings: Settings) -> str:
    return f"""\
Made by `python -m benchmarks.annotation` on CPU. A simulated annotator looks at the overlay of the
section in view, paints a short stroke over the largest mistake in the class that is to be found,
with a brush of 2 to 10 pixels, waits for the answer and judges again: {settings.strokes} strokes,
evenly over the painted sections. It follows RootPainter's protocol: a mouse that is sampled at
120 Hz and moves at most 400 pixels a second, 200 ms to judge before every stroke, and of target
and rest none painted more than ten times as much as the other. *Hand* is that time, in simulated
seconds. *Machine* is how many seconds the tool was at work: what learns in the background has
{settings.seconds:g} s for each stroke. *Answer* is the median from the end of a stroke to the
overlay that has learnt from it, while training if there is any.

The strokes are painted with a real mouse in a real window of the first tool, recorded there, and
given to the others section by section; only where places are random or suggested the annotator
looks for itself, at 96 x 96 pixels around each place, and where none is suggested any more at all
of the section. F1 is that of the pixels of the class, on sections that nobody painted on. Where the
class is new, *membranes* tells their F1 on the same sections, by the base network and by what was
learnt last: what is forgotten. The last column tells the same of ISBI section 22, another tissue
than EPFL's and gala's, by the network alone, with which a window begins that opens another stack.
Tools that begin with nothing have nothing to forget.

All variants of napari-unet begin with one small network (24 channels), trained for {STEPS} steps on
the membranes of ISBI 2012, sections 0-19; no section below was learnt from by it. They hold out
every fifth stroke of a class. RootPainter's trainer begins, as in a new project, with random
weights, learns from and judges by the same strokes, on patches of {PATCH_SIZE} pixels, in epochs of
{EPOCH_TILES} patches instead of 612 since it hands out weights only after each; its overlay is
computed when a section is opened, so no stroke is answered, nor is one without the live head. The forest learns from all strokes.
The mouse moves in pixels of the image, and choosing a class or a brush takes no time."""

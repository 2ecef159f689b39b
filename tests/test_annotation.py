"""A small version of the simulated annotator (benchmarks/annotation)."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.annotation import __main__ as command
from benchmarks.annotation import hand
from benchmarks.annotation.annotator import Annotator, HandStroke, may_paint
from benchmarks.annotation.forest import Forest
from benchmarks.annotation.places import View, largest_error, random_places, suggested_places
from benchmarks.annotation.records import Records, Settings
from benchmarks.annotation.run import annotating, f1, replaying, run
from benchmarks.annotation.tasks import NEW, TASKS, Task
from benchmarks.annotation.telling import tell
from benchmarks.annotation.tool import Stopwatch
from benchmarks.train_bundled import MEMBRANE
from napari_unet.core.image import image_from_array
from napari_unet.core.suggestions import DONE_RADIUS, PER_SECTION
from napari_unet.io.models import save_model
from tests.examples import bright_discs, tiny_model


@pytest.fixture(scope="module")
def task() -> Task:
    """Bright discs, a class that the network does not know."""
    grey, labels = bright_discs(3, 96)
    truth = np.where(labels == 2, NEW, 1).astype(np.uint8)
    known = image_from_array(grey[2:], pixel_size=4.0), truth[2:]
    return Task(grey, truth, NEW, "disc", (0, 1), (2,), 4.0, known)


@pytest.fixture
def base(tmp_path) -> Path:
    save_model(tmp_path / "base.safetensors", tiny_model("background", "membrane"))
    return tmp_path / "base.safetensors"


def settings_of(base) -> Settings:
    return Settings(3, 1.0, base)


# --- the hand ----------------------------------------------------------------------------


def test_a_hand_takes_a_sample_for_every_three_and_a_third_pixels():
    # 400 px/s at 120 Hz: 10/3 px from one sample to the next.
    assert hand.seconds([(0, 0), (0, 100)]) == pytest.approx(30 / 120)
    assert hand.seconds([(0, 0), (0, 45)]) == pytest.approx(14 / 120)  # 13.5 samples
    assert hand.seconds([(0, 0), (30, 40), (30, 50)]) == pytest.approx(18 / 120)  # 60 px
    assert hand.seconds([(5, 5)]) == 0


def test_the_mouse_is_seen_along_the_path_and_never_moves_faster_than_it_may():
    seen = hand.samples([(0, 0), (0, 10), (10, 10)])

    assert seen[0] == (0, 0)
    assert seen[-1] == (10, 10)
    assert len(seen) == 7  # 20 px
    assert seen[3] == (0, 10)
    assert max(hand.length(pair) for pair in itertools.pairwise(seen)) < 3.35


def test_a_stroke_costs_judging_going_there_and_painting(task):
    annotator = Annotator(task, largest_error)
    nothing = np.zeros_like(task.truth[0])
    first = annotator.next(0, np.ones_like(nothing), nothing)
    assert first.seconds == pytest.approx(0.2 + hand.seconds(first.path))
    annotator.has_painted(replace(first, pixels=(1, 2, 3)))

    second = annotator.next(0, np.full_like(nothing, NEW), nothing)

    travel = hand.seconds([first.path[-1], second.path[0]])
    assert second.seconds == pytest.approx(0.2 + travel + hand.seconds(second.path))


# --- where it paints ---------------------------------------------------------------------


def test_neither_side_is_painted_more_than_ten_times_as_much_as_the_other():
    assert may_paint(0, 0, 500)  # the first stroke
    assert may_paint(0, 30, 500)  # the first stroke of the other side
    assert not may_paint(400, 0, 1)
    assert may_paint(400, 50, 100)
    assert not may_paint(400, 50, 101)


def test_what_is_right_is_confirmed_where_only_the_other_side_may_be_painted(task):
    annotator = Annotator(task, largest_error)
    nothing = np.zeros_like(task.truth[0])
    misses_all = np.ones_like(nothing)
    first = annotator.next(0, misses_all, nothing)
    assert first.number == NEW
    annotator.has_painted(replace(first, pixels=tuple(range(100))))

    second = annotator.next(0, misses_all, nothing)

    assert second.number == 1


def test_nothing_is_painted_where_nothing_is_wrong(task):
    annotator = Annotator(task, largest_error)

    assert annotator.next(0, task.truth[0], np.zeros_like(task.truth[0])) is None


def test_random_places_are_looked_at_until_one_holds_a_mistake(task):
    annotator = Annotator(task, random_places, seed=1)
    nothing = np.zeros_like(task.truth[0])

    stroke = annotator.next(0, np.ones_like(nothing), nothing)

    looks = (stroke.seconds - hand.seconds(stroke.path)) / hand.JUDGE_SECONDS
    assert looks == pytest.approx(round(looks))
    assert looks >= 1
    row, column = map(round, stroke.path[0])
    assert task.truth[0, row, column] == stroke.number


def test_nobody_is_led_to_the_same_suggested_place_twice():
    grey, _ = bright_discs(1, 256)
    nothing = np.zeros((256, 256), np.uint8)
    view = View(image_from_array(grey), 0, nothing, tiny_model(), np.random.default_rng(0), [])

    first = list(itertools.islice(suggested_places(view), 3))  # as for a stroke
    *later, rest = suggested_places(view)  # as for the next one, until there are none left

    seen = [(place.row, place.column) for place in view.seen]
    assert len(seen) == len(first) + len(later) > PER_SECTION
    assert min(map(math.dist, *zip(*itertools.combinations(seen, 2), strict=True))) > DONE_RADIUS
    assert rest == next(largest_error(view))  # and then they look for themselves


def test_painted_sections_are_not_scored(task):
    with pytest.raises(ValueError, match="cannot be scored"):
        replace(task, scored=(1, 2))


def test_tasks_score_what_was_neither_painted_nor_learnt_from(real_data):
    for name, described in TASKS.items():
        loaded = described.load()
        scored = loaded.truth[list(loaded.scored)]
        assert np.count_nonzero(scored == loaded.target) > 100, name
        assert loaded.grey.shape == loaded.truth.shape


# --- runs --------------------------------------------------------------------------------


def test_a_watch_stands_still_while_it_is_held():
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    now[0] = 5.0
    with watch.held():
        now[0] = 100.0
    now[0] = 102.0

    assert watch.seconds == pytest.approx(7)


class PaintedForest(Forest):
    """A forest that is painted on without a window."""

    def paint(self, stroke):
        along = np.zeros(self.painted().shape, bool)
        along[tuple(np.round(np.transpose(stroke.path)).astype(int))] = True
        reached = ndimage.distance_transform_edt(~along) <= stroke.brush / 2
        return super().paint(replace(stroke, pixels=tuple(np.flatnonzero(reached).tolist())))


def test_a_forest_finds_more_after_a_few_strokes(task):
    annotator = Annotator(task, largest_error)

    found = run(task, PaintedForest(task), annotating(annotator), 6, annotator.has_painted)

    assert [point["strokes"] for point in found["points"]] == [0, 1, 2, 3, 5, 6]
    assert found["points"][0]["f1"] == 0
    assert found["points"][-1]["f1"] > 0.6
    assert found["known"] == [None, None]
    seconds = sum(stroke["seconds"] for stroke in found["strokes"])
    assert found["points"][-1]["annotation_seconds"] == pytest.approx(seconds)


def test_the_live_head_learns_and_a_replay_in_a_smaller_window_paints_the_same_pixels(
    task, base, make_napari_viewer, monkeypatch, tmp_path
):
    from benchmarks.annotation.window import Parts, Window

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    annotator, head_only = Annotator(task, largest_error), Parts(training=False)
    tool = Window(task, base, head_only, 0.0, make_napari_viewer(show=True))
    recorded = run(task, tool, annotating(annotator), 4, annotator.has_painted)
    tool.close()
    strokes = [HandStroke.from_dict(each) for each in json.loads(json.dumps(recorded["strokes"]))]

    viewer = make_napari_viewer(show=True)
    tool = Window(task, base, head_only, 0.0, viewer)
    viewer.window.resize(1411, 947)
    again = run(task, tool, replaying(strokes), 4)
    tool.close()

    assert [stroke.section for stroke in strokes] == [0, 0, 1, 1]
    assert recorded["points"][-1]["f1"] > 0.5
    assert again["strokes"] == recorded["strokes"]
    assert again["points"][-1]["f1"] == pytest.approx(recorded["points"][-1]["f1"], abs=0.02)
    assert all(pixels["pixels"] for pixels in recorded["strokes"])


def test_the_network_learns_while_the_annotator_paints_at_suggested_places(
    task, base, make_napari_viewer, monkeypatch, tmp_path
):
    from benchmarks.annotation.window import Parts, Window

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    annotator = Annotator(task, suggested_places)
    tool = Window(task, base, Parts(), 1.0, make_napari_viewer(show=True))

    found = run(task, tool, annotating(annotator), 6, annotator.has_painted)
    tool.close()

    assert tool._dock.trainer.record["steps"] > 0
    assert found["points"][-1]["machine_seconds"] >= 5.0  # one of the six was of a single class
    assert found["points"][-1]["f1"] > 0.4


class Knowing(Forest):
    """A tool that finds membranes in the left fifth, and nothing else."""

    def masks(self, image, sections):
        found = np.ones((len(sections), 96, 96), np.uint8)
        found[:, :, :20] = MEMBRANE
        return None if image is not None else found


def test_what_becomes_of_membranes_is_told_beside_the_class_that_is_learnt(task):
    truth = task.truth.copy()
    truth[:, :, :10] = MEMBRANE

    found = run(replace(task, truth=truth), Knowing(task), replaying([]), 2)

    assert found["points"][-1]["f1"] == 0
    assert found["points"][-1]["membranes"] == pytest.approx(2 * 0.5 / 1.5)


def test_f1_is_zero_where_nothing_is_found():
    truth = np.array([[1, NEW], [1, NEW]])

    assert f1(np.ones_like(truth), truth, NEW) == 0
    assert f1(truth, truth, NEW) == 1
    assert f1(np.ones_like(truth), np.ones_like(truth), NEW) == 0


# --- what is kept ------------------------------------------------------------------------

FOUND = {
    "strokes": [
        {"section": 0, "number": 3, "brush": 4, "path": [[1, 2], [3, 4]], "seconds": 0.5, "pixels": [7]}
    ],
    "points": [
        {"strokes": n, "f1": n / 10, "membranes": 0.9 - n / 10, "annotation_seconds": n,
         "machine_seconds": 2 * n}
        for n in (0, 1, 3)
    ],
    "answers": [0.1, 0.2, 0.4],
    "known": [0.8, 0.7],
}  # fmt: skip


def test_what_was_interrupted_goes_on_and_what_is_finished_is_not_made_again(base, tmp_path):
    records = Records(tmp_path, settings_of(base))
    tools = ["forest", "product", "no-head"]
    runs = [("synthetic", tool) for tool in ("product", "forest", "no-head")]
    assert command.missing(records, ["synthetic"], tools) == runs

    records.write("synthetic", "product", FOUND)
    records.write("synthetic", "forest", FOUND)
    records.write("synthetic", "no-head", {"failed": "no reason"})

    records = Records(tmp_path, settings_of(base))  # as after a start anew
    assert command.missing(records, ["synthetic"], tools) == runs[2:]
    assert records.strokes("synthetic")[0].path == ((1, 2), (3, 4))


def test_a_replay_is_made_again_where_the_strokes_or_the_settings_are_others(base, tmp_path):
    records = Records(tmp_path, settings_of(base))
    for tool in ("product", "forest", "random"):
        records.write("synthetic", tool, FOUND)

    records.write("synthetic", "product", {**FOUND, "strokes": []})

    assert not records.is_done("synthetic", "forest")
    assert records.is_done("synthetic", "random")
    assert not Records(tmp_path, replace(settings_of(base), strokes=5)).is_done(
        "synthetic", "random"
    )


def test_the_strokes_are_recorded_first_where_only_a_replay_is_asked_for(base, tmp_path):
    records = Records(tmp_path, settings_of(base))

    assert command.missing(records, ["synthetic"], ["forest"]) == [
        ("synthetic", "product"),
        ("synthetic", "forest"),
    ]
    assert command.missing(records, ["synthetic"], ["random"]) == [("synthetic", "random")]


def test_a_tool_that_fails_is_told_with_its_reason_and_the_others_go_on(
    base, tmp_path, monkeypatch, qapp
):
    records = Records(tmp_path, settings_of(base))
    for tool in ("product", "forest"):
        records.write("synthetic", tool, FOUND)
    otherwise = {**FOUND["strokes"][0], "pixels": [7, 8]}
    records.write("synthetic", "no-head", {**FOUND, "strokes": [otherwise]})
    monkeypatch.setattr(command.sys, "executable", "/bin/false")

    command.make("synthetic", "rootpainter", tmp_path, settings_of(base), records)
    tell(records, settings_of(base), ["synthetic"], tmp_path / "report.md")

    told = (tmp_path / "report.md").read_text()
    assert "RootPainter's trainer 0.3.3: it ended without a word" in told
    assert "in one of them: without the live head 50.0%; else all." in told
    assert (
        "| 0.000 | 0.100 | – | – | – | 0.300 (3) | 3 | 6 | 0.20 | 0.900 → 0.600 | 0.800 → 0.700 |"
        in told
    )
    assert (tmp_path / "images" / "annotation-synthetic.png").stat().st_size > 1000


def points(*scores):
    return [
        {**FOUND["points"][0], "strokes": strokes, "f1": f1}
        for strokes, f1 in zip((0, 1, 2, 5), scores, strict=True)
    ]


@pytest.mark.parametrize(
    ("suggested", "told"),
    [((0, 0.1, 0.5, 0.2), "2 of 5"), ((0, 0.1, 0.2, 0.3), "more than 5 of 5")],
)
def test_all_tasks_are_told_in_short(suggested, told, base, tmp_path, qapp):
    records = Records(tmp_path, settings_of(base))
    records.write("synthetic", "product", FOUND)
    for tool, scores in (("random", (0, 0.6, 0.1, 0.4)), ("suggested", suggested)):
        records.write("synthetic", tool, {**FOUND, "points": points(*scores)})

    tell(records, settings_of(base), ["synthetic"], tmp_path / "report.md")

    row = next(
        line
        for line in (tmp_path / "report.md").read_text().splitlines()
        if line.startswith("| Rehearsal")
    )
    columns = [column.strip() for column in row.split("|")[2:-1]]
    assert columns[0] == "0.300 (0.200)"
    assert columns[1:4] == ["–"] * 3
    assert columns[4] == "0.400 (0.367)"
    assert columns[6:] == [told, "-0.300"]

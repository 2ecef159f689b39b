import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import zarr

from benchmarks.kills import survive
from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.held_out import all_learnt, parted
from napari_unet.core.image import image_from_array
from napari_unet.core.prediction import finish
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.project_state import (
    ProjectState,
    StoredVersion,
    image_source,
    state_from_json,
    state_to_json,
)
from napari_unet.io.projects import (
    copy_project,
    create_project,
    is_project,
    open_project,
    read_state,
)

CLASSES = class_table(["background", "membrane", "mitochondrion"])


def image(sections=3, height=300, width=520):
    values = np.random.default_rng(0).integers(0, 255, (sections, height, width), np.uint8)
    return image_from_array(values, "stack", 4.0)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "stack.unet"
    state = ProjectState(image_source(image(), folder), CLASSES, "em-lite")
    project = create_project(folder, state)
    yield project
    project.close()


def strokes(*boxes, earlier=None, shape=(300, 520)):
    """Paint of a class in boxes (section, top, left, class), each after the ones before."""
    result = earlier or all_learnt(Annotations(CLASSES))
    for z, top, left, number in boxes:
        section = result.painted.get((z,), np.zeros(shape, np.uint8)).copy()
        section[top : top + 9, left : left + 40] = number
        whole = {**result.painted, (z,): section}
        result = parted(Annotations(CLASSES, {k: v for k, v in whole.items() if v.any()}), result)
    return result


MANY = [(z, 30 * n, 35 * n, 1 + n % 3) for z in (0, 2) for n in range(9)]


def assert_alike(found, expected):
    for one, two in ((found.learnt, expected.learnt), (found.held_out, expected.held_out)):
        assert one.sections.keys() == two.sections.keys()
        assert all(np.array_equal(one.sections[k], two.sections[k]) for k in one.sections)
    np.testing.assert_array_equal(found.pieces, expected.pieces)


def opened(project):
    project.close()
    return open_project(project.folder)


def test_paint_is_there_again_with_what_was_held_out(project):
    painted = strokes(*MANY)
    assert painted.held_out.sections
    project.paint(painted)
    again = opened(project)
    assert_alike(again.painted(), painted)
    # What comes next is parted as if the program had never been closed.
    more = [(1, 50, 50, 2), (1, 90, 50, 2), (1, 130, 50, 2), (1, 170, 50, 2), (1, 210, 50, 2)]
    assert_alike(strokes(*more, earlier=again.painted()), strokes(*more, earlier=painted))
    again.close()


def test_erased_and_undone_paint_is_gone(project):
    project.paint(strokes(*MANY))
    project.paint(strokes(*MANY[:4]))
    again = opened(project)
    assert_alike(again.painted(), strokes(*MANY[:4]))
    again.paint(strokes())
    third = opened(again)
    assert not third.painted().learnt.sections
    third.close()


def test_a_stroke_writes_only_the_chunks_that_it_touches(project):
    project.paint(strokes(*MANY))
    chunks = project.folder / "arrays.zarr" / "corrections" / "c"
    before = {path: path.stat().st_mtime_ns for path in chunks.rglob("*") if path.is_file()}
    project.paint(strokes((0, 285, 400, 2), earlier=strokes(*MANY)))
    after = {path: path.stat().st_mtime_ns for path in chunks.rglob("*") if path.is_file()}
    changed = {path.relative_to(chunks).parts for path in after if after[path] != before.get(path)}
    assert changed == {("0", "1", "1")}


def test_corrections_are_a_zarr_array_that_other_programs_read(project):
    painted = strokes(*MANY)
    project.paint(painted)
    array = zarr.open_group(project.folder / "arrays.zarr", mode="r")["corrections"]
    assert array.shape == image().shape
    np.testing.assert_array_equal(array[2], painted.painted[2,])
    assert not array[1].any()


def test_masks_are_there_again_with_what_they_were_predicted_with(project):
    mask = np.random.default_rng(1).integers(1, 4, (300, 520), np.uint8)
    project.keep_mask((1,), mask, "em-lite, one look")
    project.keep_mask((0,), mask[::-1], "em-lite, one look")
    project.keep_mask((1,), mask[:, ::-1], "version 1")
    with (project.folder / "predicted.jsonl").open("a") as file:
        file.write('\n{"section": [2], "wa')  # killed here
    again = opened(project)
    found = {index: (section, way) for index, section, way in again.masks()}
    assert found.keys() == {(0,), (1,)}
    np.testing.assert_array_equal(found[0,][0], mask[::-1])
    np.testing.assert_array_equal(found[1,][0], mask[:, ::-1])
    assert found[1,][1] == "version 1"
    again.keep_mask((2,), mask, "version 2")
    assert {index for index, *_ in again.masks()} == {(0,), (1,), (2,)}
    again.close()


def test_a_mask_over_which_another_was_being_written_is_still_there(project):
    mask = np.ones((300, 520), np.uint8)
    project.keep_mask((1,), mask, "em-lite")
    with pytest.raises(ValueError, match="broadcast"):
        project.keep_mask((1,), mask[:9], "version 1")
    again = opened(project)
    ((index, section, way),) = again.masks()
    assert (index, way) == ((1,), "em-lite")
    np.testing.assert_array_equal(section, mask)
    again.close()


def test_state_travels_through_json(project):
    state = replace(
        project.state,
        version=1,
        versions=(
            StoredVersion(0, "em-lite", 11000, None, 0, True, "em-lite"),
            StoredVersion(1, "em-lite", 11050, 0.75, 4, False, "versions/a/version-1.safetensors"),
        ),
        pieces=(0, 3, 2),
        holds_out=False,
        settings={"learn": {"steps": 150}},
        view={"section": [1], "zoom": 2.5},
    )
    assert state_from_json(state_to_json(state)) == state
    project.save(state)
    assert read_state(project.folder) == state


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes")
def test_of_a_project_that_cannot_be_made_nothing_is_left(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from tests.io.test_projects import *\n"
        "folder = Path(sys.argv[1])\n"
        "state = ProjectState(image_source(image(), folder), CLASSES, 'em-lite')\n"
        "_, most = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))  # as a disk that is full\n"
        "try: create_project(folder, state)\n"
        "except FileWriteError as error: print(error)"
    )
    folder = tmp_path / "stack.unet"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert "stack.unet cannot be made: File too large" in done.stdout, done.stderr
    assert not folder.exists()


def test_an_image_that_moves_with_the_project_is_found(tmp_path):
    before, after = tmp_path / "before", tmp_path / "änderer Ort"
    before.mkdir()
    (before / "stack.tif").write_bytes(b"-")
    folder = before / "stack.unet"
    source = image_source(image(), folder, str(before / "stack.tif"))
    create_project(folder, ProjectState(source, CLASSES, "em-lite")).close()
    shutil.move(before, after)
    moved = after / "stack.unet"
    assert read_state(moved).image.find(moved) == after / "stack.tif"
    (after / "stack.tif").unlink()
    with pytest.raises(FileReadError, match=r"not found.*stack\.tif"):
        read_state(moved).image.find(moved)


def test_another_process_that_has_the_project_open_is_noticed(project):
    code = (
        "import sys; from pathlib import Path; from napari_unet.io.projects import open_project\n"
        "try: open_project(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(project.folder)], capture_output=True, text=True
    )
    assert "is open in process" in said.stdout
    assert "Close it there first" in said.stdout
    opened(project).close()


def test_projects_of_newer_versions_are_refused(project):
    path = project.folder / "project.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "format_version": 99}), "utf-8")
    project.close()
    with pytest.raises(FileReadError, match="newer version"):
        open_project(project.folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": "napari-unet project", "format_version": 1}']
)
def test_damaged_projects_are_refused(project, content):
    (project.folder / "project.json").write_text(content, "utf-8")
    project.close()
    with pytest.raises(FileReadError, match=r"project\.json cannot be read"):
        open_project(project.folder)


def test_a_project_without_its_arrays_is_refused_and_may_be_opened_later(project, tmp_path):
    project.close()
    away = shutil.move(project.folder / "arrays.zarr", tmp_path / "away")
    with pytest.raises(FileReadError, match=r"arrays\.zarr"):
        open_project(project.folder)
    shutil.move(away, project.folder / "arrays.zarr")
    open_project(project.folder).close()


def test_a_damaged_chunk_is_named(project):
    project.paint(strokes(*MANY))
    chunk = project.folder / "arrays.zarr" / "corrections" / "c" / "2" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    again = opened(project)
    with pytest.raises(FileReadError, match=r"Section \(2,\) of the corrections"):
        again.painted()
    again.close()


def test_a_folder_that_is_no_project_is_told_from_one(project, tmp_path):
    assert is_project(project.folder)
    other = tmp_path / "other.unet"
    other.mkdir()
    assert not is_project(other)
    with pytest.raises(FileReadError, match="is no project"):
        open_project(other)
    with pytest.raises(FileWriteError, match="there already"):
        create_project(other, project.state)


def test_a_copy_holds_the_same_and_is_free(project, tmp_path):
    painted = strokes(*MANY)
    project.paint(painted)
    (project.folder / "versions/.half.safetensors").write_bytes(b"cut")
    assert finish(copy_project(project, tmp_path / "copy.unet"))
    assert not (tmp_path / "copy.unet/versions/.half.safetensors").exists()
    copy = open_project(tmp_path / "copy.unet")
    assert_alike(copy.painted(), painted)
    copy.close()
    with pytest.raises(FileWriteError, match="there already"):
        finish(copy_project(project, tmp_path / "copy.unet"))


def test_a_copy_is_there_when_it_is_whole(project, tmp_path):
    project.paint(strokes(*MANY))
    before = {path.name for path in tmp_path.iterdir()}

    for _ in copy_project(project, tmp_path / "copy.unet"):
        assert not (tmp_path / "copy.unet").exists()

    assert (tmp_path / "copy.unet").exists()
    assert not finish(copy_project(project, tmp_path / "stopped.unet", should_stop=lambda: True))
    assert {path.name for path in tmp_path.iterdir()} == before | {"copy.unet"}


def test_a_copy_that_somebody_else_makes_meanwhile_is_left_alone(project, tmp_path):
    project.paint(strokes(*MANY))
    copying = copy_project(project, tmp_path / "copy.unet")
    next(copying)
    (tmp_path / "copy.unet").mkdir()
    (tmp_path / "copy.unet/notes.txt").write_text("precious")

    with pytest.raises(FileWriteError, match="there already"):
        finish(copying)

    assert (tmp_path / "copy.unet/notes.txt").read_text() == "precious"


def test_killed_at_any_moment_nothing_finished_is_lost(tmp_path):
    lost, finished = survive(tmp_path, kills=6, seed=0)
    assert lost == []
    assert finished > 20

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.checkpoint import Checkpoint
from napari_unet.core.patches import LabelledImage
from napari_unet.io.checkpoints import check_origin, load_checkpoint, origin, save_checkpoint
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.models import save_model
from tests.examples import disc_image, tiny_model

VALUES = {
    "config": {"steps": 3, "learning_rate": 1e-3},
    "network": {"width": 4},
    "step": 2,
    "seconds": 0.1,
    "curve": {"points": [], "losses": [0.5]},
    "places": {"state": {"state": 2**127 + 1, "inc": 3}},
}


@pytest.fixture
def checkpoint():
    chance = torch.Generator().get_state()
    weights = torch.arange(6, dtype=torch.float32).reshape(2, 3).T  # not contiguous
    return Checkpoint({"network/a": weights, "chance/global": chance}, VALUES)


@pytest.fixture
def path(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "a.checkpoint", checkpoint)
    return tmp_path / "a.checkpoint"


def test_a_checkpoint_comes_back_as_it_was_saved(path, checkpoint):
    found = load_checkpoint(path)

    assert found.values == checkpoint.values
    assert found.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in checkpoint.tensors.items())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(FileReadError, match=f"{re.escape(str(path))} is no whole checkpoint"):
        load_checkpoint(path)


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path):
    save_model(tmp_path / "model.safetensors", tiny_model())
    (tmp_path / "text").write_text("text")

    with pytest.raises(FileReadError, match="is no checkpoint of this version of the program"):
        load_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(FileReadError, match="is no whole checkpoint"):
        load_checkpoint(tmp_path / "text")


@pytest.mark.parametrize("values", ["{", "3", "{}", json.dumps({"step": 3})])
def test_a_checkpoint_without_its_values_is_refused(tmp_path, values):
    header = {"format": "napari-unet checkpoint", "format_version": "1", "values": values}
    save_file({"a": torch.zeros(1)}, tmp_path / "a", header)

    with pytest.raises(FileReadError, match="is no whole checkpoint"):
        load_checkpoint(tmp_path / "a")


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(path, checkpoint, monkeypatch):
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(FileWriteError, match="No space left on device"):
        save_checkpoint(path, checkpoint)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# what a training began with

FILES = {"a": {"image": "1", "labels": "2"}}


@pytest.fixture
def source():
    image, annotations = disc_image(2, 32)
    return LabelledImage(image, annotations, name="a")


def test_a_training_may_go_on_with_what_it_began_with(checkpoint, source):
    began = origin(tiny_model(), [source], [], FILES)
    stored = replace(checkpoint, values={**VALUES, "origin": json.loads(json.dumps(began))})

    check_origin("file", stored, origin(tiny_model(), [source], [], FILES))


def test_a_checkpoint_that_does_not_say_what_it_began_with_is_taken(checkpoint, source):
    check_origin("file", checkpoint, origin(tiny_model(), [source], [], FILES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"a": {"image": "1", "labels": "3"}}}, "other files"),
        ({"model": tiny_model(seed=1)}, "other starting model"),
        ({"model": tiny_model("background", "hole")}, "other classes"),
        ({"model": replace(tiny_model(), pixel_size=4.0)}, "other pixel size of the network"),
        ({"share": 0.5}, "other images to learn from"),
        ({"unlabelled": frozenset({3})}, "other images to learn from"),
        ({"sections": [(0,)]}, "other images to learn from"),
        ({"judged": True}, "other images to judge by"),
    ],
    ids=str,
)
def test_a_training_of_something_else_does_not_go_on_from_a_checkpoint(
    checkpoint, source, change, message
):
    began = origin(tiny_model(), [source], [], FILES)
    stored = replace(checkpoint, values={**VALUES, "origin": json.loads(json.dumps(began))})
    other = source
    if "sections" in change:
        sections = {index: source.annotations.sections[index] for index in change["sections"]}
        other = replace(source, annotations=Annotations(class_table(["a", "b"]), sections))
    changes = {k: v for k, v in change.items() if k in ("share", "unlabelled")}
    now = origin(
        change.get("model", tiny_model()),
        [replace(other, **changes)],
        [source] if "judged" in change else [],
        change.get("files", FILES),
    )

    with pytest.raises(FileReadError, match=f"file belongs to a training with {message}\\. Go on"):
        check_origin("file", stored, now)

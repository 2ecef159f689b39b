import json
import os
import pickle
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_unet.core.annotations import SegmentationClass
from napari_unet.core.config import NetworkConfig
from napari_unet.core.model import UNetModel, new_model
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.model_files import find_model
from napari_unet.io.models import bundled_models, load_model, save_model
from tests.examples import noise_image, tiny_model


@pytest.fixture
def model():
    """A model with everything that a file must keep."""
    fresh = tiny_model("background", "membrane", "mitochondrion")
    classes = (*fresh.classes[:2], SegmentationClass("Größe µ", "#010203"))
    history = ({"steps": 12, "config": {"seed": 3}, "loss": None}, {"steps": 5, "versions": {}})
    return UNetModel("example", fresh.network, classes, 17, history, pixel_size=4.5, added=1)


@pytest.fixture
def path(tmp_path, model):
    save_model(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors"


def probabilities(model):
    image = noise_image(24, 24)
    tiles = predict(model, image, device="cpu")
    return finish(gather(tiles, image, len(model.classes), probabilities=True)).data


def header_and_weights(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path, change):
    """Write the file anew after a function changed its header."""
    header, content = header_and_weights(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def changed_model(path, **values):
    def change(header):
        described = json.loads(header["__metadata__"]["model"])
        header["__metadata__"]["model"] = json.dumps({**described, **values})

    with_header(path, change)


def test_a_model_comes_back_as_it_was_saved(path, model):
    found = load_model(path)

    assert (found.name, found.steps, found.classes) == (model.name, model.steps, model.classes)
    assert found.history == model.history
    assert (found.pixel_size, found.added) == (4.5, 1)
    assert found.network.config == model.network.config
    assert not found.network.training
    expected = model.network.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in found.network.state_dict().items())
    assert np.array_equal(probabilities(found), probabilities(model))


def test_the_original_architecture_comes_back(tmp_path):
    config = NetworkConfig(depth=2, width=4)

    save_model(tmp_path / "a.safetensors", new_model(config))

    assert load_model(tmp_path / "a.safetensors").network.config == config


def test_half_the_size_gives_the_same_mask(tmp_path, path, model):
    save_model(tmp_path / "half.safetensors", model, half=True)

    found = load_model(str(tmp_path / "half.safetensors"))

    sizes = [len(header_and_weights(p)[1]) for p in (tmp_path / "half.safetensors", path)]
    assert sizes[0] < 0.55 * sizes[1]
    assert {v.dtype for k, v in found.network.state_dict().items() if "num_" not in k} == {
        torch.float32
    }
    np.testing.assert_allclose(probabilities(found), probabilities(model), atol=0.02)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(FileReadError, match=f"{re.escape(str(path))} is not a whole safetensors"):
        load_model(path)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})

    with pytest.raises(FileReadError, match=r"other\.safetensors is a safetensors file of another"):
        load_model(path)


class Trap:
    """Opening its pickle makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    "name", ["model.pt", "model.pth", "model.pkl", "model.ckpt", "m.PTH", "m.safetensors", "model"]
)
def test_a_pickled_model_is_never_opened(tmp_path, name):
    path, trap = tmp_path / name, tmp_path / "trap"
    path.write_bytes(pickle.dumps(Trap(trap)))

    with pytest.raises(FileReadError, match=name):
        load_model(path)

    assert not trap.exists()


def test_a_saved_state_of_torch_is_refused_with_a_reason(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pth")

    with pytest.raises(FileReadError, match="looks like a pickled model"):
        load_model(tmp_path / "model.pth")


def test_a_model_of_a_newer_version_asks_for_an_update(path):
    with_header(path, lambda header: header["__metadata__"].update(format_version="2"))

    with pytest.raises(FileReadError, match=r"newer version of this program .*Update"):
        load_model(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null"], ids=["empty", "open", "list", "number", "null"]
)
def test_a_damaged_header_is_refused(path, text):
    with_header(path, lambda header: header["__metadata__"].update(model=text))

    with pytest.raises(FileReadError, match=r"The header of .* is damaged"):
        load_model(path)


@pytest.mark.parametrize(
    "values",
    [
        {"network": {"width": 8, "depth": 2, "classes": 3}},
        {"network": {"width": "wide"}},
        {"network": {"shape": 3}},
        {"network": 3},
        {"classes": []},
        {"classes": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
        {"classes": [{"name": n, "colour": "#000000"} for n in ("a", "b", " ")]},
        {"classes": ["a", "b", "c"]},
        {"steps": "many"},
        {"history": None},
        {"pixel_size": 0},
        {"pixel_size": -4.0},
        {"pixel_size": float("nan")},
        {"pixel_size": float("inf")},
        {"pixel_size": "small"},
        {"pixel_size": [4.0]},
        {"added": 3},
        {"added": -1},
        {"added": "one"},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_their_header_are_refused(path, values):
    changed_model(path, **values)

    with pytest.raises(FileReadError, match=f"{re.escape(str(path))} do not fit its header"):
        load_model(path)


def test_a_model_of_a_version_that_knew_no_pixel_size_can_be_used(path, model):
    def without(header):
        described = json.loads(header["__metadata__"]["model"])
        del described["pixel_size"], described["added"]
        header["__metadata__"]["model"] = json.dumps(described)

    with_header(path, without)

    found = load_model(path)
    assert (found.pixel_size, found.added) == (None, 0)
    assert np.array_equal(probabilities(found), probabilities(model))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileReadError, match=r"There is no file .*gone\.safetensors"):
        load_model(tmp_path / "gone.safetensors")


def test_another_ending_is_refused_when_saving(tmp_path, model):
    with pytest.raises(ValueError, match=r"ends with \.safetensors; got 'model\.pth'"):
        save_model(tmp_path / "model.pth", model)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named_when_saving(tmp_path, model):
    with pytest.raises(FileWriteError, match="there is no folder"):
        save_model(tmp_path / "gone" / "model.safetensors", model)


def test_saving_replaces_an_older_file(path):
    save_model(path, tiny_model())

    assert len(load_model(path).classes) == 2
    assert list(path.parent.iterdir()) == [path]


def test_a_model_is_found_by_its_path(path, model):
    assert find_model(str(path)).classes == model.classes


def test_an_unknown_model_is_told_with_those_that_come_with_the_program():
    bundled = [each.name for each in bundled_models()]

    with pytest.raises(FileReadError, match=r"There is no model 'nobody'") as caught:
        find_model("nobody")

    assert f"({', '.join(bundled)})" in str(caught.value)


def test_bundled_models_are_found_by_name():
    for each in bundled_models():
        found = find_model(each.name)
        assert found.steps > 0
        assert found.history
        assert found.classes[0].name == "background"

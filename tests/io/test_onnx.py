import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.annotations import SegmentationClass
from napari_unet.core.config import NetworkConfig, PredictionConfig
from napari_unet.core.foreign import ForeignModel, check_can_learn
from napari_unet.core.image import ImageArray
from napari_unet.core.model import new_model
from napari_unet.core.network import smallest_input
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.extras import MissingLibraryError
from napari_unet.io.files import FileReadError, FileWriteError
from napari_unet.io.model_files import find_model, write_model
from napari_unet.io.onnx import load_onnx, save_onnx
from tests.examples import noise_image, tiny_model, with_lived_in_statistics

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

AGREE = 1e-5
"""Probabilities of two libraries differ by less than this: the order of sums is another."""


@pytest.fixture
def model():
    fresh = with_lived_in_statistics(tiny_model("background", "membrane", "mitochondrion"))
    classes = (*fresh.classes[:2], SegmentationClass("Größe µ", "#010203"))
    return replace(fresh, name="example", classes=classes, steps=17, pixel_size=4.5)


@pytest.fixture
def path(tmp_path, model):
    save_onnx(tmp_path / "model.onnx", model)
    return tmp_path / "model.onnx"


def probabilities(model, image, tile_size=512):
    config = PredictionConfig(tile_size=tile_size, precision="float32")
    tiles = predict(model, image, config, device="cpu")
    return finish(gather(tiles, image, len(model.classes), probabilities=True)).data


@pytest.mark.parametrize(("height", "width"), [(32, 32), (44, 64), (16, 100)])
def test_onnxruntime_gives_the_probabilities_of_the_network_at_any_size(path, model, height, width):
    grey = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, height, width))).float()

    (found,) = runtime.InferenceSession(str(path)).run(None, {"grey": grey.numpy()})

    with torch.inference_mode():
        expected = model.network(grey).softmax(dim=1).numpy()
    assert found.shape == (2, 3, height, width)
    np.testing.assert_allclose(found, expected, atol=AGREE)


def test_an_unpadded_network_gives_the_same_at_several_sizes(tmp_path):
    config = NetworkConfig(depth=2, width=4)
    model = new_model(config)
    save_onnx(tmp_path / "paper.onnx", model)
    session = runtime.InferenceSession(str(tmp_path / "paper.onnx"))

    for wanted in (8, 40):
        side = smallest_input(config, wanted)
        grey = torch.rand(1, 1, side, side + 4, generator=torch.Generator().manual_seed(wanted))
        (found,) = session.run(None, {"grey": grey.numpy()})

        with torch.inference_mode():
            expected = model.network(grey).softmax(dim=1).numpy()
        np.testing.assert_allclose(found, expected, atol=AGREE)


def test_the_file_is_valid_and_says_what_it_holds(path):
    content = onnx.load(path)

    onnx.checker.check_model(content, full_check=True)
    says = {each.key: each.value for each in content.metadata_props}
    assert json.loads(says["classes"]) == ["background", "membrane", "Größe µ"]
    assert json.loads(says["napari-unet"])["pixel_size"] == 4.5
    assert [each.version for each in content.opset_import] == [20]


@pytest.mark.parametrize("network", [{}, {"padding": "valid", "normalisation": "none"}])
@pytest.mark.parametrize("tile_size", [16, 512])
def test_a_file_predicts_as_its_model_does(tmp_path, network, tile_size):
    model = tiny_model("background", "membrane", **network)
    write_model(tmp_path / "model.onnx", model)
    image = noise_image(2, 30, 50)

    found = load_onnx(tmp_path / "model.onnx")

    assert isinstance(found, ForeignModel)
    np.testing.assert_allclose(
        probabilities(found, image, tile_size), probabilities(model, image, tile_size), atol=AGREE
    )


def test_a_file_knows_its_classes_and_pixel_size(path, model):
    found = find_model(str(path))

    assert (found.name, found.classes, found.pixel_size) == ("example", model.classes, 4.5)
    image = ImageArray(noise_image(40, 40).data, "YX", (9.0, 9.0), ("nm", "nm"))
    assert found.magnification(image) == model.magnification(image) == 2.0
    np.testing.assert_allclose(probabilities(found, image), probabilities(model, image), atol=AGREE)


def test_a_file_cannot_learn_and_is_written_nowhere_else(tmp_path, path):
    found = load_onnx(path)

    with pytest.raises(ValueError, match="'example' is a network of another program"):
        check_can_learn(found)
    with pytest.raises(FileWriteError, match="only its own file can hold"):
        write_model(tmp_path / "again.safetensors", found)
    assert not (tmp_path / "again.safetensors").exists()


def test_classes_get_other_names_but_no_more_of_them(path):
    found = load_onnx(path)
    classes = [SegmentationClass(name, "#000000") for name in "abcd"]

    assert [c.name for c in found.with_classes(tuple(classes)).classes] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="knows 3 classes; 2 are too few"):
        found.with_classes(tuple(classes[:2]))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(FileReadError, match=f"{re.escape(str(path))} is not a whole ONNX file"):
        load_onnx(path)


def test_a_file_of_another_program_is_refused(path):
    content = onnx.load(path)
    del content.metadata_props[:]
    onnx.save(content, path)

    with pytest.raises(FileReadError, match="does not say what its classes are"):
        load_onnx(path)


@pytest.mark.parametrize("damage", ["", "[]", '{"name": "x"}', "{"])
def test_damaged_metadata_are_refused(path, damage):
    content = onnx.load(path)
    onnx.helper.set_model_props(content, {"napari-unet": damage, "sight": "[1, 2, 3]"})
    onnx.save(content, path)

    with pytest.raises(FileReadError, match=r"model\.onnx are damaged"):
        load_onnx(path)


def test_a_missing_library_is_named(path, model, monkeypatch):
    for name, attempt in (
        ("onnx", lambda: save_onnx(path, model)),
        ("onnxruntime", lambda: load_onnx(path)),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingLibraryError, match=re.escape('"napari-unet-em[exchange]"')):
            attempt()


def test_another_ending_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"ends with \.onnx; got 'model\.pt'"):
        save_onnx(tmp_path / "model.pt", model)
    with pytest.raises(ValueError, match=r"are written: \.safetensors, \.zip, \.onnx"):
        write_model(tmp_path / "model.pt", model)

import io
import json
import pickle
import re
import socket
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet.cli import main
from napari_unet.core.config import PredictionConfig
from napari_unet.core.foreign import ForeignModel, check_can_learn
from napari_unet.core.image import image_from_array
from napari_unet.core.model import UNetModel
from napari_unet.core.network import Sight
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.bioimageio.export import save_package
from napari_unet.io.bioimageio.loading import load_package
from napari_unet.io.extras import MissingLibraryError
from napari_unet.io.files import CodeNotTrustedError, FileReadError, FileWriteError
from napari_unet.io.images import read_image, write_image
from napari_unet.io.model_files import find_model, write_model
from napari_unet.io.models import DEFAULT_MODEL, save_model
from tests.examples import noise_image, tiny_model, with_lived_in_statistics
from tests.io.foreign import ALL_WEIGHTS, network, package_files, save_earlier, save_foreign

core = pytest.importorskip("bioimageio.core")
pytest.importorskip("bioimageio.spec")
pytest.importorskip("onnxruntime")

AGREE = 1e-5
"""Probabilities of two libraries differ by less than this: the order of sums is another."""


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing may be looked up in the internet."""

    def refuse(*_):
        raise AssertionError("something went online")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def model():
    fresh = with_lived_in_statistics(tiny_model("background", "membrane", "mitochondrion"))
    history = ({"steps": 12, "config": {"seed": 3}},)
    return replace(fresh, name="a/ü", steps=12, history=history, pixel_size=4.5)


@pytest.fixture
def path(tmp_path, model):
    save_package(tmp_path / "model.zip", model)
    return tmp_path / "model.zip"


def probabilities(model, image, tile_size=512):
    config = PredictionConfig(tile_size=tile_size, precision="float32")
    tiles = predict(model, image, config, device="cpu")
    return finish(gather(tiles, image, len(model.classes), probabilities=True)).data


def by_the_reference(path, grey, **wishes):
    """What the reference implementation says of grey values (Y, X), seen as they are."""
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec import load_model_description

    described = load_model_description(path, perform_io_checks=False)
    sample = create_sample_for_model(described, inputs=grey[None, None].astype(np.float32))
    with core.create_prediction_pipeline(described, **wishes) as pipeline:
        found = pipeline.predict_sample_without_blocking(
            sample, skip_input_padding=True, skip_output_cropping=True
        )
    (tensor,) = found.members.values()
    return np.asarray(tensor.data)[0]


def saturated(height=52, width=64):
    """Grey values of which so many are darkest and brightest that clipping changes nothing."""
    chance = np.random.default_rng(5)
    return np.clip(chance.normal(128, 90, (height, width)), 0, 255).astype(np.uint8)


# --- what we write ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, {"padding": "valid", "normalisation": "none"}])
def test_the_reference_implementation_finds_no_fault(tmp_path, shape):
    model = replace(tiny_model("background", "membrane", **shape), pixel_size=4.0)
    save_package(tmp_path / "model.zip", model, authors=["Ada"], license_id="CC-BY-4.0")

    summary = core.test_description(tmp_path / "model.zip")

    assert summary.status == "passed", summary.display()
    tested = {detail.name for detail in summary.details}
    for kind in ("onnx", "pytorch_state_dict"):
        assert f"Reproduce test outputs from test inputs ({kind})" in tested


@pytest.mark.parametrize("kind", ["onnx", "pytorch_state_dict"])
def test_the_reference_implementation_gives_what_we_give(path, model, kind):
    grey = saturated()

    found = by_the_reference(path, grey, weight_format=kind)

    np.testing.assert_allclose(found, probabilities(model, image_from_array(grey)), atol=AGREE)


def test_the_bundled_network_gives_almost_the_same_elsewhere(tmp_path):
    """Hot pixels are clipped here, and not in the package; of an ordinary image that is little."""
    model, path = find_model(DEFAULT_MODEL), tmp_path / "em-lite.zip"
    write_model(path, model)
    with zipfile.ZipFile(path) as archive:
        test, expected = (
            np.load(io.BytesIO(archive.read(f"test_{name}.npy"))) for name in ("input", "output")
        )
    assert "non-commercial" in zipfile.ZipFile(path).read("README.md").decode()  # its card

    found = by_the_reference(path, test[0, 0], weight_format="onnx")

    np.testing.assert_allclose(found, expected[0], atol=1e-4)
    ours = probabilities(model, image_from_array(test[0, 0]))
    assert (found.argmax(axis=0) == ours.argmax(axis=0)).mean() > 0.98
    assert np.abs(found - ours).mean() < 0.01


def test_a_package_says_what_the_model_means(tmp_path, model):
    from bioimageio.spec import load_model_description

    save_package(tmp_path / "m.zip", model, authors=["Ada", "Bo"], license_id="MIT")

    found = load_model_description(tmp_path / "m.zip")

    assert [author.name for author in found.authors] == ["Ada", "Bo"]
    assert str(found.license) == "MIT"
    assert str(found.cite[0].doi) == "10.1007/978-3-319-24574-4_28"
    channels = found.outputs[0].axes[1].channel_names
    assert channels == ["background", "membrane", "mitochondrion"]
    spaces = found.inputs[0].axes[2:]
    assert [(axis.scale, axis.unit) for axis in spaces] == [(4.5, "nanometer")] * 2
    assert "## Grey values" in found.documentation.get_reader().read().decode()


def test_a_package_gives_the_model_back_as_it_was(path, model):
    found = find_model(str(path))  # and no code is run for that

    assert isinstance(found, UNetModel)
    assert (found.name, found.classes, found.steps) == (model.name, model.classes, model.steps)
    assert (found.history, found.pixel_size) == (model.history, 4.5)
    expected = model.network.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in found.network.state_dict().items())
    assert check_can_learn(found) is found


def test_an_unknown_licence_is_refused_and_nothing_is_written(tmp_path, model):
    with pytest.raises(ValueError, match=r"m\.zip was not written: .*license"):
        save_package(tmp_path / "m.zip", model, license_id="my own")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_replaced_stays(tmp_path, model):
    (tmp_path / "m.zip").mkdir()

    with pytest.raises(FileWriteError, match="it is a folder"):
        save_package(tmp_path / "m.zip", model)
    with pytest.raises(ValueError, match=r"ends with \.zip"):
        save_package(tmp_path / "m.tar", model)


# --- what others write -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_WEIGHTS)
def test_a_foreign_network_predicts_as_the_reference_implementation_says(tmp_path, kind):
    path = save_foreign(tmp_path / "a.zip", (kind,))
    grey = noise_image(40, 48).data

    found = load_package(path, trust=True)

    assert isinstance(found, ForeignModel)
    assert [c.name for c in found.classes] == ["background", "mitochondrion"]
    assert found.pixel_size == 8.0
    ours = probabilities(found, image_from_array(grey))
    theirs = by_the_reference(path, grey)
    np.testing.assert_allclose(ours[1], theirs[0], atol=AGREE)
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=AGREE)


def test_tiles_of_a_foreign_network_join_without_a_seam(tmp_path):
    found = load_package(save_foreign(tmp_path / "a.zip", ("onnx",)))
    image = noise_image(2, 70, 45)

    np.testing.assert_allclose(
        probabilities(found, image, 16), probabilities(found, image), atol=AGREE
    )


@pytest.mark.parametrize(
    "steps",
    [
        [{"id": "scale_range", "kwargs": {"min_percentile": 1.0, "max_percentile": 99.0}}],
        [{"id": "scale_linear", "kwargs": {"gain": 0.01, "offset": -0.5}}],
        [{"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100.0, "std": 40.0}}],
        [
            {"id": "clip", "kwargs": {"min": 20.0, "max": 200.0}},
            {"id": "scale_linear", "kwargs": {"gain": 0.02, "offset": 0.0}},
        ],
        [
            {"id": "clip", "kwargs": {"min_percentile": 2.0, "max_percentile": 98.0}},
            {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},
        ],
        [{"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}, {"id": "zero_mean_unit_variance"}],
    ],
    ids=lambda steps: "+".join(step["id"] for step in steps),
)
@pytest.mark.filterwarnings("ignore:.*does not say of its own test image")
def test_grey_values_are_brought_to_its_range_as_the_description_says(tmp_path, steps):
    path = save_foreign(tmp_path / "a.zip", ("onnx",), preprocessing=steps)
    grey = noise_image(32, 40).data

    ours = probabilities(load_package(path), image_from_array(grey))

    np.testing.assert_allclose(ours[1], by_the_reference(path, grey)[0], atol=1e-4)


@pytest.mark.parametrize("size", [32, 48])
def test_a_network_of_fixed_size_predicts_images_of_any_size(tmp_path, size):
    found = load_package(save_foreign(tmp_path / "fixed.zip", ("onnx",), size=size))
    free = load_package(save_foreign(tmp_path / "free.zip", ("onnx",)))

    for image in (noise_image(20, 20), noise_image(75, 60)):
        ours, expected = probabilities(found, image), probabilities(free, image)
        assert ours.shape == expected.shape
        inner = (slice(None), slice(6, -6), slice(6, -6))  # the border is mirrored
        np.testing.assert_allclose(ours[inner], expected[inner], atol=AGREE)


def test_an_answer_that_is_smaller_than_its_input_lies_in_its_middle(tmp_path):
    path = save_foreign(tmp_path / "a.zip", ("onnx",), unpadded=True)
    grey = noise_image(40, 48).data

    found = load_package(path)

    assert found.network.sight.lost == 4
    ours = probabilities(found, image_from_array(grey))
    theirs = by_the_reference(path, grey)
    inner = (slice(6, -6), slice(6, -6))  # the border is mirrored here
    np.testing.assert_allclose(ours[1, 2:-2, 2:-2][inner], theirs[0][inner], atol=AGREE)


@pytest.mark.filterwarnings("ignore:.*does not say of its own test image")
@pytest.mark.parametrize("last", ["sigmoid", "softmax"])
def test_channels_become_classes_with_the_background_first(tmp_path, last):
    step = {"id": "sigmoid"} if last == "sigmoid" else {"id": last, "kwargs": {"axis": "channel"}}
    names = ("membrane", "background", "vesicle") if last == "softmax" else ("membrane", "vesicle")
    path = save_foreign(tmp_path / "a.zip", ("onnx",), postprocessing=[step], names=names)
    grey = noise_image(32, 32).data

    found = load_package(path)

    assert [c.name for c in found.classes] == ["background", "membrane", "vesicle"]
    ours = probabilities(found, image_from_array(grey))
    theirs = by_the_reference(path, grey)
    if last == "softmax":
        np.testing.assert_allclose(ours, theirs[[1, 0, 2]], atol=AGREE)
    else:
        both = np.concatenate([1 - theirs.max(axis=0, keepdims=True), theirs])
        np.testing.assert_allclose(ours, both / both.sum(axis=0), atol=AGREE)


def test_a_description_of_the_earlier_version_is_understood(tmp_path):
    path = save_earlier(tmp_path / "a.zip")
    grey = noise_image(40, 48).data

    found = load_package(path, trust=True)

    assert found.network.sight == Sight(margin=6, smallest=16, step=2)
    theirs = by_the_reference(path, grey)
    ours = probabilities(found, image_from_array(grey))
    np.testing.assert_allclose(ours[1], theirs[0], atol=AGREE)


def test_onnx_weights_that_lie_beside_their_file_are_read(tmp_path):
    import onnx

    whole = load_package(save_foreign(tmp_path / "whole", ("onnx",)))
    path = save_foreign(tmp_path / "parted", ("onnx",))
    onnx.save(
        onnx.load(path / "onnx.weights"),
        path / "parted.onnx",
        save_as_external_data=True,
        location="parted.onnx.data",
        size_threshold=0,
    )
    _with_file(path, "onnx.weights", (path / "parted.onnx").read_bytes())
    text = (path / "rdf.yaml").read_text()
    beside = "    external_data:\n      source: parted.onnx.data\n    opset_version"
    (path / "rdf.yaml").write_text(text.replace("    opset_version", beside))

    image = noise_image(40, 40)
    found = load_package(path)

    assert np.array_equal(probabilities(found, image), probabilities(whole, image))


def test_a_folder_and_its_description_are_packages_too(tmp_path):
    folder = save_foreign(tmp_path / "unpacked", ("onnx",))

    for path in (folder, folder / "rdf.yaml"):
        assert find_model(str(path)).name == "blobs of another program"


def test_a_package_that_does_not_keep_its_word_is_told_of(tmp_path):
    steps = [{"id": "scale_linear", "kwargs": {"gain": 0.001, "offset": 0.0}}]
    path = save_foreign(tmp_path / "a.zip", ("onnx",), preprocessing=steps)

    with pytest.warns(UserWarning, match="does not say of its own test image what"):
        load_package(path)


def test_blank_sections_and_missing_pixels_are_predicted(tmp_path):
    found = load_package(save_foreign(tmp_path / "a.zip", ("onnx",)))
    grey = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    grey[0] = 0.5
    grey[1] = np.nan
    grey[2, 3, 4] = np.inf

    with pytest.warns(UserWarning, match="not finite numbers"):
        found = probabilities(found, image_from_array(grey))

    assert np.isfinite(found).all()


# --- code and trust --------------------------------------------------------------------------


def trap(folder):
    """Source of a network that leaves a trace when it is run."""
    return f"from pathlib import Path\nPath({str(folder)!r}).mkdir()\n".encode()


@pytest.mark.parametrize("kind", ["torchscript", "pytorch_state_dict"])
def test_code_is_not_run_unless_it_is_trusted(tmp_path, kind):
    path = save_foreign(tmp_path / "a", (kind,))
    source = (path / "network.py").read_bytes()
    traced = trap(tmp_path / "trace") + source
    _with_file(path, "network.py", traced)

    with pytest.raises(CodeNotTrustedError, match="Nothing of it was run"):
        load_package(path)
    assert not (tmp_path / "trace").exists()

    load_package(path, trust=True)
    assert (tmp_path / "trace").exists() == (kind == "pytorch_state_dict")


def _with_file(folder: Path, name: str, content: bytes) -> None:
    """Put another file into a package, with its right hash."""
    import hashlib

    before = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).write_bytes(content)
    text = (folder / "rdf.yaml").read_text()
    (folder / "rdf.yaml").write_text(text.replace(before, hashlib.sha256(content).hexdigest()))


def test_onnx_is_preferred_since_it_runs_no_code(tmp_path):
    found = load_package(save_foreign(tmp_path / "a.zip"))

    assert type(found.network.runner).__name__ == "OnnxRunner"


class Trap:
    """Opening its pickle makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


def test_a_pickle_that_holds_more_than_weights_is_refused_and_not_run(tmp_path):
    path = save_foreign(tmp_path / "a", ("pytorch_state_dict",))
    content = io.BytesIO()
    torch.save({"weight": Trap(tmp_path / "trace")}, content, pickle_module=pickle)
    _with_file(path, "pytorch_state_dict.weights", content.getvalue())

    with pytest.raises(FileReadError, match="hold more than weights"):
        load_package(path, trust=True)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"import surely_not_installed", "'surely_not_installed'"),
        (b"raise SystemExit('enough')", "does not run here .*enough"),
    ],
)
def test_source_that_fails_is_told_of(tmp_path, source, message):
    path = save_foreign(tmp_path / "a", ("pytorch_state_dict",))
    _with_file(path, "network.py", source)

    with pytest.raises(FileReadError, match=message):
        load_package(path, trust=True)


def test_weights_that_do_not_fit_the_network_are_told_of(tmp_path):
    path = save_foreign(tmp_path / "a", ("pytorch_state_dict",))
    content = io.BytesIO()
    torch.save(network(answers=3).state_dict(), content)
    _with_file(path, "pytorch_state_dict.weights", content.getvalue())

    with pytest.raises(FileReadError, match="cannot be made from its source"):
        load_package(path, trust=True)


# --- what cannot be used ---------------------------------------------------------------------


def three_dimensional(described):
    for tensor in (*described["inputs"], *described["outputs"]):
        tensor["axes"].insert(2, {"type": "space", "id": "z", "size": 8})
        tensor.pop("test_tensor")


def coloured(described):
    described["inputs"][0]["axes"][1]["channel_names"] = ["red", "green", "blue"]


def twice(described):
    second = json.loads(json.dumps(described["inputs"][0]))
    described["inputs"].append({**second, "id": "second"})


def without_activation(described):
    described["outputs"][0].pop("postprocessing")


def finer(described):
    for axis in described["outputs"][0]["axes"][2:]:
        axis["scale"] = 4.0
        axis["size"]["offset"] = -2


def for_tensorflow(described):
    source = described["weights"].pop("onnx")["source"]
    described["weights"]["tensorflow_js"] = {"source": source, "tensorflow_version": "2.10"}


def scaled_by_another(described):
    described["outputs"][0]["postprocessing"] = [
        {"id": "scale_mean_variance", "kwargs": {"reference_tensor": "raw"}}
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (three_dimensional, "it takes volumes"),
        (coloured, "images of 3 channels"),
        (twice, "takes 2 inputs"),
        (without_activation, "no probabilities, and names no sigmoid or softmax"),
        (finer, "another pixel size"),
        (for_tensorflow, "weights for tensorflow_js; ONNX, TorchScript and PyTorch"),
        (scaled_by_another, "'scale_mean_variance' behind the network"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_network_that_does_not_fit_is_refused_with_the_reason(tmp_path, change, message):
    path = save_foreign(tmp_path / "a.zip", ("onnx",), change=change)

    with pytest.raises(FileReadError, match=re.escape(message)) as told:
        load_package(path)
    assert str(told.value).startswith(f"The model in {path} cannot be used: ")
    assert str(told.value).endswith("Choose another model.")


def test_several_outputs_are_told_of(tmp_path):
    def more(described):
        second = json.loads(json.dumps(described["outputs"][0]))
        described["outputs"].append({**second, "id": "more"})

    path = save_foreign(tmp_path / "a.zip", ("onnx",), change=more)

    with pytest.warns(UserWarning, match="gives 2 outputs; the first one, 'found', is used"):
        load_package(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_package_that_was_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(FileReadError, match=f"{re.escape(str(path))} is not a whole zip file"):
        load_package(path)


@pytest.mark.parametrize("byte", range(5))
def test_damage_anywhere_in_a_package_is_told_of_or_harmless(path, byte):
    content = bytearray(path.read_bytes())
    for place in range(byte, len(content), 701):
        content[place] ^= 0x55
    path.write_bytes(content)

    with pytest.raises(FileReadError, match=re.escape(str(path))):
        load_package(path)


def test_a_zip_file_that_is_no_package_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("holiday.txt", "sunny")

    with pytest.raises(FileReadError, match=r"no BioImage\.IO package: there is no rdf\.yaml"):
        load_package(tmp_path / "a.zip")


def test_missing_files_are_named(tmp_path):
    path = save_foreign(tmp_path / "a", ("onnx",))
    (path / "onnx.weights").unlink()

    with pytest.raises(FileReadError, match=r"is incomplete: there is no file onnx\.weights"):
        load_package(path)


@pytest.mark.parametrize("name", ["onnx.weights", "raw.npy"])
def test_a_hash_that_does_not_agree_is_told_of(tmp_path, name):
    path = save_foreign(tmp_path / "a", ("onnx",))
    (path / name).write_bytes((path / name).read_bytes() + b" ")

    with pytest.raises(FileReadError, match=f"{name} in .* SHA-256 differs"):
        load_package(path)


@pytest.mark.parametrize("kind", ALL_WEIGHTS)
def test_weights_that_are_none_are_told_of(tmp_path, kind):
    path = save_foreign(tmp_path / "a", (kind,))
    _with_file(path, f"{kind}.weights", b"nothing of the kind")

    with pytest.raises(FileReadError, match=re.escape(str(path))):
        load_package(path, trust=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "describes no model"),
        (b"type: dataset", "describes no model, but 'dataset'"),
        (b"type: model\nformat_version: 0.5.0\nname: something", "does not keep to the"),
        (b"a: [", "is damaged"),
        (b": : :", "does not fit together"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_a_description_that_is_none_is_told_of(tmp_path, text, message):
    (tmp_path / "rdf.yaml").write_bytes(text)

    with pytest.raises(FileReadError, match=message):
        load_package(tmp_path)


def test_weights_in_the_internet_are_not_fetched(tmp_path):
    def elsewhere(described):
        described["weights"]["onnx"]["source"] = "https://example.com/weights.onnx"

    path = save_foreign(tmp_path / "a.zip", ("onnx",), change=elsewhere)

    with pytest.raises(FileReadError, match="Download the whole package"):
        load_package(path)


def test_a_missing_library_is_named(path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)

    for attempt in (lambda: load_package(path), lambda: save_package(path, model)):
        with pytest.raises(MissingLibraryError, match=re.escape('"napari-unet-em[exchange]"')):
            attempt()


# --- command line ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model("model.safetensors", tiny_model("background", "membrane"))
    write_image("image.tif", noise_image(40, 48))
    return tmp_path


def test_a_model_is_exported_and_predicts_the_same(folder):
    assert main(["export-model", "model.safetensors", "-o", "m.zip", "--author", "Ada"]) == 0
    assert main(["export-model", "m.zip", "-o", "m.onnx"]) == 0

    for name in ("model.safetensors", "m.zip", "m.onnx"):
        wishes = ["--model", name, "-o", f"{name}.tif", "--precision", "float32"]
        assert main(["predict", "image.tif", *wishes]) == 0
    masks = [read_image(f"{n}.tif").data for n in ("model.safetensors", "m.zip", "m.onnx")]
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])


def test_untrusted_code_is_told_of_where_nobody_can_be_asked(folder, capsys):
    save_foreign(folder / "a.zip", ("torchscript",))
    predicting = ["predict", "image.tif", "--model", "a.zip", "-o", "mask.tif"]

    assert main(predicting) == 1
    assert "If you trust its source, say --trust." in capsys.readouterr().err
    assert main([*predicting, "--trust"]) == 0
    assert set(np.unique(read_image("mask.tif").data)) <= {1, 2}


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1), ("n", 1)])
def test_who_sits_at_a_terminal_is_asked(folder, monkeypatch, answer, status):
    save_foreign(folder / "a.zip", ("torchscript",))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)

    assert main(["predict", "image.tif", "--model", "a.zip", "-o", "mask.tif"]) == status


@pytest.mark.parametrize("hears", [False, True])
def test_who_cannot_answer_does_not_trust(folder, monkeypatch, capsys, hears):
    save_foreign(folder / "a.zip", ("torchscript",))
    silence = io.StringIO()
    silence.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", silence if hears else None)

    assert main(["predict", "image.tif", "--model", "a.zip", "-o", "mask.tif"]) == 1
    assert ("was not used" if hears else "say --trust") in capsys.readouterr().err


def test_a_foreign_network_is_not_trained_or_exported(folder, capsys):
    save_foreign(folder / "a.zip", ("onnx",))
    write_image("labels.tif", image_from_array(np.ones((40, 48), np.uint8)))

    assert (
        main(["train", "image.tif", "labels.tif", "--model", "a.zip", "-o", "b.safetensors"]) == 1
    )
    assert "it predicts, but cannot learn here" in capsys.readouterr().err
    assert main(["export-model", "a.zip", "-o", "b.zip"]) == 1
    assert "Copy that file instead" in capsys.readouterr().err


def test_wishes_that_do_not_fit_are_told_of(folder, capsys):
    assert main(["export-model", "model.safetensors", "-o", "m.pt"]) == 1
    assert "are written: .safetensors, .zip, .onnx" in capsys.readouterr().err
    assert main(["export-model", "model.safetensors", "-o", "m.onnx", "--author", "Ada"]) == 1
    assert "are for BioImage.IO packages" in capsys.readouterr().err


def test_the_network_of_these_tests_is_always_the_same():
    first, second = package_files(("onnx",))[1], package_files(("onnx",))[1]

    assert first["found.npy"] == second["found.npy"]

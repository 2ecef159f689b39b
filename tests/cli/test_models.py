from dataclasses import replace

from napari_unet.io import models
from napari_unet.io.models import BundledModel, save_model
from tests.cli.conftest import answer
from tests.examples import tiny_model


def test_models_lists_the_bundled_ones_with_their_classes(capsys):
    lines = answer(capsys, "models").splitlines()

    assert any(line.startswith("em-lite: background, membrane, mitochondrion (") for line in lines)
    assert all("M parameters" in line for line in lines)


def test_models_tells_the_pixel_size_of_models_that_know_it(folder, capsys, monkeypatch):
    known = replace(tiny_model(), pixel_size=4.5)
    save_model("known.safetensors", known)
    bundled = [BundledModel(name, folder / f"{name}.safetensors") for name in ("known", "model")]
    monkeypatch.setattr(models, "bundled_models", lambda: bundled)

    assert answer(capsys, "models").splitlines() == [
        "known: background, disc (0.0 M parameters, 4.5 nm/px)",
        "model: background, membrane, mitochondrion (0.0 M parameters)",
    ]

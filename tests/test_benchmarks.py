"""Small versions of the benchmarks, whose results are recorded in docs/benchmarks.md."""

import hashlib

import numpy as np
import pytest

from benchmarks import memory, paper, train_bundled
from benchmarks.pixel_size import reduced
from benchmarks.report import table, write_section
from benchmarks.train_bundled import MEMBRANE, class_mask, isbi2012
from napari_unet.core.config import ORIGINAL_NETWORK, ORIGINAL_TRAINING
from napari_unet.core.image import image_from_array
from napari_unet.core.model import new_model
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import bundled_models, load_model, save_model
from tests.examples import bright_discs


def test_a_section_of_the_report_is_replaced_and_the_others_stay(tmp_path):
    target = tmp_path / "report.md"
    target.write_text("# Title\n\nOf old.\n\n## First\n\nold\n\n## Second\n\nkept\n\n### Part\n")

    write_section("First", table(["a", "b"], [["1", "2"]]), target)
    write_section("Third", "new", target)

    assert target.read_text() == (
        "# Title\n\nOf old.\n\n## First\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "## Second\n\nkept\n\n### Part\n\n## Third\n\nnew\n"
    )


def test_the_truth_reproduces_the_paper_without_an_error():
    truth = np.ones((2, 48, 48), np.uint8)
    truth[:, 20:22] = truth[:, :, 30:32] = MEMBRANE

    scores, f1 = paper.measure((truth == MEMBRANE).astype(np.float32), truth)

    assert (scores.v_rand, scores.v_info, f1) == pytest.approx((1, 1, 1))
    assert scores.rand_error == scores.challenge_warping_error == scores.challenge_pixel_error == 0


def test_variants_of_the_paper_are_trained_by_its_recipe_but_for_what_they_leave_out(tmp_path):
    for kind, data in zip(("images", "labels"), bright_discs(1, 200), strict=True):
        (tmp_path / "isbi2012" / kind).mkdir(parents=True)
        image = image_from_array(data, pixel_size=4.0)
        write_image(tmp_path / "isbi2012" / kind / "training.tif", image)
    variant = paper.Variant("small", 1, 1, paper.NO_ELASTIC)

    trained = paper.train_variant(variant, tmp_path)

    assert trained.network.config == ORIGINAL_NETWORK.replace(width=1)
    recipe = ORIGINAL_TRAINING.replace(
        steps=1, augmentation=ORIGINAL_TRAINING.augmentation.replace(elastic=0.0)
    )
    assert trained.history[-1]["config"] == recipe.to_dict()
    finished = tmp_path / f"{variant.file}-1.safetensors"
    written = finished.stat().st_mtime_ns
    paper.train_variant(variant, tmp_path)
    assert finished.stat().st_mtime_ns == written


def test_the_random_forest_finds_bright_discs(monkeypatch):
    monkeypatch.setattr(paper, "FOREST_SECTIONS", 2)
    monkeypatch.setattr(paper, "FOREST_PIXELS", 300)
    grey, labels = bright_discs(3, 64)

    found = paper.forest_probabilities(grey[:2], labels[:2], image_from_array(grey[2:]))

    assert found.shape == (1, 64, 64)
    assert ((found[0] > 0.5) == (labels[2] == MEMBRANE)).mean() > 0.95


def test_reduced_sections_keep_their_classes_in_place():
    grey, labels = bright_discs(1, 64)

    smaller, classes = reduced(grey, labels, 2.0)

    assert smaller.shape == classes.shape == (1, 32, 32)
    assert smaller[classes == 2].mean() > smaller[classes == 1].mean() + 50


def test_the_public_labels_become_classes(real_data):
    grey, mask = isbi2012()

    assert grey.shape == mask.shape
    assert np.bincount(mask.ravel(), minlength=4)[1:].min() > 0
    assert grey[mask == MEMBRANE].mean() < grey[mask == 1].mean()


@pytest.mark.parametrize("name", ["em", "em-lite"])
def test_files_made_of_the_data_sets_are_those_that_the_cards_name(name, real_data, tmp_path):
    train_bundled.prepare(tmp_path)
    (path,) = (each.path for each in bundled_models() if each.name == name)
    files = load_model(path).history[-1]["files"]
    card = (train_bundled.RECIPES / f"{name}.md").read_text(encoding="utf-8")
    made = sorted(path for path in tmp_path.rglob("*.tif"))
    assert len(made) == 12
    for path in made:
        recorded = files[f"{path.parents[1].name}/{path.stem}"]
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        assert recorded["image" if path.parent.name == "images" else "labels"] == found
        assert found in card


def test_membranes_win_over_mitochondria():
    true = np.array([[True, False], [True, False]])

    mask = class_mask(true, np.array([[True, True], [False, False]]))

    assert mask.tolist() == [[2, 3], [2, 1]]


def test_memory_is_measured_of_a_prediction_that_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SIDE", 64)
    monkeypatch.setattr(memory, "CHUNKS", (2, 32, 32))
    save_model(tmp_path / "tiny.safetensors", new_model(memory.NETWORK))
    memory.write_volume(tmp_path / "in.zarr", 3)

    found = memory.measure(
        tmp_path / "in.zarr", tmp_path / "out.zarr", tmp_path / "tiny.safetensors", 3
    )

    assert found.megabytes > 50
    assert read_image(tmp_path / "out.zarr").shape == (3, 64, 64)

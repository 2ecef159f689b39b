import json

import numpy as np
import pytest
import tifffile

from napari_unet.cli import main
from napari_unet.core.annotations import class_table
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image
from tests.cli.conftest import PREDICT, answer, complaint


def masks(prediction, truth):
    for name, values in (("found.tif", prediction), ("truth.tif", truth)):
        tifffile.imwrite(name, np.array(values, np.uint8))


def test_evaluate_prints_the_scores_worked_out_by_hand(folder, capsys):
    masks([[2, 2, 1, 2], [1, 1, 1, 1]], [[2, 2, 2, 1], [1, 1, 1, 1]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))
    text = answer(capsys, "evaluate", "found.tif", "truth.tif").splitlines()

    assert found["classes"]["2"] == pytest.approx(
        {"f1": 2 / 3, "iou": 0.5, "dice": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "pixels": 3}
    )
    assert found["classes"]["1"]["iou"] == pytest.approx(4 / 6)
    assert text[0].split() == ["class", "F1", "IoU", "Dice", "precision", "recall", "pixels"]
    assert text[1].split() == ["1", "0.8000", "0.6667", "0.8000", "0.8000", "0.8000", "5"]
    assert text[2].split() == ["2", "0.6667", "0.5000", "0.6667", "0.6667", "0.6667", "3"]
    assert len(text) == 3


def test_evaluate_leaves_out_what_nobody_annotated(folder, capsys):
    masks([[1, 2, 2, 2]], [[1, 2, 0, 0]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert {n: s["f1"] for n, s in found["classes"].items()} == {"1": 1.0, "2": 1.0}


def test_evaluate_counts_every_pixel_of_masks_of_0_and_255(folder, capsys):
    masks([[255, 255, 0, 0]], [[255, 0, 0, 255]])

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert list(found["classes"]) == ["255"]
    assert found["classes"]["255"] == pytest.approx(
        {"f1": 0.5, "iou": 1 / 3, "dice": 0.5, "precision": 0.5, "recall": 0.5, "pixels": 2}
    )


def test_evaluate_tells_ratios_without_denominator(folder, capsys):
    masks([[1, 1, 3]], [[1, 1, 1]])

    text = answer(capsys, "evaluate", "found.tif", "truth.tif").splitlines()
    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))

    assert text[2].split() == ["3", "0.0000", "0.0000", "0.0000", "0.0000", "-", "0"]
    assert found["classes"]["3"]["recall"] is None


def test_evaluate_tells_the_names_of_classes_that_the_files_hold(folder, capsys):
    mask = image_from_array(np.array([[1, 1, 2, 2], [1, 2, 2, 2]], np.uint8))
    write_image("found.tif", mask, class_table(["background", "outer membrane"]))
    write_image("truth.zarr", mask)

    text = answer(capsys, "evaluate", "found.tif", "truth.zarr").splitlines()
    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.zarr", "--json"))
    parted = ("evaluate", "found.tif", "truth.zarr", "--boundary", "outer membrane")
    boundary = answer(capsys, *parted)

    assert text[1].endswith("  background")
    assert text[2].endswith("  outer membrane")
    assert found["names"] == {"1": "background", "2": "outer membrane"}
    assert "V_rand" in boundary  # though no model knows this name


@pytest.mark.filterwarnings("default::UserWarning:napari_unet")
def test_evaluate_tells_where_files_call_a_class_differently(folder, capsys):
    mask = image_from_array(np.array([[1, 2], [2, 1]], np.uint8))
    write_image("found.tif", mask, class_table(["background", "membrane"]))
    write_image("truth.h5", mask, class_table(["background", "mitochondrion"]))

    assert main(["evaluate", "found.tif", "truth.h5"]) == 0

    said = capsys.readouterr().err
    assert "Class 2 is 'membrane' in found.tif, but 'mitochondrion' in truth.h5" in said


def test_evaluate_refuses_masks_of_different_shapes(folder, capsys):
    masks([[1, 2]], [[1], [2]])

    assert "they must be the same" in complaint(capsys, "evaluate", "found.tif", "truth.tif")


def test_evaluate_refuses_what_is_no_mask(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    assert "mask.tif is no mask" in complaint(capsys, "evaluate", "painted.tif", "mask.tif")


GAP = [[0, 0, 255, 0, 0], [0, 0, 0, 0, 0], [0, 0, 255, 0, 0]]

WALL = [[0, 0, 255, 0, 0]] * 3


def test_evaluate_compares_the_membranes_of_masks_of_0_and_255(folder, capsys):
    masks(GAP, WALL)

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))["boundary"]
    text = answer(capsys, "evaluate", "found.tif", "truth.tif")

    # two cells of 6 pixels became one: V_rand = 2 * (36 + 36) / (144 + 36 + 36)
    assert found["v_rand"] == pytest.approx(2 / 3)
    assert found["v_info"] == 0
    assert found["rand_error"] == pytest.approx(1 / 3)
    assert found["warping_error"] == found["pixel_error"] == pytest.approx(1 / 15)
    assert found["challenge_warping_error"] == pytest.approx(1 / 15)
    assert found["challenge_pixel_error"] == pytest.approx(1 / 25)
    assert found["thresholds"]["v_rand"] is None
    assert "V_rand after border thinning (1 is best)        0.666667          -" in text
    assert "warping error                                   0.066667          -" in text


def test_evaluate_takes_truth_in_the_polarity_of_the_challenge(folder, capsys):
    masks(GAP, 255 - np.array(WALL))

    inverted = json.loads(
        answer(capsys, "evaluate", "found.tif", "truth.tif", "--inverted-truth", "--json")
    )
    masks(GAP, WALL)

    assert inverted == json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--json"))


def test_evaluate_finds_the_best_threshold_of_predicted_probabilities(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities")
    all_maps = ["evaluate", "mask.tif", "painted.tif", "--json", "--boundary"]
    by_name = json.loads(answer(capsys, *all_maps, "membrane", "--model", "model.safetensors"))
    by_number = json.loads(answer(capsys, *all_maps, "2"))
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")
    one_map = json.loads(answer(capsys, *all_maps, "2"))

    assert by_name == by_number
    assert one_map["boundary"] == by_number["boundary"]
    assert 0.1 <= one_map["boundary"]["thresholds"]["v_rand"] <= 1
    assert set(one_map["classes"]) == {"2"}
    assert set(by_number["classes"]) >= {"1", "2"}


def test_evaluate_asks_which_class_probabilities_are_of(folder, capsys):
    answer(capsys, *PREDICT, "--probabilities", "--class", "membrane")

    said = complaint(capsys, "evaluate", "mask.tif", "painted.tif")

    assert "painted.tif holds the classes 1, 2" in said
    assert "say with --boundary" in said


def test_evaluate_knows_the_class_names_of_a_model(folder, capsys):
    said = complaint(capsys, "evaluate", "painted.tif", "painted.tif", "--boundary", "bone")

    assert "There is no class 'bone'; the classes are background, membrane" in said


def test_evaluate_compares_objects(folder, capsys):
    for name, numbers in (
        ("found.tif", [[70000, 70000, 8, 8, 1]]),
        ("truth.tif", [[3, 3, 3, 3, 0]]),
    ):
        tifffile.imwrite(name, np.array(numbers, np.uint32))

    found = json.loads(answer(capsys, "evaluate", "found.tif", "truth.tif", "--objects", "--json"))
    text = answer(capsys, "evaluate", "found.tif", "truth.tif", "--objects").splitlines()

    # pairs: 2 + 2 in both and in the prediction, 4 * 3 in the truth
    assert found["objects"] == pytest.approx(
        {
            "arand": 0.5, "precision": 1, "recall": 1 / 3, "voi": 1, "voi_split": 1,
            "voi_merge": 0, "predicted_objects": 3, "true_objects": 1,
        }
    )  # fmt: skip
    assert text[0].split() == [
        "ARAND", "precision", "recall", "VOI", "split", "merge", "predicted", "true",
    ]  # fmt: skip
    assert text[1].split() == [
        "0.5000", "1.0000", "0.3333", "1.0000", "1.0000", "0.0000", "3", "1",
    ]  # fmt: skip


def test_evaluate_refuses_objects_that_are_none(folder, capsys):
    tifffile.imwrite("real.tif", np.full((2, 2), 0.5, np.float32))
    tifffile.imwrite("negative.tif", np.full((2, 2), -1, np.int16))

    for name in ("real.tif", "negative.tif"):
        said = complaint(capsys, "evaluate", name, "painted.tif", "--objects")
        assert f"{name} holds no objects" in said
    objects = ["evaluate", "painted.tif", "painted.tif", "--objects"]
    assert "leave out" in complaint(capsys, *objects, "--boundary", "2")
    assert "leave out" in complaint(capsys, *objects, "--inverted-truth")


def test_masks_of_different_kinds_are_not_compared(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "one.tif", np.array([[0, 255], [255, 0]], np.uint8))
    tifffile.imwrite(tmp_path / "classes.tif", np.array([[1, 2], [2, 3]], np.uint8))
    assert main(["evaluate", str(tmp_path / "one.tif"), str(tmp_path / "classes.tif")]) == 1
    assert "masks of the same kind" in capsys.readouterr().err


def test_a_grey_image_is_not_taken_for_a_mask(tmp_path, capsys):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    tifffile.imwrite(tmp_path / "truth.tif", np.ones((16, 16), np.uint8))
    assert main(["evaluate", str(tmp_path / "grey.tif"), str(tmp_path / "truth.tif")]) == 1
    assert "256 different values" in capsys.readouterr().err


def test_masks_of_zero_and_one_are_of_one_class(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "found.tif", np.ones((2, 2), np.uint8))
    tifffile.imwrite(tmp_path / "truth.tif", np.array([[0, 0], [1, 1]], np.uint8))
    files = [str(tmp_path / "found.tif"), str(tmp_path / "truth.tif")]
    assert main(["evaluate", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["1"]["precision"] == 0.5

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from napari_unet.cli import main
from napari_unet.core import patches
from napari_unet.core.image import image_from_array
from napari_unet.core.losses import border_weights
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import load_model
from tests.cli.conftest import ON_CELLS, ON_CPU, add_pair, answer, complaint, record


def test_train_learns_from_a_folder_and_tells_first_what_it_found(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--validation", "one,stack:1-2").splitlines()

    assert said[0].split() == [
        "image", "sections", "size", "nm/px", "labelled", "background", "foreground",
    ]  # fmt: skip
    rows = [re.split(r" {2,}", line) for line in said[1:]]
    assert [row[:6] for row in rows] == [
        ["learn from", "stack", "1", "48 x 48", "4", "100.0%"],
        ["learn from", "two", "1", "48 x 48", "4", "100.0%"],
        ["judge by", "one", "1", "48 x 48", "4", "100.0%"],
        ["judge by", "stack", "2", "48 x 48", "4", "100.0%"],
    ]
    discs = (read_image("cells/labels/two.tif").data == 2).mean()
    assert rows[1][6:] == [f"{1 - discs:.1%}", f"{discs:.1%}"]
    found = record()
    assert [(each["image"], each["sections"]) for each in found["data"]] == [
        ("stack", 1),
        ("two", 1),
    ]
    assert load_model("new.safetensors").pixel_size == pytest.approx(4)


def test_the_record_of_a_training_holds_the_hashes_of_its_files(cells, capsys):
    answer(capsys, *ON_CELLS)

    assert record()["files"] == {
        name: {
            kind: hashlib.sha256(Path(f"cells/{folder}/{name}.tif").read_bytes()).hexdigest()
            for kind, folder in (("image", "images"), ("labels", "labels"))
        }
        for name in ("one", "two", "stack")
    }


def test_the_record_of_a_training_holds_its_curve(cells, capsys):
    command = [*ON_CELLS, "--validation", "one", "--validate-every", "4"]
    assert main(command) == 0

    said = capsys.readouterr().err.splitlines()
    curve = record()["curve"]
    assert [point["step"] for point in curve] == [4, 6]
    assert all(set(point["validation"]["one"]) == {"background", "foreground"} for point in curve)
    for point, line in zip(curve, said, strict=True):
        step, *figures = re.fullmatch(
            r"step (\d): one: background F1 (\d\.\d{3}), foreground F1 (\d\.\d{3})", line
        ).groups()
        recorded = [each["f1"] for each in point["validation"]["one"].values()]
        assert int(step) == point["step"]
        # The record is rounded to four digits, what is said to three.
        assert [float(each) for each in figures] == pytest.approx(recorded, abs=0.00056)


def test_the_validation_images_can_stand_in_a_file(cells, capsys):
    Path("list.txt").write_text("one.tif\n\n  stack:2\r\n", encoding="utf-8-sig")

    said = answer(capsys, *ON_CELLS, "--validation-list", "list.txt")

    assert re.findall(r"judge by +(\w+) +(\d)", said) == [("one", "1"), ("stack", "1")]


def test_a_share_of_the_sections_can_be_held_out(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--validation-share", "0.1")

    assert re.findall(r"judge by +(\w+) +(\d)", said) == [("two", "1")]


def test_a_folder_of_many_images_is_reported_in_one_line(cells, capsys):
    for number in range(25):
        add_pair("many", f"s{number}", size=32 + number % 3, pixel_size=4.0 + number % 2)
    command = [word.replace("cells", "many") for word in ON_CELLS]

    assert main([*command, "--validation", "s1,s2,s3,s4,s5", "--steps", "1"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 20 + 5 + 1
    assert re.match(r"step 1: mean of 5 images: background F1 0\.\d+, fore", said.err)

    lines = answer(capsys, *command, "--validation-share", "0.01", "--steps", "1").splitlines()
    assert re.split(r" {2,}", lines[1])[:6] == [
        "learn from", "24 images", "24", "32 x 32 to 34 x 34", "4 to 5", "100.0%",
    ]  # fmt: skip
    assert len(lines) == 4


def test_long_names_do_not_disturb_the_report(cells, capsys):
    add_pair("cells", "a" * 90 + "b")

    lines = answer(capsys, *ON_CELLS).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert "aaa...aaa" in lines[1]
    assert "ab  " in lines[1]


def test_images_of_another_pixel_size_are_told_and_resampled(cells, capsys):
    add_pair("cells", "coarse", pixel_size=8.0)
    add_pair("cells", "unknown", pixel_size=None)

    said = answer(capsys, *ON_CELLS)

    sizes = dict(re.findall(r"learn from +(\w+) +\d +\S+ x \S+ +(\S+)", said))
    assert sizes == {"coarse": "8", "one": "4", "stack": "4", "two": "4", "unknown": "?"}
    assert "The network sees 4 nm/px; images of another pixel size are resampled to it." in said
    assert load_model("new.safetensors").pixel_size == pytest.approx(4)
    said = answer(capsys, *ON_CELLS, "--pixel-size", "6")
    assert "resampled" not in said
    assert load_model("new.safetensors").pixel_size == 6


def test_classes_that_nobody_looked_for_are_told(cells, capsys):
    said = answer(capsys, *ON_CELLS, "--classes", "background, disc, hole", "--unlabelled", "hole")

    assert said.splitlines()[0].split()[-3:] == ["background", "disc", "hole"]
    assert said.splitlines()[1].endswith("not labelled")
    assert {tuple(each["unlabelled"]) for each in record()["data"]} == {("hole",)}


def test_images_smaller_than_a_patch_can_be_learnt_from(cells, capsys):
    add_pair("small", "a", size=20)
    command = [word.replace("cells", "small") for word in ON_CELLS]

    answer(capsys, *command, "--patch-size", "64", "--steps", "2")

    assert load_model("new.safetensors").steps == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.ones((48, 40), np.uint8)},
            "cells/labels/bad.tif has the shape (48, 40), its image",
        ),
        ({"labels": np.full((48, 48), 3, np.uint8)}, "name more with --classes"),
        ({"labels": np.full((48, 48), 999, np.uint16)}, "bad.tif holds values from 999 to 999"),
        ({"labels": np.ones((48, 48), np.float32)}, "bad.tif holds values of type float32"),
        ({"grey": np.full((48, 48), 9, np.uint8)}, "'cells/images/bad.tif' is constant"),
    ],
    ids=["shape", "class 3", "objects", "real numbers", "constant"],
)
def test_files_of_a_folder_that_do_not_agree_are_named_and_nothing_is_written(
    cells, capsys, change, message
):
    add_pair("cells", "bad", **change)
    before = sorted(cells.rglob("*"))

    said = complaint(capsys, *ON_CELLS, "--checkpoint", "a.checkpoint")

    assert message in said
    assert said.count("\n") == 1
    assert sorted(cells.rglob("*")) == before


def test_a_file_of_a_folder_that_is_cut_short_or_alone_is_named(cells, capsys):
    path = cells / "cells" / "labels" / "one.tif"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "Cannot read cells/labels/one.tif" in complaint(capsys, *ON_CELLS)

    path.unlink()
    assert "images/one.tif has no labels" in complaint(capsys, *ON_CELLS)


def test_labels_of_one_class_are_refused_with_what_they_should_be(cells, capsys):
    for path in (cells / "cells" / "labels").iterdir():
        write_image(path, image_from_array(np.array(read_image(path).data) - np.uint8(1)))

    said = complaint(capsys, *ON_CELLS)

    assert "Only 'background' is painted" in said
    assert "a mask of one structure holds 0 and 255" in said


def test_an_image_without_annotations_is_left_out_with_a_note(cells, capsys):
    add_pair("cells", "empty", labels=np.zeros((48, 48), np.uint8))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(ON_CELLS) == 0

    said = capsys.readouterr()
    assert "napari-unet: note: Nothing is annotated in cells/labels/empty.tif (all" in said.err
    assert "empty" not in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--validation", "three"], "There is no image 'three' to validate with; there are one,"),
        (["--validation", "one,two,stack"], "Every section is held out"),
        (["--validation", ","], "--validation names no images"),
        (["--validation-list", "gone.txt"], "Cannot read gone.txt"),
        (["--validation-list", "tiny.toml"], "There is no image 'steps = 6'"),
        (["--validation-share", "1"], "--validation-share must lie between 0 and 1; got 1.0"),
        (["--validation-share", "nan"], "--validation-share must lie between 0 and 1; got nan"),
        (["--unlabelled", "background"], "cannot be unlabelled"),
        (["--unlabelled", "nucleus"], "There is no class 'nucleus'"),
        (["--unlabelled", "foreground"], "pixels of 'foreground', which is said to be unlabelled"),
        (["--pixel-size", "-4"], "--pixel-size must lie between 0.001 and 1e+09 nm; got -4.0"),
        (["--pixel-size", "inf"], "--pixel-size must lie between 0.001 and 1e+09 nm; got inf"),
        (["--channel", "1"], "has no channels, so there is no channel 1"),
        (["--data", "cells"], "--data says where the [[data]] of a recipe lies"),
        (["--checkpoint", "new.safetensors"], "cannot both be new.safetensors"),
        (["--checkpoint", "gone/a"], "Cannot write gone/a: there is no folder"),
        (["--checkpoint", "cells"], "Cannot write cells: it is a folder"),
        (["--checkpoint", "image.tif"], "image.tif is no whole checkpoint"),
        (["--checkpoint", "model.safetensors"], "model.safetensors is no checkpoint of this"),
        (["--checkpoint-minutes", "nan"], "--checkpoint-minutes must be a number from 0 on"),
        (["--classes", "background"], "A class table holds 2 to 255 classes; got 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_for_a_folder_that_make_no_sense_are_refused(cells, capsys, options, message):
    before = (cells / "image.tif").read_bytes()

    assert message in complaint(capsys, *ON_CELLS, *options)
    assert not (cells / "new.safetensors").exists()
    assert (cells / "image.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "gone"], "There is no file or folder gone"),
        (["train", "image.tif"], "Say which annotations belong to image.tif"),
        (["train", "image.tif", "gone.tif"], "There is no file gone.tif"),
        (
            ["train", "cells", "painted.tif"],
            "its labels lie in it, so that painted.tif is too much",
        ),
        (["train"], "Say what to learn from"),
        (["train", "--config", "tiny.toml"], "or a recipe with [[data]]"),
        (["train", "--data", "cells"], "it needs --config"),
        (["train", "."], "holds no images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_says_what_it_needs(cells, capsys, words, message):
    for name in ("image.tif", "painted.tif") if words[-1] == "." else ():
        Path(name).unlink()

    assert message in complaint(capsys, *words, "-o", "new.safetensors", *ON_CPU)


def test_border_weights_are_computed_once_for_each_section(cells, capsys, monkeypatch):
    sections = []
    monkeypatch.setattr(
        patches,
        "border_weights",
        lambda cells, *options: sections.append(cells) or border_weights(cells, *options),
    )

    answer(capsys, *ON_CELLS, "--border-weight", "5", "--steps", "8", "--validation", "one")

    assert len(sections) == 4

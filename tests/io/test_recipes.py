import re

import numpy as np
import pytest

from napari_unet.core.annotations import class_table
from napari_unet.core.image import ImageArray, image_from_array
from napari_unet.io.files import FileReadError
from napari_unet.io.images import write_image
from napari_unet.io.models import bundled_models
from napari_unet.io.recipes import DataSet, read_recipe
from tests.examples import bright_discs

CLASSES = class_table(["background", "membrane", "mitochondrion"])


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path)

    return write


@pytest.fixture
def folder(tmp_path):
    """A folder of two stacks of two sections each."""
    for seed, name in enumerate(("one", "two")):
        for kind, data in zip(("images", "labels"), bright_discs(2, 32, seed), strict=True):
            path = tmp_path / "cells" / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, image_from_array(data, name, 4.0))
    return tmp_path


def test_a_recipe_says_what_is_trained_from_what_and_how(recipe):
    found = recipe(
        """
        steps = 7
        classes = ["background", "disc"]
        pixel_size = 4
        [network]
        width = 8
        [augmentation]
        noise = 0.5
        [[data]]
        folder = "a"
        share = 2
        unlabelled = ["disc"]
        pixel_size = 5.5
        validation = ["x:1-2"]
        channel = 1
        [[data]]
        folder = "b"
        validation_share = 0.25
        """
    )

    assert found.training == {"steps": 7, "augmentation": {"noise": 0.5}}
    assert (found.classes, found.pixel_size) == (["background", "disc"], 4)
    assert found.network == {"width": 8}
    assert found.data == (
        DataSet("a", 2, ["disc"], 5.5, ["x:1-2"], channel=1),
        DataSet("b", validation_share=0.25),
    )


def test_a_recipe_may_begin_with_a_model_that_is_widened(recipe):
    found = recipe("model = 'em-lite'\nwiden = 64")

    assert (found.model, found.widen, found.network) == ("em-lite", 64, None)


def test_a_folder_is_called_the_same_however_it_is_written(recipe):
    found = recipe("[[data]]\nfolder = './a/'\n[[data]]\nfolder = '/b/c'")

    assert [each.folder for each in found.data] == ["a", "/b/c"]


def test_an_empty_recipe_leaves_everything_open(recipe):
    found = recipe("")

    assert (found.training, found.network, found.classes, found.data) == ({}, None, None, ())


def test_the_recipes_of_the_bundled_models_can_be_read():
    for each in bundled_models():
        path = each.path.with_suffix(".toml")
        if path.exists():
            found = read_recipe(path)
            assert found.data
            assert found.classes[0] == "background"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "Cannot read the recipe"),
        (
            "speed = 3",
            "the top level has no option 'speed'. Its options are augmentation, averaging,",
        ),
        ("[[dta]]\nfolder = 'a'", "the top level has no option 'dta'. Its options are"),
        ("[augmentation]\ntwist = 3", "[augmentation] has no option 'twist'. Its options are"),
        ("[network]\nsteps = 3", "[network] has no option 'steps'. Its options are depth, dropout"),
        ("[network]\nclasses = 3", "[network] has no option 'classes'"),
        ("[[data]]\nfolder = 'a'\nsize = 3", "[[data]] has no option 'size'. Its options are"),
        ("augmentation = 3", "augmentation must be a table; got 3"),
        ("[[network]]\nwidth = 3", "network must be a table"),
        ("[network]\nwidth = 'wide'", "width must be of type int; got 'wide'"),
        ("steps = -1", "steps must be at least 0"),
        ("[data]\nfolder = 'a'", "data must be tables headed [[data]]"),
        ("data = ['a']", "data must be tables headed [[data]]"),
        ("[[data]]\nshare = 1", "each [[data]] must name its folder; got None"),
        ("[[data]]\nfolder = 3", "each [[data]] must name its folder; got 3"),
        ("[[data]]\nfolder = 'a'\nshare = 0", "share of the [[data]] in 'a' makes no sense: 0"),
        ("[[data]]\nfolder = 'a'\nshare = inf", "share of the [[data]] in 'a'"),
        ("[[data]]\nfolder = 'a'\npixel_size = nan", "pixel_size of the [[data]] in 'a'"),
        ("[[data]]\nfolder = 'a'\nunlabelled = 'b'", "unlabelled of the [[data]] in 'a'"),
        ("[[data]]\nfolder = 'a'\nvalidation = [1]", "validation of the [[data]] in 'a'"),
        ("[[data]]\nfolder = 'a'\nvalidation_share = 1", "validation_share of the [[data]]"),
        ("[[data]]\nfolder = 'a'\nchannel = true", "channel of the [[data]] in 'a'"),
        ("model = 3", "model must be a name or a file; got 3"),
        ("widen = 0", "widen must be a number of channels; got 0"),
        ("widen = true", "widen must be a number of channels; got True"),
        ("model = 'em-lite'\n[network]\nwidth = 3", "[network] makes a new network; leave it out"),
        ("pixel_size = 0", "pixel_size must be a positive number; got 0"),
        ("pixel_size = inf", "pixel_size must be a positive number; got inf"),
        ("pixel_size = 'small'", "pixel_size must be a positive number; got 'small'"),
        ("classes = 'disc'", "classes must be names; got 'disc'"),
        ("classes = []", "A class table holds 2 to 255 classes; got 0"),
        ("classes = ['a', 'a']", "Class names must differ"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_its_name(recipe, tmp_path, text, message):
    with pytest.raises(FileReadError, match=re.escape(message)) as caught:
        recipe(text)

    assert str(tmp_path / "recipe.toml") in str(caught.value)


def test_what_a_recipe_may_hold_is_told_where_something_else_stands(recipe):
    with pytest.raises(FileReadError) as caught:
        recipe("speed = 3")

    assert all(f" {name}" in str(caught.value) for name in ("classes", "data", "network", "steps"))


def test_a_file_that_is_no_text_is_no_recipe(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(FileReadError, match="Cannot read the recipe"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_data_set_keeps_its_share_when_sections_are_held_out(folder):
    learnt, judged, pairs = DataSet(
        "cells", share=0.3, unlabelled=["mitochondrion"], pixel_size=9.0, validation=["two:1"]
    ).read(folder, CLASSES)

    assert [(each.name, len(each.annotations.sections)) for each in learnt] == [
        ("cells/one", 2),
        ("cells/two", 1),
    ]
    assert [each.share for each in learnt] == pytest.approx([0.2, 0.1])
    assert [(each.name, list(each.annotations.sections)) for each in judged] == [
        ("cells/two", [(1,)])
    ]
    assert {each.image.pixel_size for each in learnt + judged} == {9.0}
    assert {each.unlabelled for each in learnt + judged} == {frozenset({3})}
    assert [pair.name for pair in pairs] == ["one", "two"]


def test_a_data_set_can_hold_out_a_share_of_its_sections(folder):
    _, judged, _ = DataSet("cells", validation_share=0.5).read(folder, CLASSES)

    assert [each.name for each in judged] == ["cells/two"]


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileReadError, match=re.escape(f"There is no folder {tmp_path / 'gone'}")):
        DataSet("gone").read(tmp_path, CLASSES)


def test_a_channel_can_be_chosen_in_a_recipe(folder):
    path = folder / "cells" / "images"
    for name in ("one", "two"):
        grey = np.stack([np.zeros((2, 32, 32), np.uint8), bright_discs(2, 32)[0]])
        units = ("", "nm", "nm", "nm")
        image = ImageArray(grey, "CZYX", (1.0, 40.0, 4.0, 4.0), units)
        write_image(path / f"{name}.tif", image)

    learnt, _, _ = DataSet("cells", channel=1).read(folder, CLASSES)

    assert [each.image.shape for each in learnt] == [(2, 32, 32)] * 2
    with pytest.raises(FileReadError, match=r"images/one\.tif' has 2 channels"):
        DataSet("cells").read(folder, CLASSES)

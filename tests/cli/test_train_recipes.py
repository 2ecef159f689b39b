import re
from pathlib import Path

import pytest

from napari_unet.io.models import load_model
from tests.cli.conftest import LIGHT, ON_CPU, TINY, TRAIN, add_pair, answer, complaint, record


def test_options_win_over_the_recipe_and_the_recipe_over_the_defaults(folder, capsys):
    (folder / "recipe.toml").write_text(
        "steps = 50\nlearning_rate = 1\nbatch_size = 1\n[augmentation]\nelastic = 3\nnoise = 0.5\n"
    )

    answer(
        capsys, *TRAIN, "--model", "model.safetensors", "--config", "recipe.toml",
        "--steps", "1", "--noise", "0.25", "--no-mirror",
    )  # fmt: skip

    config = load_model("new.safetensors").history[-1]["config"]
    assert (config["steps"], config["learning_rate"], config["batch_size"]) == (1, 1, 1)
    varied = config["augmentation"]
    assert (varied["elastic"], varied["noise"], varied["mirror"]) == (3, 0.25, False)
    assert varied["scale"] == 0.15


@pytest.mark.parametrize(
    ("begins", "rate"),
    [(["--model", "model.safetensors"], 1e-4), (LIGHT[len(TRAIN) :], 5e-4)],
    ids=["trained", "new"],
)
def test_a_trained_network_learns_in_smaller_steps_than_a_new_one(folder, capsys, begins, rate):
    answer(capsys, *TRAIN, *begins, "--steps", "1")

    assert load_model("new.safetensors").history[-1]["config"]["learning_rate"] == rate


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("steps = ", "Cannot read the recipe recipe.toml"),
        ("speed = 3", "In the recipe recipe.toml, the top level has no option 'speed'. Its"),
        ("[augmentation]\ntwist = 3", "[augmentation] has no option 'twist'"),
        ("augmentation = 3", "augmentation must be a table; got 3"),
        ("batch_size = 'many'", "batch_size must be of type int; got 'many'"),
        ("optimiser = 'luck'", "optimiser must be one of adamw, sgd; got 'luck'"),
        ("momentum = nan", "momentum must be a finite number"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(folder, capsys, recipe, message):
    (folder / "recipe.toml").write_text(recipe)

    assert message in complaint(capsys, *LIGHT, "--config", "recipe.toml")
    assert not (folder / "new.safetensors").exists()


def test_a_missing_recipe_is_named(folder, capsys):
    assert "Cannot read the recipe gone.toml" in complaint(capsys, *LIGHT, "--config", "gone.toml")


DATA = """
[[data]]
folder = "cells"
share = 3
validation = ["one"]
[[data]]
folder = "other"
unlabelled = ["hole"]
"""


@pytest.fixture
def data(cells):
    """A recipe with data that lies beside it, in another folder than the one worked in."""
    add_pair("other", "one")
    Path("recipes").mkdir()
    for name in ("cells", "other"):
        Path(name).rename(Path("recipes", name))
    classes = 'classes = ["background", "disc", "hole"]\npixel_size = 5.0\n'
    Path("recipes", "all.toml").write_text(classes + TINY + DATA)
    return cells


ON_DATA = ["train", "--config", "recipes/all.toml", "-o", "new.safetensors", *ON_CPU]


def shown(said):
    return re.findall(r"(learn from|judge by) +(\S+) +(\d)", said)


def test_a_recipe_says_everything(data, capsys):
    said = answer(capsys, *ON_DATA)

    assert shown(said) == [
        ("learn from", "cells/stack", "3"),
        ("learn from", "cells/two", "1"),
        ("learn from", "other/one", "1"),
        ("judge by", "cells/one", "1"),
    ]
    model = load_model("new.safetensors")
    assert [each.name for each in model.classes] == ["background", "disc", "hole"]
    assert (model.network.config.width, model.pixel_size, model.steps) == (4, 5, 6)
    found = model.history[-1]
    assert [each["share"] for each in found["data"]] == pytest.approx([2.25, 0.75, 1])
    assert [each["unlabelled"] for each in found["data"]] == [[], [], ["hole"]]
    assert set(found["files"]) == {"cells/one", "cells/two", "cells/stack", "other/one"}


def test_the_data_of_a_recipe_may_lie_elsewhere(data, capsys):
    Path("recipes", "all.toml").rename("all.toml")
    command = ["all.toml" if word == "recipes/all.toml" else word for word in ON_DATA]

    assert "There is no folder cells" in complaint(capsys, *command)
    assert "learn from  cells/stack" in answer(capsys, *command, "--data", "recipes")


def test_options_win_over_what_a_recipe_says_of_its_data(data, capsys):
    said = answer(
        capsys, *ON_DATA, "--validation", "other/one,cells/stack:0", "--pixel-size", "10",
        "--unlabelled", "hole", "--classes", "a,b,hole,c",
    )  # fmt: skip

    assert shown(said) == [
        ("learn from", "cells/one", "1"),
        ("learn from", "cells/stack", "2"),
        ("learn from", "cells/two", "1"),
        ("judge by", "cells/stack", "1"),
        ("judge by", "other/one", "1"),
    ]
    found = record()["data"]
    assert {each["pixel_size"] for each in found} == {10}
    assert {tuple(each["unlabelled"]) for each in found} == {("hole",)}
    assert [each.name for each in load_model("new.safetensors").classes] == ["a", "b", "hole", "c"]


def test_a_share_of_every_data_set_of_a_recipe_can_be_held_out(data, capsys):
    add_pair("recipes/other", "two")

    said = answer(capsys, *ON_DATA, "--validation-share", "0.4")

    assert [row for row in shown(said) if row[0] == "judge by"] == [
        ("judge by", "cells/stack", "1"),
        ("judge by", "cells/two", "1"),
        ("judge by", "other/two", "1"),
    ]


def test_an_unknown_image_of_a_recipe_is_told_with_its_folders(data, capsys):
    said = complaint(capsys, *ON_DATA, "--validation", "one")

    assert "write FOLDER/NAME with a folder of the recipe: cells, other" in said


def test_a_folder_on_the_command_line_wins_over_the_data_of_a_recipe(data, capsys):
    said = answer(capsys, *ON_DATA, "recipes/other")

    assert shown(said) == [("learn from", "one", "1")]


def test_a_model_wins_over_the_network_of_a_recipe_and_keeps_its_classes(data, capsys):
    before = load_model("model.safetensors")

    answer(capsys, *ON_DATA, "--model", "model.safetensors", "--steps", "1")

    found = load_model("new.safetensors")
    assert found.network.config == before.network.config
    assert [each.name for each in found.classes] == ["background", "disc", "hole"]
    assert found.pixel_size == 5


def test_a_recipe_widens_the_model_it_begins_with(data, capsys):
    before = load_model("model.safetensors")
    width = 2 * before.network.config.width
    recipe = Path("recipes", "all.toml")
    text = recipe.read_text().replace("[network]\ndepth = 2\nwidth = 4\ndropout = 0.2\n", "")
    recipe.write_text(f"model = 'model.safetensors'\nwiden = {width}\n{text}")

    answer(capsys, *ON_DATA, "--steps", "1")

    found = load_model("new.safetensors")
    assert found.network.config == before.network.config.replace(width=width)
    assert found.history[-1]["began_with"] == {
        "model": before.name,
        "steps": before.steps,
        "width": before.network.config.width,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "new", "--widen", "8"], "--widen goes with a model that has learnt"),
        (["--model", "model.safetensors", "--widen", "1"], "cannot be widened to 1"),
    ],
)
def test_what_cannot_be_widened_is_refused(folder, capsys, options, message):
    assert message in complaint(capsys, *TRAIN, *options)


def test_a_preset_is_what_a_recipe_changes(data, capsys):
    answer(capsys, *ON_DATA, "--preset", "original", "--steps", "1")

    found = load_model("new.safetensors")
    assert (found.network.config.padding, found.network.config.width) == ("valid", 4)
    config = found.history[-1]["config"]
    assert (config["optimiser"], config["border_weight"]) == ("sgd", 10)
    assert (config["patch_size"], config["learning_rate"]) == (32, 0.005)

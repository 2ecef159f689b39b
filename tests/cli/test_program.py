import subprocess
import sys

import pytest

from napari_unet.cli import main
from napari_unet.io.images import read_image
from tests.cli.conftest import LIGHT, PREDICT, PROGRAM_ENVIRONMENT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*LIGHT, "--minutes", "1"], "not allowed with argument"),
        (["train", "image.tif"], "the following arguments are required"),
        (["predict", "image.tif"], "the following arguments are required: -o"),
        ([*PREDICT, "--device", "abacus"], "invalid choice: 'abacus'"),
        ([*LIGHT, "--optimiser", "luck"], "invalid choice: 'luck'"),
        ([*LIGHT, "--validation", "a", "--validation-share", "0.1"], "not allowed with argument"),
        ([*PREDICT, "--test-time-augmentation", "luck"], "invalid choice: 'luck'"),
        ([*PREDICT, "--pixel-size", "small"], "invalid float value: 'small'"),
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
    ids=[
        "steps and minutes",
        "train",
        "predict",
        "device",
        "choice",
        "two splits",
        "augmentation",
        "pixel size",
        "nothing",
        "command",
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(folder, capsys, words, message):
    with pytest.raises(SystemExit) as end:
        main(words)

    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[], ["open"], ["predict"], ["train"], ["evaluate"], ["models"], ["info"]]
)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])

    assert end.value.code == 0
    assert "usage: napari-unet" in capsys.readouterr().out


def program(folder, *arguments):
    """A run of the command line as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "napari_unet.cli", *arguments],
        cwd=folder,
        env=PROGRAM_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_that_did_what_was_asked_ends_with_0_and_shows_no_progress_bar(folder):
    done = program(folder, *PREDICT)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read_image("mask.tif").shape == (3, 48, 48)


def test_a_program_that_failed_ends_with_another_status_and_one_line(folder):
    done = program(folder, "info", "gone.tif")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "napari-unet: There is no file gone.tif.\n"

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaozarrs
import zarr

from napari_unet.cli import main
from napari_unet.core.blocks import Finding, block_height, plan_blocks, predict_block
from napari_unet.core.config import PredictionConfig
from napari_unet.core.image import image_from_array
from napari_unet.core.prediction import finish, gather, known_statistics, predict
from napari_unet.io.files import FileWriteError
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import save_model
from napari_unet.io.prediction_store import JOURNAL
from tests.conftest import REPOSITORY
from tests.examples import noise_image, short_of_memory, tiny_model, with_lived_in_statistics


@pytest.fixture
def folder(tmp_path):
    """A folder with an image ``em.zarr`` and a model."""
    write_image(tmp_path / "em.zarr", noise_image(4, 150, 100).with_pixel_size(4.0))
    save_model(tmp_path / "model.safetensors", with_lived_in_statistics(tiny_model()))
    return tmp_path


def command(folder, output="out.zarr", *options):
    model = ["--model", str(folder / "model.safetensors"), "--device", "cpu"]
    names = [str(folder / "em.zarr"), "-o", str(folder / output)]
    return ["predict", *names, *model, "--tile-size", "32", *options]


def values(path):
    return np.asarray(read_image(path).data)


@pytest.mark.parametrize(
    "options",
    [(), ("--class", "disc"), ("--probabilities",), ("--probabilities", "--class", "disc")],
)
def test_a_store_holds_bit_for_bit_what_is_predicted_in_memory(folder, options):
    assert main(command(folder, "out.tif", *options)) == 0
    assert main(command(folder, "out.zarr", *options)) == 0

    found, expected = read_image(folder / "out.zarr"), read_image(folder / "out.tif")
    assert np.array_equal(values(folder / "out.zarr"), np.asarray(expected.data))
    assert (found.axes, found.units) == (
        expected.axes,
        ("",) * ("C" in found.axes) + found.units[-3:],
    )
    assert found.scale[-2:] == (4.0, 4.0)
    assert not (folder / "out.zarr" / JOURNAL).exists()
    yaozarrs.validate_zarr_store(str(folder / "out.zarr"))


def test_chunks_are_tiles_and_class_names_are_told(folder):
    main(command(folder))

    store = zarr.open_group(folder / "out.zarr")
    assert store["0"].chunks == (1, 32, 32)
    told = store.attrs["ome"]["image-label"]["properties"]
    assert [each["name"] for each in told] == ["background", "disc"]


def run(arguments, **settings):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "napari_unet.cli", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def finished_lines(store):
    try:
        return (store / JOURNAL).read_text().count("\n")
    except OSError:
        return 0


def killed_in_the_middle(folder, *options):
    """Start a prediction and kill it as soon as some blocks are finished; return how many."""
    process = run(command(folder, "out.zarr", *options))
    while finished_lines(folder / "out.zarr") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return finished_lines(folder / "out.zarr")


def test_a_killed_prediction_goes_on_and_ends_bit_for_bit_the_same(folder, capsys):
    save_model(folder / "model.safetensors", with_lived_in_statistics(tiny_model(width=32)))
    main(command(folder, "whole.zarr"))
    done = killed_in_the_middle(folder)
    total = 4 * 5
    assert 3 <= done < total
    before = {
        path: path.stat().st_mtime_ns
        for path in (folder / "out.zarr/0/c/0/0").rglob("*")
        if path.is_file()
    }

    assert main(command(folder)) == 0

    assert f"{done} of {total} blocks are finished" in capsys.readouterr().out
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "whole.zarr"))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not predicted again
    assert not list((folder / "out.zarr").rglob("*.partial"))
    assert not (folder / "out.zarr" / JOURNAL).exists()
    whole, resumed = (folder / name / "zarr.json" for name in ("whole.zarr", "out.zarr"))
    assert json.loads(whole.read_text()) == json.loads(resumed.read_text())


def interrupted(folder, monkeypatch, blocks=3):
    """Leave a prediction that stopped after some blocks."""
    from napari_unet.io.prediction_store import PredictionStore

    remember = PredictionStore.call_finished
    count = iter(range(blocks))

    def stop_in_time(store, block):
        if next(count, None) is None:
            raise KeyboardInterrupt
        remember(store, block)

    with monkeypatch.context() as changed:
        changed.setattr(PredictionStore, "call_finished", stop_in_time)
        assert main(command(folder)) == 130


def test_blocks_that_are_written_but_not_called_finished_are_predicted_again(folder, monkeypatch):
    interrupted(folder, monkeypatch)
    main(command(folder, "whole.zarr"))
    array = zarr.open_array(folder / "out.zarr/0")
    array[0, 96:128] = 77  # the fourth block: it was not called finished

    assert main(command(folder)) == 0

    assert np.array_equal(values(folder / "out.zarr"), values(folder / "whole.zarr"))


def test_a_line_of_the_journal_that_was_cut_short_does_not_count(folder, monkeypatch, capsys):
    interrupted(folder, monkeypatch)
    main(command(folder, "whole.zarr"))
    with (folder / "out.zarr" / JOURNAL).open("a") as file:
        file.write("[[0], 96, 12")

    assert main(command(folder)) == 0

    assert "3 of 20 blocks are finished" in capsys.readouterr().out
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "whole.zarr"))


def test_another_model_is_refused(folder, monkeypatch, capsys):
    interrupted(folder, monkeypatch)
    save_model(folder / "model.safetensors", tiny_model(seed=5))

    assert main(command(folder)) == 1

    said = capsys.readouterr().err
    assert "out.zarr is a prediction begun with another model." in said
    assert "--overwrite" in said
    assert main(command(folder, "out.zarr", "--overwrite")) == 0
    main(command(folder, "out.tif"))
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "out.tif"))


@pytest.mark.parametrize(
    "option", [("--probabilities",), ("--class", "disc"), ("--test-time-augmentation", "rotations")]
)
def test_other_options_are_refused(folder, monkeypatch, capsys, option):
    interrupted(folder, monkeypatch)

    assert main(command(folder, "out.zarr", *option)) == 1

    assert "begun with another options" in capsys.readouterr().err


def test_another_image_is_refused_but_a_moved_one_is_not(folder, monkeypatch, capsys):
    interrupted(folder, monkeypatch)
    (folder / "em.zarr").rename(folder / "moved.zarr")
    write_image(folder / "em.zarr", noise_image(4, 150, 100, seed=1).with_pixel_size(4.0))
    assert main(command(folder)) == 1
    assert "begun with another image" in capsys.readouterr().err

    shutil.rmtree(folder / "em.zarr")
    (folder / "moved.zarr").rename(folder / "em.zarr")
    assert main(command(folder)) == 0


def test_a_finished_prediction_is_not_made_again(folder, capsys):
    main(command(folder))
    before = (folder / "out.zarr/zarr.json").stat().st_mtime_ns

    assert main(command(folder)) == 0

    assert "is finished already" in capsys.readouterr().out
    assert (folder / "out.zarr/zarr.json").stat().st_mtime_ns == before


def test_other_stores_and_folders_are_left_alone(folder, capsys):
    write_image(folder / "out.zarr", noise_image(2, 20, 20))
    assert main(command(folder)) == 1
    assert "is there already, and no prediction that could go on" in capsys.readouterr().err

    (folder / "notes.zarr").mkdir()
    (folder / "notes.zarr/thesis.txt").write_text("precious")
    assert main(command(folder, "notes.zarr", "--overwrite")) == 1
    assert "folder of other files" in capsys.readouterr().err
    assert (folder / "notes.zarr/thesis.txt").read_text() == "precious"

    assert main(command(folder, "em.zarr", "--overwrite")) == 1
    assert "the image itself is read from there" in capsys.readouterr().err


def test_a_store_whose_array_is_gone_cannot_go_on(folder, capsys):
    assert main(command(folder)) == 0
    shutil.rmtree(folder / "out.zarr/0")

    assert main(command(folder)) == 1
    assert "no prediction that could go on" in capsys.readouterr().err
    assert main(command(folder, "out.zarr", "--overwrite")) == 0


def test_labels_need_a_group_around_them(folder, capsys):
    zarr.create_array(folder / "plain.zarr", shape=(2, 3), dtype="u1")

    assert main(command(folder, "plain.zarr/labels/discs")) == 1
    assert "plain.zarr: it is no OME-Zarr 0.5" in capsys.readouterr().err


def test_a_prediction_goes_among_the_labels_of_its_image(folder):
    assert main(command(folder, "em.zarr/labels/discs")) == 0

    main(command(folder, "out.tif"))
    assert np.array_equal(values(folder / "em.zarr/labels/discs"), values(folder / "out.tif"))
    labels = zarr.open_group(folder / "em.zarr/labels")
    assert labels.attrs["ome"]["labels"] == ["discs"]
    assert np.array_equal(values(folder / "em.zarr"), noise_image(4, 150, 100).data)
    yaozarrs.validate_zarr_store(str(folder / "em.zarr"))


@pytest.mark.filterwarnings("ignore:Not enough memory")
def test_where_memory_runs_out_blocks_are_whole_all_the_same():
    model = with_lived_in_statistics(tiny_model())
    image, config = noise_image(1, 300, 300), PredictionConfig(tile_size=212)
    statistics = known_statistics(image)
    expected = finish(gather(predict(model, image, config), image, 2))
    short = short_of_memory(model, 50_000)  # tiles of 104 pixels fit, which do not end with a block

    for block in plan_blocks(image, block_height(model, config)):
        work = predict_block(short, image, block, Finding(), config, statistics=statistics)
        found = finish(work)
        assert np.array_equal(found, expected.data[block.section][block.rows])


def test_images_of_one_section_and_of_time_are_predicted_in_blocks(folder):
    for shape in ((50, 40), (2, 3, 50, 40)):
        write_image(folder / "em.zarr", image_from_array(noise_image(*shape).data))
        main(command(folder, "out.tif"))
        assert main(command(folder, "out.zarr", "--overwrite")) == 0
        assert np.array_equal(values(folder / "out.zarr"), values(folder / "out.tif"))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes")
def test_a_full_disk_stops_a_prediction_that_goes_on_later(folder, monkeypatch):
    interrupted(folder, monkeypatch)
    program = """
import resource, signal, sys
from napari_unet.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
sys.exit(main(sys.argv[1:]))
"""
    told = subprocess.run(
        [sys.executable, "-c", program, *command(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 1
    assert "What is finished stays there; the same command goes on with it" in told.stderr
    main(command(folder, "whole.zarr"))
    assert main(command(folder)) == 0
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "whole.zarr"))


def test_of_two_processes_that_write_a_store_the_second_is_refused(folder, capsys):
    save_model(folder / "model.safetensors", with_lived_in_statistics(tiny_model(width=32)))
    first = run(command(folder))
    while finished_lines(folder / "out.zarr") < 1:
        assert first.poll() is None, first.communicate()
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)  # so that it is still at it
    try:
        assert main(command(folder)) == 1
        said = capsys.readouterr().err
        assert f"out.zarr is being written by process {first.pid} on" in said
        assert "Wait until it has finished" in said
        assert main(command(folder, "out.zarr", "--overwrite")) == 1
        with pytest.raises(FileWriteError, match="is being written by process"):
            write_image(folder / "out.zarr", noise_image(2, 20, 20))
        assert main(command(folder, "other.zarr")) == 0
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.communicate()[1] is not None
    assert first.returncode == 0
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "other.zarr"))
    names = {path.name for path in folder.iterdir()}
    assert names == {"em.zarr", "model.safetensors", "other.zarr", "out.zarr"}


def test_the_lock_of_a_killed_process_is_taken_over(folder):
    save_model(folder / "model.safetensors", with_lived_in_statistics(tiny_model(width=32)))
    killed_in_the_middle(folder)
    assert (folder / ".out.zarr.lock").exists()

    assert main(command(folder)) == 0

    assert not list(folder.glob(".out.zarr*"))


def test_the_labels_of_an_image_have_a_lock_of_their_own(folder):
    from napari_unet.io.ome_zarr import write_lock

    lock = write_lock(folder / "em.zarr/labels/discs")
    try:
        assert main(command(folder, "em.zarr/labels/discs")) == 1
        assert main(command(folder, "em.zarr/labels/others")) == 0
    finally:
        lock.give_back()
    assert main(command(folder, "em.zarr/labels/discs")) == 0

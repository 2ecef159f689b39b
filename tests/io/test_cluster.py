import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from napari_unet.cli import main
from napari_unet.io.images import read_image, write_image
from napari_unet.io.models import save_model
from tests.conftest import REPOSITORY
from tests.examples import noise_image, tiny_model, with_lived_in_statistics
from tests.io.test_prediction_store import command, finished_lines, run, values

pytest.importorskip("distributed", reason="needs the extra 'cluster'")

# Several processes are started for each test, which takes long on a machine that is busy.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(tmp_path):
    """A folder with an image of 60 blocks and a model that is not too quick."""
    write_image(tmp_path / "em.zarr", noise_image(6, 300, 200).with_pixel_size(4.0))
    save_model(tmp_path / "model.safetensors", with_lived_in_statistics(tiny_model(width=16)))
    return tmp_path


@pytest.fixture
def scheduler(tmp_path):
    """The address of a Dask scheduler on this machine, and two workers of it."""
    started = []

    def start(program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    note = tmp_path / "scheduler.json"
    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
          "--scheduler-file", str(note))  # fmt: skip
    while not note.exists():
        time.sleep(0.05)
    workers = [
        start("dask_worker", "--scheduler-file", str(note), "--no-nanny", "--nthreads", "1",
              "--no-dashboard", "--local-directory", str(tmp_path / f"worker{number}"))
        for number in range(2)
    ]  # fmt: skip
    yield json.loads(note.read_text())["address"], workers
    for process in reversed(started):
        process.terminate()
        process.wait(20)


def test_a_lost_worker_does_not_change_a_bit(folder, scheduler):
    address, workers = scheduler
    main(command(folder, "whole.zarr"))
    process = run(command(folder, "out.zarr", "--cluster", address))
    while finished_lines(folder / "out.zarr") < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    workers[0].send_signal(signal.SIGKILL)
    left = 60 - finished_lines(folder / "out.zarr")

    told = process.communicate(timeout=500)

    assert process.returncode == 0, told
    assert left > 0
    assert np.array_equal(values(folder / "out.zarr"), values(folder / "whole.zarr"))


def test_workers_of_this_machine_do_the_same(folder):
    options = ("--probabilities", "--workers", "2")
    main(command(folder, "out.tif", "--probabilities"))

    assert run(command(folder, "out.zarr", *options)).wait(500) == 0

    found = np.asarray(read_image(folder / "out.tif").data)
    assert np.array_equal(values(folder / "out.zarr"), found)


def test_what_workers_cannot_reach_is_told(folder, scheduler, monkeypatch, capsys):
    from napari_unet.io import cluster

    address, _ = scheduler
    errand = cluster.Errand

    def elsewhere(**settings):
        return errand(**{**settings, "image": str(folder / "not-mounted.zarr")})

    monkeypatch.setattr(cluster, "Errand", elsewhere)

    assert main(command(folder, "out.zarr", "--cluster", address)) == 1

    assert "There is no file or folder" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_named(folder, monkeypatch, capsys):
    monkeypatch.setattr("napari_unet.io.cluster.PATIENCE", 1)

    assert main(command(folder, "out.zarr", "--cluster", "tcp://127.0.0.1:1")) == 1

    assert "The Dask scheduler tcp://127.0.0.1:1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "options", "reason"),
    [
        ("out.tif", ("--workers", "2"), "go with an output that ends with .zarr"),
        ("out.zarr", ("--workers", "0"), "--workers must be at least 1"),
    ],
)
def test_workers_that_make_no_sense_are_refused(folder, capsys, output, options, reason):
    assert main(command(folder, output, *options)) == 1

    assert reason in capsys.readouterr().err

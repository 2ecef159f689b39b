import threading
import time
import warnings
from collections.abc import Iterator

import pytest
import torch
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool

from demo.mouse import wait_until
from napari_unet.core.network import stoppable
from napari_unet.core.notices import tell
from napari_unet.plugin.jobs import Job
from tests.examples import tiny_model


@pytest.fixture
def one_processor(qapp) -> Iterator[QThreadPool]:
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    yield pool
    pool.setMaxThreadCount(before)


def test_no_job_waits_for_the_end_of_another_on_one_processor(one_processor: QThreadPool) -> None:
    meeting = threading.Barrier(3, timeout=20)
    met: list[int] = []

    def work(should_stop):
        yield from ()
        return meeting.wait()

    jobs = [Job(f"Meet {number}", work) for number in range(3)]
    for job in jobs:
        job.returned.connect(met.append)
        job.start()

    wait_until(lambda: len(met) == 3, 30, "three jobs at once")

    assert sorted(met) == [0, 1, 2]
    wait_until(lambda: one_processor.activeThreadCount() == 0, 10, "the pool as it was")


def test_the_clock_of_a_job_stands_still_while_it_is_paused(qapp) -> None:
    readings: list[tuple[float, float]] = []

    def work(should_stop):
        while not should_stop():
            readings.append((time.monotonic(), job.clock()))
            yield
            time.sleep(0.01)

    job = Job("Tell the time", work)
    paused: list[bool] = []
    job.paused.connect(lambda: paused.append(True))
    job.start()
    wait_until(lambda: len(readings) > 2, 20, "the first readings")
    job.pause()
    wait_until(lambda: bool(paused), 20, "the pause")
    count, until = len(readings), time.monotonic() + 1
    wait_until(lambda: time.monotonic() > until, 5, "a second")
    assert len(readings) == count
    job.resume()
    wait_until(lambda: len(readings) > count + 2, 20, "the next readings")
    job.stop()

    (there, before), (later, after) = readings[0], readings[-1]
    assert 0 < after - before < later - there - 0.9
    assert job.wait(20)


def test_a_job_that_asks_whether_to_stop_waits_there_while_it_is_paused(qapp) -> None:
    steps: list[int] = []

    def work(should_stop):
        yield from ()
        while not should_stop():  # long work between two values
            steps.append(len(steps))
            time.sleep(0.01)
        return "stopped"

    job = Job("Ask again and again", work)
    told: list[str] = []
    job.paused.connect(lambda: told.append("paused"))
    job.resumed.connect(lambda: told.append("resumed"))
    job.returned.connect(told.append)
    job.start()
    wait_until(lambda: len(steps) > 2, 20, "the first steps")
    job.pause()
    wait_until(lambda: told == ["paused"], 20, "the pause")
    count, until = len(steps), time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > until, 5, "half a second")
    assert len(steps) == count
    job.resume()
    wait_until(lambda: len(steps) > count + 2, 20, "the next steps")
    job.pause()
    wait_until(lambda: told == ["paused", "resumed", "paused"], 20, "the second pause")
    job.stop()
    wait_until(lambda: told[-1] == "stopped", 20, "the end, in spite of the pause")
    job.pause()
    assert job.wait(20)


@pytest.mark.parametrize("asked_for", [2, 12], ids=["forwards", "backwards"])
def test_a_job_waits_in_the_middle_of_a_pass_through_a_network(qapp, asked_for: int) -> None:
    network = tiny_model(depth=3).network
    asked: list[int] = []

    def work(should_stop):
        yield from ()

        def ask() -> bool:
            asked.append(len(asked) + 1)
            if asked[-1] == asked_for:
                job.pause()
            return should_stop()

        with stoppable(ask):
            network(torch.ones(1, 1, 32, 32)).sum().backward()
        return "passed"

    job = Job("Pass", work)
    told: list[str] = []
    job.paused.connect(lambda: told.append("paused"))
    job.returned.connect(told.append)
    job.start()
    wait_until(lambda: told == ["paused"], 20, "the pause")
    assert asked[-1] == asked_for
    job.resume()
    wait_until(lambda: told == ["paused", "passed"], 20, "the end of the pass")
    assert len(asked) == 2 * (2 * 3 + 1)
    assert job.wait(20)


def test_what_a_job_tells_reaches_the_window_after_an_earlier_job_has_ended(
    one_processor: QThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda *told: None)  # as outside of napari
    notification_manager.records.clear()
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def short(should_stop):
        yield from ()
        begun.set()
        goes_on.wait(20)

    def long(should_stop):
        yield "begun"
        ended.wait(20)
        tell("Not enough memory")
        yield "told"

    first, second = Job("Begins first", short), Job("Goes on longer", long)
    seen: list[str] = []
    done: list[bool] = []
    second.yielded.connect(seen.append)
    first.finished.connect(ended.set)
    second.finished.connect(lambda: done.append(True))
    first.start()
    assert begun.wait(20)
    second.start()
    wait_until(lambda: bool(seen), 20, "both to have begun")
    goes_on.set()
    wait_until(lambda: bool(done), 20, "the end")
    told = [(str(each.severity), each.message) for each in notification_manager.records]
    assert told == [("warning", "Not enough memory")]

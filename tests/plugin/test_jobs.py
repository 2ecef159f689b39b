import threading
from collections.abc import Iterator

import pytest
from qtpy.QtCore import QThreadPool

from demo.mouse import wait_until
from napari_unet.plugin.jobs import Job


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

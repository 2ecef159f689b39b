"""Long work in a thread: a generator that can be stopped, and whose errors a person can read."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEventLoop, QObject, Qt, QThreadPool, Signal

from napari_unet.core.notices import listening
from napari_unet.io.extras import MissingLibraryError
from napari_unet.io.files import FileReadError, FileWriteError

logger = logging.getLogger(__name__)

Work = Generator[Any, Any, Any]

EXPECTED = (
    ValueError,
    MemoryError,
    OSError,
    FileReadError,
    FileWriteError,
    MissingLibraryError,
)
"""Errors whose message says what a person can do; they are shown without a traceback."""

BEHIND = 10
"""Priority ("nice") of threads that must not keep the user waiting."""

QUIET_SECONDS = 0.05
"""Values that come quicker than this are not all brought to the main thread."""


class Job(QObject):
    """A generator that runs in a worker thread of napari.

    Parameters
    ----------
    title
        What the activity dock calls it.
    work
        Called in the thread with a function that says whether to stop; returns the generator.
        A paused job waits where it asks, and where it yields.
    important
        Says of a yielded value whether it must reach the main thread however quickly it comes.
    parent
        Qt parent.
    """

    yielded = Signal(object)
    returned = Signal(object)
    """The generator's result; not emitted after an error."""
    failed = Signal(str)
    finished = Signal()
    paused = Signal()
    resumed = Signal()

    def __init__(
        self,
        title: str,
        work: Callable[[Callable[[], bool]], Work],
        *,
        important: Callable[[Any], bool] = lambda value: True,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.title = title
        self._work = work
        self._important = important
        self._stop = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._done = threading.Event()
        self._news: deque[Any] = deque(maxlen=1)
        self._problem: Exception | None = None
        self._paused_seconds = 0.0
        self._worker = create_worker(self._run, _progress={"desc": title})
        # napari means its workers to tell of warnings and errors, but as of 0.9 they do not.
        self._worker.warned.connect(lambda told: notification_manager.receive_warning(*told))
        self._worker.yielded.connect(self.yielded)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        # In the worker's thread: it must be heard also when the main thread waits for it, or
        # when the window, and this object with it, has gone.
        for heard in (self._done.set, QThreadPool.globalInstance().reserveThread):
            self._worker.finished.connect(heard, Qt.ConnectionType.DirectConnection)
        self._worker.paused.connect(self.paused)
        self._worker.resumed.connect(self.resumed)

    def start(self) -> None:
        # Workers share a pool of as many threads as there are processors. A long job must not
        # keep another one waiting for its end, so each brings a place of its own.
        QThreadPool.globalInstance().releaseThread()
        self._worker.start()

    def send(self, news: Any) -> None:
        """Send news into the generator, at its next yield; only the latest counts."""
        # Not worker.send: a generator that has not begun yet cannot take a value.
        self._news.append(news)

    def pause(self) -> None:
        if not self.stopping:
            self._may_go_on.clear()

    def resume(self) -> None:
        self._may_go_on.set()

    def clock(self) -> float:
        """Return seconds that go by while the work does; they stand still while it is paused."""
        return time.monotonic() - self._paused_seconds

    def stop(self) -> None:
        """Ask the work to end with what it has; a paused one goes on for that."""
        self._stop.set()
        self.resume()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until the thread has ended, at most so many seconds; tell whether it has."""
        return self._done.wait(seconds)

    def show_progress(self, fraction: float) -> None:
        """Show in the activity dock how far the work has come, from 0 to 1."""
        bar = self._worker.pbar
        if bar.total != 100:
            bar.total = 100
        bar.update(max(0, int(100 * fraction) - bar.n))

    def _run(self) -> Work:
        step_back()
        with listening(self._on_told):
            return (yield from self._worked())

    def _is_to_stop(self) -> bool:
        self._wait_while_paused()
        return self.stopping

    def _wait_while_paused(self) -> None:
        # Not napari's own pause, which comes about only where the work yields.
        if self._may_go_on.is_set():
            return
        began = time.monotonic()
        self._worker.paused.emit()
        self._may_go_on.wait()
        self._paused_seconds += time.monotonic() - began
        self._worker.resumed.emit()

    def _worked(self) -> Work:
        work = self._work(self._is_to_stop)
        shown = 0.0
        try:
            value = next(work)
            while True:
                now = time.monotonic()
                if self._important(value) or now - shown >= QUIET_SECONDS:
                    shown = now
                    yield value
                self._wait_while_paused()
                value = work.send(self._news.pop() if self._news else None)
        except StopIteration as end:
            return end.value
        except Exception as error:  # noqa: BLE001 - it is told in the main thread
            self._problem = error

    def _on_told(self, message: str) -> None:
        self._worker.warned.emit((UserWarning(message), UserWarning, __file__, 0))

    def _on_returned(self, result: Any) -> None:
        problem = self._problem
        if problem is None:
            self.returned.emit(result)
            return
        self.failed.emit(tell_of(problem, self.title))

    def _on_finished(self) -> None:
        self.finished.emit()
        self.deleteLater()


def step_back() -> None:
    """Let the window, and what answers its user, go before this thread.

    So do the threads that PyTorch starts for it. Only Linux has priorities of threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        priority = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, max(priority, BEHIND))


def tell_of(problem: BaseException, what: str) -> str:
    """Show an error to the user, and return its message."""
    message = str(problem) or type(problem).__name__
    if isinstance(problem, EXPECTED):
        logger.info("%s failed", what, exc_info=problem)
        show_error(message)
    else:  # a mistake of ours: napari offers its traceback
        notification_manager.receive_error(type(problem), problem, problem.__traceback__)
    return message


def awaited(title: str, function: Callable[[], Any]) -> Any:
    """Return what a function returns, computed in a thread while the window goes on living.

    Where an error has a message for people, it is shown and the result is None.
    """
    results: list[Any] = []
    loop = QEventLoop()
    job = Job(title, call(function))
    job.returned.connect(results.append)
    job.finished.connect(loop.quit)
    job.start()
    loop.exec_()
    return results[0] if results else None


def call(function: Callable[[], Any]) -> Callable[[Callable[[], bool]], Work]:
    """Return work that calls a plain function once."""

    def work(should_stop: Callable[[], bool]) -> Work:
        yield from ()
        return function()

    return work

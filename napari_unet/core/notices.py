"""What must be said in the middle of long work, such as that memory ran short."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def tell(message: str, stacklevel: int = 1) -> None:
    """Say something to whoever listens in this thread, or warn where nobody does.

    Python hands all warnings of a process to one function, which threads that run at the same time
    take from each other; so those of a thread could be lost.

    Parameters
    ----------
    message
        What happened, and what is done about it.
    stacklevel
        As in `warnings.warn`, from the caller on.
    """
    listener = _listener.get()
    if listener is None:
        warnings.warn(message, stacklevel=stacklevel + 1)
    else:
        listener(message)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Let a function hear what is told in this thread meanwhile."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator that was dropped may end in another thread
            _listener.reset(token)

"""Locks of what only one process may write to; they end with the process, however that ends."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

import filelock


class InUseError(Exception):
    """Another process has the lock; the message says which, to follow "by" or "in"."""


class Lock:
    """The operating system's lock on a file, and a note beside it of who has it.

    Parameters
    ----------
    file
        What is locked; it is made.
    note
        Where it is noted who has the lock. It may outlast a process that was killed, and then
        means nothing.
    keep
        Whether the file is left when the lock is given back.
    """

    def __init__(self, file: Path, note: Path, *, keep: bool = True) -> None:
        self._file = file
        self._note = note
        self._keep = keep
        # It is the process that has it: another thread may give it back.
        self._lock = filelock.FileLock(file, thread_local=False)

    def take(self) -> Self:
        """Take the lock, or complain at once.

        Raises
        ------
        InUseError
            If another process has it.
        OSError
            If the file cannot be made.
        """
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            try:
                who = self._note.read_text("utf-8")
            except OSError:
                who = ""
            raise InUseError(who or "another process") from None
        # Whoever comes next is told less where the disk is full; the lock holds all the same.
        with suppress(OSError):
            self._note.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        return self

    def give_back(self) -> None:
        """Let others take the lock."""
        self._note.unlink(missing_ok=True)
        if not self._keep and self._lock.is_locked:
            self._file.unlink(missing_ok=True)  # before it is free: later it may be another's
        self._lock.release()


def beside(path: Path) -> Lock:
    """Return the lock of a file or folder that is replaced as a whole, so that it lies beside."""
    return Lock(
        path.with_name(f".{path.name}.lock"), path.with_name(f".{path.name}.writer"), keep=False
    )

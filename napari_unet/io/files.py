"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# It can only be read by setting it, which is no business of a thread later on.
_UMASK = os.umask(0)
os.umask(_UMASK)


class FileReadError(Exception):
    """A file that cannot be read; the message says which, why and what to do."""


class FileWriteError(Exception):
    """A file that could not be written; what was there before is still there."""


class CodeNotTrustedError(FileReadError):
    """A file whose code would have to be run to use it, which nobody has agreed to."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, and move it to `path` when all went well.

    Raises
    ------
    FileWriteError
        If the folder is not there, or writing fails (disk full, no permission). The temporary
        file is removed and a file that was at `path` before is untouched.
    """
    if not path.parent.is_dir():
        raise FileWriteError(f"Cannot write {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise FileWriteError(f"Cannot write {path}: it is a folder.")
    kept = " The file that was there before is unchanged." if path.exists() else ""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        temporary = Path(name)
        os.close(handle)
        # Made for the owner alone; the finished file gets what a new file would get here.
        temporary.chmod(0o666 & ~_UMASK)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileWriteError(f"Cannot write {path}: {reason}.{kept}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)

"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import shutil
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


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give the name of a new folder to fill, and move it to `path` when all went well.

    Raises
    ------
    FileWriteError
        If the folder around is not there, or writing fails (disk full, no permission). What was
        written is removed, and what was at `path` before is untouched.
    """
    if not path.parent.is_dir():
        raise FileWriteError(f"Cannot write {path}: there is no folder {path.parent}.")
    kept = " What was there before is unchanged." if path.exists() else ""
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        temporary.chmod(0o777 & ~_UMASK)
        filled = temporary / path.name
        yield filled
        if path.is_dir() and not path.is_symlink():
            # Folders cannot be exchanged in one step; the old one steps aside and back.
            aside = temporary / "old"
            path.replace(aside)
            try:
                filled.replace(path)
            except OSError:
                aside.replace(path)
                raise
        else:
            path.unlink(missing_ok=True)
            filled.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileWriteError(f"Cannot write {path}: {reason}.{kept}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

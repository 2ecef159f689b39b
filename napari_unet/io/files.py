"""Files that are either written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# It can only be read by setting it, which is no business of a thread later on.
_UMASK = os.umask(0)
os.umask(_UMASK)


LONGEST_REASON = 300
"""Letters of a library's message that are shown; some quote whole headers."""


class FileReadError(Exception):
    """A file that cannot be read; the message says which, why and what to do."""


class FileWriteError(Exception):
    """A file that could not be written; what was there before is still there."""


class CodeNotTrustedError(FileReadError):
    """A file whose code would have to be run to use it, which nobody has agreed to."""


@contextmanager
def reading(
    path: Path | str,
    advice: str = "It may be damaged or cut short; copy it anew, or open it with the program that "
    "wrote it and save it anew.",
) -> Iterator[None]:
    """Let a library read a file, and turn whatever it raises into a `FileReadError`.

    Format libraries raise nearly anything on damaged files. Only their calls belong inside, so
    that mistakes of our own stay what they are.

    Raises
    ------
    FileReadError
        It tells the path, the reason, and what to do.
    """
    try:
        yield
    except FileReadError:
        raise
    except FileNotFoundError as error:
        raise FileReadError(f"There is no file {error.filename or path}.") from error
    except PermissionError as error:
        raise FileReadError(
            f"Cannot read {path}: it may not be read by you (permission denied). Ask its owner "
            "for the right to, or copy it where you may."
        ) from error
    except MemoryError as error:
        raise FileReadError(
            f"Cannot read {path}: it would need more memory than there is "
            f"({_reason(error)}). {advice}"
        ) from error
    except Exception as error:
        raise FileReadError(f"Cannot read {path}: {_reason(error)}. {advice}") from error


def _reason(error: Exception) -> str:
    """What a library says, on one line and not at length."""
    if isinstance(error, LookupError | AttributeError | TypeError | AssertionError):
        # A library stumbled over the content; how means nothing to a person.
        return f"it ends too early, or its content does not fit together ({type(error).__name__})"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".")[:LONGEST_REASON] or type(error).__name__


def check_there(path: Path) -> None:
    """Complain if a file is not there, empty, or may not be read.

    Raises
    ------
    FileReadError
        The message says which of these.
    """
    if path.is_symlink() and not path.exists():
        raise FileReadError(
            f"{path} is a link to {path.readlink()}, which is not there. Link to where the file "
            "is now."
        )
    with reading(path):
        if not path.is_file():
            raise FileReadError(f"There is no file {path}.")
        with path.open("rb") as file:
            if not file.read(1):
                raise FileReadError(
                    f"Cannot read {path}: it is empty (0 bytes). Copy it anew from where it came "
                    "from."
                )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, and move it to `path` when all went well.

    Where `path` is a link, it stays one, and the file it leads to is replaced.

    Raises
    ------
    FileWriteError
        If the folder is not there, the file is write-protected, or writing fails (disk full, no
        permission). The temporary file is removed and a file that was at `path` before is
        untouched.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileWriteError(f"Cannot write {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise FileWriteError(f"Cannot write {path}: it is a folder.")
    if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
        raise FileWriteError(
            f"Cannot write {path}: the file that is there is write-protected. Choose another name."
        )
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

    Where `path` is a link, it stays one, and the folder it leads to is replaced.

    Raises
    ------
    FileWriteError
        If the folder around is not there, or writing fails (disk full, no permission). What was
        written is removed, and what was at `path` before is untouched.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileWriteError(f"Cannot write {path}: there is no folder {path.parent}.")
    kept = " What was there before is unchanged." if path.exists() else ""
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        temporary.chmod(0o777 & ~_UMASK)
        filled = temporary / path.name
        yield filled
        if path.is_dir():
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

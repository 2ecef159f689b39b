"""The command line: parse, call, print.

Heavy modules are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from napari_unet.cli.errors import CommandError
from napari_unet.cli.parser import build_parser

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 only when it did what was asked."""
    parsed = build_parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        return int(parsed.run(parsed) or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    except (ValueError, CommandError, MemoryError, ImportError, OSError) as error:
        print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except Exception as error:
        # The two file errors live below modules that --help must not import.
        from napari_unet.io.files import FileReadError, FileWriteError

        if isinstance(error, FileReadError | FileWriteError):
            print(f"napari-unet: {error}", file=sys.stderr)  # noqa: T201
            return 1
        raise


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        print(f"napari-unet: note: {message}", file=sys.stderr)  # noqa: T201

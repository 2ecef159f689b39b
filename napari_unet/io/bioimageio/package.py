"""The files of a BioImage.IO package, checked as they are read."""

from __future__ import annotations

import hashlib
import itertools
import zipfile
import zlib
from pathlib import Path
from typing import Any

from napari_unet.io.files import FileReadError

CONFIG = "napari_unet"
"""Under this key of a description stands what rebuilds the model here (`model_header`)."""

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""What descriptions in packages are called."""


class Package:
    """The files of a package, whose hashes are checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._folder = path if path.is_dir() else path.parent
        self._description = path.name
        if path.is_dir():
            self._description = self._find([each.name for each in path.iterdir()])
        elif path.suffix.lower() == ".zip":
            try:
                self._archive = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError) as error:
                raise FileReadError(
                    f"{path} is not a whole zip file ({error}). It may have been cut short while it "
                    "was copied; get it again."
                ) from error
            self._description = self._find(self._archive.namelist())

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *error: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def _find(self, names: list[str]) -> str:
        for name in DESCRIPTIONS:
            if name in names:
                return name
        raise FileReadError(
            f"{self.path} is no BioImage.IO package: there is no {DESCRIPTIONS[0]} in it."
        )

    def description(self) -> Any:
        """The model description, brought to the newest version of the format."""
        from bioimageio import spec

        content = self._read(self._description)
        try:
            parsed = spec.utils.read_yaml(content.decode("utf-8"))
        except Exception as error:  # the parser has errors of several kinds
            raise FileReadError(
                f"{self.path} cannot be read: {self._description} is damaged ({short(error)})."
            ) from error
        kind = parsed.get("type", "model") if isinstance(parsed, dict) else type(parsed).__name__
        if not isinstance(parsed, dict) or kind != "model":
            raise FileReadError(
                f"{self.path} describes no model, but {kind!r}. Choose the package of a model."
            )
        context = spec.ValidationContext(
            root=self._archive or self._folder,
            file_name=self._description,
            perform_io_checks=False,  # files are checked when they are read; nothing is downloaded
            log_warnings=False,
        )
        try:
            described = spec.build_description(parsed, context=context, format_version="latest")
        except Exception as error:  # so has what checks it
            raise FileReadError(
                f"{self.path} cannot be used: {self._description} does not fit together "
                f"({short(error)})."
            ) from error
        if isinstance(described, spec.InvalidDescr):
            raise FileReadError(
                f"{self.path} cannot be used, since {self._description} does not keep to the "
                f"BioImage.IO format: {short(described.get_reason())}"
            )
        return described

    def file(self, entry: Any) -> bytes:
        """The content of a file that the description names."""
        name = relative_path(entry.source)
        if name is None:
            raise FileReadError(
                f"{self.path} holds no weights of its own, but names {entry.source}. Download the "
                "whole package as a zip file."
            )
        content = self._read(name)
        if entry.sha256 and hashlib.sha256(content).hexdigest() != str(entry.sha256):
            raise FileReadError(
                f"{name} in {self.path} is not the file that its description names (the SHA-256 "
                "differs). It was changed or damaged; get the package again."
            )
        return content

    def _read(self, name: str) -> bytes:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise FileReadError(f"{self.path} names a file outside of itself, {name}.")
        try:
            if self._archive is not None:
                return self._archive.read(name)
            return (self._folder / name).read_bytes()
        except (KeyError, FileNotFoundError, IsADirectoryError) as error:
            raise FileReadError(
                f"{self.path} is incomplete: there is no file {name}. Get the whole package again."
            ) from error
        except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
            raise FileReadError(
                f"{name} in {self.path} cannot be read ({error}). It may have been cut short while "
                "it was copied; get it again."
            ) from error


def relative_path(source: Any) -> str | None:
    """Return the path of a source within its package; None for an address in the internet."""
    text = str(getattr(source, "path", source) if not hasattr(source, "host") else source)
    if hasattr(source, "host") or "://" in text:
        return None
    return text


def short(error: object) -> str:
    """Return the first line of an error, as part of a sentence."""
    lines = itertools.chain(str(error).strip().splitlines(), [type(error).__name__])
    return next(line for line in lines if line.strip())[:200]

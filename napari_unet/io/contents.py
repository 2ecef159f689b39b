"""What a file or a store holds where it holds several images, to choose one of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredImage:
    """An image in a file, before its pixels are looked at.

    Parameters
    ----------
    name
        Follows the path of the file to open it, as in ``file.h5/volume/raw``.
    shape
        As it is stored.
    dtype
        Type of its values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        """Return name, size and type for people."""
        return f"{self.name}  ({' × '.join(map(str, self.shape))}, {self.dtype})"

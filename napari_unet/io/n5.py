"""N5 seen as Zarr 3: a store that translates its attributes and unpacks its blocks.

zarr-python reads N5 no more. What is left of it here is what the specification asks for
(https://github.com/saalfeldlab/n5): axes are counted from the quickest one, each block begins with
a header, and blocks at the border are cut short.
"""

from __future__ import annotations

import bz2
import json
import lzma
import math
import struct
import zlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from napari_unet.io.chunked import N5_ATTRIBUTES

_TYPES = {f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)}
_TYPES |= {"float32", "float64"}


def is_data_set(attributes: dict[str, Any]) -> bool:
    """Tell whether attributes describe an array rather than a group."""
    return attributes.keys() >= {"dimensions", "dataType", "blockSize"}


class N5Store(WrapperStore[LocalStore]):
    """A folder of N5 files as a store of Zarr 3, for reading.

    Blocks are handed on uncompressed and whole, so that the codecs of Zarr have nothing to do.
    """

    def __init__(self, store: LocalStore) -> None:
        super().__init__(store)
        self._root = Path(store.root)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a node's metadata or a block, in the form that Zarr expects."""
        folder, _, name = key.rpartition("/")
        if name == "zarr.json":
            content = self._metadata(folder)
        elif "/c/" in f"/{key}":
            array, _, block = f"/{key}".partition("/c/")
            content = self._block(array.strip("/"), block.split("/"))
        else:
            return None
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return several blocks; they are compressed as wholes, and so come as wholes."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether there is a node or a block."""
        from zarr.core.buffer import default_buffer_prototype

        return await self.get(key, default_buffer_prototype()) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of the groups and arrays in a group."""
        folder = self._root / prefix
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                yield path.name

    def _attributes(self, folder: str) -> dict[str, Any]:
        path = self._root / folder / N5_ATTRIBUTES
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError(f"{path} holds no attributes")
        return found

    def _metadata(self, folder: str) -> bytes | None:
        """The zarr.json of a folder."""
        if not (self._root / folder).is_dir():
            return None
        attributes = self._attributes(folder)
        node: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        if is_data_set(attributes):
            kind = attributes["dataType"]
            if kind not in _TYPES:
                raise ValueError(f"{self._root / folder} holds values of type {kind!r}")
            node |= {
                "node_type": "array",
                "shape": attributes["dimensions"][::-1],
                "data_type": kind,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": attributes["blockSize"][::-1]},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
            }
        return json.dumps(node).encode()

    def _block(self, folder: str, place: list[str]) -> bytes | None:
        """A block of a data set, big-endian and as large as the others."""
        path = self._root.joinpath(folder, *reversed(place))
        if not path.is_file():
            return None
        attributes = self._attributes(folder)
        dtype = np.dtype(attributes["dataType"]).newbyteorder(">")
        whole = attributes["blockSize"][::-1]
        content = path.read_bytes()
        mode, ndim = struct.unpack_from(">HH", content)
        start = 4 + 4 * ndim
        sides = struct.unpack_from(f">{ndim}I", content, 4)[::-1]
        if mode == 1:  # a number of elements of its own, where a block holds more than its pixels
            start += 4
        elif mode != 0:
            raise ValueError(f"its mode {mode} is that of objects, not of pixels")
        if len(sides) != len(whole) or any(a > b for a, b in zip(sides, whole, strict=True)):
            raise ValueError(f"its sides {sides} do not fit into blocks of {tuple(whole)}")
        size = math.prod(sides) * dtype.itemsize
        pixels = decompressed(content[start:], attributes, size)
        if len(pixels) < size:
            raise ValueError(f"it holds {len(pixels)} bytes instead of {size}")
        block = np.frombuffer(pixels[:size], dtype).reshape(sides)
        padding = [(0, b - a) for a, b in zip(sides, whole, strict=True)]
        return np.pad(block, padding).tobytes()


def decompressed(content: bytes, attributes: dict[str, Any], size: int) -> bytes:
    """Return the bytes of a block whose compression the attributes name.

    Raises
    ------
    ValueError
        If this compression is not known here.
    """
    compression = attributes.get("compression") or attributes.get("compressionType") or "raw"
    settings = compression if isinstance(compression, dict) else {"type": compression}
    kind = str(settings.get("type") or settings.get("id")).lower()
    if kind == "raw":
        return content
    if kind in ("gzip", "zlib"):  # useZlib: the same without a file's header
        return zlib.decompress(content, wbits=zlib.MAX_WBITS | 32)
    if kind in ("bzip2", "bz2"):
        return bz2.decompress(content)
    if kind in ("xz", "lzma"):
        return lzma.decompress(content)
    if kind == "lz4":
        return _lz4(content, size)
    if kind in ("blosc", "zstd", "zstandard"):
        import numcodecs

        codec = numcodecs.Blosc() if kind == "blosc" else numcodecs.Zstd()
        return bytes(codec.decode(content))
    raise ValueError(f"its compression {kind!r} is not known")


_JAVA_BLOCK = b"LZ4Block"


def _lz4(content: bytes, size: int) -> bytes:
    """What the three programs that say LZ4 mean: blocks of lz4-java, a frame, or a bare block."""
    import imagecodecs

    if content.startswith(b"\x04\x22\x4d\x18"):
        return bytes(imagecodecs.lz4f_decode(content))
    if not content.startswith(_JAVA_BLOCK):
        return bytes(imagecodecs.lz4_decode(content, out=size))
    pixels = b""
    while content.startswith(_JAVA_BLOCK):
        token, packed, unpacked = struct.unpack_from("<BII", content, len(_JAVA_BLOCK))
        start = len(_JAVA_BLOCK) + 13  # a checksum follows
        block, content = content[start : start + packed], content[start + packed :]
        if not unpacked:
            break
        stored = token & 0xF0 == 0x10
        pixels += block if stored else bytes(imagecodecs.lz4_decode(block, out=unpacked))
    return pixels

"""MRC: micrographs, tomograms and maps (.mrc, .mrcs, .rec, .st, .ali, .map, .ccp4), in ångström."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.core.image import ImageArray
from napari_unet.core.notices import tell
from napari_unet.core.units import PIXEL, positive_number
from napari_unet.io.files import FileReadError, reading
from napari_unet.io.lazy import native, raw_array

_HEADER = 1024
"""Bytes before the extended header."""

_IMOD_STAMP = 1146047817
"""Says that the flags after it are those of IMOD."""

_IMOD_SIGNED = 1
"""Flag without which bytes that IMOD wrote count from 0 to 255."""

_COMPRESSED = (b"\x1f\x8b", b"BZh")

_ADVICE = (
    "It may be damaged, cut short or no MRC file; copy it anew, or save it anew with the program "
    "that wrote it."
)


def read_mrc(path: Path) -> ImageArray:
    """Return the images or the volume in an MRC file; large ones stay on disk unless compressed.

    A voxel size of 0 is an unknown one. Files older than the format's mark ``MAP`` are read with
    a warning.

    Raises
    ------
    FileReadError
        If it is cut short, no MRC file, or holds complex numbers or colours.
    """
    import mrcfile

    with warnings.catch_warnings(), reading(path, _ADVICE):
        # mrcfile warns of what it forgives; what is wrong with the data is found out below.
        warnings.simplefilter("ignore")
        with path.open("rb") as start:
            head = start.read(_HEADER)
        compressed = head.startswith(_COMPRESSED)
        extended = head[92:96]
        length = min(int.from_bytes(extended, "little"), int.from_bytes(extended, "big"))
        if not compressed and length > path.stat().st_size:
            # mrcfile would reserve that much memory before it looks.
            raise FileReadError(
                f"Cannot read {path}: its extended header would be longer than the file. {_ADVICE}"
            )
        with mrcfile.open(path, permissive=True, header_only=not compressed) as file:
            header = file.header.copy()
            data = file.data if compressed else None
            from_fei = bytes(header.exttyp) in (b"FEI1", b"FEI2")
            microscope = file.indexed_extended_header if from_fei else None
    _check(path, header)
    if not compressed:
        data = _raw(path, header)
    elif data is not None and _is_unsigned(header):
        data = data.view(np.uint8)
    if data is None:
        raise FileReadError(f"Cannot read {path}: it is cut short. Copy it anew.")
    if bytes(header.map)[:3] != b"MAP":
        tell(
            f"{path.name} has no mark 'MAP ', as MRC files before 2000 or of some programs. It was "
            "read all the same; check that it looks right.",
            stacklevel=2,
        )
    voxel_size = _voxel_size(header, microscope)
    sizes: list[float | None] = [voxel_size[axis] for axis in _axes_of_file(header)]
    if data.ndim > 2 and int(header.ispg) == 0 and int(header.mz) == 1 < data.shape[0]:
        # A stack of images: how far they are apart is not told.
        sizes[0] = None
    # Volumes in one file are counted along the first of four axes.
    sizes = [*[None] * (data.ndim - 3), *sizes[-data.ndim :]]
    return ImageArray(
        native(data),
        "TZYX"[-data.ndim :],
        tuple(1.0 if size is None else size for size in sizes),
        tuple(PIXEL if size is None else "Å" for size in sizes),
        path.name.split(".")[0],
    )


_REFUSED_MODES = {
    3: "complex numbers, as those of a Fourier transform",
    4: "complex numbers, as those of a Fourier transform",
    16: "colours",
    101: "numbers of 4 bits",
}


def _check(path: Path, header: Any) -> None:
    mode = int(header.mode)
    if mode in _REFUSED_MODES:
        raise FileReadError(
            f"{path} holds {_REFUSED_MODES[mode]} (MRC mode {mode}), which are no grey values "
            "that can be read. Save it with whole or real numbers, for example with IMOD's newstack."
        )
    sizes = [int(header.nx), int(header.ny), int(header.nz)]
    is_stack_of_volumes = 401 <= int(header.ispg) <= 630 and int(header.mz) > 0
    if is_stack_of_volumes and sizes[2] % int(header.mz):
        raise FileReadError(
            f"Cannot read {path}: it says it holds volumes of {int(header.mz)} sections, and "
            f"{sizes[2]} sections in all, which do not fit. Correct its header, for example with "
            "IMOD's alterheader (space group 1 is a single volume)."
        )
    if mode not in (0, 1, 2, 6, 12) or min(sizes) < 1 or int(header.nsymbt) < 0:
        raise FileReadError(
            f"Cannot read {path}: its header makes no sense (mode {mode}, {sizes[0]} x {sizes[1]} "
            f"x {sizes[2]} voxels). {_ADVICE}"
        )


def _axes_of_file(header: Any) -> tuple[int, int, int]:
    """Which of X (1), Y (2) and Z (3) sections, rows and columns are."""
    sections, rows, columns = int(header.maps), int(header.mapr), int(header.mapc)
    # Old files leave these at 0.
    return (sections, rows, columns) if {sections, rows, columns} == {1, 2, 3} else (3, 2, 1)


def _raw(path: Path, header: Any) -> Any:
    from mrcfile.utils import data_dtype_from_header, data_shape_from_header

    dtype, shape = data_dtype_from_header(header), data_shape_from_header(header)
    start, size = _HEADER + int(header.nsymbt), path.stat().st_size
    end = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if end > size:
        raise FileReadError(
            f"Cannot read {path}: it is cut short ({size} bytes, where it says it has {end}). "
            "Copy it anew."
        )
    return raw_array(path, np.uint8 if _is_unsigned(header) else dtype, start, shape)


def _is_unsigned(header: Any) -> bool:
    if int(header.mode) != 0:
        return False
    order = header.mode.dtype.byteorder
    stamp, flags = np.frombuffer(bytes(header.extra2)[40:48], np.dtype("i4").newbyteorder(order))
    return bool(stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED)


def _voxel_size(header: Any, microscope: Any) -> dict[int, float | None]:
    """Spacing in ångström along X (1), Y (2) and Z (3), as far as it is known.

    Parameters
    ----------
    microscope
        Extended header that mrcfile could make sense of, or None.
    """
    cell = {1: header.cella.x, 2: header.cella.y, 3: header.cella.z}
    intervals = {1: int(header.mx), 2: int(header.my), 3: int(header.mz)}
    found = {
        axis: positive_number(float(cell[axis]) / intervals[axis]) if intervals[axis] > 0 else None
        for axis in cell
    }
    if not any(found.values()) and microscope is not None and microscope.size:
        for axis, name in ((1, "Pixel size X"), (2, "Pixel size Y")):
            if name in (microscope.dtype.names or ()):
                metres = positive_number(microscope[name].flat[0])
                found[axis] = None if metres is None else metres * 1e10
    return found

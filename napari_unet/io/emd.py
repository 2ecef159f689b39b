"""EMD: what FEI's Velox and the Berkeley lab's programs write into HDF5 files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.units import PIXEL, legible, positive_number, standard_unit

if TYPE_CHECKING:
    import h5py

_VELOX_IMAGES = "Data/Image"


@dataclass(frozen=True)
class Signal:
    """An array in an HDF5 file and what it means.

    Parameters
    ----------
    name
        The data set.
    axes, scale, units
        As in `ImageArray`, after the data set was transposed.
    order
        The order of its axes that `axes` is about, where it is not that of the file.
    single
        Whether the first axis, of length 1, is to be dropped.
    objection
        Why it is no image, to follow its name; empty if it is one.
    """

    name: str
    axes: str = ""
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    order: tuple[int, ...] | None = None
    single: bool = False
    objection: str = ""


def signals(file: h5py.File) -> list[Signal]:
    """Return the images of an EMD file, in its order; none if it is another HDF5 file."""
    return _velox_images(file) if is_velox(file) else _berkeley_images(file)


def is_velox(file: h5py.File) -> bool:
    """Return whether Velox wrote the file."""
    import h5py

    data = file.get("Data")
    return isinstance(data, h5py.Group) and any(
        isinstance(each, h5py.Group) and any(isinstance(g, h5py.Group) for g in each.values())
        for name, each in data.items()
        if name in ("Image", "Spectrum", "SpectrumStream", "SpectrumImage", "LineProfile")
    )


def held(file: h5py.File) -> str:
    """Return in words what a Velox file without images that can be read holds."""
    kinds = [
        f"{len(group)} {name}" for name, group in file["Data"].items() if hasattr(group, "items")
    ]
    return " and ".join(kinds) or "nothing"


def _velox_images(file: h5py.File) -> list[Signal]:
    """Images of Velox; their axes are stored as Y, X and frame."""
    found = []
    for name, group in (file.get(_VELOX_IMAGES) or {}).items():
        data = group.get("Data") if hasattr(group, "get") else None
        if data is None or data.ndim != 3 or data.dtype.kind not in "buif" or 0 in data.shape:
            continue
        metadata = _velox_metadata(group)
        pixels = metadata.get("BinaryResult", {})
        lengths = [
            _velox_length(pixels, "height", "PixelUnitY"),
            _velox_length(pixels, "width", "PixelUnitX"),
        ]
        frames = data.shape[2]
        if frames > 1:
            seconds = positive_number(metadata.get("Scan", {}).get("FrameTime"))
            lengths.insert(0, (1.0, PIXEL) if seconds is None else (seconds, "s"))
        scale, units = zip(*lengths, strict=True)
        found.append(
            Signal(
                f"{_VELOX_IMAGES}/{name}/Data",
                "YX" if frames == 1 else "TYX",
                scale,
                units,
                order=(2, 0, 1),
                single=frames == 1,
            )
        )
    return found


def _velox_metadata(group: h5py.Group) -> dict[str, Any]:
    """What is told of the first frame: JSON in a column of bytes, filled up with zeros."""
    stored = group.get("Metadata")
    if stored is None or stored.ndim != 2 or stored.shape[1] < 1:
        return {}
    content = bytes(np.asarray(stored[:, 0], np.uint8)).split(b"\0")[0]
    try:
        told = json.loads(content.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _velox_length(pixels: dict[str, Any], side: str, unit: str) -> tuple[float, str]:
    size = positive_number(pixels.get("PixelSize", {}).get(side))
    known = standard_unit(str(pixels.get(unit, "")))
    return (1.0, PIXEL) if size is None or known == PIXEL else legible(size, known)


def _berkeley_images(file: h5py.File) -> list[Signal]:
    """Arrays in groups of the type 1, with a vector of coordinates for each axis."""
    import h5py

    found: list[Signal] = []

    def look(name: str, group: object) -> None:
        if not isinstance(group, h5py.Group) or "emd_group_type" not in group.attrs:
            return
        data = group.get("data")
        if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "buif":
            return
        if not 2 <= data.ndim <= 5 or sum(n > 1 for n in data.shape) < 2 or 0 in data.shape:
            return
        first = 0 if "dim0" in group else 1
        spacing = [_berkeley_length(group.get(f"dim{first + i}")) for i in range(data.ndim)]
        scale, units = zip(*spacing, strict=True)
        axes = "CTZYX"[5 - data.ndim :]
        energies = [i for i in range(data.ndim) if _is_energy(group.get(f"dim{first + i}"))]
        order = (*energies, *(i for i in range(data.ndim) if i not in energies))
        if sum(data.shape[i] > 1 for i in order[len(energies) :]) < 2:
            return  # spectra, at a point or along a line
        if data.ndim == 3 and units[0] in ("s", "ms"):
            axes = "TYX"
        # Sections are images at one energy.
        scale, units = (tuple(each[i] for i in order) for each in (scale, units))
        found.append(Signal(f"{name}/data", axes, scale, units, order=order))

    file.visititems(look)
    return found


def _berkeley_length(coordinates: Any) -> tuple[float, str]:
    if coordinates is None or getattr(coordinates, "shape", ()) in ((), (0,), (1,)):
        return 1.0, PIXEL
    if coordinates.ndim != 1 or coordinates.dtype.kind not in "iuf":
        return 1.0, PIXEL
    spelling = _spelt_unit(coordinates)
    unit = standard_unit(spelling)
    step = positive_number(abs(float(coordinates[1]) - float(coordinates[0])))
    if step is None or (unit == PIXEL and spelling):
        return 1.0, PIXEL
    return legible(step, unit)


def _spelt_unit(coordinates: h5py.Dataset) -> str:
    spelling = coordinates.attrs.get("units", "")
    if isinstance(spelling, bytes):
        spelling = spelling.decode("utf-8", "replace")
    # The lab writes powers and prefixes apart: [n_m].
    return str(spelling).strip("[] ").replace("_", "")


def _is_energy(coordinates: Any) -> bool:
    return hasattr(coordinates, "attrs") and _spelt_unit(coordinates).lower() in ("ev", "kev")

"""What the attributes of Zarr and N5 say about an image: levels, axes, spacing and units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_unet.core.units import PIXEL, standard_unit

ALL_AXES = "TCZYX"
"""What images of OME-Zarr 0.1 and 0.2 have, without saying so."""

_LETTERS = {
    "t": "T", "time": "T", "c": "C", "channel": "C", "channels": "C", "band": "C",
    "z": "Z", "depth": "Z", "y": "Y", "height": "Y", "x": "X", "width": "X",
}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """Axes of an array in the letters of `ImageArray`, ``?`` for others, with spacing and units."""

    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]


def multiscale_of(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first image of several resolutions that attributes tell of (OME-Zarr 0.1-0.5)."""
    ome = attributes.get("ome")
    listed = (ome if isinstance(ome, dict) else attributes).get("multiscales")
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], dict):
        return None
    return listed[0] if level_paths(listed[0]) else None


def level_paths(multiscale: Mapping[str, Any]) -> list[str]:
    """Return where the levels lie in their group, full resolution first."""
    datasets = multiscale.get("datasets")
    if not isinstance(datasets, list):
        return []
    paths = [each.get("path") if isinstance(each, dict) else None for each in datasets]
    return [path.strip("/") for path in paths if isinstance(path, str) and path.strip("/")]


def ome_meaning(multiscale: Mapping[str, Any], level: int, shape: Sequence[int]) -> Meaning:
    """Return axes, spacing and units of a level as OME-Zarr metadata tell them."""
    ndim = len(shape)
    listed = multiscale.get("axes")
    axes = listed if isinstance(listed, list) and len(listed) == ndim else []
    records = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    scale = [1.0] * ndim
    datasets = multiscale.get("datasets") or []
    for each in (datasets[level], multiscale):
        factors = _scale_of(each.get("coordinateTransformations"), ndim)
        scale = [a * b for a, b in zip(scale, factors, strict=True)]
    if not records and ndim == len(ALL_AXES):
        letters = list(ALL_AXES)
    else:
        letters = axis_letters([_called(record) for record in records] or [None] * ndim, shape)
    units = [str(record.get("unit") or "") for record in records] or [""] * ndim
    return _meaning(letters, scale, units)


def _called(record: Mapping[str, Any]) -> str:
    """The name of an axis; time and channel may have any."""
    kind = str(record.get("type") or "").lower()
    return kind if kind in ("time", "channel") else str(record.get("name") or "")


def _scale_of(transformations: Any, ndim: int) -> list[float]:
    """The spacing that transformations tell; 1 where they do not."""
    scale = [1.0] * ndim
    for each in transformations if isinstance(transformations, list) else []:
        factors = each.get("scale") if isinstance(each, dict) else None
        if isinstance(factors, list) and len(factors) == ndim:
            scale = [a * _positive(b) for a, b in zip(scale, factors, strict=True)]
    return scale


def _positive(value: Any) -> float:
    usable = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if usable else 1.0


def axis_letters(names: Sequence[str | None], shape: Sequence[int]) -> list[str]:
    """Return a letter for each axis, by its name or else by its place; ``?`` if there is none.

    Without names, a last axis of three or four behind a whole section is that of colours.
    """
    found: list[str] = []
    for name in names:
        letter = _LETTERS.get(str(name or "").strip().lower(), "")
        found.append("" if letter in found else letter)
    if not any(found) and len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4:
        return [*axis_letters(names[:-1], shape[:-1]), "S"]
    wanting = found.count("")
    free = [a for a in "TZYX" if a not in found]  # a nameless stack is one of sections
    if wanting > len(free):
        free = [a for a in "TCZYX" if a not in found]
    given = ["?"] * (wanting - len(free)) + free[max(0, len(free) - wanting) :]
    return [letter or given.pop(0) for letter in found]


def named_meaning(
    attributes: Mapping[str, Any], names: Sequence[str | None] | None, shape: Sequence[int]
) -> Meaning:
    """Return what a plain array says of its axes, by the customs of several programs.

    Names come from Zarr 3 or xarray (``_ARRAY_DIMENSIONS``); spacing from ``resolution``,
    ``element_size_um`` or ``transform``.
    """
    ndim = len(shape)
    listed = names or attributes.get("_ARRAY_DIMENSIONS") or attributes.get("axes")
    scale, units = [1.0] * ndim, [""] * ndim
    transform = attributes.get("transform")
    if isinstance(transform, dict):
        listed = listed or transform.get("axes")
        scale = _numbers(transform.get("scale"), ndim) or scale
        units = _texts(transform.get("units"), ndim) or units
    elif (sizes := _numbers(attributes.get("element_size_um"), ndim)) is not None:
        scale, units = sizes, ["um"] * ndim
    elif (sizes := _numbers(attributes.get("resolution"), ndim)) is not None:
        scale = sizes
        units = _texts(attributes.get("units"), ndim) or ["nm"] * ndim
    known = listed if isinstance(listed, list | tuple) and len(listed) == ndim else [None] * ndim
    return _meaning(axis_letters(known, shape), scale, units)


def n5_meaning(
    dataset: Mapping[str, Any], group: Mapping[str, Any], shape: Sequence[int]
) -> Meaning:
    """Return what an N5 data set and its group say; N5 counts axes from the quickest one.

    Parameters
    ----------
    dataset, group
        Attributes of both.
    shape
        Slowest axis first, as everywhere here.
    """
    ndim = len(shape)
    if isinstance(dataset.get("transform"), dict):  # its axes are in the order of the shape
        return named_meaning({"transform": dataset["transform"]}, None, shape)
    both = {**group, **dataset}
    resolution, units = both.get("resolution"), both.get("units")
    pixels = both.get("pixelResolution")
    if isinstance(pixels, dict):
        resolution, units = pixels.get("dimensions"), [pixels.get("unit")] * ndim
    elif pixels is not None:
        resolution, units = pixels, [both.get("unit") or "um"] * ndim
    scale = _numbers(resolution, ndim)
    units = _texts(units, ndim) or ["nm" if scale else ""] * ndim
    factors = _numbers(dataset.get("downsamplingFactors"), ndim) or [1.0] * ndim
    scale = [a * b for a, b in zip(scale or [1.0] * ndim, factors, strict=True)]
    names = both.get("axes")
    known = names if isinstance(names, list) and len(names) == ndim else [None] * ndim
    letters = axis_letters(list(reversed(known)), shape)
    return _meaning(letters, list(reversed(scale)), list(reversed(units)))


def _numbers(values: Any, count: int) -> list[float] | None:
    """So many positive numbers, as a list or a text such as ``[0.2 0.1 0.1]``."""
    if isinstance(values, str):
        values = [float(v) for v in re.findall(r"[0-9][0-9.eE+-]*", values)]
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    return [_positive(value) for value in values]


def _texts(values: Any, count: int) -> list[str] | None:
    if isinstance(values, str):
        return [values] * count
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    return [str(value or "") for value in values]


def _meaning(letters: Sequence[str], scale: Sequence[float], units: Sequence[str]) -> Meaning:
    plain = {"C", "S", "?"}
    return Meaning(
        "".join(letters),
        tuple(1.0 if a in plain else s for a, s in zip(letters, scale, strict=True)),
        tuple(
            "" if a in plain else standard_unit(u) if u else PIXEL
            for a, u in zip(letters, units, strict=True)
        ),
    )

"""Which axes a data set in an HDF5 file has, and how far apart its values lie along them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.units import PIXEL, positive_number, standard_unit

if TYPE_CHECKING:
    import h5py

MOST_AXES = 5

MOST_COLOURS = 4
"""A last axis that is not longer than this holds colours or channels."""

_SIZES = (("element_size_um", "µm"), ("resolution", "nm"), ("voxel_size", "nm"))
"""Attributes with the spacing, and its unit where none is told."""

_TIMES = ("s", "ms")

Length = tuple[float, str]
"""Spacing and its unit."""


def axes_of(dataset: h5py.Dataset) -> str:
    """Return letters from vigra's axis tags (ilastik), from HDF5's labels, or by what is usual."""
    keys = [str(each.get("key", "")).upper() for each in _axis_tags(dataset)]
    if len(keys) == dataset.ndim and set(keys) <= set("TCZYX"):
        return "".join(keys)
    labels = [str(dimension.label).upper() for dimension in dataset.dims]
    if {"Y", "X"} <= set(labels) <= set("TCZYX"):
        return "".join(labels)
    return _usual_axes(dataset.shape, dataset.dtype)


def spacing_of(dataset: h5py.Dataset, axes: str) -> list[Length]:
    """Return spacing and unit of each of the axes; 1 pixel where nothing clear is told."""
    told = {**_tagged(dataset), **_measured(dataset, axes)}
    return [told.get(axis, (1.0, "" if axis in "CS" else PIXEL)) for axis in axes]


def _usual_axes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    short_last = len(shape) > 2 and shape[-1] <= MOST_COLOURS < min(shape[-3:-1])
    if short_last or len(shape) == MOST_AXES:
        colour = dtype == np.uint8 and shape[-1] in (3, 4)
        return {3: "YX", 4: "ZYX", 5: "TZYX"}.get(len(shape), "") + ("S" if colour else "C")
    return {2: "YX", 3: "ZYX", 4: "TZYX"}.get(len(shape), "")


def _axis_tags(dataset: h5py.Dataset) -> list[dict[str, Any]]:
    tags = _json(dataset.attrs.get("axistags")).get("axes")
    return [each for each in tags if isinstance(each, dict)] if isinstance(tags, list) else []


def _tagged(dataset: h5py.Dataset) -> dict[str, Length]:
    """Spacing as ilastik tells it: numbers in the axis tags, with units beside them."""
    units = _json(dataset.attrs.get("axis_units"))
    found = {}
    for tag in _axis_tags(dataset):
        key = str(tag.get("key"))
        size, unit = positive_number(tag.get("resolution")), standard_unit(str(units.get(key)))
        if size is not None and unit != PIXEL and _fits(key.upper(), unit):
            found[key.upper()] = (size, unit)
    return found


def _measured(dataset: h5py.Dataset, axes: str) -> dict[str, Length]:
    """Spacing from the first attribute that has numbers for these axes."""
    for attribute, unit in _SIZES:
        told = dataset.attrs.get(attribute)
        sizes = [] if told is None else [positive_number(each) for each in _numbers(told)]
        letters = _letters(axes, len(sizes))
        if letters is None:
            continue
        units = [unit]
        if attribute != "element_size_um":
            units = _units(dataset.attrs.get("unit", dataset.attrs.get("units", unit)))
        if len(units) == 1:
            units *= len(sizes)
        if len(units) != len(sizes):  # nobody knows which is whose
            return {}
        return {
            axis: (size, unit)
            for axis, size, unit in zip(letters, sizes, units, strict=True)
            if size is not None and _fits(axis, unit)
        }
    return {}


def _letters(axes: str, count: int) -> str | None:
    """The axes that so many numbers are about, ``?`` where it has no such axis."""
    spatial = "".join(axis for axis in axes if axis in "ZYX")
    if count == len(spatial):
        return spatial
    if count == 3:  # of Z, Y and X, also for a single section
        return spatial.rjust(3, "?")
    return axes if count == len(axes) else None


def _fits(axis: str, unit: str) -> bool:
    return axis in "TZYX" and (axis == "T") == (unit in _TIMES)


def _numbers(told: Any) -> list[str]:
    """The numbers of a list or a text; none of a text that can be read in two ways."""
    words = _texts(told)
    if len(words) != 1:
        return words
    text = words[0].strip().strip("()[]{}").strip()
    if re.search(r"[;\s]", text):  # commas without a space are decimal
        return re.split(r"\s*;\s*|\s*,\s+|\s+,?", text)
    parts = text.split(",")
    # Two parts may be a single number with a decimal comma.
    return parts if len(parts) != 2 or "." in text else []


def _units(told: Any) -> list[str]:
    words = _texts(told)
    if len(words) == 1:
        parts = re.split(r"[\s,;]+", words[0].strip())
        if all(standard_unit(each) != PIXEL for each in parts):
            words = parts
    return [standard_unit(each) for each in words]


def _texts(told: Any) -> list[str]:
    """What an attribute holds, one or several, as texts."""
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        for each in np.atleast_1d(told).ravel()
    ]


def _json(told: Any) -> dict[str, Any]:
    """An attribute in JSON; empty if it is none."""
    try:
        found = json.loads(told)
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}

"""Units of length as files spell them, brought to one spelling."""

from __future__ import annotations

PIXEL = "pixel"
"""Unit of an axis whose spacing is not known."""

_SPELLINGS = {
    "nm": ("nm", "nanometer", "nanometre"),
    "µm": ("µm", "μm", "um", "micron", "micrometer", "micrometre", "\\u00b5m"),
    "mm": ("mm", "millimeter", "millimetre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "m": ("m", "meter", "metre"),
    "Å": ("å", "angstrom", "ångström", "ang", "\\u00c5"),
    "s": ("s", "sec", "second"),
    "ms": ("ms", "millisecond"),
}
_NANOMETRES = {"nm": 1.0, "µm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "Å": 0.1}


def standard_unit(spelling: str) -> str:
    """Return ``nm``, ``µm``, ``mm``, ``cm``, ``m``, ``Å``, ``s``, ``ms``, or ``pixel`` if unknown."""
    folded = spelling.strip().lower()
    singular = folded.removesuffix("s")
    for unit, spellings in _SPELLINGS.items():
        if folded in spellings or (len(singular) > 2 and singular in spellings):
            return unit
    return PIXEL


def nanometres(value: float, unit: str) -> float | None:
    """Return a length in nanometres, or None if the unit is no length."""
    factor = _NANOMETRES.get(standard_unit(unit))
    return None if factor is None else value * factor

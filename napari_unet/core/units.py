"""Units of length as files spell them, brought to one spelling."""

from __future__ import annotations

import math

PIXEL = "pixel"
"""Unit of an axis whose spacing is not known."""

_SPELLINGS = {
    "pm": ("pm", "picometer", "picometre"),
    "nm": ("nm", "nanometer", "nanometre"),
    "µm": ("µm", "μm", "um", "micron", "micrometer", "micrometre", "\\u00b5m"),
    "mm": ("mm", "millimeter", "millimetre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "m": ("m", "meter", "metre"),
    "Å": ("å", "angstrom", "ångström", "ang", "\\u00c5"),
    "s": ("s", "sec", "second"),
    "ms": ("ms", "millisecond"),
}
_NANOMETRES = {"pm": 1e-3, "nm": 1.0, "µm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9, "Å": 0.1}


def standard_unit(spelling: str) -> str:
    """Return ``pm``, ``nm``, ``µm``, ``mm``, ``cm``, ``m``, ``Å``, ``s``, ``ms``, or ``pixel``.

    ``pixel`` stands for every unit that is not known here, such as those of reciprocal space.
    """
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


def legible(value: float, unit: str) -> tuple[float, str]:
    """Return a length in nanometres if it is given in metres, as instruments do; others as is."""
    return (value * 1e9, "nm") if standard_unit(unit) == "m" else (value, standard_unit(unit))


def positive_number(value: object) -> float | None:
    """Return a number, or None if it is none, not finite, or not above 0.

    Text may have a decimal comma, as programs write where that is the custom (``0,5``).
    """
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None

import pytest

from napari_unet.core.units import nanometres, standard_unit


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("nm", "nm"),
        ("Nanometer", "nm"),
        ("nanometres", "nm"),
        ("um", "µm"),
        ("\N{MICRO SIGN}m", "µm"),
        ("\N{GREEK SMALL LETTER MU}m", "µm"),
        ("micron", "µm"),
        (" microns ", "µm"),
        ("\\u00B5m", "µm"),
        ("micrometer", "µm"),
        ("micrometers", "µm"),
        ("micrometres", "µm"),
        ("mm", "mm"),
        ("millimeters", "mm"),
        ("cm", "cm"),
        ("meter", "m"),
        ("angstrom", "Å"),
        ("angstroms", "Å"),
        ("Å", "Å"),
        ("\N{ANGSTROM SIGN}", "Å"),
        ("sec", "s"),
        ("ms", "ms"),
        ("pixel", "pixel"),
        ("pixels", "pixel"),
        ("", "pixel"),
        ("furlong", "pixel"),
    ],
)
def test_units_are_brought_to_one_spelling(spelling, unit):
    assert standard_unit(spelling) == unit
    assert standard_unit(unit) == unit


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(4.0, "nm", 4.0), (0.004, "micron", 4.0), (40.0, "Å", 4.0), (4e-6, "mm", 4.0), (1, "m", 1e9)],
)
def test_lengths_are_told_in_nanometres(value, unit, expected):
    assert nanometres(value, unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["s", "pixel", ""])
def test_what_is_no_length_has_no_nanometres(unit):
    assert nanometres(1.0, unit) is None

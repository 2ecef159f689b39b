"""Every file of a table of independent readings is read as expected, or refused in words."""

import pytest

from benchmarks.formats import conformance, expected_of


@pytest.fixture(scope="module")
def rows(real_data):
    return conformance(real_data / "formats")


def test_every_real_file_is_read_as_an_independent_reader_saw_it(rows):
    assert len(rows) >= 40
    for row in rows:
        assert row.differences == (), f"{row.file}: {row.outcome}, expected {row.expected}"


def test_only_files_without_an_image_are_refused_and_the_message_says_so(rows):
    refused = {row.file: row.refusal for row in rows if row.image is None}
    assert list(refused) == ["dm/08_carbon.dm3"]
    assert "a spectrum is not an image" in refused["dm/08_carbon.dm3"]


@pytest.mark.parametrize(
    ("text", "arrays", "spacing"),
    [
        (
            "(1, 8) float32 [('x', 1.0, ''), ('Energy loss', 0.1, 'eV')]",
            (((1, 8), "float32"),),
            [(1.0, ""), (0.1, "eV")],
        ),
        (
            "(2, 3) RGB(A) [('y', 2.0, 'nm'), ('x', 2.0, 'nm')]",
            (((2, 3, 3), "uint8"),),
            [(2.0, "nm"), (2.0, "nm"), (1.0, "")],
        ),
        (
            "(2, 3, 4) float32 mode=2 voxel_A=(1.0, 2.0, 3.0) map=b'MAP ' nsymbt=0",
            (((2, 3, 4), "float32"),),
            [(3.0, "Å"), (2.0, "Å"), (1.0, "Å")],
        ),
        (
            "(3, 4) int16 enc=raw spacing=[[1.5 0. ]  [0. 2. ]]",
            (((3, 4), "int16"),),
            [(2.0, ""), (1.5, "")],
        ),
        ("[('raw', (3, 4), 'uint8', {})]", (((3, 4), "uint8"),), None),
        ("series=[('YX', (6, 8), 'uint8')] flags=['fei']", (((6, 8), "uint8"),), None),
    ],
)
def test_the_table_is_understood(text, arrays, spacing):
    expected = expected_of(text)

    assert (expected.arrays, expected.spacing) == (arrays, spacing)

"""Read real files of every format and compare with what an independent reader saw in them.

Usage: python -m benchmarks.formats [FOLDER]

FOLDER holds the files and their table, EXPECTED.tsv (default: ``formats`` in the folder that
NAPARI_UNET_DATA names). Writes the formats and the comparison into ``docs/formats.md``.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import REPOSITORY, table, write_section
from napari_unet.core.image import ImageArray
from napari_unet.core.units import PIXEL, nanometres, standard_unit
from napari_unet.io.files import FileReadError
from napari_unet.io.formats import FORMATS
from napari_unet.io.images import is_known, read_image

DOCUMENT = REPOSITORY / "docs" / "formats.md"

_ARRAY = re.compile(r"\((\d+(?:, ?\d+)*,?)\)'?,? '?(u?int\d+|float\d+|complex\d+|RGB\(A\))")
_AXIS = re.compile(r"\((?:'[^']*'|None), ([\d.e+-]+), (?:'([^']*)'|None)\)")
_VOXEL = re.compile(r"voxel_A=\(([^)]*)\)")
_ELEMENT = re.compile(r"'element_size_um': '\[([^\]]*)\]'")
_DIRECTIONS = re.compile(r"spacing=\[(.*)\]")

Spacing = list[tuple[float, str]]


@dataclass(frozen=True)
class Expected:
    """What an independent reader saw: arrays, and the spacing of the first if it is told."""

    arrays: tuple[tuple[tuple[int, ...], str], ...]
    spacing: Spacing | None

    @property
    def holds_image(self) -> bool:
        return any(sum(n > 1 for n in shape) > 1 for shape, _ in self.arrays) or any(
            len(shape) > 2 for shape, _ in self.arrays
        )

    def __str__(self) -> str:
        arrays = [f"{told(shape)} {dtype}" for shape, dtype in self.arrays]
        return "; ".join(arrays) + ("" if self.spacing is None else f", {spaced(self.spacing)}")


@dataclass(frozen=True)
class Row:
    """A file, what was expected of it, and what came of reading it."""

    file: str
    expected: Expected
    image: ImageArray | None
    refusal: str
    differences: tuple[str, ...]

    @property
    def outcome(self) -> str:
        if self.image is None:
            return f"refused: {self.refusal}"
        spacing = list(zip(self.image.scale, self.image.units, strict=True))
        text = f"{told(self.image.shape)} {self.image.dtype} ({self.image.axes}), {spaced(spacing)}"
        return text + "".join(f"; **{each}**" for each in self.differences)


def main(folder: Path) -> None:
    """Compare, print and write the tables."""
    rows = conformance(folder)
    if not DOCUMENT.exists():
        DOCUMENT.write_text("# Image formats\n", encoding="utf-8")
    known = table(
        ["format", "suffixes", "what stays on disk", "pixel size from", "refused"],
        [
            [
                each.name,
                " ".join(f"`{s}`" for s in each.suffixes if s.count(".") == 1),
                each.lazy,
                each.spacing,
                each.refused,
            ]
            for each in FORMATS
        ],
    )
    write_section("What is read", f"{_INTRODUCTION}\n\n{known}\n\n{_REMARKS}", DOCUMENT)
    differing = sum(bool(row.differences) for row in rows)
    refused = sum(row.image is None for row in rows)
    summary = (
        f"{len(rows)} files: {len(rows) - differing - refused} were read as expected, {refused} "
        f"refused, {differing} differ."
    )
    compared = table(
        ["file", "an independent reader saw", "read as"],
        [[row.file, str(row.expected), row.outcome] for row in rows],
    )
    write_section("Real files", f"{_COMPARISON} {summary}\n\n{compared}", DOCUMENT)
    print(compared, summary, sep="\n\n")


_INTRODUCTION = (
    "A file is read by its content where that says for certain what it is, and by its suffix "
    "otherwise. Compressed MRC files end with `.gz` or `.bz2` besides. A file that cannot be read "
    "is told of by its name, the reason, and what to do."
)

_REMARKS = """A folder of section images, or a pattern such as `sections/*.png`, is a stack in
natural order (2 before 10); all sections must have the same size and type. On the command line,
a data set of an HDF5 file is named as in `file.h5/volume/raw`. Without a name it is the image
of an EMD file, or a data set called `raw`, `data`, `volume`, `image`, `images`, `stack`, `main`
or `exported_data`, or the largest with two axes. In the dock, all images of an HDF5 file or a store
are listed under *In its file*.

Single sections of one size and type in a TIFF file are a stack, in their order, however they were
put there. Of several images in it the largest is read, and the others are named. Where 0 is white
(but for ImageJ, which only draws such images so), and where a palette has nothing but greys, grey
values are as the picture shows them; the numbers of a palette of colours stay. Links, and data sets
that are gathered from other files, are followed in HDF5; what is missing is named.

Axes that are neither a length, nor time, nor a channel, such as an energy, count as Z. A unit that
is not told or is no length is a pixel; where numbers without a unit are told, their ratio is
kept.""".replace("\n", " ").replace("  ", "\n\n")

_COMPARISON = (
    "Files that microscopes and other programs wrote, from the tests of libraries that read them. "
    "Type and shape, and the spacing where the other reader tells it, must agree."
)


def conformance(folder: Path) -> list[Row]:
    """Return what comes of reading every file of a table of independent readings.

    Files of formats that `read_image` does not claim to read are left out.
    """
    with (folder / "EXPECTED.tsv").open(encoding="utf-8") as lines:
        entries = list(csv.reader(lines, delimiter="\t"))[1:]
    return [
        compare(folder, name, expected_of(text))
        for name, text in entries
        if is_known(folder / name)
    ]


def compare(folder: Path, name: str, expected: Expected) -> Row:
    """Return what comes of reading a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(folder / name)
            np.asarray(image.data)
        except FileReadError as error:
            refusal = str(error).replace(f"{folder}{os.sep}", "")
            differences = ("an image was refused",) if expected.holds_image else ()
            return Row(name, expected, None, refusal, differences)
    return Row(name, expected, image, "", tuple(_differences(image, expected)))


def expected_of(text: str) -> Expected:
    """Return what a line of the table tells."""
    arrays = []
    for shape, dtype in _ARRAY.findall(text):
        sizes = tuple(int(n) for n in shape.split(",") if n.strip())
        arrays.append((*_colours(sizes), "uint8") if dtype == "RGB(A)" else (sizes, dtype))
    spacing: Spacing | None = None
    first = text.partition("; (")[0]
    if axes := _AXIS.findall(first):
        spacing = [(float(size), unit) for size, unit in axes]
        if "RGB(A)" in first:
            spacing.append((1.0, ""))
    elif voxel := _VOXEL.search(text):
        spacing = [(float(size), "Å") for size in voxel[1].split(",")][::-1]
    elif element := _ELEMENT.search(text):
        spacing = [(float(size), "µm") for size in element[1].split()]
    elif directions := _DIRECTIONS.search(text):
        rows = re.findall(r"\[([^\[\]]*)\]", directions[1])
        lengths = [float(np.linalg.norm([float(n) for n in row.split()])) for row in rows]
        spacing = [(1.0 if np.isnan(each) else each, "") for each in lengths][::-1]
    return Expected(tuple(arrays), spacing)


def _colours(shape: tuple[int, ...]) -> tuple[tuple[int, ...]]:
    return ((*shape, 3),)


def _differences(image: ImageArray, expected: Expected) -> list[str]:
    found = []
    seen = (image.shape, str(image.dtype))
    # Velox stores the frames of a recording last.
    frames_last = (image.shape[1:] + image.shape[:1], str(image.dtype))
    if seen not in expected.arrays and frames_last not in expected.arrays:
        found.append("another shape or type")
    spacing = expected.spacing
    if spacing is not None and len(spacing) == len(image.shape):
        for axis, size, unit, (length, spelling) in zip(
            image.axes, image.scale, image.units, spacing, strict=True
        ):
            wanted = nanometres(length, spelling)
            if wanted is None:
                agree = unit in (PIXEL, "") or standard_unit(spelling) == unit
            else:
                own = nanometres(size, unit)
                # The table has six decimals.
                agree = own is not None and np.isclose(own, wanted, rtol=1e-3)
            if not agree:
                found.append(f"another spacing of {axis}")
    return found


def told(shape: tuple[int, ...]) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, shape))


def spaced(spacing: Spacing) -> str:
    """Return spacings as text; those of 1 without a unit are left out."""
    parts = [f"{size:.4g} {unit or PIXEL}" for size, unit in spacing]
    plain = all(size == 1 and unit in ("", PIXEL) for size, unit in spacing)
    return "no pixel size" if plain else " x ".join(parts)


if __name__ == "__main__":
    data = REPOSITORY / os.environ.get("NAPARI_UNET_DATA", "../shared/data") / "formats"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else data)

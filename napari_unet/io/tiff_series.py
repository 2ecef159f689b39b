"""Which of the images in a TIFF file is read, and whether all of it is there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import tifffile

from napari_unet.core.units import positive_number
from napari_unet.io.files import FileReadError
from napari_unet.io.tiff_values import grey_palette, is_inverted
from napari_unet.io.tiff_vendors import VENDORS_TAGS

MOST_NAMED = 5
"""Of many images that are left out so many are named."""


def series_to_read(path: Path, file: tifffile.TiffFile) -> tuple[tifffile.TiffPageSeries, str]:
    """Return the image of a file that is read, and what people should know of it, if anything.

    Single sections of the same size and type are one image, in their order: programs that append
    to a file describe each as an image by itself, or compress them in different ways. Of several
    images it is the one with the most pixels, the first of these.

    Raises
    ------
    FileReadError
        If a part of it should be in another file, which cannot be read.
    """
    found = _all_series(path, file)
    images = _joined(found)
    chosen = max(images, key=_pixels)
    joined = chosen not in found
    if chosen.kind == "ome" and (joined or None in chosen):
        _check_siblings(path, file)
    described = {each: _described(each, n) for n, each in enumerate(images, start=1)}
    # What the file itself calls a small copy is no image of its own.
    others = [
        told
        for each, told in described.items()
        if each is not chosen and not each.keyframe.is_reduced
    ]
    if others:
        more = len(others) - MOST_NAMED
        return chosen, (
            f"{path} holds several images; the largest, {described[chosen]}, is read, without "
            f"{', '.join(others[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}. To read "
            "another one, save it as a file of its own."
        )
    if joined and chosen.kind == "ome":
        return chosen, (
            f"{path} holds {len(chosen)} images of one section each; they are read as a stack. If "
            "they are none, save each as a file of its own."
        )
    return chosen, ""


def _all_series(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    try:
        found: list[tifffile.TiffPageSeries] = file.series
    except struct.error as error:
        _check_siblings(path, file)
        raise ValueError("it is cut short, or what it says of its pages is damaged") from error
    except ValueError:
        _check_siblings(path, file)
        raise
    if not found:
        raise ValueError("it holds no image")
    # Of many pages tifffile looks at a few, and takes the others to be like these. They are compared
    # one after the other: thousands of them with their tags would fill the memory.
    if found[0].kind == "uniform" and len({page.aspage().hash for page in found[0]}) > 1:
        return [tifffile.TiffPageSeries([page.aspage()], kind="generic") for page in found[0]]
    return found


def _joined(found: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """The images of a file, once single sections are put together."""
    if len(found) == 1:
        return list(found)
    alike: dict[Any, list[tifffile.TiffPageSeries]] = {}
    for series in found:
        key = _likeness(series) if _holds_sections(series) else id(series)
        alike.setdefault(key, []).append(series)
    return [_stack(each) if len(each) > 1 else each[0] for each in alike.values()]


def _holds_sections(series: tifffile.TiffPageSeries) -> bool:
    """Whether its pages are single sections, of which only their order in the file is known."""
    page = series.keyframe
    single = series.kind == "generic" or series.size == prod(page.shape)
    return single and set(page.axes) <= set("YXS")


def _likeness(series: tifffile.TiffPageSeries) -> tuple[Any, ...]:
    """What the sections of a stack have in common."""
    page = series.keyframe
    greys = grey_palette(page)
    shades = b"" if greys is None else greys.tobytes()
    return page.shape, page.axes, str(series.dtype), is_inverted(page), shades


def _stack(parts: Sequence[tifffile.TiffPageSeries]) -> tifffile.TiffPageSeries:
    first = parts[0]
    pages = [page for each in parts for page in each]
    if first.kind == "generic":
        # Each of these series has the pages that are compressed in the same way.
        pages.sort(key=lambda page: page.treeindex)
    return tifffile.TiffPageSeries(
        pages,
        (len(pages), *first.keyframe.shape),
        first.dtype,
        f"Z{first.keyframe.axes}",
        parent=first.parent,
        kind=first.kind,
    )


def _pixels(series: tifffile.TiffPageSeries) -> int:
    return int(series.size) // int(series.keyframe.samplesperpixel)


def _described(series: tifffile.TiffPageSeries, number: int) -> str:
    name = repr(series.name) if series.name else f"number {number}"
    return f"{name} ({' × '.join(map(str, series.shape))}, {series.dtype})"


def ome_of(file: tifffile.TiffFile) -> dict[str, Any]:
    """Return what the OME-XML of a file says; nothing if there is none."""
    root = tifffile.xml2dict(file.ome_metadata).get("OME") if file.ome_metadata else None
    return root if isinstance(root, dict) else {}


def elements(entry: Any) -> list[dict[str, Any]]:
    """Return the elements of one name in XML, of which there may be none, one or several."""
    entries = entry if isinstance(entry, list) else [entry]
    return [each for each in entries if isinstance(each, dict)]


def _check_siblings(path: Path, file: tifffile.TiffFile) -> None:
    """Complain if OME-XML names a file that cannot be read; tifffile makes zeros of it."""
    root = ome_of(file)
    named = {
        str(uuid["FileName"])
        for image in elements(root.get("Image"))
        for pixels in elements(image.get("Pixels"))
        for data in elements(pixels.get("TiffData"))
        for uuid in elements(data.get("UUID"))
        # A file that was renamed knows itself by its number.
        if "FileName" in uuid and uuid.get("value") != root.get("UUID", "")
    }
    for sibling in (path.parent / name for name in sorted(named - {path.name})):
        if not sibling.is_file():
            what = "is not there"
        elif not sibling.stat().st_size:
            what = "is empty (0 bytes)"
        else:
            try:
                with tifffile.TiffFile(sibling) as opened:
                    _check_file(sibling.name, opened, 0)
                continue
            except (OSError, ValueError, struct.error):
                what = "is cut short or damaged"
        raise FileReadError(
            f"Cannot read {path}: a part of its image should be in {sibling}, which {what}. Copy "
            "all files of the image anew into one folder, under the names they had."
        )


def check_whole(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Complain if a file that holds a part of an image is cut short.

    Raises
    ------
    ValueError
        It tells how many bytes the file has, and how many it should have.
    """
    ends = {file: _end_of_stack(file, series)}
    for page in series:
        if page is not None:
            parts = zip(page.dataoffsets, page.databytecounts, strict=False)
            end = max((offset + count for offset, count in parts), default=0)
            ends[page.parent] = max(ends.get(page.parent, 0), end)
    for each, end in ends.items():
        _check_file("it" if each is file else f"{each.filename} beside it", each, end)


def _check_file(name: str, file: tifffile.TiffFile, end: int) -> None:
    path = Path(file.filehandle.path)
    size = path.stat().st_size
    if end > size:
        raise ValueError(f"{name} is cut short ({size} bytes, where it says it has at least {end})")
    first, last = file.pages.first, file.pages[-1]
    lost = ValueError(f"{name} is cut short ({size} bytes): pages are missing at its end")
    try:
        with path.open("rb") as opened:
            codes, _ = _directory(file.tiff, opened, first.offset)
            _, following = _directory(file.tiff, opened, last.offset)
    except struct.error as error:
        raise lost from error
    if following > last.offset:
        raise lost
    if (codes & _MEANING) - {tag.code for tag in first.tags}:
        raise ValueError(f"{name} is cut short ({size} bytes): its description is missing")


_MEANING = {270, 282, 283, *VENDORS_TAGS}
"""Tags that say what the pixels mean: ImageDescription, XResolution, YResolution, and vendors'."""


def _directory(layout: Any, opened: BinaryIO, offset: int) -> tuple[set[int], int]:
    """The tags that a page says it has, and where the next page begins (0 after the last).

    tifffile leaves out pages and tags that it cannot read; this tells that there were some.
    """
    opened.seek(offset)
    (count,) = struct.unpack(layout.tagnoformat, opened.read(layout.tagnosize))
    entries = opened.read(count * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, opened.read(layout.offsetsize))
    codes = (entries[i : i + 2] for i in range(0, len(entries), layout.tagsize))
    return {struct.unpack(layout.byteorder + "H", code)[0] for code in codes}, following


def _end_of_stack(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> int:
    """Where the sections of ImageJ end that follow each other after a single page.

    tifffile forgets them when the last ones are missing. A page alone may also come from a stack
    that was taken apart, with its description; no pixels follow it then.
    """
    page = series.keyframe
    if not file.is_imagej or series.kind == "imagej" or len(file.pages) > 1 or not page.is_final:
        return 0
    told = file.imagej_metadata or {}
    images, channels, slices, frames = (
        int(positive_number(told.get(name)) or 1)
        for name in ("images", "channels", "slices", "frames")
    )
    start, size = page.dataoffsets[0], file.filehandle.size
    alone = page.offset > start or size <= start + page.nbytes
    return 0 if alone else start + max(images, channels * slices * frames) * page.nbytes

"""What ``napari-unet train`` tells of its data and of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.cli.printing import say

if TYPE_CHECKING:
    from napari_unet.core.model import UNetModel
    from napari_unet.core.patches import LabelledImage

MOST_LINES = 20
"""Folders of more images than this are reported in one line."""

MOST_SCORES = 4
"""Of more validation images than this the mean scores are printed."""

LONGEST_NAME = 40
"""Longer names are shortened in reports."""


def report_data(
    model: UNetModel, sources: list[LabelledImage], validation: list[LabelledImage]
) -> None:
    """Print what was found: sections, size, pixel size, and the share of each class."""
    classes = max((each.annotations.classes for each in sources), key=len)
    rows = [
        ["", "image", "sections", "size", "nm/px", "labelled", *(each.name for each in classes)]
    ]
    for what, images in (("learn from", sources), ("judge by", validation)):
        folders: dict[str, list[LabelledImage]] = {}
        for each in images:
            folders.setdefault(each.name.rpartition("/")[0], []).append(each)
        for folder, inside in folders.items():
            if len(inside) > MOST_LINES:
                name = f"{len(inside)} images" + (f" in {folder}" if folder else "")
                rows.append([what, *_report_row(name, inside, len(classes))])
            else:
                rows += [[what, *_report_row(e.name, [e], len(classes))] for e in inside]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        say("  ".join([*left, *right]))
    if any(model.magnification(each.image) != 1 for each in (*sources, *validation)):
        say(
            f"The network sees {model.pixel_size:.4g} nm/px; images of another pixel size are "
            "resampled to it."
        )


def _report_row(name: str, images: list[LabelledImage], classes: int) -> list[str]:
    sections = [len(each.annotations.sections) for each in images]
    sizes = sorted({each.image.shape[-2:] for each in images}, key=lambda s: s[0] * s[1])
    known = sorted({size for each in images if (size := each.image.pixel_size) is not None})
    pixel_sizes = [f"{size:.4g}" for size in (known[:1] + known[1:][-1:])]
    if len(set(pixel_sizes)) == 1:
        pixel_sizes = pixel_sizes[:1]
    unknown = any(each.image.pixel_size is None for each in images)
    counts = [0] * classes
    for each in images:
        for index, count in enumerate(each.annotations.counts()):
            counts[index] += int(count)
    labelled = sum(counts)
    pixels = sum(
        n * each.image.shape[-2] * each.image.shape[-1]
        for n, each in zip(sections, images, strict=True)
    )
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 2 - 2]}...{name[1 - LONGEST_NAME // 2 :]}"
    return [
        name,
        str(sum(sections)),
        " to ".join(f"{width} x {height}" for height, width in sizes[:1] + sizes[1:][-1:]),
        ", ".join([*filter(None, [" to ".join(pixel_sizes)]), *["?"] * unknown]),
        _percent(labelled, pixels),
        *(
            "not labelled"
            if all(number in each.unlabelled for each in images)
            else _percent(count, labelled)
            for number, count in enumerate(counts, start=1)
        ),
    ]


def _percent(part: int, whole: int) -> str:
    """A share that is rounded to neither nothing nor all."""
    share = part / whole
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{min(share, 0.999) if part < whole else 1:.1%}"


def validation_line(step: int, scores: dict[str, dict[str, float | None]]) -> str:
    """F1 of each class, by image, or where there are many images on average."""
    if len(scores) > MOST_SCORES:
        of_class: dict[str, list[float]] = {}
        for found in scores.values():
            for name, f1 in found.items():
                of_class.setdefault(name, []).extend([] if f1 is None else [f1])
        means = {n: sum(each) / len(each) if each else None for n, each in of_class.items()}
        scores = {f"mean of {len(scores)} images": means}
    said = "; ".join(
        f"{image}: "
        + ", ".join(f"{name} F1 {'-' if f1 is None else f'{f1:.3f}'}" for name, f1 in found.items())
        for image, found in scores.items()
    )
    return f"step {step}: {said}"

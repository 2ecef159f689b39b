"""``napari-unet evaluate``."""

from __future__ import annotations

import argparse
import json
import warnings
from typing import TYPE_CHECKING, Any

from napari_unet.cli.errors import CommandError
from napari_unet.cli.files import trusted_model
from napari_unet.cli.printing import progress, say

if TYPE_CHECKING:
    from napari_unet.core.evaluation import Comparison
    from napari_unet.core.image import ImageArray
    from napari_unet.core.segmentation_metrics import BoundaryScores


def run_evaluate(parsed: argparse.Namespace) -> None:
    """Print how well a prediction agrees with the truth, as a table or as JSON."""
    from dataclasses import replace

    from napari_unet.core.evaluation import comparison
    from napari_unet.core.metrics import class_scores
    from napari_unet.io.images import read_image

    prediction, truth = (
        replace(read_image(path), name=path) for path in (parsed.prediction, parsed.truth)
    )
    if parsed.objects:
        if parsed.boundary is not None or parsed.inverted_truth:
            raise CommandError(
                "--objects compares numbered objects; leave out --boundary and --inverted-truth, "
                "which are for membranes."
            )
        _evaluate_objects(prediction, truth, parsed.json)
        return
    names = _class_names(parsed.prediction, parsed.truth)
    number = None
    if parsed.boundary in names.values():
        number = next(n for n, name in names.items() if name == parsed.boundary)
    elif parsed.boundary is not None:
        number = _class_called(parsed.boundary, parsed.model, trust=parsed.trust)
    both = comparison(prediction, truth, number, inverted_truth=parsed.inverted_truth)
    scores = class_scores(both.predicted, both.truth)
    if both.reported is not None:
        scores = {name: scores[n] for n, name in both.reported.items() if n in scores}
    boundary = _boundary_scores(both)
    if parsed.json:
        found: dict[str, Any] = {"classes": {str(n): s.to_dict() for n, s in scores.items()}}
        if names:
            found["names"] = {str(n): names[n] for n in scores if n in names}
        if boundary is not None:
            found["boundary"] = boundary.to_dict()
        say(json.dumps(found))
        return
    say("class       F1      IoU     Dice  precision   recall      pixels")
    for number, score in scores.items():
        say(
            f"{number:>5}  {_rounded(score.f1):>7}  {_rounded(score.iou):>7}  "
            f"{_rounded(score.dice):>7}  {_rounded(score.precision):>9}  {_rounded(score.recall):>7}  "
            f"{score.pixels:>10}  {names.get(number, '')}".rstrip()
        )
    if boundary is not None:
        say(f"\n{'membranes':<46}  {'value':>8}  threshold")
        for name, title in _BOUNDARY_TITLES.items():
            threshold = boundary.thresholds[name]
            say(
                f"{title:<46}  {_rounded(getattr(boundary, name), 6):>8}  {_rounded(threshold, 1):>9}"
            )


def _class_names(prediction: str, truth: str) -> dict[int, str]:
    """What the files call classes, by their numbers; the truth goes before the prediction."""
    from napari_unet.io.class_names import read_classes

    told = [
        {n: each.name for n, each in enumerate(read_classes(path), start=1)}
        for path in (prediction, truth)
    ]
    for number in sorted(told[0].keys() & told[1].keys()):
        if told[0][number] != told[1][number]:
            warnings.warn(
                f"Class {number} is {told[0][number]!r} in {prediction}, but {told[1][number]!r} "
                f"in {truth}. They are compared by number.",
                stacklevel=2,
            )
    return {**told[0], **told[1]}


_BOUNDARY_TITLES = {
    "v_rand": "V_rand after border thinning (1 is best)",
    "v_info": "V_info after border thinning (1 is best)",
    "rand_error": "Rand error (0 is best)",
    "warping_error": "warping error",
    "challenge_warping_error": "warping error, only splits and mergers",
    "pixel_error": "pixel error",
    "challenge_pixel_error": "pixel error as 1 - F1 of the cells",
}


def _rounded(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _class_called(name: str, model: str | None, *, trust: bool) -> int:
    """The number of a class that is given by its name or by this number."""
    from napari_unet.core.annotations import class_number
    from napari_unet.io.models import DEFAULT_MODEL

    if name.isascii() and name.isdigit():
        return int(name)
    return class_number(trusted_model(model or DEFAULT_MODEL, trust=trust).classes, name)


def _boundary_scores(both: Comparison) -> BoundaryScores | None:
    if both.membrane is None or both.true_membrane is None:
        return None
    from napari_unet.core.segmentation_metrics import boundary_scores, compare_section

    sections = []
    with progress(len(both.membrane), "sections") as bar:
        for membrane, truth in zip(both.membrane, both.true_membrane, strict=True):
            sections.append(compare_section(membrane, truth))
            bar.update()
    return boundary_scores(sections)


def _evaluate_objects(prediction: ImageArray, truth: ImageArray, as_json: bool) -> None:
    from napari_unet.core.evaluation import object_numbers
    from napari_unet.core.segmentation_metrics import object_scores

    scores = object_scores(object_numbers(prediction), object_numbers(truth))
    if as_json:
        say(json.dumps({"objects": scores.to_dict()}))
        return
    say("  ARAND  precision   recall      VOI    split    merge  predicted    true")
    say(
        f"{_rounded(scores.arand):>7}  {_rounded(scores.precision):>9}  {_rounded(scores.recall):>7}  "
        f"{_rounded(scores.voi):>7}  {_rounded(scores.voi_split):>7}  {_rounded(scores.voi_merge):>7}  "
        f"{scores.predicted_objects:>9}  {scores.true_objects:>6}"
    )

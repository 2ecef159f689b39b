"""What a prediction and a truth hold, brought to a form in which they can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.image import ImageArray

MOST_CLASSES = 64
"""A mask with more different values than these holds something else."""

LIKELY = 0.5
"""Probability from which on a pixel belongs to the class, where only one class has a map."""

_SLACK = 1e-4
"""How far outside of 0 to 1 rounding may carry a probability."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Masks of the same kind, and the membranes in them where they were asked for."""

    predicted: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    """Class numbers; 0 = nobody annotated."""
    reported: dict[int, int] | None
    """The classes to report, and the numbers they go by in the files; None = all, as they are."""
    membrane: npt.NDArray[Any] | None = None
    """Shape (section, Y, X): truth values, or probabilities."""
    true_membrane: npt.NDArray[np.bool_] | None = None


def comparison(
    prediction: ImageArray,
    truth: ImageArray,
    boundary: int | None = None,
    *,
    inverted_truth: bool = False,
) -> Comparison:
    """Return class masks, and membranes, that can be compared pixel by pixel.

    Parameters
    ----------
    prediction
        A class mask (1 = background, 2.. = structures), a mask of one class (0 and 255, or 0 and
        1), or real numbers: probabilities of one class, or of all along the axis C.
    truth
        A class mask in which 0 is what nobody annotated, or a mask of one class.
    boundary
        Number of the class that parts cells. Masks of one class need none: it is theirs.
    inverted_truth
        The truth is a mask of one class, and 0 is this class.

    Raises
    ------
    ValueError
        If they cannot be compared; the message names the file (`ImageArray.name`).
    """
    true = _mask(truth)
    if inverted_truth:
        true = _inverted(true, truth.name)
    if boundary is not None and boundary < 1:
        raise ValueError(f"The number of a class is 1 or more; got {boundary}.")
    if prediction.dtype.kind == "f":
        return _from_probabilities(prediction, true, truth.name, boundary)
    found = _mask(prediction)
    _check_shapes(found.shape, true.shape)
    values = (_values(found), _values(true))
    single = [
        v <= {0, 255} or image.dtype == bool or (boundary is None and v == {0, 1})
        for v, image in zip(values, (prediction, truth), strict=True)
    ]
    # 1 everywhere is a mask of one class beside another of 0 and 1, otherwise background.
    if all(single) or (boundary is None and all(v <= {0, 1} for v in values)):
        number = max(*values[0], *values[1], 1)
        return _of_one_class(found > 0, true > 0, found > 0, number)
    single = [alone and any(v) for alone, v in zip(single, values, strict=True)]
    if any(single):
        if boundary is None:
            raise ValueError(
                "One of the masks holds 0 and 255 (one class), the other classes 1, 2, ...; "
                "compare masks of the same kind, or say with --boundary which class it is. predict "
                "--class NAME makes a mask of 0 and 255."
            )
        found_class = found > 0 if single[0] else found == boundary
        if single[1]:
            return _of_one_class(found_class, true > 0, found_class, boundary)
        return _of_annotated_class(found_class, true, found_class, boundary, truth.name)
    if boundary is None:
        return Comparison(found, true, None)
    return _of_classes(found, true, found == boundary, boundary, truth.name)


def object_numbers(image: ImageArray) -> npt.NDArray[Any]:
    """Return the numbers of objects in an image, 0 = none.

    Raises
    ------
    ValueError
        If it holds anything else.
    """
    numbers = _pixels(image)
    if numbers.dtype.kind not in "bui" or numbers.min() < 0:
        raise ValueError(
            f"{image.name} holds no objects: they must be whole numbers, 0 = none. It holds "
            f"{_range(numbers)}."
        )
    return numbers


def _from_probabilities(
    prediction: ImageArray, true: npt.NDArray[np.uint8], truth_name: str, boundary: int | None
) -> Comparison:
    maps = _probabilities(prediction)
    values = _values(true)
    one_class = values <= {0, 255} or (boundary is None and values <= {0, 1})
    if "C" not in prediction.axes:
        _check_shapes(maps.shape, true.shape)
        likely = maps >= LIKELY
        if one_class:
            return _of_one_class(likely, true > 0, maps, max(*values, 1))
        if boundary is None:
            raise ValueError(
                f"{truth_name} holds the classes {_listed(values - {0})}; say with --boundary of "
                f"which one {prediction.name} holds the probabilities."
            )
        return _of_annotated_class(likely, true, maps, boundary, truth_name)
    _check_shapes(maps.shape[1:], true.shape)
    if boundary is None and one_class:
        raise ValueError(
            f"{prediction.name} holds probabilities of {len(maps)} classes, {truth_name} a mask of "
            "one class; say with --boundary which one it is."
        )
    if boundary is not None and boundary > len(maps):
        raise ValueError(
            f"{prediction.name} holds probabilities of {len(maps)} classes; there is no class "
            f"{boundary}."
        )
    likeliest = (np.argmax(maps, axis=0) + 1).astype(np.uint8)
    if boundary is None:
        return Comparison(likeliest, true, None)
    if one_class:
        return _of_one_class(likeliest == boundary, true > 0, maps[boundary - 1], boundary)
    return _of_classes(likeliest, true, maps[boundary - 1], boundary, truth_name)


def _of_one_class(
    found: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    membrane: npt.NDArray[Any],
    number: int,
) -> Comparison:
    """0 is what the class is not, rather than what nobody annotated."""
    predicted, truth = (np.where(each, 2, 1).astype(np.uint8) for each in (found, true))
    return Comparison(predicted, truth, {2: number}, _sections(membrane), _sections(true))


def _of_annotated_class(
    found: npt.NDArray[np.bool_],
    true: npt.NDArray[np.uint8],
    membrane: npt.NDArray[Any],
    boundary: int,
    truth_name: str,
) -> Comparison:
    """One class against a truth that may not be annotated everywhere."""
    predicted = np.where(found, 2, 1).astype(np.uint8)
    truth = np.where(true == boundary, 2, np.minimum(true, 1)).astype(np.uint8)
    where = _annotated_sections(true, boundary, truth_name)
    return Comparison(
        predicted,
        truth,
        {2: boundary},
        _sections(membrane)[where],
        _sections(true == boundary)[where],
    )


def _of_classes(
    found: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    membrane: npt.NDArray[Any],
    boundary: int,
    truth_name: str,
) -> Comparison:
    where = _annotated_sections(true, boundary, truth_name)
    return Comparison(
        found, true, None, _sections(membrane)[where], _sections(true == boundary)[where]
    )


def _annotated_sections(
    true: npt.NDArray[np.uint8], boundary: int, name: str
) -> npt.NDArray[np.bool_]:
    """Which sections are annotated; whether cells hang together needs every pixel of them."""
    if not (true == boundary).any():
        raise ValueError(
            f"{name} holds no pixel of class {boundary} (--boundary); its values are "
            f"{_listed(_values(true))}."
        )
    missing = (_sections(true) == 0).sum(axis=(1, 2))
    pixels = true.shape[-1] * true.shape[-2]
    partly = np.flatnonzero((missing > 0) & (missing < pixels))
    if partly.size:
        raise ValueError(
            f"In section {partly[0]} of {name}, {missing[partly[0]]} of {pixels} pixels are 0 (not "
            "annotated); membranes can only be compared in sections that are annotated everywhere "
            "or nowhere. Without --boundary, only the classes are compared."
        )
    annotated: npt.NDArray[np.bool_] = missing == 0
    return annotated


def _sections(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(-1, *array.shape[-2:])


def _mask(image: ImageArray) -> npt.NDArray[np.uint8]:
    mask = _pixels(image)
    if mask.dtype.kind not in "bui" or mask.min() < 0 or mask.max() > 255:
        raise ValueError(
            f"{image.name} is no mask: it must hold whole numbers from 0 to 255. It holds "
            f"{_range(mask)}. Numbered objects are compared with --objects."
        )
    mask = mask.astype(np.uint8)
    found = len(_values(mask))
    if found > MOST_CLASSES:
        raise ValueError(
            f"{image.name} holds {found} different values; this is a grey image or holds objects "
            "rather than classes. Objects are compared with --objects; probabilities must be real "
            "numbers from 0 to 1."
        )
    return mask


def _inverted(mask: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.uint8]:
    values = _values(mask)
    if not (values <= {0, 255} or values <= {0, 1}):
        raise ValueError(
            f"--inverted-truth is for masks of 0 and 255, where 0 is the membrane; {name} holds "
            f"{_listed(values)}."
        )
    return np.where(mask == 0, max(values) or 255, 0).astype(np.uint8)


def _probabilities(image: ImageArray) -> npt.NDArray[Any]:
    maps = _pixels(image)
    if not np.isfinite(maps).all():
        raise ValueError(
            f"{image.name} holds values that are not numbers; mend or predict it anew."
        )
    if maps.min() < -_SLACK or maps.max() > 1 + _SLACK:
        raise ValueError(
            f"{image.name} holds {_range(maps)}, but probabilities lie between 0 and 1. Save a mask "
            "with whole numbers, such as 8 bit."
        )
    return maps


def _pixels(image: ImageArray) -> npt.NDArray[Any]:
    """The array, with the axes Y and X at its end and C, if there is one, in front."""
    if image.axes.endswith("S"):
        raise ValueError(
            f"{image.name} is a colour image of the shape {image.shape}; a mask has one number for "
            "each pixel. Save it as a grey image."
        )
    # Three sections are easily written as the red, green and blue planes of one.
    order = sorted(range(len(image.axes)), key=lambda i: "CTSZYX".index(image.axes[i]))
    return np.asarray(image.data).transpose(order)


def _check_shapes(found: tuple[int, ...], true: tuple[int, ...]) -> None:
    if found != true:
        raise ValueError(
            f"The prediction has the shape {found}, the truth {true}; they must be the same."
        )


def _values(mask: npt.NDArray[np.uint8]) -> set[int]:
    return {int(v) for v in np.unique(mask)}


def _range(values: npt.NDArray[Any]) -> str:
    low, high = (f"{v:g}" if values.dtype.kind == "f" else v for v in (values.min(), values.max()))
    return f"{values.dtype} from {low} to {high}"


def _listed(values: set[int]) -> str:
    return ", ".join(str(v) for v in sorted(values))

"""An image that keeps its meaning, and the grey values the network gets to see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet.core.reading import read
from napari_unet.core.units import PIXEL, nanometres

SectionIndex = tuple[int, ...]
"""Position of a section along the axes that lead up to (Y, X); ``()`` in a single image."""

_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue (ITU-R BT.709)."""


@dataclass(frozen=True, eq=False)
class ImageArray:
    """An array with its axes, spacing and units.

    Parameters
    ----------
    data
        Numeric array, or anything that has ``shape``, ``dtype`` and slicing (dask, zarr, memmap).
    axes
        One letter per axis, of ``T`` time, ``C`` channel, ``Z``, ``Y``, ``X`` and ``S`` (the
        red, green and blue samples of a colour image).
    scale
        Spacing per axis, in `units`.
    units
        Unit per axis, such as ``"nm"``; ``"pixel"`` where it is not known.
    name
        What the image is called.
    levels
        The same at ever lower resolutions, for those who draw it; empty if there is one only.

    Raises
    ------
    ValueError
        If the image is empty, has fewer than two axes, no Y and X, is not numeric, or if axes,
        scale and units do not fit the array.
    """

    data: Any
    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]
    name: str = "image"
    levels: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.data.shape)
        if len(shape) < 2:
            raise ValueError(
                f"{self.name!r} has the shape {shape}; an image needs at least two axes (Y, X)."
            )
        if 0 in shape:
            raise ValueError(f"{self.name!r} is empty: its shape is {shape}.")
        if np.dtype(self.data.dtype).kind not in "buif":
            raise ValueError(
                f"{self.name!r} holds values of type {self.data.dtype}; grey values must be "
                "integers or real numbers."
            )
        for what, given in (("axes", self.axes), ("scale", self.scale), ("units", self.units)):
            if len(given) != len(shape):
                raise ValueError(
                    f"{self.name!r} has {len(shape)} axes {shape}, but {what} has "
                    f"{len(given)} entries: {given!r}."
                )
        if len(set(self.axes)) != len(self.axes) or not {"Y", "X"} <= set(self.axes):
            raise ValueError(
                f"The axes {self.axes!r} of {self.name!r} must hold Y and X once each."
            )
        if not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise ValueError(f"The scale {self.scale} of {self.name!r} must be positive.")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in nanometres (of the mean area, where Y and X differ), if known."""
        height, width = (
            nanometres(self.scale[axis], self.units[axis])
            for axis in (self.axes.index("Y"), self.axes.index("X"))
        )
        return None if height is None or width is None else float(np.sqrt(height * width))

    def with_pixel_size(self, pixel_size: float) -> ImageArray:
        """Return the image with this side of a pixel, in nanometres, along Y and X."""
        return replace(
            self,
            scale=tuple(
                pixel_size if a in "YX" else s for a, s in zip(self.axes, self.scale, strict=True)
            ),
            units=tuple(
                "nm" if a in "YX" else u for a, u in zip(self.axes, self.units, strict=True)
            ),
        )

    def sections(self) -> Iterator[SectionIndex]:
        """Yield the index of every (Y, X) section, in order."""
        return iter(np.ndindex(self.shape[:-2]))

    def with_data(self, data: Any, name: str | None = None) -> ImageArray:
        """Return `data` (same axes) with the meaning of this image."""
        return replace(self, data=data, name=name or self.name, levels=())


def image_from_array(data: Any, name: str = "image", pixel_size: float | None = None) -> ImageArray:
    """Return an array as a grey image whose axes are the last of (T, Z, Y, X).

    Parameters
    ----------
    data
        Array of two to four dimensions.
    pixel_size
        Spacing of the Y and X axes in nanometres, if known.
    """
    ndim = len(data.shape)
    if ndim > 4:
        raise ValueError(f"{name!r} has {ndim} axes; at most four (T, Z, Y, X) are understood.")
    axes = "TZYX"[4 - ndim :] if ndim >= 2 else "X" * ndim
    known = pixel_size is not None
    return ImageArray(
        data,
        axes,
        tuple(float(pixel_size) if known and a in "YX" else 1.0 for a in axes),  # type: ignore[arg-type]
        tuple("nm" if known and a in "YX" else PIXEL for a in axes),
        name,
    )


def as_grey(image: ImageArray, channel: int | None = None) -> ImageArray:
    """Return the image with axes (T, Z, Y, X) or fewer, one grey value per pixel.

    Colour samples become their luminance; of several channels one must be chosen.

    Raises
    ------
    ValueError
        If the image has several channels and none, or one that is not there, was chosen.
    """
    if "S" in image.axes:
        axis = image.axes.index("S")
        if axis == len(image.axes) - 1:
            image = _without_axis(image, axis, Luminance(image.data))
        else:
            image = _without_axis(image, axis, Luminance(np.moveaxis(image.data, axis, -1))[...])
    if "C" in image.axes:
        axis = image.axes.index("C")
        count = image.shape[axis]
        if channel is None and count == 1:
            channel = 0
        if channel is None:
            raise ValueError(
                f"{image.name!r} has {count} channels; the network takes one. Choose a channel "
                f"from 0 to {count - 1}."
            )
        if channel is not None and not 0 <= channel < count:
            raise ValueError(
                f"{image.name!r} has no channel {channel}; its channels are 0 to {count - 1}."
            )
        chosen = (slice(None),) * axis + (channel,)
        image = _without_axis(image, axis, image.data[chosen])
    elif channel:
        raise ValueError(f"{image.name!r} has no channels, so there is no channel {channel}.")
    if not image.axes.endswith("YX"):
        raise ValueError(
            f"The axes {image.axes!r} of {image.name!r} must end with Y, X; transpose the image."
        )
    return image


class Luminance:
    """The grey values of an array of colours (..., samples), made where they are looked at.

    Parameters
    ----------
    colours
        Array whose last axis holds red, green and blue, maybe followed by opacity, or grey.
    """

    def __init__(self, colours: Any) -> None:
        self._colours = colours
        self.shape = tuple(int(n) for n in colours.shape[:-1])
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            missing = self.ndim - (len(keys) - 1)
            keys = (*keys[:place], *(slice(None),) * missing, *keys[place + 1 :])
        samples = read(self._colours[keys]).astype(np.float32)
        if samples.shape[-1] < 3:
            return samples[..., 0]
        # Term by term: a matrix product would round differently for parts of the image.
        red, green, blue = (samples[..., i] * np.float32(w) for i, w in enumerate(_LUMINANCE))
        grey: npt.NDArray[np.float32] = red + green + blue
        return grey

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        grey = self[...]
        return grey if dtype is None else grey.astype(dtype)


def _without_axis(image: ImageArray, axis: int, data: Any) -> ImageArray:
    def keep(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(v for i, v in enumerate(values) if i != axis)

    axes = image.axes[:axis] + image.axes[axis + 1 :]
    return ImageArray(data, axes, keep(image.scale), keep(image.units), image.name)


class Normalisation(Protocol):
    """What brings grey values to the range that a network knows."""

    def normalise(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class GreyStatistics:
    """Mean and standard deviation that bring an image to the network's range."""

    mean: float
    deviation: float
    missing: float
    """Share of the looked-at pixels that are not finite numbers."""

    def normalise(self, grey: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return grey values as float32 with mean 0 and deviation 1; missing ones become 0."""
        # Large numbers far from 0 lose their differences in float32.
        precise = np.dtype(np.float32 if np.dtype(grey.dtype).itemsize <= 2 else np.float64)
        centred = (grey.astype(precise) - self.mean) / self.deviation
        values: npt.NDArray[np.float32] = centred.astype(np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        return values


def grey_statistics(image: ImageArray, sections: int = 16, pixels: int = 65536) -> GreyStatistics:
    """Return the grey statistics of a stack from evenly spread sections and pixels.

    The half percent darkest and brightest pixels are clipped, so that hot pixels and
    charging do not set the range. The sample is the same at every call.

    Parameters
    ----------
    image
        Grey image whose axes end with (Y, X).
    sections, pixels
        How many sections, and how many pixels in each, are looked at.

    Raises
    ------
    ValueError
        If no pixel is a finite number, or all have the same value.
    """
    indices = list(image.sections())
    chosen = np.unique(np.linspace(0, len(indices) - 1, min(sections, len(indices))).astype(int))
    height, width = image.shape[-2:]
    stride = max(1, int(np.sqrt(height * width / pixels)))
    samples = [
        read(image.data[(*indices[i], slice(None, None, stride), slice(None, None, stride))])
        .ravel()
        .astype(np.float64)
        for i in chosen
    ]
    values = np.concatenate(samples)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError(f"{image.name!r} holds no finite grey value (only NaN or infinity).")
    if finite.min() == finite.max():
        raise ValueError(
            f"{image.name!r} is constant: every pixel looked at is {finite[0]:g}. There is "
            "nothing to segment; check the channel and the file."
        )
    low, high = np.percentile(finite, (0.5, 99.5))
    clipped = np.clip(finite, low, high) if high > low else finite
    return GreyStatistics(
        float(clipped.mean()), float(clipped.std()), 1.0 - finite.size / values.size
    )

"""Fills that are the same at every position: numbers, of the model's own space or pixel values, and the mean colour."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.words import PIXELS

# A number of the model's space this many ranges of the image above its largest value, and no larger than a pixel can
# be, was probably meant as one.
FAR_RANGES = 4.0
LARGEST_PIXEL = 255.0
# A scale below this is one of pictures of more than 8 bits, whose white is another number.
DEEP_SCALE = 1 / 510


class Pixels(Protocol):
    """How pixel values become the model's numbers: a Preparation, as far as it is needed here."""

    @property
    def scale(self) -> float | None:
        """Factor on the pixel values."""

    def to_model(self, pixels: np.ndarray) -> np.ndarray:
        """Pixel values (..., 1 or 3) as float64 (..., channels), in the model's channel order."""


class Constant:
    """One patch for all positions. value : float32 (C, h, w)."""

    def __init__(self, value: np.ndarray) -> None:
        self._patches = np.ascontiguousarray(value, np.float32)[None, None]

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """float32 (1, 1, C, h, w)."""
        return self._patches


def mean_colour(image: np.ndarray) -> np.ndarray:
    """float32 (C, 1, 1): the mean of every channel of an image (C, H, W)."""
    return image.mean(axis=(1, 2), dtype=np.float64, keepdims=True).astype(np.float32)


def pixel_word(word: str, pixels: Pixels | None, channels: int) -> np.ndarray:
    """black, white or gray as the model sees it: float64 (channels, 1, 1). Raises ImageError where that is unknown."""
    scale = None if pixels is None else pixels.scale
    if word != "black" and scale is not None and abs(scale) < DEEP_SCALE:
        raise ImageError(
            f"fill {word!r} is the pixel value {PIXELS[word]:g}, and a scale of {scale:g} is one of deeper pictures: "
            "give a number (fill_space='pixel' / --fill-space pixel)"
        )
    return _to_model(np.array([PIXELS[word]]), pixels, channels, f"fill {word!r}")[:, None, None]


def number_patch(
    fill: object, name: str, channels: int, patch: tuple[int, int], pixels: Pixels | None, space: str
) -> np.ndarray:
    """Numbers as float32 (channels, h, w): one, one a channel, or an array. name : of the argument, for an ImageError.

    space : "model", or "pixel" where they are pixel values (one a channel is then red, green, blue).
    """
    value = finite(fill, name)
    shape = (channels, *patch)
    if space == "pixel":
        value = _pixel_values(value, name, pixels, shape)
    try:
        return np.broadcast_to(value[:, None, None] if value.ndim == 1 else value, shape)
    except ValueError:
        raise ImageError(
            f"{name} of shape {value.shape} does not fit: give a number, {channels} values (one a channel) "
            f"or an array of {shape}"
        ) from None


def _pixel_values(value: np.ndarray, name: str, pixels: Pixels | None, shape: tuple[int, int, int]) -> np.ndarray:
    """Pixel values in any of the forms of a fill, as the model's numbers: float32, broadcast to `shape`."""
    last = np.moveaxis(value, 0, -1) if value.ndim == 3 else value[..., None] if value.ndim == 2 else value
    model = _to_model(np.atleast_1d(last), pixels, shape[0], f"{name} in pixel values")
    return finite(np.moveaxis(model, -1, 0) if model.ndim == 3 else model, name)


def _to_model(values: np.ndarray, pixels: Pixels | None, channels: int, what: str) -> np.ndarray:
    if pixels is None:
        raise ImageError(
            f"{what} needs to know how pixel values become the model's numbers: give the session a preparation "
            "(--mean, --std, --scale or a preset), or state the fill in the model's numbers"
        )
    model = pixels.to_model(values)
    if model.shape[-1] != channels:
        raise ImageError(
            f"{what}: the preparation is of {model.shape[-1]} channels and the image has {channels}: "
            "give the channel order that the model wants"
        )
    return model


def warn_of_pixel_values(value: np.ndarray, image: np.ndarray, stacklevel: int) -> None:
    """Warn where numbers of the model's space look like pixel values beside the image: float32 (C, h, w), (C, H, W)."""
    low, high = float(image.min()), float(image.max())
    far = value[(value > high + FAR_RANGES * max(high - low, 1.0)) & (value <= LARGEST_PIXEL)]
    if far.size:
        warnings.warn(
            f"fill {far[0]:g} looks like a pixel value, and is taken as the model's own number beside an image of "
            f"{low:.3g} to {high:.3g}: fill_space='pixel' (--fill-space pixel) says that it is one",
            stacklevel=stacklevel,
        )


def finite(value: object, what: str) -> np.ndarray:
    """As float32. Raises ImageError where it is not finite numbers."""
    try:
        with np.errstate(over="ignore"):  # reported below
            array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ImageError(f"{what} is not made of numbers: {' '.join(repr(value).split())[:80]}") from None
    if not np.isfinite(array).all():
        raise ImageError(f"{what} has values that are not finite (NaN or infinity): replace them")
    return array


def names(count: int) -> Sequence[str]:
    """What fills are called in an error: "fill", or "fill[0]", "fill[1]", ..."""
    return ["fill"] if count == 1 else [f"fill[{number}]" for number in range(count)]

"""From an image to the array a model takes, by rules that are stated and never guessed, and back for the eye.

Pictures are turned into numbers as a Preparation says; arrays are prepared already and taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError, one_line
from krypton_onnx.images import fitting
from krypton_onnx.images.preparation import (
    LAYOUTS,
    ORDERS,
    Layout,
    Preparation,
    counted,
    window_words,
    windowed,
)
from krypton_onnx.images.reading import MAX_PIXELS, notes_of

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's modes of one channel with more than 8 bits: their values have a range of their own.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

_MODES = {
    "L": "grey", "LA": "grey", "1": "black and white", "P": "a palette", "F": "grey, floats", "I": "grey, 32 bits",
}  # fmt: skip


@dataclass(frozen=True)
class _Eye:
    """From the model's numbers back to what is seen: (x * std + mean) / scale, then `low` black and `high` white."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    reverse: bool = False  # blue first
    low: float = 0.0
    high: float = 255.0

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """uint8 (..., 3) of (..., C); channels that are not three are averaged."""
        values = (values.astype(np.float64) * np.asarray(self.std) + np.asarray(self.mean)) / self.scale
        if self.reverse:
            values = values[..., ::-1]
        if values.shape[-1] != 3:
            values = np.repeat(values.mean(axis=-1, keepdims=True), 3, axis=-1)
        stretched = (values - self.low) * (255 / ((self.high - self.low) or 255.0))
        return stretched.round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """array : float32 (1, C, H, W) or (1, H, W, C), for the model. shown : uint8 (H, W, 3), for the eye: what the model
    saw. steps : how the one became the other, in words, in order."""

    array: np.ndarray
    shown: np.ndarray
    steps: tuple[str, ...] = ()
    _eye: _Eye = field(default_factory=_Eye, repr=False)

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the model's input as pixels: uint8 (N, h, w, 3) of float (N, C, h, w), channels first whatever the
        model's layout. As `shown`: what lies outside the range of pixel values is black or white.
        """
        return self._eye.pixels(np.moveaxis(np.asarray(values), 1, -1))


def prepare_image(
    source: Image | np.ndarray, preparation: Preparation, channels: int | None = None, name: str = "the image"
) -> PreparedImage:
    """The array for a model of `channels` channels (None: whatever the image has), and the picture to show.

    An array is not prepared again: of `preparation` only the layout counts, and the size, which must be right
    already. `name` starts the message of an ImageError, raised where the image does not fit the model.
    """
    if isinstance(source, np.ndarray):
        return _prepare_array(source, preparation, channels, name)
    if channels not in (None, preparation.channels):
        order = {1: "the channel order gray", 3: "the channel order rgb or bgr"}.get(channels or 0)
        raise ImageError(
            f"{name}: a picture of {counted(preparation.channels)}, but the model takes {channels}: "
            f"give {order or 'a .npy array of floats instead'}"
        )
    return _prepare_picture(source, preparation, name)


def _prepare_picture(picture: Image, preparation: Preparation, name: str) -> PreparedImage:
    notes = notes_of(picture)
    colour = _MODES.get(picture.mode, "grey, 16 bits" if picture.mode in DEEP_MODES else picture.mode)
    known = () if notes.grey is not None else (colour,)
    steps = [", ".join((f"{picture.width} x {picture.height} px", *known, *notes.words))]
    try:
        picture, ranged, words = _values(picture, preparation)
        steps += words
        placement = fitting.place((picture.height, picture.width), preparation, MAX_PIXELS)
        picture = fitting.fit_picture(picture, placement, preparation)
    except (ValueError, OSError) as error:
        if isinstance(error, ImageError):
            raise ImageError(f"{name}: {error}") from None
        # Of a mode that Pillow reads and does not convert.
        raise ImageError(f"{name}: pixels of mode {picture.mode} cannot be converted: {one_line(error)}") from None
    pixels = np.asarray(picture, dtype=np.float32)
    _require_finite(pixels, name)
    low, high = (0.0, 255.0) if ranged else (float(pixels.min()), float(pixels.max()))
    eye = _Eye(
        preparation.factor, preparation.mean, preparation.std, preparation.channel_order == "bgr", low, high
    )
    shown = _Eye(low=low, high=high).pixels(pixels.reshape(*pixels.shape[:2], -1))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], preparation.channels, axis=2)
        if preparation.channels == 3:
            steps.append("grey in all three channels")
    steps += fitting.words(placement, preparation)
    steps += [ORDERS["bgr"]] if preparation.channel_order == "bgr" else []
    if preparation.channel_order == "bgr":
        pixels = pixels[:, :, ::-1]
    values = (pixels * preparation.factor - np.asarray(preparation.mean)) / np.asarray(preparation.std)
    array = _laid_out(values, preparation.layout)
    _require_finite(array, f"{name}: after scale, mean and std the image")
    return PreparedImage(array, shown, (*steps, preparation.formula(), LAYOUTS[preparation.layout]), eye)


def _values(picture: Image, preparation: Preparation) -> tuple[Image, bool, list[str]]:
    """Pixel values as a picture of mode L, RGB or F, whether they are 0 to 255, and how they came about."""
    from PIL import Image

    grey = notes_of(picture).grey
    if grey is not None and picture.mode == "F":
        values = grey.pixels(np.asarray(picture), preparation.window)
        return Image.fromarray(values), True, list(grey.words(preparation.window))
    if picture.mode in DEEP_MODES:
        if preparation.window is not None:
            values = windowed(np.asarray(picture.convert("F")), preparation.window)
            return Image.fromarray(values), True, [window_words(preparation.window)]
        if preparation.scale is None:
            raise ImageError(
                "has more than 8 bits a pixel, so its range is not known; give the scale "
                "(1/65535 brings 16 bits to 0..1) or a window"
            )
        return picture.convert("F"), False, []
    if preparation.window is not None:
        raise ImageError(
            "a window is given, but its pixels have 8 bits: windows are for DICOM and pictures of more bits"
        )
    wanted = "L" if preparation.channel_order == "gray" else "RGB"
    opaque = _opaque(picture)
    turned = wanted == "L" and picture.mode not in ("L", "LA", "1")
    return opaque.convert(wanted), True, ["turned to grey"] if turned else []


def _prepare_array(array: np.ndarray, preparation: Preparation, channels: int | None, name: str) -> PreparedImage:
    channels_first = preparation.layout == "nchw"
    order = "(C, H, W)" if channels_first else "(H, W, C)"
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and channels_first:
        array = array.transpose(1, 2, 0)
    elif array.ndim != 3:
        raise ImageError(f"{name}: an array of shape {array.shape}; the model takes one image {order}")
    if channels not in (None, array.shape[2]):
        raise ImageError(f"{name}: has {counted(array.shape[2])} where the model takes {channels}, as {order}")
    if preparation.size not in (None, array.shape[:2]):
        height, width = array.shape[:2]
        wanted = "{} x {}".format(*preparation.size or ())
        raise ImageError(f"{name}: is {height} x {width} where the model takes {wanted}; arrays are not resized")
    if not array.size:
        raise ImageError(f"{name}: has no pixels")
    laid_out = _laid_out(array, preparation.layout)
    _require_finite(laid_out, name)
    # Of an unknown range: its extremes become black and white.
    seen = array if array.shape[2] == 3 else array.mean(axis=2, dtype=np.float64)
    eye = _Eye(low=float(seen.min()), high=float(seen.max()))
    height, width, count = array.shape
    taken = f"an array of {width} x {height} px and {counted(count)}, taken as it is"
    return PreparedImage(laid_out, eye.pixels(array), (taken,), eye)


def _require_finite(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all():
        raise ImageError(f"{name}: holds NaN or infinite values")


def _opaque(picture: Image) -> Image:
    """The picture without its alpha channel, which must not matter: what is behind it is unknown."""
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    if picture.getchannel("A").getextrema() != (255, 255):
        raise ImageError("has transparent pixels; lay it on a background first")
    return picture.convert("RGB")


def _laid_out(values: np.ndarray, layout: Layout) -> np.ndarray:
    """(H, W, C) as a contiguous float32 batch of one in the model's layout."""
    if layout == "nchw":
        values = values.transpose(2, 0, 1)
    with np.errstate(over="ignore"):  # found out by who calls
        return np.ascontiguousarray(values, dtype=np.float32)[None]

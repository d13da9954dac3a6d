"""From an image file to the array a model takes, by rules that are stated and never guessed.

Two kinds of file: pictures (whatever Pillow opens), which a Preparation turns into numbers, and .npy arrays
of floats, which are prepared already and are taken as they are.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from krypton_onnx.errors import ImageError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

ChannelOrder = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]

# Pillow's modes of one channel with more than 8 bits: their values have a range of their own.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

# As Pillow's own limit of what could be a decompression bomb, which it only warns of at half.
MAX_PIXELS = 178_956_970


@dataclass(frozen=True)
class Preparation:
    """How a model wants its image: x = (pixel * scale - mean) / std, in the model's own channel order.

    size : (height, width) to resize to (bilinear, antialiased, aspect not kept); None keeps the image's own.
    mean, std : one number, or one a channel, in the units that `scale` leads to (after scaling).
    scale : factor on the pixel values; None is 1/255 for images of 8 bits, and refused for deeper ones.
    channel_order : "rgb", "bgr" or "gray" (one channel; colour turns to grey by ITU-R 601, as Pillow does).
    layout : "nchw" (channels first) or "nhwc" (channels last).
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float | None = None
    channel_order: ChannelOrder = "rgb"
    layout: Layout = "nchw"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ImageError(
                    f"{name} has {len(values)} values, but the model's image has {_counted(self.channels)}: "
                    "give one value, or one a channel"
                )
        if any(value == 0 for value in self.std):
            raise ImageError("std must not be 0: the pixels are divided by it")

    @property
    def channels(self) -> int:
        return 1 if self.channel_order == "gray" else 3


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """array : float32 (1, C, H, W) or (1, H, W, C), for the model. shown : uint8 (H, W, 3), for the eye."""

    array: np.ndarray
    shown: np.ndarray


def read_image(path: str | os.PathLike[str]) -> Image | np.ndarray:
    """A picture as Pillow reads it (turned upright), or the float array of a .npy file as it is.

    Raises ImageError where there is no such file, it is no image, or holds several.
    """
    path = _regular_file(path)
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Of metadata that it cannot read and of many pixels: what matters is raised.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise ImageError(f"{path}: has {file.width} x {file.height} pixels; at most 13000 x 13000 are read")
                frames = getattr(file, "n_frames", 1)
                if frames > 1:
                    raise ImageError(f"{path}: holds {frames} images; save the one to explain by itself")
                file.load()
                return ImageOps.exif_transpose(file)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image in a format known here (PNG, JPEG, TIFF, ..., .npy)") from None
    except Exception as error:  # Pillow's readers raise what comes of a broken file: struct.error, IndexError, ...
        raise ImageError(f"{path}: the image cannot be read: {one_line(error) or type(error).__name__}") from None


def _regular_file(path: str | os.PathLike[str]) -> Path:
    """Raises ImageError where it is none: to open a pipe would wait for ever, and a device may have no end."""
    try:
        path = Path(path)
        if path.is_file():
            return path
        if path.is_dir():
            raise ImageError(f"{path}: is a folder; give the path of an image")
        if path.exists():
            raise ImageError(f"{path}: is not a regular file; give the path of an image")
    except (OSError, ValueError, TypeError) as error:  # a name that is too long, or holds a zero byte, or is no name
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{str(path)[:200]}: cannot be read: {one_line(error)[:200]}") from None
    raise ImageError(f"{path}: no such file; give the path of an image")


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
            f"{name}: a picture of {_counted(preparation.channels)}, but the model takes {channels}: "
            f"give {order or 'a .npy array of floats instead'}"
        )
    return _prepare_picture(source, preparation, name)


def _prepare_picture(picture: Image, preparation: Preparation, name: str) -> PreparedImage:
    from PIL import Image

    deep = picture.mode in DEEP_MODES
    if deep and preparation.scale is None:
        raise ImageError(
            f"{name}: has more than 8 bits a pixel, so its range is not known; give the scale "
            "(1/65535 brings 16 bits to 0..1)"
        )
    scale = 1 / 255 if preparation.scale is None else preparation.scale
    try:
        if deep:
            picture = picture.convert("F")
        else:
            picture = _opaque(picture, name).convert("L" if preparation.channel_order == "gray" else "RGB")
    except (ValueError, OSError) as error:  # of a mode that Pillow reads and does not convert
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: pixels of mode {picture.mode} cannot be converted: {one_line(error)}") from None
    if preparation.size is not None and picture.size != preparation.size[::-1]:
        picture = picture.resize(preparation.size[::-1], Image.Resampling.BILINEAR)

    pixels = np.asarray(picture, dtype=np.float32)
    _require_finite(pixels, name)
    shown = _stretched(pixels[:, :, None]) if deep else np.asarray(picture.convert("RGB"))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], preparation.channels, axis=2)
    if preparation.channel_order == "bgr":
        pixels = pixels[:, :, ::-1]
    values = (pixels * scale - np.asarray(preparation.mean)) / np.asarray(preparation.std)
    array = _laid_out(values, preparation.layout)
    _require_finite(array, f"{name}: after scale, mean and std the image")
    return PreparedImage(array, shown)


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
        raise ImageError(f"{name}: has {_counted(array.shape[2])} where the model takes {channels}, as {order}")
    if preparation.size not in (None, array.shape[:2]):
        height, width = array.shape[:2]
        wanted = "{} x {}".format(*preparation.size or ())
        raise ImageError(f"{name}: is {height} x {width} where the model takes {wanted}; arrays are not resized")
    if not array.size:
        raise ImageError(f"{name}: has no pixels")
    laid_out = _laid_out(array, preparation.layout)
    _require_finite(laid_out, name)
    return PreparedImage(laid_out, _stretched(array))


def _require_finite(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all():
        raise ImageError(f"{name}: holds NaN or infinite values")


def _read_array(path: Path) -> np.ndarray:
    try:
        # Mapped first: a header of a few bytes can claim any size, and only then is it held against that of the file.
        with np.errstate(over="ignore"):  # of the size that it computes
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # NumPy's reader raises what comes of a broken header: SyntaxError, TokenError, ...
        raise ImageError(f"{path}: not a .npy array of numbers, or cut short, or empty") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", "an archive")
        raise ImageError(f"{path}: holds {kind}; an array is taken as it is, so it must be prepared floats")
    if array.size > 3 * MAX_PIXELS:
        raise ImageError(f"{path}: has {array.size:,} values, more than any image here")
    return np.array(array)


def _opaque(picture: Image, name: str) -> Image:
    """The picture without its alpha channel, which must not matter: what is behind it is unknown."""
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    if picture.getchannel("A").getextrema() != (255, 255):
        raise ImageError(f"{name}: has transparent pixels; lay it on a background first")
    return picture.convert("RGB")


def _laid_out(values: np.ndarray, layout: Layout) -> np.ndarray:
    """(H, W, C) as a contiguous float32 batch of one in the model's layout."""
    if layout == "nchw":
        values = values.transpose(2, 0, 1)
    with np.errstate(over="ignore"):  # found out by who calls
        return np.ascontiguousarray(values, dtype=np.float32)[None]


def _stretched(values: np.ndarray) -> np.ndarray:
    """(H, W, C) of any range as uint8 (H, W, 3): its extremes become black and white. For the eye only."""
    if values.shape[2] != 3:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255 / (high - low) if high > low else 0.0)).round().astype(np.uint8)


def _counted(channels: int) -> str:
    return f"{channels} channel{'s' if channels != 1 else ''}"

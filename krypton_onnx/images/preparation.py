"""How a model wants its image: a small declared thing, given once and never guessed."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from krypton_onnx.errors import ImageError, one_line
from krypton_onnx.values import Read, integer, meant, number, several, word

ChannelOrder = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]
Fit = Literal["stretch", "crop", "pad"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]


def _finite(what: str, fits: Callable[[float], bool]) -> Read:
    return number(what, lambda value: math.isfinite(value) and fits(value))


_numbers = several(number("a finite number"), "finite numbers, one or one a channel")
_window = several(number("a finite number"), "two finite numbers, the centre and the width of the values to show", (2,))

# How each field is read, from a file or as an argument; None stays None where it is the default.
FIELDS: Mapping[str, Read] = {
    "size": several(integer(1), "two integers (height and width) of at least 1", (2,)),
    "mean": _numbers,
    "std": _numbers,
    "scale": _finite("a finite number other than 0", lambda value: value != 0),
    "channel_order": word(get_args(ChannelOrder)),
    "layout": word(get_args(Layout)),
    "fit": word(get_args(Fit)),
    "resize": integer(1),
    "resample": word(get_args(Resample)),
    "padding": _finite("a pixel value, 0 to 255", lambda value: 0 <= value <= 255),
    "window": _window,
}


@dataclass(frozen=True)
class Preparation:
    """How a model wants its image: x = (pixel * scale - mean) / std, in the model's own channel order.

    size : (height, width) of the result; None keeps the image's own.
    mean, std : one number, or one a channel, in the units that `scale` leads to (after scaling).
    scale : factor on the pixel values; None is 1/255 for images of 8 bits, and refused for deeper ones.
    channel_order : "rgb", "bgr" or "gray" (one channel; colour turns to grey by ITU-R 601, as Pillow does).
    layout : "nchw" (channels first) or "nhwc" (channels last).
    fit : how a picture of another shape comes to `size`. "stretch": resized to it, the aspect is not kept. "crop":
        resized until its shorter side has `resize` pixels, and the centre cut out, as torchvision's Resize and
        CenterCrop do. "pad": resized until it fits inside, and centred on a ground of `padding` (letterbox).
    resize : the shorter side before the crop, in pixels; None is the smallest that covers `size`.
    resample : Pillow's filter, antialiased where the picture gets smaller (as torchvision on a Pillow image).
    padding : the pixel value around a letterboxed picture: 0 is black, as TensorFlow's resize_with_pad has it.
    window : (centre, width) of the values that become pixel values 0 to 255, of images of more than 8 bits: a DICOM
        file's own numbers (Hounsfield units for CT), or those of a 16-bit PNG or TIFF. None is what a DICOM file
        itself asks for.

    Every value is checked: raises ImageError where one cannot be right.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float | None = None
    channel_order: ChannelOrder = "rgb"
    layout: Layout = "nchw"
    fit: Fit = "stretch"
    resize: int | None = None
    resample: Resample = "bilinear"
    padding: float = 0.0
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            try:
                object.__setattr__(self, field.name, FIELDS[field.name](value))
            except ValueError as error:
                raise ImageError(f"{field.name} {error}") from None
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ImageError(
                    f"{name} has {len(values)} values, but the model's image has {counted(self.channels)}: "
                    "give one value, or one a channel"
                )
        if any(value == 0 for value in self.std):
            raise ImageError("std must not be 0: the pixels are divided by it")
        if self.resize is not None and self.fit != "crop":
            raise ImageError(f"resize has no meaning with fit {self.fit}: it is the shorter side before a crop")
        if self.resize is not None and self.size is not None and self.resize < min(self.size):
            raise ImageError(
                f"resize {self.resize} is smaller than the {self.size[0]} x {self.size[1]} to be cut out of it"
            )
        if self.window is not None and self.window[1] <= 0:
            raise ImageError(f"window has the width {self.window[1]:g}; it must be above 0")

    @property
    def channels(self) -> int:
        return 1 if self.channel_order == "gray" else 3

    @property
    def factor(self) -> float:
        """`scale`, where pixel values are 0 to 255."""
        return 1 / 255 if self.scale is None else self.scale

    # -- pixels and the model's numbers ------------------------------------------------------------------------------

    def to_model(self, pixels: np.ndarray | float | Sequence[float]) -> np.ndarray:
        """Pixel values as the model sees them: float64 (..., channels), in its channel order.

        pixels : (..., 3) red, green, blue (or grey, three times or once), 0 to 255; or one number, for all channels.
        Of a gray model red, green and blue are weighed by ITU-R 601. Raises ImageError where they are neither.
        """
        values = np.asarray(pixels, np.float64)
        if values.ndim == 0:
            values = values[None]
        if values.shape[-1] not in (1, 3):
            raise ImageError(f"a pixel has one value or three (red, green, blue), got {values.shape[-1]}")
        if self.channel_order == "gray" and values.shape[-1] == 3:
            values = values @ np.array([[0.299], [0.587], [0.114]])
        elif self.channel_order == "bgr":
            values = values[..., ::-1]
        values = np.broadcast_to(values, (*values.shape[:-1], self.channels))
        return (values * self.factor - np.asarray(self.mean)) / np.asarray(self.std)

    # -- the same for a certain model --------------------------------------------------------------------------------

    def adapted(self, channels: int | None, size: tuple[int, int] | None, layout: Layout) -> Preparation:
        """The same for a model whose image is of these `channels` and this `size`, where they are fixed.

        The model's size takes the place of its own, and `resize` keeps its ratio to it (256 for 224 gives 342 for
        299; of height and width to the one that grows more). A model of one channel gets grey, where mean and std are
        the same for all channels.
        """
        resize = self.resize
        if resize is not None and size is not None:
            ratio = 1.0 if self.size is None else max(new / old for new, old in zip(size, self.size, strict=True))
            resize = max(round(resize * ratio), min(size))
        same = len(self.mean) == len(self.std) == 1
        gray = channels == 1 and same and self.channel_order == "rgb"
        return replace(
            self, size=size or self.size, resize=resize, layout=layout,
            channel_order="gray" if gray else self.channel_order,
        )  # fmt: skip

    # -- in words ----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """In words, on one line: "shorter side to 256 px, centre 224 x 224 px (bilinear); RGB; pixel / 255; ..."."""
        first = [] if self.window is None else [window_words(self.window)]
        order, layout = ORDERS[self.channel_order], LAYOUTS[self.layout]
        return "; ".join([*first, self._size_words(), order, self.formula(), layout])

    def _size_words(self) -> str:
        if self.size is None and self.resize is None:
            return "size as it is"
        if self.size is None:
            return f"shorter side to {self.resize} px ({self.resample})"
        size = f"{self.size[1]} x {self.size[0]} px"
        if self.fit == "crop":
            first = "covering it" if self.resize is None else f"shorter side to {self.resize} px"
            return f"{first}, centre {size} ({self.resample})"
        return f"{size}, {FITS[self.fit]} ({self.resample})"

    def formula(self) -> str:
        """What is computed of each pixel, as "(pixel / 255 - 0.5) / 0.25"."""
        scale = self.factor
        words = "pixel" if scale == 1 else f"pixel * {scale:.10g}"
        if abs(scale) < 1 and abs(round(1 / scale, 3) * scale - 1) < 1e-9:
            words = f"pixel / {round(1 / scale, 3):.10g}"
        if any(self.mean):
            words += f" - {channel_words(self.mean)}"
        if any(value != 1 for value in self.std):
            words = f"({words}) / {channel_words(self.std)}" if " " in words else f"{words} / {channel_words(self.std)}"
        return words

    # -- as data -----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not as by default, as TOML and JSON hold them."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, (value, default) in given.items()
            if value != default
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Preparation:
        """What `to_dict` wrote. Raises ImageError where it has a key too many or a value that cannot be right."""
        for name in data:
            if name not in FIELDS:
                raise ImageError(f"{name!r} is not a key of a preparation{meant(name, FIELDS) or _known(FIELDS)}")
        return Preparation(**data)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Preparation:
        """The preparation in a TOML file: the fields as keys, or those of its table [preparation], as in a
        specification. Raises ImageError with one line that names the file."""
        path = Path(path)
        try:
            if path.exists() and not path.is_file():  # a pipe or a device may have no end
                raise ImageError(f"{path}: is not a regular file; give the path of a preparation (.toml)")
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            table = data.get("preparation", data)
            if not isinstance(table, dict):
                raise ImageError("'preparation' must be a table: write [preparation] and its keys below")
            return Preparation.from_dict(table)
        except FileNotFoundError:
            raise ImageError(f"{path}: no such file; give the path of a preparation (.toml)") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise ImageError(f"{path}: is not valid TOML: {one_line(error)}") from None
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from None
        except ImageError as error:
            raise ImageError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None

    @staticmethod
    def preset(name: str) -> Preparation:
        """One that is known by name (krypton_onnx.images.presets). Raises ImageError where there is none."""
        from krypton_onnx.images.presets import PRESETS

        if name not in PRESETS:
            raise ImageError(f"{name!r} is not a preset{meant(name, PRESETS) or _known(PRESETS)}")
        return PRESETS[name].preparation


ORDERS = {"rgb": "RGB", "bgr": "BGR (blue first)", "gray": "grey"}
LAYOUTS = {"nchw": "channels first", "nhwc": "channels last"}
FITS = {"stretch": "stretched", "pad": "padded"}


def counted(channels: int) -> str:
    """ "1 channel", "3 channels"."""
    return f"{channels} channel{'s' if channels != 1 else ''}"


def channel_words(values: Sequence[float]) -> str:
    """0.5, or (0.485, 0.456, 0.406)."""
    words = ", ".join(f"{value:.10g}" for value in values)
    return words if len(values) == 1 and values[0] >= 0 else f"({words})"


def window_words(window: Sequence[float]) -> str:
    """ "window centre 40, width 400 (values -160 to 240)"."""
    centre, width = window
    return f"window centre {centre:g}, width {width:g} (values {centre - width / 2:g} to {centre + width / 2:g})"


def windowed(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Pixel values float32, 0 to 255: black at centre - width / 2 and below, white at centre + width / 2 and above."""
    centre, width = window
    scaled = (values.astype(np.float64) - (centre - width / 2)) * (255 / width)
    return scaled.clip(0, 255).astype(np.float32)


def _known(names: Mapping[str, object]) -> str:
    return f"; there are: {', '.join(names)}"

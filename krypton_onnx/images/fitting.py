"""Where a picture of any shape goes in the frame of the model: resized, and cut or padded around its centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from krypton_onnx.errors import ImageError
from krypton_onnx.images.preparation import Preparation

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Placement:
    """frame : (height, width) of the picture. resized : it becomes this. size : then this, of which row `top` and
    column `left` is the resized picture's first (below 0: cut off there)."""

    frame: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]
    top: int
    left: int


def place(frame: tuple[int, int], preparation: Preparation, most_pixels: int) -> Placement:
    """By the preparation's size, fit and resize. Raises ImageError where that would take more than `most_pixels`, or
    the size cannot be cut out."""
    size, resized = preparation.size, frame
    if preparation.fit == "crop":
        if preparation.resize is not None:
            resized = _shorter_side(frame, preparation.resize)
        elif size is not None:
            resized = _covering(frame, size)
    elif size is not None:
        resized = size if preparation.fit == "stretch" else _inside(frame, size)
    if resized[0] * resized[1] > most_pixels:
        raise ImageError(f"would be resized to {_words(resized)}, more pixels than are read here")
    size = size or resized
    if preparation.fit == "crop" and (resized[0] < size[0] or resized[1] < size[1]):
        raise ImageError(
            f"has {_words(resized)} where its shorter side is resized to {preparation.resize}, and no {_words(size)} "
            "can be cut out of that: give a larger resize"
        )
    if preparation.fit == "crop":  # as torchvision's CenterCrop rounds
        top, left = (-round((have - want) / 2) for have, want in zip(resized, size, strict=True))
    else:
        top, left = ((want - have) // 2 for have, want in zip(resized, size, strict=True))
    return Placement(frame, resized, size, top, left)


def fit_picture(picture: Image, placement: Placement, preparation: Preparation) -> Image:
    """The picture (mode L, RGB or F) in the frame of the model."""
    from PIL import Image

    if placement.resized != placement.frame:
        picture = picture.resize(placement.resized[::-1], Image.Resampling[preparation.resample.upper()])
    if placement.size == placement.resized:
        return picture
    if preparation.fit == "crop":
        left, top = -placement.left, -placement.top
        return picture.crop((left, top, left + placement.size[1], top + placement.size[0]))
    value = preparation.padding if picture.mode == "F" else round(preparation.padding)
    ground = Image.new(picture.mode, placement.size[::-1], (value,) * 3 if picture.mode == "RGB" else value)
    ground.paste(picture, (placement.left, placement.top))
    return ground


def words(placement: Placement, preparation: Preparation) -> tuple[str, ...]:
    """What `fit_picture` does, in words; nothing where it does nothing."""
    steps = []
    if placement.resized != placement.frame:
        if preparation.fit == "crop" and preparation.resize is not None:
            steps.append(f"shorter side to {preparation.resize} px: {_words(placement.resized)}")
        else:
            kept = ", aspect not kept" if preparation.fit == "stretch" and not _similar(placement) else ""
            steps.append(f"resized to {_words(placement.resized)}{kept}")
        steps[-1] += f" ({preparation.resample})"
    if placement.size != placement.resized:
        if preparation.fit == "crop":
            steps.append(f"centre {_words(placement.size)} cut out")
        else:
            steps.append(f"padded to {_words(placement.size)} with pixel value {preparation.padding:g}")
    return tuple(steps)


def _similar(placement: Placement) -> bool:
    """True where the aspect is kept, up to the rounding of sizes to whole pixels."""
    (height, width), (new_height, new_width) = placement.frame, placement.resized
    return abs(new_width - width * new_height / height) <= 0.5 or abs(new_height - height * new_width / width) <= 0.5


def _shorter_side(frame: tuple[int, int], side: int) -> tuple[int, int]:
    """As torchvision's Resize: the longer side is rounded down."""
    height, width = frame
    return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)


def _covering(frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The smallest of the frame's aspect in which `size` has room."""
    height, width = frame
    if size[0] * width >= size[1] * height:
        return size[0], max(size[1], round(width * size[0] / height))
    return max(size[0], round(height * size[1] / width)), size[1]


def _inside(frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest of the frame's aspect that has room in `size`."""
    height, width = frame
    if size[0] * width <= size[1] * height:
        return size[0], min(size[1], max(1, round(width * size[0] / height)))
    return min(size[0], max(1, round(height * size[1] / width))), size[1]


def _words(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"

"""The occlusion grid: plain data, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.shapes import mask_of


@dataclass(frozen=True)
class Grid:
    """Origins of the occlusions: every (top, left) pair is a position. Pixels; int64 (rows,) and (cols,).

    frame : (height, width) of the image. mask : float32 (h, w), the share of each pixel of the patch that is hidden;
    None: all of it.
    """

    tops: np.ndarray
    lefts: np.ndarray
    patch: tuple[int, int]
    stride: tuple[int, int]
    frame: tuple[int, int]
    mask: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.tops), len(self.lefts)

    @property
    def positions(self) -> int:
        return len(self.tops) * len(self.lefts)


def pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    """(height, width) from an int or a pair. Raises ImageError where it is not positive integers."""
    try:
        values = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
        height, width = (int(number) for number in values)
        if (height, width) != tuple(values) or any(isinstance(number, (bool, np.bool_)) for number in values):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ImageError(f"{name} must be an int or (height, width), got {value!r}") from None
    if height < 1 or width < 1:
        raise ImageError(f"{name} must be at least 1 pixel, got {value!r}")
    return height, width


def make_grid(
    frame: tuple[int, int],
    patch: int | tuple[int, int],
    stride: int | tuple[int, int],
    region: tuple[int, int, int, int] | None = None,
    patch_shape: str | np.ndarray = "rectangle",
) -> Grid:
    """The grid that holds every position where the patch fits: rows = ceil((H - h + 1) / stride).

    region: (top, left, bottom, right) to explain only there. patch_shape: as Occlusion has it. Raises ImageError where
    the patch does not fit, or the shape not the patch.
    """
    height, width = pair(patch, "patch")
    step_y, step_x = pair(stride, "stride")
    top, left, bottom, right = (0, 0, *frame) if region is None else _edges(region, frame)
    if height > bottom - top or width > right - left:
        what = "image" if region is None else "region"
        raise ImageError(
            f"patch {height} x {width} is larger than the {bottom - top} x {right - left} {what}: make it smaller"
        )
    # A longer step than the image is one position, and may be more than an int64 holds.
    tops = np.arange(top, bottom - height + 1, min(step_y, frame[0]), dtype=np.int64)
    lefts = np.arange(left, right - width + 1, min(step_x, frame[1]), dtype=np.int64)
    return Grid(tops, lefts, (height, width), (step_y, step_x), frame, mask_of(patch_shape, (height, width)))


def _edges(region: tuple[int, int, int, int], frame: tuple[int, int]) -> tuple[int, int, int, int]:
    try:
        top, left, bottom, right = (int(edge) for edge in region)
        valid = (top, left, bottom, right) == tuple(region)
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid or not (0 <= top < bottom <= frame[0] and 0 <= left < right <= frame[1]):
        raise ImageError(
            f"region must be (top, left, bottom, right) in pixels inside the {frame[0]} x {frame[1]} image, "
            f"got {region!r}"
        )
    return top, left, bottom, right

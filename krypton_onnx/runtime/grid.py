"""The occlusion grid, and what is put in the patch's place: plain data, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from krypton_onnx.errors import ImageError

Fill = float | np.ndarray | Callable[[np.ndarray, int, int, int, int], np.ndarray]


@dataclass(frozen=True)
class Grid:
    """Origins of the occlusions: every (top, left) pair is a position. Pixels; int64 (rows,) and (cols,)."""

    tops: np.ndarray
    lefts: np.ndarray
    patch: tuple[int, int]
    stride: tuple[int, int]

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
) -> Grid:
    """The grid that holds every position where the patch fits: rows = ceil((H - h + 1) / stride).

    region: (top, left, bottom, right) to explain only there. Raises ImageError where the patch does not fit.
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
    return Grid(tops, lefts, (height, width), (step_y, step_x))


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


class Patches:
    """What stands in the patch's place: float32 (K, N or 1, C, h, w) for any positions, K fills to average over."""

    def __init__(self, fill: Fill, image: np.ndarray, grid: Grid) -> None:
        """image: float32 (C, H, W), the model's input space. Raises ImageError where the fill does not fit."""
        self._image = image.view()  # handed to the caller's function, which must not change what is explained
        self._image.setflags(write=False)
        self._grid = grid
        self._callable = fill if callable(fill) else None
        channels, (height, width) = image.shape[0], grid.patch
        if self._callable is None:
            value = _finite(fill, "fill")
            try:
                spread = value[:, None, None] if value.ndim == 1 else value
                constant = np.broadcast_to(spread, (channels, height, width))
            except ValueError:
                raise ImageError(
                    f"fill of shape {value.shape} does not fit: give a number, {channels} values (one a channel) "
                    f"or an array of {(channels, height, width)}"
                ) from None
            self._constant = np.ascontiguousarray(constant)[None, None]

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """Patches for N positions."""
        if self._callable is None:
            return self._constant
        channels, (height, width) = self._image.shape[0], self._grid.patch
        made = []
        for top, left in zip(tops, lefts, strict=True):
            where = f"what fill returned at (top, left) = ({top}, {left})"
            patch = _finite(self._callable(self._image, int(top), int(left), height, width), where)
            if patch.shape[-3:] != (channels, height, width) or patch.ndim not in (3, 4) or not len(patch):
                raise ImageError(
                    f"{where} has shape {patch.shape}; "
                    f"expected {(channels, height, width)} or (K, ...) of it"
                )
            made.append(patch.reshape(-1, channels, height, width))
        if len({len(patch) for patch in made}) > 1:
            raise ImageError("fill must return the same number of patches (K) at every position")
        return np.ascontiguousarray(np.stack(made, axis=1))


def _finite(value: object, what: str) -> np.ndarray:
    """As float32. Raises ImageError where it is not finite numbers."""
    try:
        with np.errstate(over="ignore"):  # reported below
            array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ImageError(f"{what} is not made of numbers: {' '.join(repr(value).split())[:80]}") from None
    if not np.isfinite(array).all():
        raise ImageError(f"{what} has values that are not finite (NaN or infinity): replace them")
    return array

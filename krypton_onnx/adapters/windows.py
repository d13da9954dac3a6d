"""Captum's sliding windows along one dimension, and the fill that hides what a window covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.grid import Grid


@dataclass(frozen=True)
class Windows:
    """Windows of `size` values that begin at `starts`, along a dimension of `length`; the last may be cut off there."""

    starts: tuple[int, ...]
    size: int
    step: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether no window is cut off."""
        return self.starts[-1] + self.size <= self.length

    @property
    def origins(self) -> np.ndarray:
        """Of patches as large as a window, int64; that of a window which is cut off lies at the edge, inside."""
        return np.minimum(np.array(self.starts, np.int64), self.length - self.size)

    def visible(self, origin: int) -> int:
        """How many values at the begin of the patch of this origin stay as they are."""
        # Only a window that is cut off has its patch at the edge, or there is nothing to keep.
        return self.starts[-1] - origin if origin == self.length - self.size else 0


def windows_of(length: int, size: int, step: int, dimension: str) -> Windows:
    """As Captum lays them: ceil((length - size) / step) + 1. Raises ImageError where they would leave values out."""
    if size > length:
        raise ImageError(
            f"sliding_window_shapes: the window has {size}, the input {length} along the {dimension}: make it smaller"
        )
    if size < length and step > size:
        raise ImageError(
            f"strides: a step of {step} is larger than the window of {size} along the {dimension}: make it smaller"
        )
    steps = -(-(length - size) // step)
    return Windows(tuple(step * number for number in range(steps + 1)), size, step, length)


@dataclass(frozen=True)
class Scan:
    """Windows over an example: along its channels, its height and its width."""

    channels: Windows
    rows: Windows
    columns: Windows

    @property
    def grid(self) -> Grid:
        rows, columns = self.rows, self.columns
        return Grid(
            rows.origins, columns.origins, (rows.size, columns.size), (rows.step, columns.step),
            (rows.length, columns.length),
        )  # fmt: skip

    @property
    def regular(self) -> bool:
        """Whether every window is a whole patch over all channels."""
        return self.channels.size == self.channels.length and self.rows.whole and self.columns.whole


@dataclass(frozen=True, eq=False)
class Hidden:
    """A fill: the baseline (C, H, W) inside the windows that begin at one channel, the image elsewhere."""

    scan: Scan
    channel: int
    baseline: np.ndarray

    def __call__(self, image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
        area = (slice(None), slice(top, top + height), slice(left, left + width))
        channels = slice(self.channel, self.channel + self.scan.channels.size)
        window = (channels, slice(self.scan.rows.visible(top), None), slice(self.scan.columns.visible(left), None))
        patch = image[area].copy()
        patch[window] = self.baseline[area][window]
        return patch

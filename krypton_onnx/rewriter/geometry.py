"""Receptive-field growth in closed form: where an occlusion lands in the frame of any tensor.

Along one axis a chain of local operators maps an occlusion of `size` pixels at origin `o` to the region

    [ceil((scale * o - before) / jump),  floor((scale * (o + size - 1) + after) / jump) + 1)

clipped to the tensor's frame. `jump`, `before`, `after` and `scale` are constants of the tensor, so a region is
computed straight from the occlusion's origin, without walking the operators in between. Clipping once, at the end, can
only make a region larger than clipping after each operator (a superset is as exact, and equal where P <= D(K - 1)).
A cell is jump / scale pixels wide; `scale` is 1 unless an operator enlarged its frame by what `jump` is no multiple of.

Source: Krypton (Nakandala & Kumar, SIGMOD 2019), section 3.2, equations of the output patch; composed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

LARGEST_SCALE = 1 << 20  # products of pixels and scales must stay far from 2^63


@dataclass(frozen=True)
class AxisReads:
    """What the cells of a resampling operator's output read along one axis: first[j] .. last[j], int64 (outputs,).

    A cell that reads nothing has last[j] < first[j]. step : input cells per output cell, as (numerator, denominator).
    """

    first: np.ndarray
    last: np.ndarray
    step: tuple[int, int]


@dataclass(frozen=True)
class AxisGrowth:
    """Growth along one axis, in 1 / scale of a pixel: the step between cells and the reach to either side."""

    jump: int = 1
    before: int = 0
    after: int = 0
    scale: int = 1

    def through(self, kernel: int, stride: int, pad: int, dilation: int) -> AxisGrowth:
        """Growth after a local operator with this kernel, stride, begin pad and dilation (in cells)."""
        return AxisGrowth(
            self.jump * stride,
            self.before + self.jump * (dilation * (kernel - 1) - pad),
            self.after + self.jump * pad,
            self.scale,
        )

    def resampled(self, reads: AxisReads) -> AxisGrowth:
        """Growth after an operator whose output cell j reads the input cells reads.first[j] .. reads.last[j].

        With r = step: a change of cells [a, b] reaches j where last[j] >= a and first[j] <= b, so j lies between
        (a - max(last - r j)) / r and (b - min(first - r j)) / r. Raises ValueError where the scale grows too large.
        """
        numerator, denominator = reads.step
        reading = np.flatnonzero(reads.last >= reads.first)
        high = low = 0
        if len(reading):
            high = int((denominator * reads.last - numerator * np.arange(len(reads.last)))[reading].max())
            low = int((denominator * reads.first - numerator * np.arange(len(reads.first)))[reading].min())
        jump, scale = self.jump * numerator, self.scale * denominator
        before = self.before * denominator + self.jump * high
        after = self.after * denominator - self.jump * low
        common = gcd(jump, scale)
        if scale // common > LARGEST_SCALE:
            raise ValueError(f"regions of 1 / {scale // common} of a pixel")
        # A reach rounded up is a superset.
        return AxisGrowth(jump // common, -(-before // common), -(-after // common), scale // common)

    def aligned(self, other: AxisGrowth) -> bool:
        """True where cells of both are as wide, so that a union exists."""
        return self.jump == other.jump and self.scale == other.scale

    def contains(self, other: AxisGrowth) -> bool:
        """True when, for every occlusion, this region covers `other`'s (cells as wide needed to tell)."""
        return self.aligned(other) and self.before >= other.before and self.after >= other.after

    def union(self, other: AxisGrowth) -> AxisGrowth:
        """The smallest growth that contains both; their cells must be as wide."""
        if not self.aligned(other):
            raise ValueError(
                f"regions of jump {self.jump} / {self.scale} and {other.jump} / {other.scale} do not align"
            )
        return AxisGrowth(self.jump, max(self.before, other.before), max(self.after, other.after), self.scale)

    def region(self, origin: np.ndarray, size: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """First and one-past-last cell, int64 arrays like `origin`, never empty and inside [0, frame)."""
        start = np.clip(-((self.before - self.scale * origin) // self.jump), 0, frame - 1)
        stop = np.minimum((self.scale * (origin + size - 1) + self.after) // self.jump + 1, frame)
        return start, np.maximum(stop, start + 1)


@dataclass(frozen=True)
class Geometry:
    """The growth along both axes, and the frame (height, width) in cells that regions are clipped to."""

    y: AxisGrowth
    x: AxisGrowth
    frame: tuple[int, int]

    def through(
        self,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        frame: tuple[int, int],
    ) -> Geometry:
        """After a local operator; `pads` are top, left (bottom and right only shape the new `frame`)."""
        return Geometry(
            self.y.through(kernel[0], strides[0], pads[0], dilations[0]),
            self.x.through(kernel[1], strides[1], pads[1], dilations[1]),
            frame,
        )

    def resampled(self, y: AxisReads, x: AxisReads) -> Geometry:
        """After a resampling operator. Raises ValueError where the scale grows too large."""
        return Geometry(self.y.resampled(y), self.x.resampled(x), (len(y.first), len(x.first)))

    def contains(self, other: Geometry) -> bool:
        return self.frame == other.frame and self.y.contains(other.y) and self.x.contains(other.x)

    def union(self, other: Geometry) -> Geometry:
        return Geometry(self.y.union(other.y), self.x.union(other.x), self.frame)

    def aligned(self, other: Geometry) -> bool:
        """True where a union exists: same frame, cells as wide."""
        return self.frame == other.frame and self.y.aligned(other.y) and self.x.aligned(other.x)

    def never_clipped(self) -> bool:
        """True when the region of any occlusion inside the image lies inside the frame by construction."""
        return max(self.y.before, self.y.after, self.x.before, self.x.after) <= 0


def image_geometry(frame: tuple[int, int]) -> Geometry:
    """The occlusion itself, in the image's frame."""
    return Geometry(AxisGrowth(), AxisGrowth(), frame)

"""Receptive-field growth in closed form: where an occlusion lands in the frame of any tensor.

Along one axis a chain of local operators maps an occlusion of `size` pixels at origin `o` to the region

    [ceil((o - before) / jump),  floor((o + size - 1 + after) / jump) + 1)

clipped to the tensor's frame. `jump`, `before` and `after` are constants of the tensor, so a region is computed
straight from the occlusion's origin, without walking the operators in between. Clipping once, at the end, can only
make a region larger than clipping after each operator (a superset is as exact, and equal where P <= D(K - 1)).

Source: Krypton (Nakandala & Kumar, SIGMOD 2019), section 3.2, equations of the output patch; composed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AxisGrowth:
    """Growth along one axis, in pixels of the image: the step between cells and the reach to either side."""

    jump: int = 1
    before: int = 0
    after: int = 0

    def through(self, kernel: int, stride: int, pad: int, dilation: int) -> AxisGrowth:
        """Growth after a local operator with this kernel, stride, begin pad and dilation (in cells)."""
        return AxisGrowth(
            self.jump * stride,
            self.before + self.jump * (dilation * (kernel - 1) - pad),
            self.after + self.jump * pad,
        )

    def contains(self, other: AxisGrowth) -> bool:
        """True when, for every occlusion, this region covers `other`'s (same jump needed to tell)."""
        return self.jump == other.jump and self.before >= other.before and self.after >= other.after

    def union(self, other: AxisGrowth) -> AxisGrowth:
        """The smallest growth that contains both; the jumps must be equal."""
        if self.jump != other.jump:
            raise ValueError(f"regions of jump {self.jump} and {other.jump} do not align")
        return AxisGrowth(self.jump, max(self.before, other.before), max(self.after, other.after))

    def region(self, origin: np.ndarray, size: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """First and one-past-last cell, int64 arrays like `origin`, never empty and inside [0, frame)."""
        start = np.clip(-((self.before - origin) // self.jump), 0, frame - 1)
        stop = np.minimum((origin + size - 1 + self.after) // self.jump + 1, frame)
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

    def contains(self, other: Geometry) -> bool:
        return self.frame == other.frame and self.y.contains(other.y) and self.x.contains(other.x)

    def union(self, other: Geometry) -> Geometry:
        return Geometry(self.y.union(other.y), self.x.union(other.x), self.frame)

    def aligned(self, other: Geometry) -> bool:
        """True where a union exists: same frame, same jumps."""
        return self.frame == other.frame and self.y.jump == other.y.jump and self.x.jump == other.x.jump

    def never_clipped(self) -> bool:
        """True when the region of any occlusion inside the image lies inside the frame by construction."""
        return max(self.y.before, self.y.after, self.x.before, self.x.after) <= 0


def image_geometry(frame: tuple[int, int]) -> Geometry:
    """The occlusion itself, in the image's frame."""
    return Geometry(AxisGrowth(), AxisGrowth(), frame)

"""Convolutions of stride 1 by Winograd's F(4, 3), along each axis whose kernel is longer than 1.

Which convolutions, and the transformed weights, are the CPU's (../winograd.py). Besides fewer multiplications it moves
less memory than columns do: 36 floats a channel of a tile of 4x4 pixels, instead of 144. Whether a region wastes too
much of its tiles is judged as on the CPU; on a GPU that is not measured yet. Relative error about 1e-5: not for strict
sessions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import Spatial
from ..winograd import pays, transformed
from .arrays import Pointer, Residual, counted
from .columns import chunk
from .epilogue import Epilogue
from .products import multiply, prepared
from .winograd_transforms import input_both, input_line, output_both, output_line
from .workspace import workspace


class WinogradConvolution:
    """Convolution of stride 1, dilation 1, one group."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, epilogue: Epilogue) -> None:
        """weights float32 (M, C, kh, kw)."""
        outputs = len(weights)
        self._weights = prepared("winograd", weights, lambda: transformed(weights).whole(0, outputs))
        self._geometry, self._epilogue = geometry, epilogue

    def pays(self, height: int, width: int) -> bool:
        """Whether regions of this extent waste few enough of their tiles."""
        _, depth, outputs = self._weights.shape
        return pays(self._geometry.kernel, depth, outputs, height, width)

    def run(
        self, window: tuple[Any, ...], channels: int, origin: Pointer, residual: Residual,
        out: Pointer, shape: tuple[int, ...], stream: Any,
    ) -> None:  # fmt: skip
        """Regions at origin (N,2) into out, of shape (N, eh, ew, M)."""
        n, height, width, outputs = shape
        kernel_y, kernel_x = self._geometry.kernel
        both = kernel_y > 1 and kernel_x > 1
        points, depth, _ = self._weights.shape
        parts = depth // channels
        total = n * (-(-height // 4) if kernel_y > 1 else height) * (-(-width // 4) if kernel_x > 1 else width)
        step = chunk(total, points * max(depth, outputs))
        epilogue = self._epilogue
        with workspace(stream) as scratch:
            most = min(step, total)
            v = scratch.floats("winograd input", counted(most, points, depth))
            m = scratch.floats("winograd products", counted(most, points, outputs))
            for first in range(0, total, step):
                tiles = min(step, total - first)
                (input_both if both else input_line)(
                    tiles * parts * channels, stream, *window, origin, channels, *self._geometry.pads,
                    kernel_y, kernel_x, height, width, first, v,
                )  # fmt: skip
                multiply(v, self._weights, m, tiles, outputs, tiles * outputs, stream)
                common = m, epilogue.bias, outputs, *residual, origin, epilogue.low, epilogue.high
                if both:
                    output_both(tiles * outputs, stream, *common, height, width, first, out)
                else:
                    output_line(tiles * outputs, stream, *common, int(kernel_y > 1), height, width, first, out)

"""Any convolution as window-to-columns and a matrix product, as much at once as scratch memory holds.

Column k of an output pixel is one tap of one input channel, k = (tap_y * kw + tap_x) * C/group + channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import Spatial
from .arrays import SOURCE, Pointer, Residual, offset
from .cells import cell, divide
from .compiled import FLOATS, INT, INTEGERS, kernel
from .epilogue import Epilogue
from .products import multiply, prepared
from .target import cuda, int32
from .workspace import SCRATCH_FLOATS, workspace

_NOTHING = np.float32(0)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, INT, INT, *(INT,) * 8, FLOATS)
def _fill(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, each, height, width, first,
    kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, columns, count,
):  # fmt: skip
    """Output pixels from `first` on, counted over (N, height, width), into columns (groups, pixels, kh*kw*each).

    A thread writes all taps of one channel of a pixel; each is C/group.
    """
    pixels = divide(count, channels)
    taps = int32(kernel_y * kernel_x)
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        p = divide(k, channels)
        c = int32(k - p * channels)
        g = divide(c, each)
        row = divide(int32(first + p), width)
        n = divide(row, height)
        i, j = int32(row - n * height), int32(first + p - row * width)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y0 = int32((origin[2 * n] + i) * stride_y - pad_y)
        x0 = int32((origin[2 * n + 1] + j) * stride_x - pad_x)
        at = int32((g * pixels + p) * taps * each + (c - g * each))
        for tap_y in range(kernel_y):
            y = int32(y0 + tap_y * dilation_y)
            for tap_x in range(kernel_x):
                x = int32(x0 + tap_x * dilation_x)
                columns[at] = cell(
                    patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, _NOTHING
                )  # fmt: skip
                at = int32(at + each)
        k = int32(k + step)


class ColumnConvolution:
    """Convolution of any geometry and group."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, groups: int, epilogue: Epilogue) -> None:
        """weights float32 (M, C/group, kh, kw)."""
        outputs, each = weights.shape[:2]
        self._weights = prepared(
            f"columns of {groups} groups", weights,
            lambda: weights.reshape(groups, outputs // groups, each, -1).transpose(0, 3, 2, 1).reshape(
                groups, -1, outputs // groups
            ),
        )  # fmt: skip
        self._geometry = (*geometry.kernel, *geometry.strides, *geometry.pads, *geometry.dilations)
        self._each, self._epilogue = each, epilogue

    def run(
        self, window: tuple[Any, ...], channels: int, origin: Pointer, residual: Residual,
        out: Pointer, shape: tuple[int, ...], stream: Any,
    ) -> None:  # fmt: skip
        """Regions at origin (N,2) into out, of shape (N, eh, ew, M)."""
        n, height, width, outputs = shape
        groups, depth, each_output = self._weights.shape
        total = n * height * width
        step = chunk(total, groups * depth)
        with workspace(stream) as scratch:
            columns = scratch.floats("columns", min(step, total) * groups * depth)
            for first in range(0, total, step):
                pixels = min(step, total - first)
                _fill(
                    pixels * channels, stream, *window, origin, channels, self._each, height, width, first,
                    *self._geometry, columns,
                )  # fmt: skip
                multiply(columns, self._weights, offset(out, first * outputs), pixels, outputs, each_output, stream)
        self._epilogue.finish(out, shape, residual, origin, stream)


def chunk(total: int, floats: int) -> int:
    """How many of `total` items of so many floats to take at once: chunks of about the same size."""
    most = max(1, SCRATCH_FLOATS // floats)
    return max(1, -(-total // max(1, -(-total // most))))

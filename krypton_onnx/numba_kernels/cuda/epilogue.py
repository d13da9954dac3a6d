"""What follows a convolution's products: bias, residual, activation, in place. Every activation here is a clamp."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import SOURCE, Pointer, Residual, pointer, upload
from .cells import cell, clamp, divide, split
from .compiled import FLOAT, FLOATS, INT, INTEGERS, device, kernel
from .target import cuda, int32

_NOTHING = np.float32(0)


@device
def corner(present, patch_origin, n):
    """Where the residual of position n lies; read before anything is written, after which it would be read again."""
    if present != 0:
        return int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
    return int32(0), int32(0)


@device
def finished(
    value, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, outputs, n, y, x, m, low, high,
):  # fmt: skip
    """clamp(value + what the residual, where it is present, has in channel m of cell (y, x) of position n)."""
    if present != 0:
        value += cell(patch, patch_h, patch_w, view, view_h, view_w, outputs, n, top, left, y, x, m, _NOTHING)
    return clamp(value, low, high)


@kernel(FLOATS, INT, FLOAT, FLOAT, FLOATS)
def _finish(bias, outputs, low, high, out, count):
    """out (..., M) = clamp(out + bias (M,))."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        m = int32(k - divide(k, outputs) * outputs)
        out[k] = clamp(out[k] + bias[m], low, high)
        k = int32(k + step)


@kernel(FLOATS, INT, FLOAT, FLOAT, *SOURCE, INTEGERS, INT, INT, FLOATS)
def _finish_residual(
    bias, outputs, low, high, patch, patch_origin, view, patch_h, patch_w, view_h, view_w,
    origin, height, width, out, count,
):  # fmt: skip
    """out (N, height, width, M) at origin (N, 2) = clamp(out + bias + residual)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, m = split(k, outputs, width, height)
        y, x = int32(origin[2 * n] + i), int32(origin[2 * n + 1] + j)
        top, left = corner(1, patch_origin, n)
        out[k] = finished(
            out[k] + bias[m], 1, patch, view, patch_h, patch_w, view_h, view_w, top, left, outputs, n, y, x, m,
            low, high,
        )  # fmt: skip
        k = int32(k + step)


class Epilogue:
    """Bias and activation of one node."""

    def __init__(self, bias: np.ndarray, low: float, high: float) -> None:
        """bias float32 (M,); the activation as a clamp to (low, high)."""
        self._bias = upload(bias.reshape(-1))
        self.bias, self.outputs = pointer(self._bias), bias.size
        self.low, self.high = low, high
        self._nothing = low == -np.inf and high == np.inf and not bias.any()

    def finish(self, out: Pointer, shape: tuple[int, ...], residual: Residual, origin: Pointer, stream: Any) -> None:
        """out, of shape (N, eh, ew, M) at origin (N, 2), which holds bare products."""
        n, height, width, outputs = shape
        count = n * height * width * outputs
        present, *summand = residual
        if present:
            _finish_residual(
                count, stream, self.bias, outputs, self.low, self.high, *summand, origin, height, width, out
            )
        elif not self._nothing:
            _finish(count, stream, self.bias, outputs, self.low, self.high, out)

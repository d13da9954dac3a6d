"""What follows a convolution's products, in one pass while they are still in cache: bias, residual, activation.

Every supported activation is a clamp to (low, high), and the bias comes tiled over a whole row, so the pass is one
flat loop over rows whatever the number of channels.
"""

import numpy as np

from .arguments import Residual
from .compiled import inline, kernel
from .rows import add, spans


@inline
def clamp(value, low, high):
    """value limited to [low, high]; NaN stays NaN."""
    value = low if value < low else value
    return high if value > high else value


@inline
def add_clamp(target, values, low, high):
    """target = clamp(target + values), elementwise."""
    for k in range(target.size):
        target[k] = clamp(target[k] + values[k], low, high)


@inline
def clamp_row(target, low, high):
    """target = clamp(target), elementwise."""
    for k in range(target.size):
        target[k] = clamp(target[k], low, high)


@inline
def add_residual(patch, n, top, left, view, y, x, channels, low, high, target):
    """target (width*C,) = clamp(target + row y, columns x.. of the residual of position n); 0 off the frame."""
    if y < 0 or y >= view.shape[0]:
        clamp_row(target, low, high)
        return
    width = target.size // channels
    a, p, q, b = spans(x, width, view.shape[1] // channels, left, patch.shape[2] // channels)
    if y < top or y >= top + patch.shape[1]:
        p = b
        q = b
    if a > 0:
        clamp_row(target[: a * channels], low, high)
    if b < width:
        clamp_row(target[b * channels :], low, high)
    if a < p:
        add_clamp(target[a * channels : p * channels], view[y, (x + a) * channels : (x + p) * channels], low, high)
    if p < q:
        first = (x + p - left) * channels
        values = patch[n, y - top, first : first + (q - p) * channels]
        add_clamp(target[p * channels : q * channels], values, low, high)
    if q < b:
        add_clamp(target[q * channels : b * channels], view[y, (x + q) * channels : (x + b) * channels], low, high)


@kernel
def finish_rows(out, first, last, bias, present, res_patch, res_origin, res_view, origin, channels, low, high):
    """Rows [first, last) of out (N, eh, ew*M), counted over n*eh + i: + bias (ew*M,), + residual, clamped."""
    height = out.shape[1]
    low32, high32 = np.float32(low), np.float32(high)
    for r in range(first, last):
        n, i = r // height, r % height
        row = out[n, i]
        if present:
            add(row, bias)
            add_residual(
                res_patch, n, res_origin[n, 0], res_origin[n, 1], res_view,
                origin[n, 0] + i, origin[n, 1], channels, low32, high32, row,
            )  # fmt: skip
        else:
            add_clamp(row, bias, low32, high32)


class Epilogue:
    """Bias and activation of one node, ready for any region width."""

    def __init__(self, bias: np.ndarray, low: float, high: float) -> None:
        """bias float32 (M,); the activation as a clamp to (low, high)."""
        self.bias = np.array(bias, np.float32).reshape(-1)
        self.low, self.high = low, high
        self._tiled: dict[int, np.ndarray] = {}
        self._zeros: dict[int, np.ndarray] = {}

    def row(self, width: int) -> np.ndarray:
        """The bias tiled over a row of `width` pixels (width*M,)."""
        tiled = self._tiled.get(width)
        if tiled is None:
            tiled = self._tiled[width] = np.tile(self.bias, width)
        return tiled

    def finish(self, out: np.ndarray, first: int, last: int, residual: Residual, origin: np.ndarray) -> None:
        """Rows [first, last) of out (N, eh, ew*M), which hold bare products, in place."""
        channels = self.bias.size
        bias = self.row(out.shape[2] // channels)
        finish_rows(out, first, last, bias, *residual, origin, channels, self.low, self.high)

    def add_residual(self, out: np.ndarray, first: int, last: int, residual: Residual, origin: np.ndarray) -> None:
        """The same for rows that hold products and bias."""
        zeros = self._zeros.get(out.shape[2])
        if zeros is None:
            zeros = self._zeros[out.shape[2]] = np.zeros(out.shape[2], np.float32)
        finish_rows(out, first, last, zeros, *residual, origin, self.bias.size, self.low, self.high)

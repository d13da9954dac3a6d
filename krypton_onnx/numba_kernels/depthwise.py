"""Depthwise convolution (one filter a channel): direct, vectorized over channels.

The window's rows are gathered once each into a ring of as many rows as the kernel reaches, which stays in cache;
an output row then accumulates the taps of a tap row at a time, four pixels together, so that every weight that is
loaded serves four products.
"""

import numpy as np

from .arguments import Residual, Source, Spatial
from .compiled import inline, kernel
from .epilogue import Epilogue, add_residual, clamp_row
from .rows import copy, gather
from .workspace import floats


@inline
def _three_taps(source, weights, stride, out):
    """out (width, C) += 3 taps of source (X, C), weights (3, C), dilation 1."""
    width, channels = out.shape
    for j in range(0, width - 3, 4):
        x0, x1, x2, x3 = j * stride, (j + 1) * stride, (j + 2) * stride, (j + 3) * stride
        for c in range(channels):
            w0, w1, w2 = weights[0, c], weights[1, c], weights[2, c]
            out[j, c] += source[x0, c] * w0 + source[x0 + 1, c] * w1 + source[x0 + 2, c] * w2
            out[j + 1, c] += source[x1, c] * w0 + source[x1 + 1, c] * w1 + source[x1 + 2, c] * w2
            out[j + 2, c] += source[x2, c] * w0 + source[x2 + 1, c] * w1 + source[x2 + 2, c] * w2
            out[j + 3, c] += source[x3, c] * w0 + source[x3 + 1, c] * w1 + source[x3 + 2, c] * w2
    for j in range(width // 4 * 4, width):
        x = j * stride
        for c in range(channels):
            out[j, c] += (
                source[x, c] * weights[0, c] + source[x + 1, c] * weights[1, c] + source[x + 2, c] * weights[2, c]
            )


@inline
def _one_tap(source, weights, tap, x, stride, out):
    """out (width, C) += one tap, at columns x, x + stride, ... of source."""
    width, channels = out.shape
    for j in range(width):
        for c in range(channels):
            out[j, c] += source[x + j * stride, c] * weights[tap, c]


@kernel
def _depthwise(
    patch, patch_origin, view, origin, channels, weights, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
    ring, ring_pixels, bias, out, out_rows, present, res_patch, res_origin, res_view, low, high,
):  # fmt: skip
    """out (N, eh, ew, C), out_rows the same as (N, eh, ew*C); weights (kh, kw, C); bias (ew*C,).

    ring (reach_y, X*C) and ring_pixels (reach_y, X, C) are the same scratch: rows of the window.
    """
    kernel_y, kernel_x = weights.shape[0], weights.shape[1]
    reach = ring.shape[0]
    low32, high32 = np.float32(low), np.float32(high)
    for n in range(out.shape[0]):
        x = origin[n, 1] * stride_x - pad_x
        y = origin[n, 0] * stride_y - pad_y
        gathered = 0
        for i in range(out.shape[1]):
            start = i * stride_y
            for r in range(max(gathered, start), start + reach):
                gather(
                    patch, n, patch_origin[n, 0], patch_origin[n, 1], view, y + r, x, channels,
                    np.float32(0), ring[r % reach],
                )  # fmt: skip
            gathered = start + reach
            row = out_rows[n, i]
            copy(row, bias)
            for tap_y in range(kernel_y):
                source = ring_pixels[(start + tap_y * dilation_y) % reach]
                if kernel_x == 3 and dilation_x == 1:
                    _three_taps(source, weights[tap_y], stride_x, out[n, i])
                else:
                    for tap_x in range(kernel_x):
                        _one_tap(source, weights[tap_y], tap_x, tap_x * dilation_x, stride_x, out[n, i])
            if present:
                add_residual(
                    res_patch, n, res_origin[n, 0], res_origin[n, 1], res_view,
                    origin[n, 0] + i, origin[n, 1], channels, low32, high32, row,
                )  # fmt: skip
            else:
                clamp_row(row, low32, high32)


class DepthwiseConvolution:
    """group == C == M, any kernel, stride and dilation."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, epilogue: Epilogue) -> None:
        """weights float32 (C, 1, kh, kw)."""
        self._weights = np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0), np.float32)
        self._geometry, self._epilogue = geometry, epilogue

    def run(
        self, window: Source, channels: int, origin: np.ndarray, residual: Residual, out: np.ndarray
    ) -> None:
        """Regions at origin (N,2) into out (N, eh, ew, C)."""
        n, height, width, _ = out.shape
        (kernel_y, kernel_x), (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = self._geometry
        reach_y = (kernel_y - 1) * dilation_y + 1
        reach_x = (width - 1) * stride_x + (kernel_x - 1) * dilation_x + 1
        ring = floats("ring", reach_y * reach_x * channels)
        epilogue = self._epilogue
        _depthwise(
            *window, origin, channels, self._weights, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
            ring.reshape(reach_y, reach_x * channels), ring.reshape(reach_y, reach_x, channels),
            epilogue.row(width), out, out.reshape(n, height, width * channels), *residual,
            epilogue.low, epilogue.high,
        )  # fmt: skip

"""Depthwise convolution (one filter a channel): direct, vectorized over channels.

The window's rows are gathered once each into a ring of as many rows as the kernel reaches, which stays in cache.
Output pixels are computed four at a time, so that a weight that is loaded serves four products; the last four of a
row may overlap the ones before, which costs less than computing the odd pixels alone.
"""

import numpy as np

from .arguments import Residual, Source, Spatial
from .compiled import inline, kernel
from .epilogue import Epilogue, add_residual, clamp
from .rows import gather
from .workspace import floats


@inline
def _start(total, bias):
    """total (4, C) = bias (C,)."""
    for c in range(bias.size):
        b = bias[c]
        total[0, c] = b
        total[1, c] = b
        total[2, c] = b
        total[3, c] = b


@inline
def _three(row, x, stride, w, total):
    """total (4, C) += three taps w (3, C) of row (X, C) at columns x, x + stride, x + 2*stride, x + 3*stride."""
    x1, x2, x3 = x + stride, x + 2 * stride, x + 3 * stride
    for c in range(total.shape[1]):
        w0, w1, w2 = w[0, c], w[1, c], w[2, c]
        total[0, c] += row[x, c] * w0 + row[x + 1, c] * w1 + row[x + 2, c] * w2
        total[1, c] += row[x1, c] * w0 + row[x1 + 1, c] * w1 + row[x1 + 2, c] * w2
        total[2, c] += row[x2, c] * w0 + row[x2 + 1, c] * w1 + row[x2 + 2, c] * w2
        total[3, c] += row[x3, c] * w0 + row[x3 + 1, c] * w1 + row[x3 + 2, c] * w2


@inline
def _five(row, x, stride, w, total):
    """The same for five taps w (5, C)."""
    x1, x2, x3 = x + stride, x + 2 * stride, x + 3 * stride
    for c in range(total.shape[1]):
        w0, w1, w2, w3, w4 = w[0, c], w[1, c], w[2, c], w[3, c], w[4, c]
        total[0, c] += (
            row[x, c] * w0 + row[x + 1, c] * w1 + row[x + 2, c] * w2 + row[x + 3, c] * w3 + row[x + 4, c] * w4
        )
        total[1, c] += (
            row[x1, c] * w0 + row[x1 + 1, c] * w1 + row[x1 + 2, c] * w2 + row[x1 + 3, c] * w3 + row[x1 + 4, c] * w4
        )
        total[2, c] += (
            row[x2, c] * w0 + row[x2 + 1, c] * w1 + row[x2 + 2, c] * w2 + row[x2 + 3, c] * w3 + row[x2 + 4, c] * w4
        )
        total[3, c] += (
            row[x3, c] * w0 + row[x3 + 1, c] * w1 + row[x3 + 2, c] * w2 + row[x3 + 3, c] * w3 + row[x3 + 4, c] * w4
        )


@inline
def _one(row, x, stride, w, total):
    """The same for one tap w (C,)."""
    x1, x2, x3 = x + stride, x + 2 * stride, x + 3 * stride
    for c in range(total.shape[1]):
        tap = w[c]
        total[0, c] += row[x, c] * tap
        total[1, c] += row[x1, c] * tap
        total[2, c] += row[x2, c] * tap
        total[3, c] += row[x3, c] * tap


@inline
def _nine(row0, row1, row2, x, stride, w, bias, total):
    """total (4, C) = bias (C,) + nine taps w (3, 3, C) of three rows."""
    x1, x2, x3 = x + stride, x + 2 * stride, x + 3 * stride
    for c in range(total.shape[1]):
        t0, t1, t2, b = w[0, 0, c], w[0, 1, c], w[0, 2, c], bias[c]
        a0 = b + row0[x, c] * t0 + row0[x + 1, c] * t1 + row0[x + 2, c] * t2
        a1 = b + row0[x1, c] * t0 + row0[x1 + 1, c] * t1 + row0[x1 + 2, c] * t2
        a2 = b + row0[x2, c] * t0 + row0[x2 + 1, c] * t1 + row0[x2 + 2, c] * t2
        a3 = b + row0[x3, c] * t0 + row0[x3 + 1, c] * t1 + row0[x3 + 2, c] * t2
        t0, t1, t2 = w[1, 0, c], w[1, 1, c], w[1, 2, c]
        a0 += row1[x, c] * t0 + row1[x + 1, c] * t1 + row1[x + 2, c] * t2
        a1 += row1[x1, c] * t0 + row1[x1 + 1, c] * t1 + row1[x1 + 2, c] * t2
        a2 += row1[x2, c] * t0 + row1[x2 + 1, c] * t1 + row1[x2 + 2, c] * t2
        a3 += row1[x3, c] * t0 + row1[x3 + 1, c] * t1 + row1[x3 + 2, c] * t2
        t0, t1, t2 = w[2, 0, c], w[2, 1, c], w[2, 2, c]
        total[0, c] = a0 + row2[x, c] * t0 + row2[x + 1, c] * t1 + row2[x + 2, c] * t2
        total[1, c] = a1 + row2[x1, c] * t0 + row2[x1 + 1, c] * t1 + row2[x1 + 2, c] * t2
        total[2, c] = a2 + row2[x2, c] * t0 + row2[x2 + 1, c] * t1 + row2[x2 + 2, c] * t2
        total[3, c] = a3 + row2[x3, c] * t0 + row2[x3 + 1, c] * t1 + row2[x3 + 2, c] * t2


@inline
def _finish(total, low, high, out):
    """out (count,) = clamp(total), flat over pixels."""
    for k in range(out.size):
        out[k] = clamp(total[k], low, high)


@kernel
def _depthwise(
    patch, patch_origin, view, origin, channels, weights, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
    ring, ring_pixels, total, total_flat, bias, width, out, present, res_patch, res_origin, res_view, low, high,
):  # fmt: skip
    """out (N, eh, ew*C); weights (kh, kw, C); bias (C,).

    ring (reach_y, X*C) and ring_pixels (reach_y, X, C) are the same scratch: rows of the window, long enough for four
    output pixels; so are total (4, C) and total_flat (4*C,).
    """
    kernel_y, kernel_x = weights.shape[0], weights.shape[1]
    reach = ring.shape[0]
    read = ((width - 1) * stride_x + (kernel_x - 1) * dilation_x + 1) * channels
    low32, high32 = np.float32(low), np.float32(high)
    if present:  # the clamp waits for the residual
        first_low, first_high = np.float32(-np.inf), np.float32(np.inf)
    else:
        first_low, first_high = low32, high32
    for n in range(out.shape[0]):
        x = origin[n, 1] * stride_x - pad_x
        y = origin[n, 0] * stride_y - pad_y
        gathered = 0
        for i in range(out.shape[1]):
            start = i * stride_y
            for r in range(max(gathered, start), start + reach):
                gather(
                    patch, n, patch_origin[n, 0], patch_origin[n, 1], view, y + r, x, channels,
                    np.float32(0), ring[r % reach, :read],
                )  # fmt: skip
            gathered = start + reach
            for block in range(0, width, 4):
                j = max(min(block, width - 4), 0)
                at = j * stride_x
                if kernel_y == 3 and kernel_x == 3 and dilation_x == 1:
                    row0 = ring_pixels[start % reach]
                    row1 = ring_pixels[(start + dilation_y) % reach]
                    row2 = ring_pixels[(start + 2 * dilation_y) % reach]
                    if stride_x == 1:  # a constant here lets neighbouring pixels share what they load
                        _nine(row0, row1, row2, at, 1, weights, bias, total)
                    else:
                        _nine(row0, row1, row2, at, stride_x, weights, bias, total)
                else:
                    _start(total, bias)
                    for tap_y in range(kernel_y):
                        row = ring_pixels[(start + tap_y * dilation_y) % reach]
                        if kernel_x == 5 and dilation_x == 1:
                            if stride_x == 1:
                                _five(row, at, 1, weights[tap_y], total)
                            else:
                                _five(row, at, stride_x, weights[tap_y], total)
                        elif kernel_x == 3 and dilation_x == 1:
                            _three(row, at, stride_x, weights[tap_y], total)
                        else:
                            for tap_x in range(kernel_x):
                                _one(row, at + tap_x * dilation_x, stride_x, weights[tap_y, tap_x], total)
                end = min(j + 4, width)
                _finish(total_flat, first_low, first_high, out[n, i, j * channels : end * channels])
            if present:
                add_residual(
                    res_patch, n, res_origin[n, 0], res_origin[n, 1], res_view,
                    origin[n, 0] + i, origin[n, 1], channels, low32, high32, out[n, i],
                )  # fmt: skip


class DepthwiseConvolution:
    """group == C == M, any kernel, stride and dilation."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, epilogue: Epilogue) -> None:
        """weights float32 (C, 1, kh, kw)."""
        self._weights = np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0), np.float32)
        self._geometry, self._epilogue = geometry, epilogue

    def run(self, window: Source, channels: int, origin: np.ndarray, residual: Residual, out: np.ndarray) -> None:
        """Regions at origin (N,2) into out (N, eh, ew, C)."""
        n, height, width, _ = out.shape
        (kernel_y, kernel_x), (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = self._geometry
        reach_y = (kernel_y - 1) * dilation_y + 1
        # Four output pixels are computed even where the region is narrower.
        reach_x = (max(width, 4) - 1) * stride_x + (kernel_x - 1) * dilation_x + 1
        ring = floats("ring", reach_y * reach_x * channels)
        total = floats("total", 4 * channels)
        if width < 4:
            ring[:] = 0
        epilogue = self._epilogue
        _depthwise(
            *window, origin, channels, self._weights, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
            ring.reshape(reach_y, reach_x * channels), ring.reshape(reach_y, reach_x, channels),
            total.reshape(4, channels), total, epilogue.bias, width, out.reshape(n, height, width * channels),
            *residual, epilogue.low, epilogue.high,
        )  # fmt: skip

"""Depthwise convolution (one filter a channel): a thread computes one cell of the result, finished."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import Spatial
from .arrays import RESIDUAL, SOURCE, Pointer, Residual, pointer, upload
from .cells import cell, split
from .compiled import FLOAT, FLOATS, INT, INTEGERS, kernel
from .epilogue import Epilogue, corner, finished
from .target import cuda, int32

_NOTHING = np.float32(0)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, *(INT,) * 8, FLOATS, FLOATS, *RESIDUAL, FLOAT, FLOAT, FLOATS)
def _depthwise(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, height, width,
    kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, weights, bias,
    present, res_patch, res_origin, res_view, res_h, res_w, res_view_h, res_view_w, low, high, out, count,
):  # fmt: skip
    """out (N, height, width, C); weights (kh, kw, C); bias (C,)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        own_y, own_x = int32(origin[2 * n] + i), int32(origin[2 * n + 1] + j)
        y0, x0 = int32(own_y * stride_y - pad_y), int32(own_x * stride_x - pad_x)
        total = bias[c]
        at = c
        for tap_y in range(kernel_y):
            y = int32(y0 + tap_y * dilation_y)
            for tap_x in range(kernel_x):
                x = int32(x0 + tap_x * dilation_x)
                total += weights[at] * cell(
                    patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, _NOTHING
                )  # fmt: skip
                at = int32(at + channels)
        top, left = corner(present, res_origin, n)
        out[k] = finished(
            total, present, res_patch, res_view, res_h, res_w, res_view_h, res_view_w, top, left, channels,
            n, own_y, own_x, c, low, high,
        )  # fmt: skip
        k = int32(k + step)


class DepthwiseConvolution:
    """group == C == M, any kernel, stride and dilation."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, epilogue: Epilogue) -> None:
        """weights float32 (C, 1, kh, kw)."""
        self._array = upload(weights[:, 0].transpose(1, 2, 0))
        self._weights = pointer(self._array)
        self._geometry = (*geometry.kernel, *geometry.strides, *geometry.pads, *geometry.dilations)
        self._epilogue = epilogue

    def run(
        self, window: tuple[Any, ...], channels: int, origin: Pointer, residual: Residual,
        out: Pointer, shape: tuple[int, ...], stream: Any,
    ) -> None:  # fmt: skip
        """Regions at origin (N,2) into out, of shape (N, eh, ew, C)."""
        n, height, width, _ = shape
        epilogue = self._epilogue
        _depthwise(
            n * height * width * channels, stream, *window, origin, channels, height, width, *self._geometry,
            self._weights, epilogue.bias, *residual, epilogue.low, epilogue.high, out,
        )  # fmt: skip

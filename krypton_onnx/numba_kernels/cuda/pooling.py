"""Max and average pooling, read directly from patch or view: a thread combines what one cell of the result reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import pooling
from ..arguments import Spatial, pair, spatial
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import SOURCE, counted, pointer, source
from .cells import LOWEST, cell, split
from .compiled import FLOATS, INT, INTEGERS, kernel
from .target import cuda, int32

_GEOMETRY = (INT,) * 8
_NOTHING = np.float32(0)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, *_GEOMETRY, FLOATS)
def _maximum(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, height, width,
    kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, out, count,
):  # fmt: skip
    """out (N, height, width, C)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y0 = int32((origin[2 * n] + i) * stride_y - pad_y)
        x0 = int32((origin[2 * n + 1] + j) * stride_x - pad_x)
        largest = LOWEST
        for tap_y in range(kernel_y):
            y = int32(y0 + tap_y * dilation_y)
            for tap_x in range(kernel_x):
                x = int32(x0 + tap_x * dilation_x)
                value = cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, LOWEST)
                largest = value if value > largest else largest
        out[k] = largest
        k = int32(k + step)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, *_GEOMETRY, FLOATS, FLOATS, FLOATS)
def _average(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, height, width,
    kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, counts_y, counts_x, out, count,
):  # fmt: skip
    """out (N, height, width, C): sums, divided by the product of the counts of their row and column of the frame."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        own_y, own_x = int32(origin[2 * n] + i), int32(origin[2 * n + 1] + j)
        y0, x0 = int32(own_y * stride_y - pad_y), int32(own_x * stride_x - pad_x)
        total = _NOTHING
        for tap_y in range(kernel_y):
            y = int32(y0 + tap_y * dilation_y)
            for tap_x in range(kernel_x):
                x = int32(x0 + tap_x * dilation_x)
                total += cell(
                    patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, _NOTHING
                )  # fmt: skip
        out[k] = total / (counts_y[own_y] * counts_x[own_x])
        k = int32(k + step)


def flat(geometry: Spatial) -> tuple[int, ...]:
    """kernel, strides, pads and dilations as kernels take them."""
    return (*geometry.kernel, *geometry.strides, *geometry.pads, *geometry.dilations)


def _make_max(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> DeviceCompute:
    geometry = flat(spatial(attributes))

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, origin, extent = inputs
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, view.shape[3])
        out = pointer(allocate(0, shape))
        _maximum(
            counted(*shape), stream, *source(patch, patch_origin, view), pointer(origin), shape[3], height, width,
            *geometry, out,
        )  # fmt: skip

    return compute


def _make_average(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> DeviceCompute:
    geometry = flat(spatial(attributes))

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, counts_y, counts_x, origin, extent = inputs
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, view.shape[3])
        out = pointer(allocate(0, shape))
        _average(
            counted(*shape), stream, *source(patch, patch_origin, view), pointer(origin), shape[3], height, width,
            *geometry, pointer(counts_y), pointer(counts_x), out,
        )  # fmt: skip

    return compute


INCREMENTAL_MAX_POOL = replace(
    pooling.INCREMENTAL_MAX_POOL, make=_make_max, provider="CUDAExecutionProvider", host=(4,)
)
INCREMENTAL_AVERAGE_POOL = replace(
    pooling.INCREMENTAL_AVERAGE_POOL, make=_make_average, provider="CUDAExecutionProvider", host=(6,)
)

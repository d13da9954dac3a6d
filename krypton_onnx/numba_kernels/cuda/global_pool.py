"""IncrementalGlobalAveragePool: the view's sum, corrected by what the patch changed. Sums are float64.

Each thread adds in an order that depends on nothing but the shapes, so that results are the same from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import global_pool
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import counted, pointer
from .cells import divide
from .compiled import DOUBLES, FLOATS, INT, INTEGERS, kernel
from .target import cuda, int32
from .workspace import workspace


@kernel(FLOATS, INT, INT, DOUBLES)
def _row_sums(view, width, channels, sums, count):
    """sums (H, C) over the rows of view (H, width, C)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        y = divide(k, channels)
        at = int32(y * width * channels + (k - y * channels))
        total = np.float64(0)
        for _x in range(width):
            total += view[at]
            at = int32(at + channels)
        sums[k] = total
        k = int32(k + step)


@kernel(FLOATS, INTEGERS, FLOATS, INT, INT, INT, INT, INT, DOUBLES, FLOATS)
def _global_average(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, channels, sums, out, count,
):  # fmt: skip
    """out (N, C): sums (H, C) over the rows of the view, and what patch (N, h, w, C) differs from it."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n = divide(k, channels)
        c = int32(k - n * channels)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        total = np.float64(0)
        for y in range(view_h):
            total += sums[int32(y * channels + c)]
        for i in range(patch_h):
            new = int32((n * patch_h + i) * patch_w * channels + c)
            old = int32(((top + i) * view_w + left) * channels + c)
            for _j in range(patch_w):
                total += np.float64(patch[new]) - np.float64(view[old])
                new = int32(new + channels)
                old = int32(old + channels)
        out[k] = total / int32(view_h * view_w)
        k = int32(k + step)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> DeviceCompute:
    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view = inputs
        n, patch_h, patch_w, channels = patch.shape
        _, view_h, view_w, _ = view.shape
        counted(*patch.shape)
        counted(*view.shape)
        out = pointer(allocate(0, (n, channels, 1, 1)))
        new, old = pointer(patch), pointer(view)
        with workspace(stream) as scratch:
            sums = scratch.doubles("sums", view_h * channels)
            _row_sums(view_h * channels, stream, old, view_w, channels, sums)
            _global_average(
                n * channels, stream, new, pointer(patch_origin), old, patch_h, patch_w, view_h, view_w, channels,
                sums, out,
            )  # fmt: skip

    return compute


INCREMENTAL_GLOBAL_AVERAGE_POOL = replace(
    global_pool.INCREMENTAL_GLOBAL_AVERAGE_POOL, make=_make, provider="CUDAExecutionProvider"
)

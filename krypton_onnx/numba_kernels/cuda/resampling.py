"""Remap and IncrementalResample: cells that copy, or weigh, cells that a table of rows and a table of columns name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import resampling
from ..arguments import pair
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import SOURCE, counted, pointer, source
from .cells import cell, split
from .compiled import FLOAT, FLOATS, INT, INTEGERS, kernel
from .target import cuda, int32

_NOTHING = np.float32(0)


@kernel(*SOURCE, INTEGERS, INTEGERS, INTEGERS, INT, INT, INT, FLOAT, FLOATS)
def _remap(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, rows, columns, origin,
    channels, height, width, outside, out, count,
):  # fmt: skip
    """out (N, height, width, C); rows and columns are tables of the whole frame, negative for what is outside."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y = int32(rows[int32(origin[2 * n] + i)])
        x = int32(columns[int32(origin[2 * n + 1] + j)])
        out[k] = cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, outside)
        k = int32(k + step)


@kernel(*SOURCE, INTEGERS, INTEGERS, FLOATS, FLOATS, INT, INT, INTEGERS, INT, INT, INT, FLOATS)
def _resample(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, rows, columns, row_weights, column_weights,
    taps_y, taps_x, origin, channels, height, width, out, count,
):  # fmt: skip
    """out (N, height, width, C). rows (frame height * taps_y,), row_weights (frame height, taps_y); so for columns."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        first_y = int32((origin[2 * n] + i) * taps_y)
        first_x = int32((origin[2 * n + 1] + j) * taps_x)
        total = _NOTHING
        for tap_y in range(taps_y):
            y = int32(rows[int32(first_y + tap_y)])
            weight_y = row_weights[int32(first_y + tap_y)]
            for tap_x in range(taps_x):
                x = int32(columns[int32(first_x + tap_x)])
                value = cell(
                    patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, _NOTHING
                )  # fmt: skip
                total += weight_y * column_weights[int32(first_x + tap_x)] * value
        out[k] = total
        k = int32(k + step)


def _make_remap(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> DeviceCompute:
    outside = float(attributes.get("pad_value") or 0.0)  # type: ignore[arg-type]

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, rows, columns, origin, extent = inputs
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, view.shape[3])
        out = pointer(allocate(0, shape))
        _remap(
            counted(*shape), stream, *source(patch, patch_origin, view), pointer(rows), pointer(columns),
            pointer(origin), shape[3], height, width, outside, out,
        )  # fmt: skip

    return compute


def _make_resample(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> DeviceCompute:
    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, rows, columns, row_weights, column_weights, origin, extent = inputs
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, view.shape[3])
        out = pointer(allocate(0, shape))
        _resample(
            counted(*shape), stream, *source(patch, patch_origin, view), pointer(rows), pointer(columns),
            pointer(row_weights), pointer(column_weights), row_weights.shape[1], column_weights.shape[1],
            pointer(origin), shape[3], height, width, out,
        )  # fmt: skip

    return compute


REMAP = replace(resampling.REMAP, make=_make_remap, provider="CUDAExecutionProvider", host=(6,))
INCREMENTAL_RESAMPLE = replace(
    resampling.INCREMENTAL_RESAMPLE, make=_make_resample, provider="CUDAExecutionProvider", host=(8,)
)

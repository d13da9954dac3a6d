"""Remap and IncrementalResample: cells that copy, or weigh, cells that a table of rows and a table of columns name."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import canonical, pair, source
from .compiled import inline, kernel
from .registry import Allocate, Compute, Kernel
from .rows import copy, fill


@inline
def _add_scaled(target, values, weight):
    """target += weight * values, both (C,)."""
    for k in range(target.size):
        target[k] += weight * values[k]


@kernel
def _remap(patch, patch_origin, view, rows, columns, origin, channels, outside, out):
    """out (N, eh, ew*C); rows and columns int64 tables of the whole frame, negative for what is outside."""
    height = patch.shape[1]
    width = patch.shape[2] // channels
    value = np.float32(outside)
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            y = rows[origin[n, 0] + i]
            place_y = y - patch_origin[n, 0]
            in_rows = place_y >= 0 and place_y < height
            for j in range(out.shape[2] // channels):
                x = columns[origin[n, 1] + j]
                place_x = x - patch_origin[n, 1]
                target = out[n, i, j * channels : (j + 1) * channels]
                if y < 0 or x < 0:
                    fill(target, value)
                elif in_rows and place_x >= 0 and place_x < width:
                    copy(target, patch[n, place_y, place_x * channels : (place_x + 1) * channels])
                else:
                    copy(target, view[y, x * channels : (x + 1) * channels])


@kernel
def _resample(patch, patch_origin, view, rows, columns, row_weights, column_weights, origin, channels, out):
    """out (N, eh, ew*C). rows (frame height * taps,), row_weights (frame height, taps), and the same for columns."""
    height = patch.shape[1]
    width = patch.shape[2] // channels
    taps_y = row_weights.shape[1]
    taps_x = column_weights.shape[1]
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            own_y = origin[n, 0] + i
            for j in range(out.shape[2] // channels):
                own_x = origin[n, 1] + j
                target = out[n, i, j * channels : (j + 1) * channels]
                fill(target, np.float32(0))
                for tap_y in range(taps_y):
                    y = rows[own_y * taps_y + tap_y]
                    place_y = y - patch_origin[n, 0]
                    for tap_x in range(taps_x):
                        weight = row_weights[own_y, tap_y] * column_weights[own_x, tap_x]
                        x = columns[own_x * taps_x + tap_x]
                        place_x = x - patch_origin[n, 1]
                        if place_y >= 0 and place_y < height and place_x >= 0 and place_x < width:
                            cell = patch[n, place_y, place_x * channels : (place_x + 1) * channels]
                            _add_scaled(target, cell, weight)
                        else:
                            _add_scaled(target, view[y, x * channels : (x + 1) * channels], weight)


def _make_remap(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    outside = float(attributes.get("pad_value") or 0.0)  # type: ignore[arg-type]

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, rows, columns, origin, extent = inputs
        assert patch is not None and patch_origin is not None and view is not None
        assert rows is not None and columns is not None and origin is not None and extent is not None
        window, channels = source(patch, patch_origin, view)
        n, (height, width) = len(origin), pair(extent)
        out = allocate(0, (n, height, width, channels)).reshape(n, height, width * channels)
        _remap(*window, canonical(rows), canonical(columns), canonical(origin), channels, outside, out)

    return compute


def _make_resample(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, rows, columns, row_weights, column_weights, origin, extent = inputs
        assert patch is not None and patch_origin is not None and view is not None
        assert rows is not None and columns is not None and origin is not None and extent is not None
        assert row_weights is not None and column_weights is not None
        window, channels = source(patch, patch_origin, view)
        n, (height, width) = len(origin), pair(extent)
        out = allocate(0, (n, height, width, channels)).reshape(n, height, width * channels)
        tables = [canonical(table) for table in (rows, columns, row_weights, column_weights)]
        _resample(*window, *tables, canonical(origin), channels, out)

    return compute


REMAP = Kernel(
    op_type="Remap",
    inputs=("float", "int64", "float", "int64", "int64", "int64", "int64"),
    required=7,
    outputs=("float",),
    attributes={"pad_value": "float"},
    make=_make_remap,
)

INCREMENTAL_RESAMPLE = Kernel(
    op_type="IncrementalResample",
    inputs=("float", "int64", "float", "int64", "int64", "float", "float", "int64", "int64"),
    required=9,
    outputs=("float",),
    attributes={},
    make=_make_resample,
)

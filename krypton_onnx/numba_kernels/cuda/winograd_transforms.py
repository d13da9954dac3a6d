"""Winograd's transforms with six points (0, 1, -1, 1/2, -2, infinity): three taps, four outputs an axis.

As on the CPU (../winograd_transforms.py): an axis is transformed if its kernel is longer than 1; a longer kernel is a
sum of parts of three taps, whose transformed inputs lie side by side in the products. `both` kernels transform two
axes, 36 points a tile of 4x4 pixels; `line` kernels one, 6 points a tile of four. A thread has one channel of a tile,
all of its points in registers.
"""

from __future__ import annotations

import numpy as np

from .arrays import RESIDUAL, SOURCE
from .cells import cell, divide
from .compiled import FLOAT, FLOATS, INT, INTEGERS, device, kernel
from .epilogue import corner, finished
from .target import cuda, int32

_ZERO, _HALF, _ONE_AND_HALF, _TWO_AND_HALF = np.float32(0), np.float32(0.5), np.float32(1.5), np.float32(2.5)
_QUARTER, _EIGHTH, _TWO, _FOUR, _EIGHT = (np.float32(value) for value in (0.25, 0.125, 2, 4, 8))


@device
def _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c):
    """A cell that a region reads as far as (end_y, end_x): 0 off the frame, and beyond what it reads."""
    row = y if y < end_y and x < end_x else int32(-1)
    return cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, row, x, c, _ZERO)


@device
def _six(
    patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, down, right, end_y, end_x, c,
):  # fmt: skip
    """B^T d of the six cells from (y, x) on, each (down, right) from the one before."""
    v0 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    y, x = int32(y + down), int32(x + right)
    v1 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    y, x = int32(y + down), int32(x + right)
    v2 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    y, x = int32(y + down), int32(x + right)
    v3 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    y, x = int32(y + down), int32(x + right)
    v4 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    y, x = int32(y + down), int32(x + right)
    v5 = _read(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, end_y, end_x, c)
    return _points(v0, v1, v2, v3, v4, v5)


@device
def _points(v0, v1, v2, v3, v4, v5):
    """B^T v."""
    a, b = v4 - v2, v3 - v1
    return (
        v0 + v4 - _TWO * v2 + _ONE_AND_HALF * b,
        v4 - v1 + _HALF * v2 + _TWO_AND_HALF * v3,
        v4 + v1 - _TWO_AND_HALF * v2 + _HALF * v3,
        a + _TWO * b,
        a - _HALF * b,
        v1 + v5 - _TWO * v3 + _ONE_AND_HALF * a,
    )


@device
def _store(v, at, step, points):
    """Six points, each `step` floats behind the one before."""
    v[at] = points[0]
    v[int32(at + step)] = points[1]
    v[int32(at + 2 * step)] = points[2]
    v[int32(at + 3 * step)] = points[3]
    v[int32(at + 4 * step)] = points[4]
    v[int32(at + 5 * step)] = points[5]


@kernel(*SOURCE, INTEGERS, INT, INT, INT, INT, INT, INT, INT, INT, FLOATS)
def input_both(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, pad_y, pad_x,
    kernel_y, kernel_x, height, width, first, v, count,
):  # fmt: skip
    """Tiles from `first` on, counted over (N, tiles_y, tiles_x), into v (36, tiles*parts, C)."""
    parts_x = divide(kernel_x + 2, 3)
    parts = int32(divide(kernel_y + 2, 3) * parts_x)
    tiles_y, tiles_x = divide(height + 3, 4), divide(width + 3, 4)
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        place = divide(k, channels)
        c = int32(k - place * channels)
        tile = divide(place, parts)
        part = int32(place - tile * parts)
        tile = int32(tile + first)
        strip = divide(tile, tiles_x)
        n = divide(strip, tiles_y)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        part_y = divide(part, parts_x)
        y = int32(origin[2 * n] - pad_y)
        x = int32(origin[2 * n + 1] - pad_x)
        end_y, end_x = int32(y + height + kernel_y - 1), int32(x + width + kernel_x - 1)
        y = int32(y + 4 * (strip - n * tiles_y) + 3 * part_y)
        x = int32(x + 4 * (tile - strip * tiles_x) + 3 * (part - part_y * parts_x))
        e0 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        x = int32(x + 1)
        e1 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        x = int32(x + 1)
        e2 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        x = int32(x + 1)
        e3 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        x = int32(x + 1)
        e4 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        x = int32(x + 1)
        e5 = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, 1, 0, end_y, end_x, c
        )  # fmt: skip
        _store(v, k, count, _points(e0[0], e1[0], e2[0], e3[0], e4[0], e5[0]))
        _store(v, int32(k + 6 * count), count, _points(e0[1], e1[1], e2[1], e3[1], e4[1], e5[1]))
        _store(v, int32(k + 12 * count), count, _points(e0[2], e1[2], e2[2], e3[2], e4[2], e5[2]))
        _store(v, int32(k + 18 * count), count, _points(e0[3], e1[3], e2[3], e3[3], e4[3], e5[3]))
        _store(v, int32(k + 24 * count), count, _points(e0[4], e1[4], e2[4], e3[4], e4[4], e5[4]))
        _store(v, int32(k + 30 * count), count, _points(e0[5], e1[5], e2[5], e3[5], e4[5], e5[5]))
        k = int32(k + step)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, INT, INT, INT, INT, INT, FLOATS)
def input_line(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, pad_y, pad_x,
    kernel_y, kernel_x, height, width, first, v, count,
):  # fmt: skip
    """The same where one of kernel_y and kernel_x is 1, into v (6, tiles*parts, C)."""
    parts = divide(kernel_y + kernel_x + 1, 3)
    down = int32(1 if kernel_y > 1 else 0)
    right = int32(1 - down)
    tiles_y, tiles_x = divide(height + 3 * down, 1 + 3 * down), divide(width + 3 * right, 1 + 3 * right)
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        place = divide(k, channels)
        c = int32(k - place * channels)
        tile = divide(place, parts)
        part = int32(place - tile * parts)
        tile = int32(tile + first)
        strip = divide(tile, tiles_x)
        n = divide(strip, tiles_y)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y = int32(origin[2 * n] - pad_y)
        x = int32(origin[2 * n + 1] - pad_x)
        end_y, end_x = int32(y + height + kernel_y - 1), int32(x + width + kernel_x - 1)
        y = int32(y + (1 + 3 * down) * (strip - n * tiles_y) + 3 * down * part)
        x = int32(x + (1 + 3 * right) * (tile - strip * tiles_x) + 3 * right * part)
        points = _six(
            patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, down, right, end_y, end_x, c
        )  # fmt: skip
        _store(v, k, count, points)
        k = int32(k + step)


@device
def _load(m, at, step):
    """A^T of six points, each `step` floats behind the one before: four outputs."""
    return _outputs(
        m[at], m[int32(at + step)], m[int32(at + 2 * step)], m[int32(at + 3 * step)], m[int32(at + 4 * step)],
        m[int32(at + 5 * step)],
    )  # fmt: skip


@device
def _outputs(m0, m1, m2, m3, m4, m5):
    """A^T m."""
    a, b = m1 + m2, m1 - m2
    return (
        m0 + a + (m3 + m4),
        b + (_HALF * m3 - _TWO * m4),
        a + (_QUARTER * m3 + _FOUR * m4),
        b + (_EIGHTH * m3 - _EIGHT * m4) + m5,
    )


@device
def _place(
    out, value, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
    outputs, height, width, n, i, j, y, x, m,
):  # fmt: skip
    """One output, finished, into pixel (i, j) of the region, which is cell (y + i, x + j), if the region has it."""
    if i < height and j < width:
        out[int32(((n * height + i) * width + j) * outputs + m)] = finished(
            value, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, outputs,
            n, int32(y + i), int32(x + j), m, low, high,
        )  # fmt: skip


@device
def _place_four(
    out, values, bias, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
    outputs, height, width, n, i, j, down, right, y, x, m,
):  # fmt: skip
    """Four outputs into the pixels from (i, j) on, each (down, right) from the one before."""
    _place(
        out, values[0] + bias, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
        outputs, height, width, n, i, j, y, x, m,
    )  # fmt: skip
    i, j = int32(i + down), int32(j + right)
    _place(
        out, values[1] + bias, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
        outputs, height, width, n, i, j, y, x, m,
    )  # fmt: skip
    i, j = int32(i + down), int32(j + right)
    _place(
        out, values[2] + bias, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
        outputs, height, width, n, i, j, y, x, m,
    )  # fmt: skip
    i, j = int32(i + down), int32(j + right)
    _place(
        out, values[3] + bias, present, patch, view, patch_h, patch_w, view_h, view_w, top, left, low, high,
        outputs, height, width, n, i, j, y, x, m,
    )  # fmt: skip


@kernel(FLOATS, FLOATS, INT, *RESIDUAL, INTEGERS, FLOAT, FLOAT, INT, INT, INT, FLOATS)
def output_both(
    m, bias, outputs, present, patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, low, high,
    height, width, first, out, count,
):  # fmt: skip
    """Products m (36, tiles, M) of the tiles from `first` on into out (N, height, width, M), finished."""
    tiles_y, tiles_x = divide(height + 3, 4), divide(width + 3, 4)
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        tile = divide(k, outputs)
        channel = int32(k - tile * outputs)
        tile = int32(tile + first)
        strip = divide(tile, tiles_x)
        n = divide(strip, tiles_y)
        i, j = int32(4 * (strip - n * tiles_y)), int32(4 * (tile - strip * tiles_x))
        y, x = int32(origin[2 * n]), int32(origin[2 * n + 1])
        top, left = corner(present, patch_origin, n)
        own = bias[channel]
        e0 = _load(m, k, 6 * count)
        e1 = _load(m, int32(k + count), 6 * count)
        e2 = _load(m, int32(k + 2 * count), 6 * count)
        e3 = _load(m, int32(k + 3 * count), 6 * count)
        e4 = _load(m, int32(k + 4 * count), 6 * count)
        e5 = _load(m, int32(k + 5 * count), 6 * count)
        _place_four(
            out, _outputs(e0[0], e1[0], e2[0], e3[0], e4[0], e5[0]), own, present, patch, view, patch_h,
            patch_w, view_h, view_w, top, left, low, high, outputs, height, width, n, i, j, 0, 1, y, x, channel,
        )  # fmt: skip
        i = int32(i + 1)
        _place_four(
            out, _outputs(e0[1], e1[1], e2[1], e3[1], e4[1], e5[1]), own, present, patch, view, patch_h,
            patch_w, view_h, view_w, top, left, low, high, outputs, height, width, n, i, j, 0, 1, y, x, channel,
        )  # fmt: skip
        i = int32(i + 1)
        _place_four(
            out, _outputs(e0[2], e1[2], e2[2], e3[2], e4[2], e5[2]), own, present, patch, view, patch_h,
            patch_w, view_h, view_w, top, left, low, high, outputs, height, width, n, i, j, 0, 1, y, x, channel,
        )  # fmt: skip
        i = int32(i + 1)
        _place_four(
            out, _outputs(e0[3], e1[3], e2[3], e3[3], e4[3], e5[3]), own, present, patch, view, patch_h,
            patch_w, view_h, view_w, top, left, low, high, outputs, height, width, n, i, j, 0, 1, y, x, channel,
        )  # fmt: skip
        k = int32(k + step)


@kernel(FLOATS, FLOATS, INT, *RESIDUAL, INTEGERS, FLOAT, FLOAT, INT, INT, INT, INT, FLOATS)
def output_line(
    m, bias, outputs, present, patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, low, high,
    down, height, width, first, out, count,
):  # fmt: skip
    """The same of products (6, tiles, M) along one axis: down is 1 where that is the columns, else 0."""
    right = int32(1 - down)
    tiles_y, tiles_x = divide(height + 3 * down, 1 + 3 * down), divide(width + 3 * right, 1 + 3 * right)
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        tile = divide(k, outputs)
        channel = int32(k - tile * outputs)
        tile = int32(tile + first)
        strip = divide(tile, tiles_x)
        n = divide(strip, tiles_y)
        i = int32((1 + 3 * down) * (strip - n * tiles_y))
        j = int32((1 + 3 * right) * (tile - strip * tiles_x))
        y, x = int32(origin[2 * n]), int32(origin[2 * n + 1])
        top, left = corner(present, patch_origin, n)
        _place_four(
            out, _load(m, k, count), bias[channel], present, patch, view, patch_h, patch_w, view_h, view_w,
            top, left, low, high, outputs, height, width, n, i, j, down, right, y, x, channel,
        )  # fmt: skip
        k = int32(k + step)

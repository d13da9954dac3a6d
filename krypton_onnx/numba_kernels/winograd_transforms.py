"""Winograd's transforms with six points (0, 1, -1, 1/2, -2, infinity): three taps, four outputs an axis.

With 1/2 in the place of 2, rounding errors are smaller (docs/performance.md); it costs a few more additions.

Each transform is done down the columns, across the rows, or both, so that the same code serves 3x3, 1x3 and 3x1.
Longer kernels are sums of such pieces, three taps each, whose transformed inputs lie side by side in the products.

A tile is 4 (or, along an axis that is not transformed, 1) pixels high and wide. A strip is one row of tiles of one
position; strips are counted over n * tiles_y + tile_y. A block of rows or columns that the region does not need
is computed from zeros and thrown away.
"""

import numpy as np

from .compiled import inline, kernel
from .epilogue import clamp
from .rows import copy, fill, gather

_HALF, _ONE_AND_HALF, _TWO, _TWO_AND_HALF = np.float32(0.5), np.float32(1.5), np.float32(2), np.float32(2.5)
_QUARTER, _EIGHTH, _FOUR, _EIGHT = np.float32(0.25), np.float32(0.125), np.float32(4), np.float32(8)


@inline
def _input_down(d0, d1, d2, d3, d4, d5, e0, e1, e2, e3, e4, e5):
    """e = B^T d down the columns, flat over a span of a row."""
    for k in range(e0.size):
        v0, v1, v2, v3, v4, v5 = d0[k], d1[k], d2[k], d3[k], d4[k], d5[k]
        a, b = v4 - v2, v3 - v1
        e0[k] = v0 + v4 - _TWO * v2 + _ONE_AND_HALF * b
        e1[k] = v4 - v1 + _HALF * v2 + _TWO_AND_HALF * v3
        e2[k] = v4 + v1 - _TWO_AND_HALF * v2 + _HALF * v3
        e3[k] = a + _TWO * b
        e4[k] = a - _HALF * b
        e5[k] = v1 + v5 - _TWO * v3 + _ONE_AND_HALF * a


@inline
def _input_across(e, part, parts, f0, f1, f2, f3, f4, f5):
    """Row t*parts + part of f_j (tiles*parts, C) = column j of e B; e (4*tiles+2, C) is a row of tiles."""
    for t in range(f0.shape[0] // parts):
        x, r = 4 * t, t * parts + part
        for c in range(f0.shape[1]):
            v0, v1, v2, v3, v4, v5 = e[x, c], e[x + 1, c], e[x + 2, c], e[x + 3, c], e[x + 4, c], e[x + 5, c]
            a, b = v4 - v2, v3 - v1
            f0[r, c] = v0 + v4 - _TWO * v2 + _ONE_AND_HALF * b
            f1[r, c] = v4 - v1 + _HALF * v2 + _TWO_AND_HALF * v3
            f2[r, c] = v4 + v1 - _TWO_AND_HALF * v2 + _HALF * v3
            f3[r, c] = a + _TWO * b
            f4[r, c] = a - _HALF * b
            f5[r, c] = v1 + v5 - _TWO * v3 + _ONE_AND_HALF * a


@kernel
def transform_input(
    patch, patch_origin, view, origin, channels, pad_y, pad_x, kernel_y, kernel_x, height, width,
    first, last, d, e, e_pixels, v,
):  # fmt: skip
    """Strips [first, last) of regions (height, width) at origin (N, 2) into v (points, tiles*parts, C).

    An axis is transformed if its kernel is longer than 1; parts = ceil(kernel_y / 3) * ceil(kernel_x / 3).
    d, e (6, X*C) and e_pixels (6, X, C), the same memory as e: scratch, X what a row of tiles reads.
    """
    down, across = kernel_y > 1, kernel_x > 1
    parts_y, parts_x = (kernel_y + 2) // 3, (kernel_x + 2) // 3
    parts = parts_y * parts_x
    tile_y = 4 if down else 1
    tiles_y = (height + tile_y - 1) // tile_y
    tiles_x = (width + 3) // 4 if across else width
    rows = 6 if down else 1
    used = (width + kernel_x - 1) * channels
    zero = np.float32(0)
    for i in range(6):  # what the region does not read
        fill(d[i, used:], zero)
        fill(e[i, used:], zero)
    for s in range(first, last):
        n, strip = s // tiles_y, s % tiles_y
        top, left = patch_origin[n, 0], patch_origin[n, 1]
        x = origin[n, 1] - pad_x
        end_y = origin[n, 0] - pad_y + height + kernel_y - 1
        t0 = (s - first) * tiles_x * parts
        t1 = t0 + tiles_x * parts
        for part_y in range(parts_y):
            y = origin[n, 0] - pad_y + tile_y * strip + 3 * part_y
            for i in range(rows):
                target = d[i, :used] if down else e[i, :used]
                # A row that the region does not read counts as outside the frame.
                gather(
                    patch, n, top, left, view, y + i if y + i < end_y else -1, x, channels, zero, target
                )  # fmt: skip
            if down:
                _input_down(
                    d[0, :used], d[1, :used], d[2, :used], d[3, :used], d[4, :used], d[5, :used],
                    e[0, :used], e[1, :used], e[2, :used], e[3, :used], e[4, :used], e[5, :used],
                )  # fmt: skip
            for part_x in range(parts_x):
                part = part_y * parts_x + part_x
                for i in range(rows):
                    if across:
                        k = 6 * i
                        _input_across(
                            e_pixels[i, 3 * part_x :], part, parts, v[k, t0:t1], v[k + 1, t0:t1],
                            v[k + 2, t0:t1], v[k + 3, t0:t1], v[k + 4, t0:t1], v[k + 5, t0:t1],
                        )  # fmt: skip
                    else:
                        for t in range(tiles_x):
                            copy(v[i, t0 + t * parts + part], e_pixels[i, t])


@inline
def _output_down(m0, m1, m2, m3, m4, m5, e0, e1, e2, e3):
    """e = A^T m down the columns, flat over (tiles, M)."""
    for k in range(e0.size):
        a, b = m1[k] + m2[k], m1[k] - m2[k]
        p, q = m3[k], m4[k]
        e0[k] = m0[k] + a + (p + q)
        e1[k] = b + (_HALF * p - _TWO * q)
        e2[k] = a + (_QUARTER * p + _FOUR * q)
        e3[k] = b + (_EIGHTH * p - _EIGHT * q) + m5[k]


@inline
def _output_across(e0, e1, e2, e3, e4, e5, bias, low, high, y0, y1, y2, y3):
    """Four pixels (M,) of one output row: e A + bias, clamped."""
    for c in range(bias.size):
        a, b = e1[c] + e2[c], e1[c] - e2[c]
        p, q = e3[c], e4[c]
        y0[c] = clamp(e0[c] + a + (p + q) + bias[c], low, high)
        y1[c] = clamp(b + (_HALF * p - _TWO * q) + bias[c], low, high)
        y2[c] = clamp(a + (_QUARTER * p + _FOUR * q) + bias[c], low, high)
        y3[c] = clamp(b + (_EIGHTH * p - _EIGHT * q) + e5[c] + bias[c], low, high)


@inline
def _output_pixel(e, bias, low, high, y):
    """One pixel (M,): e + bias, clamped."""
    for c in range(bias.size):
        y[c] = clamp(e[c] + bias[c], low, high)


@kernel
def transform_output(
    m, kernel_y, kernel_x, first, last, together, e, spare, bias, channel, out, low, high,
):  # fmt: skip
    """Products m (points, T*n) of strips [first, last) into channels channel .. channel+n of out (N, eh, ew, M).

    bias (n,); e (4, 6, together*n): scratch for that many tiles; spare (n,): where pixels beyond the region go.
    """
    down, across = kernel_y > 1, kernel_x > 1
    outputs = bias.size
    end = channel + outputs
    height, width = out.shape[1], out.shape[2]
    tile_y = 4 if down else 1
    tiles_y = (height + tile_y - 1) // tile_y
    tile_x = 4 if across else 1
    tiles_x = (width + tile_x - 1) // tile_x
    points_x = 6 if across else 1
    low32, high32 = np.float32(low), np.float32(high)
    for s in range(first, last):
        n, y = s // tiles_y, tile_y * (s % tiles_y)
        rows = min(tile_y, height - y)
        for t in range(0, tiles_x, together):
            tiles = min(together, tiles_x - t)
            size = tiles * outputs
            k0 = ((s - first) * tiles_x + t) * outputs
            k1 = k0 + size
            for j in range(points_x):
                if down:
                    a, b = points_x, j
                    _output_down(
                        m[b, k0:k1], m[a + b, k0:k1], m[2 * a + b, k0:k1], m[3 * a + b, k0:k1], m[4 * a + b, k0:k1],
                        m[5 * a + b, k0:k1], e[0, j, :size], e[1, j, :size], e[2, j, :size], e[3, j, :size],
                    )  # fmt: skip
                else:
                    copy(e[0, j, :size], m[j, k0:k1])
            for i in range(rows):
                for u in range(tiles):
                    x = tile_x * (t + u)
                    c0, c1 = u * outputs, (u + 1) * outputs
                    if across:
                        _output_across(
                            e[i, 0, c0:c1], e[i, 1, c0:c1], e[i, 2, c0:c1], e[i, 3, c0:c1], e[i, 4, c0:c1],
                            e[i, 5, c0:c1], bias, low32, high32, out[n, y + i, x, channel:end],
                            out[n, y + i, x + 1, channel:end] if x + 1 < width else spare,
                            out[n, y + i, x + 2, channel:end] if x + 2 < width else spare,
                            out[n, y + i, x + 3, channel:end] if x + 3 < width else spare,
                        )  # fmt: skip
                    else:
                        _output_pixel(e[i, 0, c0:c1], bias, low32, high32, out[n, y + i, x, channel:end])

"""Cells of a window, read from patch or view: the one place where a region's geometry meets memory.

Threads count the elements of what they write, its channels fastest: neighbouring threads read and write neighbouring
floats. All arguments are 32-bit numbers, or pointers to flat arrays.
"""

from __future__ import annotations

import numpy as np

from .compiled import device
from .target import int32, uint32

LOWEST = np.float32(np.finfo(np.float32).min)


@device
def divide(a, b):
    """a // b of numbers that are not negative (unsigned, since Python's rounding of negative ones costs more)."""
    return int32(uint32(a) // uint32(b))


@device
def split(k, channels, width, height):
    """(n, i, j, c) of element k of an array (N, height, width, channels)."""
    pixel = divide(k, channels)
    row = divide(pixel, width)
    n = divide(row, height)
    return n, int32(row - n * height), int32(pixel - row * width), int32(k - pixel * channels)


@device
def cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, outside):
    """Channel c of cell (y, x) of the frame at position n: from patch (N,h,w,C) at (top, left), else from view (H,W,C).

    `outside` is the value off the frame.
    """
    place_y = int32(y - top)
    place_x = int32(x - left)
    in_patch = (place_y >= 0) & (place_y < patch_h) & (place_x >= 0) & (place_x < patch_w)
    in_frame = (y >= 0) & (y < view_h) & (x >= 0) & (x < view_w)
    # One load for both, behind no branch but its own, so that many may be under way at once.
    at_patch = int32(((n * patch_h + place_y) * patch_w + place_x) * channels + c)
    at_view = int32((y * view_w + x) * channels + c)
    base = patch if in_patch else view
    at = at_patch if in_patch else at_view
    return base[at] if in_patch | in_frame else outside


@device
def clamp(value, low, high):
    """value limited to [low, high]; NaN stays NaN."""
    value = low if value < low else value
    return high if value > high else value

"""Rows of a window, read from patch or view: the one place where a region's geometry meets memory.

A row of a window falls into at most five spans: outside the frame, view, patch, view, outside. Whole spans are
copied or combined at once; no pixel is tested on its own.
"""

import numpy as np

from .compiled import inline

LOWEST = np.float32(np.finfo(np.float32).min)


@inline
def copy(target, values):
    """target[:] = values, both (count,)."""
    for k in range(target.size):
        target[k] = values[k]


@inline
def fill(target, value):
    """target[:] = value."""
    for k in range(target.size):
        target[k] = value


@inline
def maximum(target, values):
    """target = max(target, values), elementwise."""
    for k in range(target.size):
        target[k] = values[k] if values[k] > target[k] else target[k]


@inline
def add(target, values):
    """target += values, elementwise."""
    for k in range(target.size):
        target[k] += values[k]


@inline
def spans(x, width, frame, left, patch_width):
    """Where columns x .. x+width of a frame fall, relative to x: (a, p, q, b).

    [a, b) lies inside the frame, [p, q) of it inside a patch at columns left .. left+patch_width.
    """
    a = min(max(-x, 0), width)
    b = max(min(frame - x, width), a)
    p = min(max(left - x, a), b)
    q = max(min(left + patch_width - x, b), p)
    return a, p, q, b


@inline
def gather(patch, n, top, left, view, y, x, channels, outside, target):
    """Row y, columns x .. of the window of position n into target (width*C,).

    patch (N, h, w*C) at (top, left), view (H, W*C); `outside` is the value off the frame.
    """
    if y < 0 or y >= view.shape[0]:
        fill(target, outside)
        return
    width = target.size // channels
    a, p, q, b = spans(x, width, view.shape[1] // channels, left, patch.shape[2] // channels)
    if a > 0:
        fill(target[: a * channels], outside)
    if b < width:
        fill(target[b * channels :], outside)
    if y < top or y >= top + patch.shape[1]:
        copy(target[a * channels : b * channels], view[y, (x + a) * channels : (x + b) * channels])
        return
    if a < p:
        copy(target[a * channels : p * channels], view[y, (x + a) * channels : (x + p) * channels])
    if p < q:
        first = (x + p - left) * channels
        copy(target[p * channels : q * channels], patch[n, y - top, first : first + (q - p) * channels])
    if q < b:
        copy(target[q * channels : b * channels], view[y, (x + q) * channels : (x + b) * channels])


@inline
def combine(target, values, largest):
    """target = max(target, values) where `largest`, else target + values."""
    if largest:
        maximum(target, values)
    else:
        add(target, values)


@inline
def reduce(patch, n, top, left, view, y, x, channels, largest, target):
    """Combine that row into target (width*C,): by maximum where `largest`, else by sum. Off the frame: no change."""
    if y < 0 or y >= view.shape[0]:
        return
    width = target.size // channels
    a, p, q, b = spans(x, width, view.shape[1] // channels, left, patch.shape[2] // channels)
    if y < top or y >= top + patch.shape[1]:
        p = b
        q = b
    if a < p:
        combine(target[a * channels : p * channels], view[y, (x + a) * channels : (x + p) * channels], largest)
    if p < q:
        first = (x + p - left) * channels
        combine(target[p * channels : q * channels], patch[n, y - top, first : first + (q - p) * channels], largest)
    if q < b:
        combine(target[q * channels : b * channels], view[y, (x + q) * channels : (x + b) * channels], largest)

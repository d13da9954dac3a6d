"""Window: the rectangle an operator will read, cut from the patch activation laid over the view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import window
from ..arguments import pair
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import SOURCE, counted, pointer, source
from .cells import cell, split
from .compiled import FLOAT, FLOATS, INT, INTEGERS, kernel
from .target import cuda, int32


@kernel(*SOURCE, INTEGERS, INT, INT, INT, FLOAT, FLOATS)
def _window(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, height, width, outside, out, count,
):  # fmt: skip
    """out (N, height, width, C): the windows at origin (N, 2)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y, x = int32(origin[2 * n] + i), int32(origin[2 * n + 1] + j)
        out[k] = cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, outside)
        k = int32(k + step)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> DeviceCompute:
    outside = float(attributes.get("pad_value") or 0.0)  # type: ignore[arg-type]

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, origin, extent = inputs
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, view.shape[3])
        out = pointer(allocate(0, shape))
        where = pointer(origin)
        window = source(patch, patch_origin, view)
        _window(counted(*shape), stream, *window, where, shape[3], height, width, outside, out)

    return compute


WINDOW = replace(window.WINDOW, make=_make, provider="CUDAExecutionProvider", host=(4,))

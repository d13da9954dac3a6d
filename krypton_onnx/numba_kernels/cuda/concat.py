"""IncrementalConcat: branches joined on their channels, each read from its patch or view straight into its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import concat
from ..arguments import pair
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import SOURCE, counted, offset, pointer, source
from .cells import cell, divide, split
from .compiled import FLOATS, INT, INTEGERS, kernel
from .target import cuda, int32

_NOTHING = np.float32(0)


@kernel(*SOURCE, INTEGERS, INT, INT, INT, INT, FLOATS)
def _place(
    patch, patch_origin, view, patch_h, patch_w, view_h, view_w, origin, channels, total, height, width, out, count,
):  # fmt: skip
    """One branch, of `channels` of the `total` channels, into out (N, height, width, total) from its first one on."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        n, i, j, c = split(k, channels, width, height)
        top, left = int32(patch_origin[2 * n]), int32(patch_origin[2 * n + 1])
        y, x = int32(origin[2 * n] + i), int32(origin[2 * n + 1] + j)
        value = cell(patch, patch_h, patch_w, view, view_h, view_w, channels, n, top, left, y, x, c, _NOTHING)
        out[int32(divide(k, channels) * total + c)] = value
        k = int32(k + step)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> DeviceCompute:
    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        *operands, origin, extent = inputs
        branches = [operands[first : first + 3] for first in range(0, len(operands), 3)]
        total = sum(view.shape[3] for _, _, view in branches)
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, total)
        counted(*shape)
        out, where = pointer(allocate(0, shape)), pointer(origin)
        first = 0
        for branch in branches:
            channels = branch[2].shape[3]
            count = shape[0] * height * width * channels
            _place(count, stream, *source(*branch), where, channels, total, height, width, offset(out, first))
            first += channels

    return compute


INCREMENTAL_CONCAT = tuple(
    replace(kernel, make=_make, provider="CUDAExecutionProvider", host=(len(kernel.inputs) - 1,))
    for kernel in concat.INCREMENTAL_CONCAT
)

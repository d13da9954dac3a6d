"""ChannelAffine: scale and shift a channel, then activate, in one pass over the patch activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import affine
from ..arguments import limits
from ..registry import DeviceAllocate, DeviceCompute
from .arrays import counted, pointer
from .cells import clamp, divide
from .compiled import FLOAT, FLOATS, INT, kernel
from .target import cuda, int32


@kernel(FLOATS, FLOATS, FLOATS, INT, FLOAT, FLOAT, FLOATS)
def _affine(patch, scale, shift, channels, low, high, out, count):
    """patch and out (N, h, w, C), scale and shift (C,)."""
    k = int32(cuda.grid(1))
    step = int32(cuda.gridsize(1))
    while k < count:
        c = int32(k - divide(k, channels) * channels)
        out[k] = clamp(patch[k] * scale[c] + shift[c], low, high)
        k = int32(k + step)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> DeviceCompute:
    low, high = limits(attributes)

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, scale, shift = inputs
        count, channels = counted(*patch.shape), patch.shape[3]
        out = pointer(allocate(0, tuple(patch.shape)))
        _affine(count, stream, pointer(patch), pointer(scale), pointer(shift), channels, low, high, out)

    return compute


CHANNEL_AFFINE = tuple(
    replace(kernel, make=_make, provider="CUDAExecutionProvider") for kernel in affine.CHANNEL_AFFINE
)

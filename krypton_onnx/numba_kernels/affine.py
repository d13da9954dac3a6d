"""ChannelAffine: scale and shift a channel, then activate, in one pass over the patch activation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .arguments import ACTIVATION_ATTRIBUTES, canonical, limits
from .compiled import inline, kernel
from .epilogue import clamp
from .registry import Allocate, Compute, Kernel


@inline
def _scale_shift(target, values, scale, shift, low, high):
    """target = clamp(values * scale + shift), elementwise."""
    for k in range(target.size):
        target[k] = clamp(values[k] * scale[k] + shift[k], low, high)


@kernel
def _affine(patch, scale, shift, low, high, out):
    """patch, out (rows, w*C); scale, shift (w*C,): tiled over a row, so that the pass is one flat loop."""
    low32, high32 = np.float32(low), np.float32(high)
    for r in range(out.shape[0]):
        _scale_shift(out[r], patch[r], scale, shift, low32, high32)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    low, high = limits(attributes)

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, scale, shift = inputs
        assert patch is not None and scale is not None and shift is not None
        n, height, width, channels = patch.shape
        out = allocate(0, patch.shape).reshape(n * height, width * channels)
        rows = canonical(patch).reshape(n * height, width * channels)
        _affine(rows, np.tile(scale, width), np.tile(shift, width), low, high, out)

    return compute


_PLAIN = Kernel(
    op_type="ChannelAffine",
    inputs=("float", "float", "float"),
    required=3,
    outputs=("float",),
    attributes=ACTIVATION_ATTRIBUTES,
    make=_make,
)
CHANNEL_AFFINE = tuple(replace(_PLAIN, op_type="ChannelAffine" + activation) for activation in ("", "Relu", "Clip"))

"""IncrementalConv and PointwiseConv: the algorithm is chosen by shape, as on the CPU, and its weights prepared once.

- 1x1, stride 1, one group, on its own patch: a matrix product on the patch's pixels (pointwise.py);
- group == C == M: direct (depthwise.py);
- stride 1, one group, enough channels: Winograd, where its tiles waste little (winograd.py);
- anything else: window-to-columns and a matrix product (columns.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import convolution
from ..arguments import limits, pair, spatial
from ..registry import DeviceAllocate, DeviceCompute
from ..winograd import suits
from .arrays import counted, nothing, pointer, residual, source
from .columns import ColumnConvolution
from .depthwise import DepthwiseConvolution
from .epilogue import Epilogue
from .pointwise import PointwiseConvolution
from .winograd import WinogradConvolution

# Beside Winograd's, plain weights so small are kept for the extents that waste its tiles.
_KEPT_BYTES = 1 << 20


def _weights(constants: Sequence[np.ndarray | None], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias, inputs `index` and the next. Raises ValueError where they are not constant."""
    weights, bias = (constants[at] if len(constants) > at else None for at in (index, index + 1))
    if weights is None or bias is None:
        raise ValueError("weights and bias must be constants of the model: CUDA kernels prepare them beforehand")
    return weights, bias


def _make_incremental(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> DeviceCompute:
    weights, bias = _weights(constants, 3)
    outputs, each = weights.shape[:2]
    groups = int(attributes.get("group") or 1)  # type: ignore[call-overload]
    geometry = spatial(attributes, weights.shape[2:])
    epilogue = Epilogue(bias, *limits(attributes))
    winograd: WinogradConvolution | None = None
    plain: ColumnConvolution | DepthwiseConvolution | None = None
    if each == 1 and groups == outputs:
        plain = DepthwiseConvolution(weights, geometry, epilogue)
    elif not strict and suits(weights, geometry, groups):
        winograd = WinogradConvolution(weights, geometry, epilogue)
    if plain is None and (winograd is None or weights.nbytes <= _KEPT_BYTES):
        plain = ColumnConvolution(weights, geometry, groups, epilogue)

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch, patch_origin, view, _, _, origin, extent = inputs[:7]
        height, width = pair(extent)
        shape = (origin.shape[0], height, width, outputs)
        counted(*shape)
        out = pointer(allocate(0, shape))
        window = source(patch, patch_origin, view)
        algorithm = winograd if winograd is not None and (plain is None or winograd.pays(height, width)) else plain
        assert algorithm is not None
        algorithm.run(window, view.shape[3], pointer(origin), residual(inputs, 7), out, shape, stream)

    return compute


def _make_pointwise(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> DeviceCompute:
    weights, bias = _weights(constants, 1)
    outputs = len(weights)
    product = PointwiseConvolution(weights, Epilogue(bias, *limits(attributes)))

    def compute(inputs: Sequence[Any], allocate: DeviceAllocate, stream: Any) -> None:
        patch = inputs[0]
        shape = (*patch.shape[:3], outputs)
        counted(*patch.shape)
        counted(*shape)
        out = pointer(allocate(0, shape))
        origin = nothing(np.int64) if len(inputs) <= 3 or inputs[3] is None else pointer(inputs[3])
        product.run(pointer(patch), origin, residual(inputs, 4), out, shape, stream)

    return compute


INCREMENTAL_CONV = tuple(
    replace(kernel, make=_make_incremental, provider="CUDAExecutionProvider", host=(6,))
    for kernel in convolution.INCREMENTAL_CONV
)
POINTWISE_CONV = tuple(
    replace(kernel, make=_make_pointwise, provider="CUDAExecutionProvider") for kernel in convolution.POINTWISE_CONV
)

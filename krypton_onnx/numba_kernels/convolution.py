"""IncrementalConv and PointwiseConv: which algorithm runs a node, and its weights prepared once.

- 1x1, stride 1, one group, on its own patch: a matrix product on the patch's pixels (pointwise.py);
- group == C == M: direct (depthwise.py);
- stride 1, one group, enough channels: Winograd, where its tiles waste little (winograd.py);
- anything else: window-to-columns and a matrix product (columns.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .arguments import (
    ACTIVATION_ATTRIBUTES,
    SPATIAL_ATTRIBUTES,
    Spatial,
    canonical,
    limits,
    pair,
    residual,
    source,
    spatial,
)
from .columns import ColumnConvolution
from .depthwise import DepthwiseConvolution
from .epilogue import Epilogue
from .pointwise import PointwiseConvolution
from .registry import Allocate, Compute, Kernel
from .winograd import WinogradConvolution, suits

# Regions so small that Winograd's tiles are mostly waste are rare, and cheap anyway: not worth keeping large weights.
_KEPT_BYTES = 1 << 20


class Convolution:
    """One node's algorithms, over the same weights and epilogue."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, groups: int, epilogue: Epilogue, strict: bool) -> None:
        outputs, each = weights.shape[:2]
        self._winograd: WinogradConvolution | None = None
        self._direct: ColumnConvolution | DepthwiseConvolution | None = None
        self._columns: partial[ColumnConvolution] | None = None
        if each == 1 and groups == outputs:
            self._direct = DepthwiseConvolution(weights, geometry, epilogue)
        elif not strict and suits(weights, geometry, groups):
            self._winograd = WinogradConvolution(weights, geometry, epilogue)
        # Beside Winograd, whose weights are four times as large, small ones are kept for extents that ask for them.
        if self._winograd is None or weights.nbytes <= _KEPT_BYTES:
            self._columns = partial(ColumnConvolution, np.array(weights), geometry, groups, epilogue)

    def algorithm(self, height: int, width: int) -> WinogradConvolution | ColumnConvolution | DepthwiseConvolution:
        """The fastest for regions of this extent."""
        if self._winograd is not None and (self._columns is None or self._winograd.pays(height, width)):
            return self._winograd
        if self._direct is None:
            assert self._columns is not None
            self._direct = self._columns()
        return self._direct


def _make_incremental(
    attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool
) -> Compute:
    low, high = limits(attributes)
    groups = int(attributes.get("group") or 1)  # type: ignore[call-overload]

    def prepare(weights: np.ndarray, bias: np.ndarray) -> Convolution:
        geometry = spatial(attributes, weights.shape[2:])
        return Convolution(weights, geometry, groups, Epilogue(bias, low, high), strict)

    prepared: Convolution | None = None
    if len(constants) > 4 and constants[3] is not None and constants[4] is not None:
        prepared = prepare(constants[3], constants[4])

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, weights, bias, origin, extent = inputs[:7]
        assert patch is not None and patch_origin is not None and view is not None
        assert weights is not None and bias is not None and origin is not None and extent is not None
        convolution = prepared or prepare(weights, bias)
        window, channels = source(patch, patch_origin, view)
        height, width = pair(extent)
        out = allocate(0, (len(origin), height, width, len(weights)))
        algorithm = convolution.algorithm(height, width)
        algorithm.run(window, channels, canonical(origin), residual(inputs, 7), out)

    return compute


def _make_pointwise(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    low, high = limits(attributes)

    def prepare(weights: np.ndarray, bias: np.ndarray) -> PointwiseConvolution:
        return PointwiseConvolution(weights, Epilogue(bias, low, high))

    prepared: PointwiseConvolution | None = None
    if len(constants) > 2 and constants[1] is not None and constants[2] is not None:
        prepared = prepare(constants[1], constants[2])

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, weights, bias = inputs[:3]
        assert patch is not None and weights is not None and bias is not None
        out = allocate(0, (*patch.shape[:3], len(weights)))
        origin = canonical(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else None
        (prepared or prepare(weights, bias)).run(canonical(patch), origin, residual(inputs, 4), out)

    return compute


_RESIDUAL = ("float", "int64", "float")


def _variants(kernel: Kernel) -> tuple[Kernel, ...]:
    """One kernel under the names of all its function bodies: with and without a residual, one an activation."""
    return tuple(
        replace(kernel, op_type=kernel.op_type + residual + activation)
        for residual in ("", "Add")
        for activation in ("", "Relu", "Clip")
    )


INCREMENTAL_CONV = _variants(Kernel(
    op_type="IncrementalConv",
    inputs=("float", "int64", "float", "float", "float", "int64", "int64", *_RESIDUAL),
    required=7,
    outputs=("float",),
    attributes={**SPATIAL_ATTRIBUTES, "group": "int", **ACTIVATION_ATTRIBUTES},
    make=_make_incremental,
    consumed=(3,),
))  # fmt: skip

POINTWISE_CONV = _variants(Kernel(
    op_type="PointwiseConv",
    inputs=("float", "float", "float", "int64", *_RESIDUAL),
    required=3,
    outputs=("float",),
    attributes=ACTIVATION_ATTRIBUTES,
    make=_make_pointwise,
    consumed=(1,),
))  # fmt: skip

"""Rewriting rules, one operator family a module: HANDLERS (op_type -> rule) and FUNCTIONS (bodies as ONNX text).

A rule takes a node of the normalized graph, its operands (a Patch where the occlusion changes them, else the tensor)
and the emitter. It returns a Patch (still incremental; a list of them, one an output, where there are several), or a
Variable (a full-frame or vector result per position), or raises NotIncremental with the reason why the node is computed
on the full frame instead.
"""

from collections.abc import Callable

import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, Patch
from krypton_onnx.rewriter.operators import (
    affine,
    channels,
    convolution,
    elementwise,
    enlarging,
    fusion,
    layout,
    pooling,
    quantized,
    reduction,
    resampling,
    window,
)

_FAMILIES = (convolution, affine, pooling, elementwise, layout, channels, reduction, enlarging, resampling, quantized)

Rule = Callable[[gs.Node, list, Emitter], Patch | list[Patch | None] | gs.Variable]
HANDLERS: dict[str, Rule] = {op: rule for family in _FAMILIES for op, rule in family.HANDLERS.items()}
FUNCTIONS = (*window.FUNCTIONS, *(text for family in _FAMILIES for text in family.FUNCTIONS))
POINTWISE = frozenset((*elementwise.HANDLERS, *quantized.HANDLERS, "Concat", "Split", "Transpose"))
# Operators that run as they are on patch activations of any type; what others read is float32.
ANY_TYPE = frozenset((*elementwise.HANDLERS, *quantized.HANDLERS, "Transpose"))
# Operators whose name is only known once everything that fuses has been fused.
FINAL_NAMES: dict[str, Callable[[gs.Node], str]] = dict.fromkeys(fusion.INPUTS, fusion.final_name)

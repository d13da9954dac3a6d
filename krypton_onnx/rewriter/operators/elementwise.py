"""Operators that are pointwise in space: they run, as they are, on patch activations.

Unary operators, and n-ary ones with constants that broadcast over space. Where several branches meet they are first
windowed to the union of their regions.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.affine import rewrite_affine
from krypton_onnx.rewriter.operators.fusion import fuse_activation, fuse_residual

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf",
    "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
    "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
    "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
NARY = (
    "Add", "And", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
    "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


def rewrite_elementwise(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Run the node on patch activations, fused into the convolution before it where that is possible."""
    fused = (
        fuse_residual(node, operands, emitter)
        or fuse_activation(node, operands, emitter)
        or rewrite_affine(node, operands, emitter)
    )
    if fused is not None:
        return fused
    patches = [operand for operand in operands if isinstance(operand, Patch)]
    if len({patch.layout for patch in patches}) > 1:
        raise NotIncremental("its inputs have different layouts")
    emitter.frame(node.outputs[0], patches[0].layout)
    for patch in patches:
        if emitter.frame(patch.base, patch.layout) != emitter.frame(node.outputs[0], patch.layout):
            raise NotIncremental("one input is broadcast over height and width")
    inputs: list = [None] * len(operands)
    for index, operand in enumerate(operands):
        if not isinstance(operand, Patch):
            inputs[index] = _channels_last_constant(operand, patches[0].layout, node, emitter)
    meeting, result = meet(node, patches, emitter)
    for index, operand in enumerate(operands):
        if isinstance(operand, Patch):
            inputs[index] = meeting.pop(0)
    tensor = emitter.emit(node.op, node.name, inputs, node.attrs, domain=None)
    return Patch(tensor, result.geometry, node.outputs[0], patches[0].layout, result.origin)


def meet(node: gs.Node, patches: list[Patch], emitter: Emitter) -> tuple[list[gs.Variable], Patch]:
    """The patch activations on the union of their regions, and a Patch that has this region.

    Raises NotIncremental where the regions do not align (different strides meet).
    """
    if all(patch.same_region(patches[0]) for patch in patches):
        return [patch.tensor for patch in patches], patches[0]
    union = union_of(patches)
    tensors = []
    for number, patch in enumerate(patches):
        placed = patch.origin is None and patch.geometry == union
        tensors.append(patch.tensor if placed else emitter.window(patch, union, f"{node.name}/window_{number}"))
    return tensors, Patch(tensors[0], union, node.outputs[0], patches[0].layout)


def union_of(patches: list[Patch]) -> Geometry:
    """The region that covers all of theirs. Raises NotIncremental where they do not align (different strides meet)."""
    union = patches[0].geometry
    for patch in patches[1:]:
        if not union.aligned(patch.geometry):
            raise NotIncremental("branches of different stride meet")
        union = union.union(patch.geometry)
    return union


def _channels_last_constant(operand: gs.Tensor, layout: str, node: gs.Node, emitter: Emitter) -> gs.Tensor:
    """A constant operand arranged to broadcast against (N, h, w, C)."""
    if operand.is_empty():
        return operand
    if not isinstance(operand, gs.Constant):
        raise NotIncremental("it reads a tensor that does not depend on the image")
    value = np.asarray(operand.values)
    if value.ndim > 4:
        raise NotIncremental("it broadcasts to more than 4 dimensions")
    if value.size == 1:
        return operand if value.ndim == 0 else emitter.constant(f"{node.name}/{operand.name}", value.reshape(()))
    value = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if layout == "NCHW":
        value = value.transpose(0, 2, 3, 1)
    if value.shape[0] != 1 or value.shape[1] != 1 or value.shape[2] != 1:
        raise NotIncremental("it has a constant with an extent in space")
    return emitter.constant(f"{node.name}/{operand.name}/nhwc", np.ascontiguousarray(value))


FUNCTIONS = ()
HANDLERS = dict.fromkeys(UNARY + NARY, rewrite_elementwise)

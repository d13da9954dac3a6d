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
    """As they are on patch activations, with scalars, one value a channel or a cell, other branches or other inputs;
    Relu, Clip, Add of a branch and arithmetic by channel are fused into the convolution before them."""
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
    meeting, result = meet(node, patches, emitter)
    inputs = [
        meeting.pop(0) if isinstance(operand, Patch) else beside_patches(operand, index, node, result, emitter)
        for index, operand in enumerate(operands)
    ]
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


def beside_patches(
    operand: gs.Tensor, index: int, node: gs.Node, result: Patch, emitter: Emitter, whole: bool = False
) -> gs.Tensor:
    """An operand that no occlusion changes, arranged to broadcast against the region (N, h, w, C) of `result`.

    whole : it must fill the region, as it is joined with it.
    """
    if operand.is_empty():
        return operand
    name = f"{node.name}/operand_{index}"
    if not isinstance(operand, gs.Constant):
        return _unchanged(operand, name, result, emitter, whole)
    value = np.asarray(operand.values)
    if value.ndim > 4:
        raise NotIncremental("it broadcasts to more than 4 dimensions")
    if value.size == 1 and not whole:
        return operand if value.ndim == 0 else emitter.constant(name, value.reshape(()))
    value = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if value.shape[0] != 1:
        raise NotIncremental("its constant belongs to a batch")
    if result.layout == "NCHW":
        value = value.transpose(0, 2, 3, 1)
    if value.shape[1:3] == (1, 1) and not whole:
        return emitter.constant(name, np.ascontiguousarray(value))
    # It has an extent in space: windowed like a view, as float32.
    value = np.broadcast_to(value, (1, *result.geometry.frame, value.shape[3]))
    frame = np.ascontiguousarray(value, np.float32)
    if not np.array_equal(frame.astype(value.dtype), value, equal_nan=value.dtype.kind == "f"):
        raise NotIncremental("its constant is not exact as float32")
    window = emitter.window_of_constant(emitter.constant(f"{name}/view", frame), result, value.shape[3], name)
    return window if value.dtype == np.float32 else emitter.cast(window, f"{name}/cast", value.dtype)


def _unchanged(operand: gs.Variable, name: str, result: Patch, emitter: Emitter, whole: bool) -> gs.Tensor:
    """As beside_patches, of what the base pass computes from other inputs than the image."""
    shape = emitter.shape(operand)
    if operand.name not in emitter.types or len(shape) > 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise NotIncremental("it reads a tensor of unknown shape that does not depend on the image")
    if len(shape) == 0:
        return emitter.typed(operand)
    if not emitter.is_float(operand):
        raise NotIncremental("it reads a tensor beside the image that is no float32")
    if len(shape) < 4:
        if not all(isinstance(size, int) for size in shape):
            raise NotIncremental("it reads a tensor of unknown shape that does not depend on the image")
        axes = emitter.constant(f"{name}/axes", np.arange(4 - len(shape)))
        operand = emitter.emit("Unsqueeze", f"{name}/rank_4", [operand, axes], {}, domain=None)
        shape = (1,) * (4 - len(shape)) + shape
    if isinstance(shape[0], int) and shape[0] != 1:
        raise NotIncremental("it reads a batch that does not depend on the image")
    space = shape[2:] if result.layout == "NCHW" else shape[1:3]
    channels = shape[1 if result.layout == "NCHW" else 3]
    view = gs.Variable(f"view/{name}", np.float32, [1, *space, channels])
    perm = [0, 2, 3, 1] if result.layout == "NCHW" else [0, 1, 2, 3]
    emitter.graph.nodes.append(gs.Node("Transpose", view.name, {"perm": perm}, inputs=[operand], outputs=[view]))
    if space == (1, 1) and not whole:
        return view
    if space != result.geometry.frame:
        raise NotIncremental("it broadcasts a tensor over height or width alone")
    return emitter.window_of_constant(view, result, channels, name)


FUNCTIONS = ()
HANDLERS = dict.fromkeys(UNARY + NARY, rewrite_elementwise)

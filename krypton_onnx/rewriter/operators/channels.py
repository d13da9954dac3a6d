"""Operators that mix the channels of a cell and nothing else: pointwise in space, run on channels-last patches.

Softmax and normalizations over channels, Split, LRN, and MatMul with constant weights in channels-last stretches (a 1x1
convolution by another name).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch

_ALONG_AXIS = ("Hardmax", "LogSoftmax", "LpNormalization", "Softmax")


def channel_axis(patch: Patch) -> int:
    """Axis of the channels in what the patch activation stands for."""
    return 1 if patch.layout == "NCHW" else 3


def rewrite_along_channels(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Over channels. Raises NotIncremental along another axis."""
    patch = operands[0]
    if int(node.attrs.get("axis", -1)) % 4 != channel_axis(patch):
        raise NotIncremental("it works along height or width")
    return _run(node, patch, [patch.tensor], {**node.attrs, "axis": 3}, emitter)


def rewrite_layer_norm(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Over the channels of a channels-last tensor, with constant scale and bias."""
    patch = operands[0]
    if not isinstance(patch, Patch) or any(isinstance(operand, Patch) for operand in operands[1:]):
        raise NotIncremental("its scale depends on the image")
    if patch.layout != "NHWC" or int(node.attrs.get("axis", -1)) % 4 != 3:
        raise NotIncremental("it normalizes over the whole frame, or along an axis of it")
    if any(output.name and (output.outputs or output in emitter.graph.outputs) for output in node.outputs[1:]):
        raise NotIncremental("its statistics are used")
    if not all(isinstance(operand, gs.Constant) and np.ndim(operand.values) <= 1 for operand in node.inputs[1:]):
        raise NotIncremental("its scale is computed at run time")
    return _run(node, patch, [patch.tensor, *node.inputs[1:]], {**node.attrs, "axis": 3}, emitter)


def rewrite_lrn(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Over neighbouring channels. (Of an NHWC tensor the operator means columns.)"""
    patch = operands[0]
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    first = emitter.emit("Transpose", f"{node.name}/nchw", [patch.tensor], {"perm": [0, 3, 1, 2]}, domain=None)
    normal = emitter.emit("LRN", node.name, [first], node.attrs, domain=None)
    last = emitter.emit("Transpose", f"{node.name}/nhwc", [normal], {"perm": [0, 2, 3, 1]}, domain=None)
    return Patch(last, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def rewrite_split(node: gs.Node, operands: list, emitter: Emitter) -> list[Patch | None]:
    """Of channels."""
    patch = operands[0]
    axis = channel_axis(patch)
    if int(node.attrs.get("axis", 0)) % 4 != axis:
        raise NotIncremental("it does not split channels")
    patches: list[Patch | None] = []
    start = 0
    for number, output in enumerate(node.outputs):
        shape = emitter.shape(output)
        if len(shape) != 4 or not isinstance(shape[axis], int):
            raise NotIncremental("how it splits is computed at run time")
        stop = start + int(shape[axis])
        bounds = [
            emitter.constant(f"{node.name}/{number}/{what}", np.array([value], np.int64))
            for what, value in (("start", start), ("stop", stop), ("axis", 3))
        ]
        tensor = emitter.emit("Slice", f"{node.name}/{number}", [patch.tensor, *bounds], {}, domain=None)
        patches.append(Patch(tensor, patch.geometry, output, patch.layout, patch.origin))
        start = stop
    return patches


def rewrite_matmul(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """A channels-last picture by constant (C, D) weights: a 1x1 convolution."""
    patch = operands[0]
    if not isinstance(patch, Patch) or isinstance(operands[1], Patch):
        raise NotIncremental("both of its inputs, or the second one, depend on the image")
    if patch.layout != "NHWC":
        raise NotIncremental("it mixes the columns of the frame")
    if not isinstance(node.inputs[1], gs.Constant) or np.ndim(node.inputs[1].values) != 2:
        raise NotIncremental("its weights are no constant matrix")
    weights = np.asarray(node.inputs[1].values)
    kernel = emitter.constant(f"{node.name}/weights", np.ascontiguousarray(weights.T)[:, :, None, None])
    bias = emitter.constant(f"{node.name}/zero_bias", np.zeros(weights.shape[1], np.float32))
    attributes = {
        "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1,
        "activation": "", "clip_min": 0.0, "clip_max": 0.0,
    }  # fmt: skip
    tensor = emitter.emit("PointwiseConv", node.name, [patch.tensor, kernel, bias], attributes)
    return Patch(tensor, patch.geometry, node.outputs[0], "NHWC", patch.origin)


def _run(node: gs.Node, patch: Patch, inputs: list, attributes: dict, emitter: Emitter) -> Patch:
    """The node itself on the patch activation."""
    emitter.frame(node.outputs[0], patch.layout)
    tensor = emitter.emit(node.op, node.name, inputs, attributes, domain=None)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


FUNCTIONS = ()
HANDLERS = {
    **dict.fromkeys(_ALONG_AXIS, rewrite_along_channels),
    "LRN": rewrite_lrn,
    "LayerNormalization": rewrite_layer_norm,
    "MatMul": rewrite_matmul,
    "Split": rewrite_split,
}

"""Make a fixed batch dynamic, safely.

Renaming dimension 0 is not enough: a Reshape to [1, 512] then fails at run time and [1, -1] silently mixes images.
Case: Reshape whose constant shape starts with the old batch and whose input carries the batch on axis 0 -> shape 0
(copy the dimension). Which tensors carry the batch is followed from the image input; a node that writes the old batch
into a shape in any other way (a flat Reshape), or that works along axis 0, is a reason to refuse. Two more cases where
the batch is 1: the sizes of a Resize name the other axes only, and an operand that an operator does not broadcast (the
indices of GatherElements, say) is repeated, once an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims


def free_batch(graph: gs.Graph, image_input: gs.Variable, types: Mapping[str, TensorType], batch: str) -> str | None:
    """Rename the batch of `image_input` to `batch`; the reason for a refusal, or None when it is done."""
    old = types[image_input.name][1][0]
    if not isinstance(old, int):
        return None
    carrying = {image_input.name}
    edits: list[Callable[[], None]] = []
    for node in graph.nodes:
        if not any(operand.name in carrying for operand in node.inputs if operand.name):
            continue
        if node.op == "Shape":
            continue  # reads the batch at run time
        reason = _works_on_batch(node, old, types)
        if reason is not None:
            return f"{node.op} node '{node.name}' {reason}"
        if node.op == "Reshape":
            target = node.inputs[1]
            if isinstance(target, gs.Constant):
                shape = np.array(target.values)
                if shape.size == 0 or node.inputs[0].name not in carrying:
                    return f"Reshape node '{node.name}' mixes the batch with other axes"
                if shape[0] == old:
                    shape[0] = 0
                elif not (shape[0] == 0 or (shape[0] == -1 and old == 1 and _keeps_rest(node, shape, types))):
                    return f"Reshape node '{node.name}' mixes the batch with other axes"
                if node.attrs.get("allowzero", 0) and (np.array(target.values) == 0).any():
                    return f"Reshape node '{node.name}' makes an empty tensor"
                edits.append(partial(_reshape_to, node, shape))
        if node.op == "Resize" and _has(node, 3):
            edits.append(partial(_size_other_axes, node, types))
        for index in _ROWS_AN_IMAGE.get(node.op, ()):
            if _has(node, index) and isinstance(node.inputs[index], gs.Constant):
                edits.append(partial(_repeat, graph, image_input, node, index))
        carrying.update(output.name for output in node.outputs if output.name)
    for edit in edits:
        edit()
    for tensor in [image_input, *graph.outputs]:
        if tensor.shape and (tensor is image_input or tensor.name in carrying):
            tensor.shape = [batch, *list(tensor.shape)[1:]]
    return None


def _has(node: gs.Node, index: int) -> bool:
    return len(node.inputs) > index and not node.inputs[index].is_empty()


def _reshape_to(node: gs.Node, shape: np.ndarray) -> None:
    node.attrs.pop("allowzero", None)
    node.inputs[1] = gs.Constant(f"{node.name or node.outputs[0].name}/shape", shape)


def _size_other_axes(node: gs.Node, types: Mapping[str, TensorType]) -> None:
    """Resize by `sizes` of all axes: by those that it changes (attribute axes, opset 18)."""
    if "axes" in node.attrs:
        return
    sizes = np.asarray(node.inputs[3].values)
    before = types[node.inputs[0].name][1]
    axes = [axis for axis in range(1, len(sizes)) if axis > 1 or before[axis] != sizes[axis]]
    node.attrs["axes"] = axes
    name = node.name or node.outputs[0].name
    node.inputs[3] = gs.Constant(f"{name}/sizes", sizes[axes])
    if _has(node, 1) and isinstance(node.inputs[1], gs.Constant) and node.inputs[1].values.size:
        roi = np.asarray(node.inputs[1].values).reshape(2, -1)[:, axes]  # starts, then ends
        node.inputs[1] = gs.Constant(f"{name}/roi", np.ascontiguousarray(roi.ravel()))


def _repeat(graph: gs.Graph, image_input: gs.Variable, node: gs.Node, index: int) -> None:
    """Give the operator its constant operand once an image, instead of once."""
    constant, name = node.inputs[index], f"{node.name or node.outputs[0].name}/{index}"
    count, target, repeated = (gs.Variable(f"{name}/{what}") for what in ("count", "shape", "repeated"))
    ones = gs.Constant(f"{name}/ones", np.ones(len(constant.shape) - 1, np.int64))
    graph.nodes.append(gs.Node("Shape", count.name, {"start": 0, "end": 1}, [image_input], [count]))
    graph.nodes.append(gs.Node("Concat", target.name, {"axis": 0}, [count, ones], [target]))
    graph.nodes.append(gs.Node("Expand", repeated.name, {}, [constant, target], [repeated]))
    node.inputs[index] = repeated


# Operands that have a row an image, and are not broadcast.
_ROWS_AN_IMAGE = {
    "Attention": (0, 1, 2, 4, 5, 6), "DeformConv": (0, 2, 4), "GatherElements": (0, 1), "GridSample": (0, 1),
    "ScatterElements": (0, 1, 2),
}  # fmt: skip
# Where an operator says along which axes it works: its attribute's default (None: all axes), and the input that may
# hold them instead.
_AXIS_DEFAULT = {
    "ArgMax": 0, "ArgMin": 0, "Compress": None, "Concat": None, "CumSum": None, "Gather": 0, "GatherElements": 0,
    "Hardmax": -1, "LayerNormalization": -1, "LogSoftmax": -1, "ScatterElements": 0, "Softmax": -1, "Split": 0,
    "TopK": -1, "LpNormalization": -1, "RMSNormalization": -1,
}  # fmt: skip
_AXES_INPUT = {"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}


def _works_on_batch(node: gs.Node, old: int, types: Mapping[str, TensorType]) -> str | None:
    """Why the node does more to axis 0 than carry it, or None."""
    rank = len(types.get(node.inputs[0].name, ("", ()))[1])
    if node.op == "MaxUnpool" and isinstance(node.inputs[1], gs.Constant):
        return "has constant indices, which count through the batch"
    if node.op == "DynamicQuantizeLinear":
        return "quantizes by the range of the whole batch"
    if node.op == "BatchNormalization" and node.attrs.get("training_mode", 0):
        return "is set to training: it normalizes by the whole batch"
    if node.op == "Dropout" and _has(node, 2) and np.any(getattr(node.inputs[2], "values", True)):
        return "is set to training: it drops at random"
    if node.op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss") and node.attrs.get("reduction") != "none":
        return "works along the batch"
    if node.op in ("Expand", "Tile") and _keeps_one(node, rank):
        return None
    if node.op in ("Expand", "Tile", "Loop", "If", "Scan", "ConstantOfShape", "GatherND", "ScatterND", "Einsum"):
        return f"may hold the fixed batch {old}"
    if node.op == "Transpose" and tuple(node.attrs.get("perm", ()))[:1] != (0,):
        return "moves the batch away from axis 0"
    if node.op == "Flatten" and node.attrs.get("axis", 1) not in (1, 1 - rank):
        return "mixes the batch with other axes"
    if node.op == "Resize" and _has(node, 3) and not _sizes_without_batch(node, old, types):
        return f"may hold the fixed batch {old}"
    if 0 in {axis + rank if axis < 0 else axis for axis in worked_axes(node, rank)}:
        return "works along the batch"
    for operand in node.inputs:
        weights = node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        full = isinstance(operand, gs.Constant) and not weights and len(operand.shape) == rank > 1
        if full and old > 1 and operand.shape[0] == old:
            return f"has a constant as long as the fixed batch {old}"
    return None


def worked_axes(node: gs.Node, rank: int) -> list[int]:
    """Axes along which the node works (of an Unsqueeze: that it makes); [] for operators that name none."""
    if "axes" in node.attrs:
        return [int(axis) for axis in node.attrs["axes"]]
    index = 1 if node.op.startswith("Reduce") else _AXES_INPUT.get(node.op)
    if index is not None and len(node.inputs) > index and isinstance(node.inputs[index], gs.Constant):
        axes = [int(axis) for axis in np.asarray(node.inputs[index].values).ravel()]
        if node.op == "Unsqueeze":
            return [axis % (rank + len(axes)) for axis in axes]
        if axes or node.attrs.get("noop_with_empty_axes", 0):
            return axes
    if node.op == "MeanVarianceNormalization":
        return [0, 2, 3]
    if node.op.startswith("Reduce") or node.op in ("Slice", "Squeeze"):
        return list(range(rank))  # all of them
    if node.op in _AXIS_DEFAULT:
        axis = node.attrs.get("axis", _AXIS_DEFAULT[node.op])
        return list(range(rank)) if axis is None else [int(axis)]
    return []


def _keeps_one(node: gs.Node, rank: int) -> bool:
    """True where an Expand or Tile leaves axis 0 as it is."""
    target = node.inputs[1]
    return isinstance(target, gs.Constant) and len(target.values) == rank > 0 and int(target.values[0]) == 1


def _sizes_without_batch(node: gs.Node, old: int, types: Mapping[str, TensorType]) -> bool:
    """True where a Resize by sizes can do without the batch's own size."""
    sizes, before = node.inputs[3], types.get(node.inputs[0].name, ("", ()))[1]
    if "axes" in node.attrs:
        return 0 not in [axis % len(before) for axis in node.attrs["axes"]] if before else False
    stretched = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    return stretched and isinstance(sizes, gs.Constant) and len(before) > 1 and int(sizes.values[0]) == old


def _keeps_rest(node: gs.Node, shape: np.ndarray, types: Mapping[str, TensorType]) -> bool:
    """True where [-1, rest...] leaves exactly the batch for -1."""
    before = known_dims(types.get(node.inputs[0].name, ("", ()))[1][1:])
    rest = shape[1:]
    return before is not None and bool((rest > 0).all()) and np.prod(before) == np.prod(rest)

"""Make a fixed batch dynamic, safely.

Renaming dimension 0 is not enough: a Reshape to [1, 512] then fails at run time and [1, -1] silently mixes images.
Case: Reshape whose constant shape starts with the old batch and whose input carries the batch on axis 0 -> shape 0
(copy the dimension). Which tensors carry the batch is followed from the image input; a node that writes the old batch
into a shape in any other way (Expand, Tile, a flat Reshape), or that works along axis 0, is a reason to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims


def free_batch(graph: gs.Graph, image_input: gs.Variable, types: Mapping[str, TensorType], batch: str) -> str | None:
    """Rename the batch of `image_input` to `batch`; the reason for a refusal, or None when it is done."""
    old = types[image_input.name][1][0]
    if not isinstance(old, int):
        return None
    carrying = {image_input.name}
    edits = []
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
                edits.append((node, shape))
        carrying.update(output.name for output in node.outputs if output.name)
    for node, shape in edits:
        if node.attrs.get("allowzero", 0) and (np.array(node.inputs[1].values) == 0).any():
            return f"Reshape node '{node.name}' makes an empty tensor"
        node.attrs.pop("allowzero", None)
        node.inputs[1] = gs.Constant(f"{node.name or node.outputs[0].name}/shape", shape)
    for tensor in [image_input, *graph.outputs]:
        if tensor.shape and (tensor is image_input or tensor.name in carrying):
            tensor.shape = [batch, *list(tensor.shape)[1:]]
    return None


# Where an operator says along which axes it works: its attribute's default (None: all axes), and the input that may
# hold them instead.
_AXIS_DEFAULT = {
    "ArgMax": 0, "ArgMin": 0, "Compress": None, "Concat": None, "CumSum": None, "Gather": 0, "GatherElements": 0,
    "Hardmax": -1, "LayerNormalization": -1, "LogSoftmax": -1, "ScatterElements": 0, "Softmax": -1, "Split": 0,
    "TopK": -1,
}  # fmt: skip
_AXES_INPUT = {"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}


def _works_on_batch(node: gs.Node, old: int, types: Mapping[str, TensorType]) -> str | None:
    """Why the node does more to axis 0 than carry it, or None."""
    rank = len(types.get(node.inputs[0].name, ("", ()))[1])
    if node.op in ("Expand", "Tile", "Loop", "If", "Scan", "ConstantOfShape", "GatherND", "ScatterND", "Einsum"):
        return f"may hold the fixed batch {old}"
    if node.op == "Transpose" and tuple(node.attrs.get("perm", ()))[:1] != (0,):
        return "moves the batch away from axis 0"
    if node.op == "Flatten" and node.attrs.get("axis", 1) not in (1, 1 - rank):
        return "mixes the batch with other axes"
    if node.op in ("Resize", "Upsample") and len(node.inputs) > 3 and not node.inputs[3].is_empty():
        return f"may hold the fixed batch {old}"
    if 0 in {axis % rank if rank else axis for axis in _axes(node, rank)}:
        return "works along the batch"
    for operand in node.inputs:
        weights = node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        full = isinstance(operand, gs.Constant) and not weights and len(operand.shape) == rank > 1
        if full and old > 1 and operand.shape[0] == old:
            return f"has a constant as long as the fixed batch {old}"
    return None


def _axes(node: gs.Node, rank: int) -> list[int]:
    """Axes along which the node works; [] for operators that name none."""
    if node.op == "Unsqueeze":
        rank += 1
    if "axes" in node.attrs:
        return [int(axis) for axis in node.attrs["axes"]]
    index = 1 if node.op.startswith("Reduce") else _AXES_INPUT.get(node.op)
    if index is not None and len(node.inputs) > index and isinstance(node.inputs[index], gs.Constant):
        return [int(axis) for axis in np.asarray(node.inputs[index].values).ravel()]
    if node.op.startswith("Reduce") or node.op in ("Slice", "Squeeze"):
        return list(range(rank))  # all of them
    if node.op in _AXIS_DEFAULT:
        axis = node.attrs.get("axis", _AXIS_DEFAULT[node.op])
        return list(range(rank)) if axis is None else [int(axis)]
    return []


def _keeps_rest(node: gs.Node, shape: np.ndarray, types: Mapping[str, TensorType]) -> bool:
    """True where [-1, rest...] leaves exactly the batch for -1."""
    before = known_dims(types.get(node.inputs[0].name, ("", ()))[1][1:])
    rest = shape[1:]
    return before is not None and bool((rest > 0).all()) and np.prod(before) == np.prod(rest)

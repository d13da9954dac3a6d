"""Make a fixed batch dynamic, safely.

Renaming dimension 0 is not enough: a Reshape to [1, 512] then fails at run time and [1, -1] silently mixes images.
Case: Reshape whose constant shape starts with the old batch and whose input carries the batch on axis 0 -> shape 0
(copy the dimension). Which tensors carry the batch is followed from the image input; a node that writes the old batch
into a shape in any other way (Expand, Tile, ConstantOfShape, a flat Reshape) is a reason to refuse.
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
        if node.op in ("Expand", "Tile", "Loop", "If", "Scan"):
            return f"{node.op} node '{node.name}' may hold the fixed batch {old}"
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
        perm = node.attrs.get("perm") if node.op == "Transpose" else None
        if perm is not None and perm[0] != 0:
            return f"Transpose node '{node.name}' moves the batch away from axis 0"
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


def _keeps_rest(node: gs.Node, shape: np.ndarray, types: Mapping[str, TensorType]) -> bool:
    """True where [-1, rest...] leaves exactly the batch for -1."""
    before = known_dims(types.get(node.inputs[0].name, ("", ()))[1][1:])
    rest = shape[1:]
    return before is not None and bool((rest > 0).all()) and np.prod(before) == np.prod(rest)

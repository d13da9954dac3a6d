"""Dense layers on every cell, written for rows: multiply where the cells are.

Case: Reshape of (batch, H, W, C) to rows of C, MatMul by a constant (C, D), Add of a constant (D,) or none, Reshape to
(batch, H, W, D), each tensor between read by the next alone -> MatMul of the picture itself, the same Add. (Keras
writes Dense on pictures so; the first shape holds the batch times the cells.)
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims
from krypton_onnx.rewriter.partial_shapes import entries_of
from krypton_onnx.rewriter.readers import only_reader


def multiply_cells(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "MatMul" or not node.outputs or not isinstance(node.inputs[1], gs.Constant):
            continue
        if len(node.inputs[1].shape) != 2 or not node.inputs[0].inputs:
            continue
        rows = node.inputs[0].inputs[0]
        last = only_reader(graph, node.outputs[0])
        added = None
        if last is not None and last.op == "Add":
            constant = next((operand for operand in last.inputs if isinstance(operand, gs.Constant)), None)
            if constant is None or tuple(constant.shape) != (node.inputs[1].shape[1],):
                continue
            added, last = last, only_reader(graph, last.outputs[0])
        if rows.op != "Reshape" or last is None or last.op != "Reshape" or not _are_rows(node, rows, last, types):
            continue
        node.inputs[0] = rows.inputs[0]
        result = last.outputs[0]
        last.outputs.clear()
        (added or node).outputs = [result]
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


def _are_rows(node: gs.Node, rows: gs.Node, last: gs.Node, types: Mapping[str, TensorType]) -> bool:
    """Rows of the last axis of a picture, and afterwards the same cells again."""
    picture = types.get(rows.inputs[0].name, ("", ()))[1]
    inside = known_dims(tuple(picture[1:]))
    if len(picture) != 4 or inside is None or len(types.get(node.inputs[0].name, ("", ()))[1]) != 2:
        return False
    # A product by (C, D) takes rows of C: with C the picture's last axis they are its cells, in order.
    wanted = [*inside[:2], int(node.inputs[1].shape[1])]
    after = entries_of(last.inputs[1], types)
    return inside[2] == node.inputs[1].shape[0] and after is not None and list(after[1:]) == wanted

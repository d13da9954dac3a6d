"""Fold what a graph computes at run time from shapes that are known once height and width are.

Cases (x's batch stays unknown, its other dimensions are known):
1. Gather(Shape(x), constant indices) that reads known dimensions only -> constant.
2. Slice(Shape(x), constant bounds, axis 0) that reads known dimensions only -> constant.
3. Shape(x) with start / end attributes that leave known dimensions only -> constant.
ONNX Runtime's own constant folding then removes the arithmetic behind them (SAME padding, resize sizes).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType
from krypton_onnx.rewriter.readers import read_constant


def fold_shape_constants(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """Replace shape reads by constants; True when the graph changed."""
    changed = False
    for node in graph.nodes:
        if node.op != "Shape" or node.inputs[0].name not in types:
            continue
        shape = types[node.inputs[0].name][1]
        dims = list(shape)[slice(node.attrs.get("start", 0), node.attrs.get("end", None))]
        if dims and _known(dims):
            changed |= read_constant(node.outputs[0], f"{node.outputs[0].name}/known", np.array(dims, np.int64))
            continue
        for reader in list(node.outputs[0].outputs):
            value = _read(reader, dims)
            if value is not None:
                changed |= read_constant(reader.outputs[0], f"{reader.outputs[0].name}/known", value)
    if changed:
        graph.cleanup()
    return changed


def _known(dims: list) -> bool:
    return all(isinstance(dim, int) and dim >= 0 for dim in dims)


def _read(reader: gs.Node, dims: list) -> np.ndarray | None:
    """The constant that `reader` takes from a shape vector, or None where it is not one."""
    operands = reader.inputs[1:]
    if not operands or not all(isinstance(operand, gs.Constant) for operand in operands):
        return None
    if reader.op == "Gather" and reader.attrs.get("axis", 0) == 0:
        index = np.asarray(operands[0].values)
        if np.all((index >= -len(dims)) & (index < len(dims))) and _known([dims[i] for i in index.ravel()]):
            return np.array([dims[i] for i in index.ravel()], np.int64).reshape(index.shape)
    if reader.op == "Slice" and len(operands) >= 2:
        values = [np.asarray(operand.values).ravel() for operand in operands]
        step = int(values[3][0]) if len(values) > 3 else 1
        picked = dims[slice(int(values[0][0]), int(values[1][0]), step)]
        if _known(picked):
            return np.array(picked, np.int64)
    return None

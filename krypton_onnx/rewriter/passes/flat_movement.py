"""Undo what an exporter with a fixed batch of 1 makes of moving values about: flat indices across the batch.

Case: Reshape of x (1, ...) to a shape without the batch, then Gather with constant indices, Reshape, Transpose,
Squeeze, Unsqueeze or Flatten, ending in a tensor (1, ...) again. Such a chain moves values and computes nothing, so
following the index of every value through it gives one constant map, that is applied per image instead:
Flatten(axis 1) -> Gather(axis 1, map), left out where it is the identity -> Reshape to (0, ...).
(The dynamo exporter writes the tail of channels-last networks so.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims


def lower_flat_movement(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "Reshape" or not node.outputs:
            continue
        shape = known_dims(types.get(node.inputs[0].name, ("", ()))[1])
        if shape is None or len(shape) < 2 or shape[0] != 1:
            continue
        indices = np.arange(int(np.prod(shape))).reshape(shape)
        moved = _move(node, indices)
        if moved is None or (moved.ndim > 0 and moved.shape[0] == 1):
            continue  # an ordinary Reshape that keeps the batch
        end = node
        while moved is not None and not (moved.ndim > 1 and moved.shape[0] == 1):
            readers = end.outputs[0].outputs
            if len(readers) != 1 or any(end.outputs[0] is result for result in graph.outputs):
                moved = None
                break
            end = readers[0]
            moved = _move(end, moved)
        if moved is None:
            continue
        _replace(graph, node.inputs[0], end, moved, indices.size)
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


def _move(node: gs.Node, indices: np.ndarray) -> np.ndarray | None:
    """Where `node` moves the values that carry these indices; None where it does more than move them."""
    operands = node.inputs[1:]
    if not all(isinstance(operand, gs.Constant) for operand in operands):
        return None
    values = [np.asarray(operand.values) for operand in operands]
    try:
        if node.op == "Reshape":
            target = [indices.shape[i] if size == 0 else int(size) for i, size in enumerate(values[0])]
            return indices.reshape(target)
        if node.op == "Gather":
            return np.take(indices, values[0], axis=node.attrs.get("axis", 0))
        if node.op == "Transpose":
            return indices.transpose(node.attrs.get("perm"))
        if node.op == "Squeeze":
            return indices.squeeze(tuple(int(axis) for axis in values[0]) if values else None)
        if node.op == "Unsqueeze":
            return np.expand_dims(indices, tuple(int(axis) for axis in values[0]))
        if node.op == "Flatten":
            return indices.reshape(int(np.prod(indices.shape[: node.attrs.get("axis", 1)])), -1)
        if node.op == "Identity":
            return indices
    except (ValueError, IndexError):
        return None
    return None


def _replace(graph: gs.Graph, source: gs.Tensor, end: gs.Node, moved: np.ndarray, size: int) -> None:
    name = end.name or end.outputs[0].name
    flat = gs.Variable(f"{name}/flat", dtype=np.float32)
    graph.nodes.append(gs.Node("Flatten", f"{name}/Flatten", {"axis": 1}, [source], [flat]))
    if moved.size != size or (moved.ravel() != np.arange(size)).any():
        picked = gs.Variable(f"{name}/picked", dtype=np.float32)
        order = gs.Constant(f"{name}/order", moved.ravel().astype(np.int64))
        graph.nodes.append(gs.Node("Gather", f"{name}/Gather", {"axis": 1}, [flat, order], [picked]))
        flat = picked
    output = end.outputs[0]
    end.outputs.clear()
    shape = gs.Constant(f"{name}/shape", np.array([0, *moved.shape[1:]], np.int64))
    graph.nodes.append(gs.Node("Reshape", f"{name}/Reshape", {}, [flat, shape], [output]))

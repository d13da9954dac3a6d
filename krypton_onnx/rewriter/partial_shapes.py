"""What is known of a vector that a graph computes from shapes: its entries, but for those that depend on the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType

Entries = list[int | str | None]  # a name stands for a dimension of that name; None is not known
_DEEPEST = 12
_ARITHMETIC = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: int(np.trunc(a / b)) if b else None,  # integers, toward zero
}


def entries_of(tensor: gs.Tensor, types: Mapping[str, TensorType], depth: int = 0) -> Entries | None:
    """Entries of a vector (or of a scalar, as one entry); None where it is not made of shapes and constants."""
    if isinstance(tensor, gs.Constant):
        value = np.asarray(tensor.values)
        return [int(entry) for entry in value.ravel()] if value.dtype.kind in "iu" and value.size <= 16 else None
    if depth == _DEEPEST or not tensor.inputs:
        return None
    node = tensor.inputs[0]
    if node.op == "Shape":
        if node.inputs[0].name not in types:
            return None
        dims = list(types[node.inputs[0].name][1])
        return dims[slice(node.attrs.get("start", 0), node.attrs.get("end", None))]
    if node.op in ("Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape"):
        return entries_of(node.inputs[0], types, depth + 1)
    if node.op == "Concat":
        parts = [entries_of(operand, types, depth + 1) for operand in node.inputs]
        return None if any(part is None for part in parts) else [entry for part in parts for entry in part or []]
    if node.op in _ARITHMETIC and len(node.inputs) == 2:
        first, second = (entries_of(operand, types, depth + 1) for operand in node.inputs)
        if first is None or second is None or len(first) != len(second):
            return None
        pairs = zip(first, second, strict=True)
        return [_ARITHMETIC[node.op](a, b) if isinstance(a, int) and isinstance(b, int) else None for a, b in pairs]
    if node.op in ("Gather", "Slice"):
        entries = entries_of(node.inputs[0], types, depth + 1)
        bounds = [np.asarray(operand.values).ravel() for operand in node.inputs[1:] if isinstance(operand, gs.Constant)]
        if entries is None or len(bounds) != len(node.inputs) - 1:
            return None
        return _picked(node.op, entries, bounds)
    return None


def _picked(op: str, entries: Entries, bounds: list[np.ndarray]) -> Entries | None:
    if op == "Gather":
        if not all(-len(entries) <= index < len(entries) for index in bounds[0]):
            return None
        return [entries[int(index)] for index in bounds[0]]
    step = int(bounds[3][0]) if len(bounds) > 3 else 1
    return entries[slice(int(bounds[0][0]), int(bounds[1][0]), step)]

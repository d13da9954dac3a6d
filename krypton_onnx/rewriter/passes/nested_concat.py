"""Build a growing Concat from the one before it.

Case: Concat(a, b, ..., y, z) where Concat(a, b, ..., y) on the same axis exists too -> Concat(Concat(a, ..., y), z).
Densely connected networks join all features again before every layer; each operand needs a Window of its own in the
incremental part, so k layers would take k * k / 2 of them instead of 2 k.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs


def nest_concats(graph: gs.Graph) -> bool:
    """True when the graph changed. The nodes must be in topological order."""
    changed = False
    made: dict[tuple, gs.Variable] = {}  # axis and operands -> their Concat
    for node in graph.nodes:
        if node.op != "Concat" or not all(isinstance(operand, gs.Variable) for operand in node.inputs):
            continue
        axis, operands = node.attrs["axis"], list(node.inputs)
        names = tuple(operand.name for operand in operands)
        for length in range(len(names) - 1, 1, -1):
            start = made.get((axis, names[:length]))
            if start is not None:
                node.inputs = [start, *operands[length:]]
                changed = True
                break
        made.setdefault((axis, names), node.outputs[0])
    return changed

"""Fold a per-channel affine map behind a Conv into its weights and bias.

Cases, for y = Conv(x, W, B) read by one node only, with a constant c that is a scalar or one value a channel:
1. y + c, c + y, y - c:  B' = B +- c                2. c - y:  W' = -W, B' = c - B
3. y * c, c * y, y / c:  W' = W c, B' = B c
Exporters write batch normalization as such chains, which ONNX Runtime's BASIC level folds only in part.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.channel_affine import as_affine, per_channel


def fold_affine_into_conv(graph: gs.Graph) -> bool:
    """Fold until nothing folds; True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        while node.op == "Conv" and _fold_next(graph, node):
            changed = True
    if changed:
        graph.cleanup()
    return changed


def _fold_next(graph: gs.Graph, conv: gs.Node) -> bool:
    output = conv.outputs[0]
    if len(output.outputs) != 1 or any(output is result for result in graph.outputs):
        return False
    if not all(isinstance(operand, gs.Constant) for operand in conv.inputs[1:]):
        return False
    reader = output.outputs[0]
    if reader.op not in ("Add", "Sub", "Mul", "Div") or len(reader.inputs) != 2:
        return False
    first = reader.inputs[0] is output
    other = reader.inputs[1 if first else 0]
    if not isinstance(other, gs.Constant):
        return False
    weights = np.asarray(conv.inputs[1].values)
    channels = weights.shape[0]
    value = per_channel(np.asarray(other.values), weights.ndim, 1, channels)
    step = None if value is None else as_affine(reader.op, first, value)
    if step is None:
        return False
    factor, offset = step
    bias = np.asarray(conv.inputs[2].values, np.float64) if len(conv.inputs) > 2 else np.zeros(channels)
    bias = bias * factor + offset
    scaled = weights * factor.reshape((-1,) + (1,) * (weights.ndim - 1))
    name = reader.name or reader.outputs[0].name
    conv.inputs = [
        conv.inputs[0],
        gs.Constant(f"{name}/weights", scaled.astype(weights.dtype)),
        gs.Constant(f"{name}/bias", bias.astype(weights.dtype)),
    ]
    result = reader.outputs[0]
    reader.outputs.clear()
    reader.inputs.clear()
    conv.outputs = [result]
    return True

"""BatchNormalization at inference is an affine map per channel: scale * (x - mean) / sqrt(var + epsilon) + bias.

ONNX Runtime's BASIC optimization folds it into a Conv before it; what is left (pre-activation networks) becomes
Mul and Add with constants of shape (C, 1, ..., 1), which are pointwise and fold further.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType


def lower_batch_norm(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """Replace BatchNormalization nodes with constant parameters; True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "BatchNormalization" or node.attrs.get("training_mode", 0):
            continue
        parameters = node.inputs[1:5]
        rank = len(types.get(node.inputs[0].name, ("", ()))[1])
        if rank < 2 or not all(isinstance(parameter, gs.Constant) for parameter in parameters):
            continue
        scale, bias, mean, var = (np.asarray(parameter.values, np.float64) for parameter in parameters)
        factor = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        shape = (-1,) + (1,) * (rank - 2)
        name = node.name or node.outputs[0].name
        factor_constant = gs.Constant(f"{name}/factor", factor.astype(np.float32).reshape(shape))
        offset = (bias - mean * factor).astype(np.float32).reshape(shape)
        scaled = gs.Variable(f"{name}/scaled", dtype=np.float32)
        output = node.outputs[0]
        node.outputs.clear()
        graph.nodes.append(gs.Node("Mul", f"{name}/Mul", inputs=[node.inputs[0], factor_constant], outputs=[scaled]))
        graph.nodes.append(
            gs.Node("Add", f"{name}/Add", inputs=[scaled, gs.Constant(f"{name}/offset", offset)], outputs=[output])
        )
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed

"""CastLike(x, y) -> Cast(x) to the type of y; of a constant x, the constant.

A CastLike of a constant reads the image for its type alone, and would make a tensor of the image's batch out of it.
(ONNX Runtime writes Swish and other functions of newer opsets so.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType
from krypton_onnx.rewriter.readers import read_constant

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


def name_casts(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "CastLike" or not isinstance(node.inputs[0], gs.Constant):
            continue
        dtype = _TYPES.get(types.get(node.outputs[0].name, ("", ()))[0])
        output = node.outputs[0]
        if dtype is None or any(output is result for result in graph.outputs):
            continue
        value = np.asarray(node.inputs[0].values).astype(dtype)
        changed |= read_constant(output, f"{node.name or output.name}/cast", value)
    if changed:
        graph.cleanup()
    return changed

"""One spelling for a mean over the whole frame: GlobalAveragePool.

Case: AveragePool whose kernel is the frame, without pads, so that its output is 1 x 1.
(ReduceMean over both spatial axes is the same operator and is recognized where it stands: its axes depend on layout.)
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType


def name_global_average_pool(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in graph.nodes:
        if node.op != "AveragePool" or any(node.attrs.get("pads", [])):
            continue
        shape = types.get(node.inputs[0].name, ("", ()))[1]
        if tuple(node.attrs["kernel_shape"]) != tuple(shape[2:]) or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        if any(dilation != 1 for dilation in node.attrs.get("dilations", [])):
            continue
        node.op = "GlobalAveragePool"
        node.attrs.clear()
        changed = True
    return changed

"""Write auto_pad out as pads, with the shapes that ONNX Runtime infers.

SAME_UPPER / SAME_LOWER: output = ceil(n / stride), total pad = max((output - 1) * stride + D(K - 1) + 1 - n, 0), the
odd cell at the end / at the begin. VALID: no pads. (ONNX operators Conv, MaxPool, AveragePool, LpPool.)
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims

PADDED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def write_explicit_pads(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed. Nodes whose spatial shape is unknown keep auto_pad."""
    changed = False
    for node in graph.nodes:
        mode = node.attrs.get("auto_pad", "NOTSET")
        if node.op not in PADDED or mode == "NOTSET":
            continue
        sizes = known_dims(types.get(node.inputs[0].name, ("", ()))[1][2:])
        kernel = node.attrs.get("kernel_shape") or (list(node.inputs[1].shape[2:]) if len(node.inputs) > 1 else None)
        if not sizes or kernel is None:
            continue
        ones = [1] * len(kernel)
        strides, dilations = node.attrs.get("strides", ones), node.attrs.get("dilations", ones)
        begin, end = [], []
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            total = 0 if mode == "VALID" else max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            small, large = total // 2, total - total // 2
            begin.append(large if mode == "SAME_LOWER" else small)
            end.append(small if mode == "SAME_LOWER" else large)
        del node.attrs["auto_pad"]
        node.attrs["pads"] = begin + end
        changed = True
    return changed

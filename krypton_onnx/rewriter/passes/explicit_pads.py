"""Write auto_pad, and a ConvTranspose's output_shape, out as pads, with the shapes that ONNX Runtime infers.

SAME_UPPER / SAME_LOWER: output = ceil(n / stride), total pad = max((output - 1) * stride + D(K - 1) + 1 - n, 0), the
odd cell at the end / at the begin. VALID: no pads. (ONNX operators Conv, MaxPool, AveragePool, LpPool.)

ConvTranspose: total pad = (n - 1) * stride + output_padding + D(K - 1) + 1 - output; with SAME_UPPER the odd cell is
at the end, else at the begin; where it is negative, that many cells more are output_padding.

ONNX Runtime pads a dilated pool as if D were 1, and then computes fewer cells than it infers: so do the pads here.
Where a pool's stride is longer than its kernel it may skip cells instead, which pads cannot say: it keeps auto_pad.
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
        if node.op == "ConvTranspose":
            changed |= _write_transposed(node, mode, types)
            continue
        if node.op not in PADDED or mode == "NOTSET":
            continue
        sizes = known_dims(types.get(node.inputs[0].name, ("", ()))[1][2:])
        kernel = node.attrs.get("kernel_shape") or (list(node.inputs[1].shape[2:]) if len(node.inputs) > 1 else None)
        if not sizes or kernel is None:
            continue
        ones = [1] * len(kernel)
        strides, dilations = node.attrs.get("strides", ones), node.attrs.get("dilations", ones)
        begin, end, skips = [], [], False
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            reach = (d if node.op == "Conv" else 1) * (k - 1) + 1
            total = 0 if mode == "VALID" else (-(-n // s) - 1) * s + reach - n
            skips |= node.op != "Conv" and (total < -1 or (total < 0 and d > 1))
            total = max(total, 0)
            small, large = total // 2, total - total // 2
            begin.append(large if mode == "SAME_LOWER" else small)
            end.append(small if mode == "SAME_LOWER" else large)
        if skips:
            continue
        del node.attrs["auto_pad"]
        node.attrs["pads"] = begin + end
        changed = True
    return changed


def _write_transposed(node: gs.Node, mode: str, types: Mapping[str, TensorType]) -> bool:
    if mode == "NOTSET" and "output_shape" not in node.attrs:
        return False
    sizes, outputs = (known_dims(types.get(t.name, ("", ()))[1][2:]) for t in (node.inputs[0], node.outputs[0]))
    if sizes and "output_shape" in node.attrs:  # of which inference makes another rank
        outputs = tuple(int(size) for size in node.attrs["output_shape"][-len(sizes) :])
    if sizes is None or outputs is None or len(sizes) != len(outputs) or node.inputs[1].shape is None:
        return False
    kernel, ones = list(node.inputs[1].shape[2:]), [1] * len(sizes)
    strides, dilations = node.attrs.get("strides", ones), node.attrs.get("dilations", ones)
    extra = node.attrs.get("output_padding", [0] * len(sizes))
    begin, end, beyond = [], [], []
    for n, m, k, s, d, more in zip(sizes, outputs, kernel, strides, dilations, extra, strict=True):
        total = (n - 1) * s + more + d * (k - 1) + 1 - m
        if total < 0 and more - total >= s:
            return False  # more cells than output_padding may add: ONNX Runtime refuses it, or pads the output
        beyond.append(more - min(total, 0))
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    node.attrs["output_padding"] = beyond
    node.attrs.pop("auto_pad", None)
    node.attrs.pop("output_shape", None)
    node.attrs["pads"] = begin + end
    return True

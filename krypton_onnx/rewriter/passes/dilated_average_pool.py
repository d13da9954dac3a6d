"""A dilated AveragePool as a depthwise Conv: sums by weights of one, times one over the cells that count.

Case: AveragePool with dilations (opset 19) of a picture with known sizes and without ceil_mode -> Conv with a kernel of
ones a channel and the same strides, pads and dilations, then Mul by a constant of the frame's size: one over the cells
that each window counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims


def lower_dilated_average_pool(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed. Needs explicit pads."""
    changed = False
    for node in list(graph.nodes):
        dilations = list(node.attrs.get("dilations", []))
        if node.op != "AveragePool" or all(dilation == 1 for dilation in dilations) or node.attrs.get("ceil_mode", 0):
            continue
        before = known_dims(types.get(node.inputs[0].name, ("", ()))[1][1:])
        if before is None or len(before) != 3 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        kernel = list(node.attrs["kernel_shape"])
        strides, pads = list(node.attrs.get("strides", [1, 1])), list(node.attrs.get("pads", [0] * 4))
        include = bool(node.attrs.get("count_include_pad", 0))
        # Not as inferred: with auto_pad ONNX Runtime infers more cells than there are (explicit_pads.py).
        rooms = [before[1 + a] + pads[a] + pads[2 + a] - dilations[a] * (kernel[a] - 1) - 1 for a in (0, 1)]
        counts = [
            _counts(before[1 + a], rooms[a] // strides[a] + 1, kernel[a], strides[a], dilations[a], pads[a], include)
            for a in (0, 1)
        ]
        name, result = node.name or node.outputs[0].name, node.outputs[0]
        weights = gs.Constant(f"{name}/ones", np.ones((before[0], 1, *kernel), np.float32))
        shares = gs.Constant(f"{name}/shares", (1 / np.outer(*counts)).astype(np.float32)[None, None])
        sums = gs.Variable(f"{name}/sums", dtype=np.float32)
        attributes = {
            "kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "group": before[0],
        }  # fmt: skip
        graph.nodes.append(gs.Node("Conv", f"{name}/Conv", attributes, [node.inputs[0], weights], [sums]))
        node.outputs.clear()
        graph.nodes.append(gs.Node("Mul", f"{name}/Mul", {}, [sums, shares], [result]))
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


def _counts(
    size: int, outputs: int, kernel: int, stride: int, dilation: int, begin: int, include: bool
) -> np.ndarray:
    """int64 (outputs,): cells that a window counts along one axis."""
    if include:
        return np.full(outputs, kernel)
    cells = np.arange(outputs)[:, None] * stride - begin + np.arange(kernel) * dilation
    return np.maximum(((cells >= 0) & (cells < size)).sum(axis=1), 1)

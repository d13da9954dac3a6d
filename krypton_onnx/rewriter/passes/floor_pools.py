"""Write ceil_mode of pools out as end pads, with the output size that ONNX Runtime computes.

ceil_mode rounds the number of windows up, but a last window that would start in the end padding is dropped. ONNX's
shape inference before opset 22 does not drop it: every shape behind such a pool is then inferred one too large.

Cases, with m windows along an axis of n cells and begin pad P (kernel K, stride S, dilation D):
1. MaxPool, LpPool, AveragePool without count_include_pad: end pad (m - 1) S + D(K - 1) + 1 - n - P. Padding counts for
   nothing.
2. AveragePool with count_include_pad: the model's own pads count, the overhang of the last window does not. A Pad of
   zeros in front makes the former ordinary cells; then as case 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims


def floor_first_pools(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """Rewrite pools in topological order, up to the first whose inferred output was wrong.

    True when there was such a one: the shapes behind it must be inferred again before the next call.
    """
    for node in graph.nodes:
        if node.op not in ("MaxPool", "AveragePool", "LpPool") or not node.attrs.get("ceil_mode", 0):
            continue
        if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        sizes = known_dims(types.get(node.inputs[0].name, ("", ()))[1][2:])
        if sizes is None:
            continue
        windows = _floor(graph, node, sizes)
        if windows is not None and types.get(node.outputs[0].name, ("", ()))[1][2:] != tuple(windows):
            return True
    return False


def _floor(graph: gs.Graph, node: gs.Node, sizes: tuple[int, ...]) -> list[int] | None:
    """Rewrite one pool; its windows along each axis, or None where it keeps ceil_mode."""
    rank = len(sizes)
    kernel = list(node.attrs["kernel_shape"])
    strides, dilations = (list(node.attrs.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = list(node.attrs.get("pads", [0] * 2 * rank))
    begin, end = pads[:rank], pads[rank:]
    windows, ends = [], []
    for axis in range(rank):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        count = -(-(sizes[axis] + begin[axis] + end[axis] - reach) // strides[axis]) + 1
        if (count - 1) * strides[axis] >= sizes[axis] + begin[axis]:
            count -= 1
        windows.append(count)
        # Where the last window ends before the padding does, floor already counts as many windows.
        ends.append(max((count - 1) * strides[axis] + reach - sizes[axis] - begin[axis], 0))
    counted = node.op == "AveragePool" and bool(node.attrs.get("count_include_pad", 0)) and any(pads)
    if counted:
        ends = [max(extra - own, 0) for extra, own in zip(ends, end, strict=True)]
        begin_after = [0] * rank
    else:
        begin_after = begin
    if any(extra >= size for extra, size in zip(ends, kernel, strict=True)):
        return None  # ONNX Runtime takes no pad as large as the kernel
    if counted:
        amounts = np.array([0, 0, *begin, 0, 0, *end], np.int64)
        padded = gs.Variable(f"{node.name or node.outputs[0].name}/padded", dtype=np.float32)
        constant = gs.Constant(f"{padded.name}/pads", amounts)
        graph.nodes.append(gs.Node("Pad", padded.name, {}, [node.inputs[0], constant], [padded]))
        node.inputs[0] = padded
    node.attrs["pads"] = [*begin_after, *ends]
    node.attrs["ceil_mode"] = 0
    if node.op == "AveragePool":
        node.attrs["count_include_pad"] = 0  # the end pads here are overhang, which never counts
    node.attrs.pop("auto_pad", None)
    return windows

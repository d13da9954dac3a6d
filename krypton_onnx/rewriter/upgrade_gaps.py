"""What onnx's version converter leaves undone on the way to opset 11, found by comparing results.

- Upsample, and Resize of opset 10, are asymmetric; the converter leaves them the default of later opsets, half_pixel.
- Of nearest neighbours ONNX Runtime takes there the lower one where an axis grows, and the upper one where it shrinks;
  no later mode does both, so that a Resize that grows one axis and shrinks another becomes two.
- Pad keeps its attribute `value` where its mode is not constant, and is then no valid node.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from krypton_onnx.errors import NotRewritable

GAPS_UNTIL = 10  # the last opset of the models that this is about


def drop_unread_pad_values(graph: onnx.GraphProto) -> None:
    """Before the conversion: Pad of mode reflect or edge loses `value`, which it never reads."""
    for node in graph.node:
        modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
        if node.op_type == "Pad" and modes and modes[0] != b"constant":
            kept = [attribute for attribute in node.attribute if attribute.name != "value"]
            del node.attribute[:]
            node.attribute.extend(kept)


def place_resizes_as_before(graph: onnx.GraphProto) -> None:
    """After the conversion: every Resize means what it meant up to opset 10. Constants must be initializers.

    Raises NotRewritable where one of mode nearest has scales that are not constant: which neighbour, depends on them.
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Resize":
            nodes.append(node)
            continue
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        if any(attribute.name == "mode" and attribute.s != b"nearest" for attribute in node.attribute):
            nodes.append(node)
        elif node.input[2] in values:
            nodes.extend(_nearest(node, numpy_helper.to_array(values[node.input[2]]), graph))
        else:
            raise NotRewritable(
                f"Resize node '{node.name}' has scales computed at run time, and an opset below 11: export it with 11"
            )
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)


def _nearest(node: onnx.NodeProto, scales: np.ndarray, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The node with its nearest_mode; or two nodes, the first for the axes that grow."""
    grows, shrinks = scales > 1, scales < 1
    if not (grows.any() and shrinks.any()):
        node.attribute.append(helper.make_attribute("nearest_mode", "ceil" if shrinks.any() else "floor"))
        return [node]
    middle, second = f"{node.output[0]}/grown", onnx.NodeProto.FromString(node.SerializeToString())
    for part, moved, mode in ((node, grows, "floor"), (second, shrinks, "ceil")):
        name = f"{node.output[0] if part is second else middle}/scales"
        graph.initializer.append(numpy_helper.from_array(np.where(moved, scales, np.float32(1)), name))
        part.input[2] = name
        part.attribute.append(helper.make_attribute("nearest_mode", mode))
    second.name, second.input[0], node.output[0] = f"{node.name}/shrunk", middle, middle
    return [node, second]

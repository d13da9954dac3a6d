"""Upgrade a model's opset with onnx's own converter, without dragging the weights through it.

The converter copies the whole model several times. It needs small constants (shapes, axes, bounds), but of large
weights only the type: these wait aside, as graph inputs, and are put back afterwards.
"""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from krypton_onnx.errors import NotRewritable, one_line
from krypton_onnx.rewriter.ort_graph import opset_of
from krypton_onnx.rewriter.upgrade_gaps import GAPS_UNTIL, drop_unread_pad_values, place_resizes_as_before

_LARGE = 4096  # elements


def upgraded(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model at `opset` or newer. Raises NotRewritable where the converter knows no way."""
    if opset_of(model) >= opset:
        return model
    # Before IR 4 every initializer is an input too; those that ONNX Runtime made by folding are not.
    model.ir_version = max(model.ir_version, 4)
    graph, gaps = model.graph, opset_of(model) <= GAPS_UNTIL
    if gaps:
        drop_unread_pad_values(graph)
    large: list[onnx.TensorProto] = []
    small: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        elements = 1
        for dim in tensor.dims:
            elements *= dim
        (large if elements > _LARGE else small).append(tensor)
    aside = {tensor.name: onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in large}
    small = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del graph.initializer[:]
    graph.initializer.extend(small)
    listed = {value.name for value in graph.input}  # old IR versions list initializers as inputs too
    for name, tensor in aside.items():
        if name not in listed:
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    try:
        converted = version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises bare RuntimeErrors of its own
        raise NotRewritable(
            f"opset {opset_of(model)} cannot be upgraded to {opset}: {one_line(error)}"
        ) from None
    inputs = [value for value in converted.graph.input if value.name not in aside]
    del converted.graph.input[:]
    converted.graph.input.extend(inputs)
    converted.graph.initializer.extend(aside.values())
    _constants_to_initializers(converted.graph)
    if gaps:
        place_resizes_as_before(converted.graph)
    return converted


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """The converter turns attributes into Constant nodes; a constant is an initializer everywhere else here."""
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)

"""Compute float16 models in float32.

ONNX Runtime's CPU provider has hardly a float16 kernel: it puts a Cast to float32 before every operator and one back
behind it. Without them a model computes the same values with fewer roundings. Inputs and outputs keep their type.

Cases: float16 constants (initializers, Constant and ConstantOfShape nodes), Casts to float16, other attributes that
name the type, inputs and outputs of the graph, and all of these in subgraphs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}


def widen_floats(model: onnx.ModelProto) -> None:
    """In place."""
    graph = model.graph
    inputs = [value for value in graph.input if _type(value) == TensorProto.FLOAT16]
    outputs = [value for value in graph.output if _type(value) == TensorProto.FLOAT16]
    _widen(graph)
    given = {initializer.name for initializer in graph.initializer}
    casts = []
    for value in inputs:
        if value.name in given:  # a constant, which old IR versions list as an input too
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            continue
        wide = f"{value.name}/float32"
        _rename_reads(graph, value.name, wide)
        casts.append(helper.make_node("Cast", [value.name], [wide], name=wide, to=TensorProto.FLOAT))
    ends = []
    for value in outputs:
        wide = f"{value.name}/float32"
        _rename_reads(graph, value.name, wide)
        for node in graph.node:
            node.output[:] = [wide if name == value.name else name for name in node.output]
        end = helper.make_node("Cast", [wide], [value.name], name=f"{value.name}/float16", to=TensorProto.FLOAT16)
        ends.append(end)
    nodes = [*casts, *graph.node, *ends]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)


def _type(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def has_float16(graph: onnx.GraphProto) -> bool:
    """True where anything in the graph, or a subgraph, is float16."""
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer):
        return True
    if any(_type(value) == TensorProto.FLOAT16 for value in (*graph.input, *graph.output)):
        return True
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == _TYPE_ATTRIBUTES.get(node.op_type) and attribute.i == TensorProto.FLOAT16:
                return True
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
                return True
            if attribute.HasField("g") and has_float16(attribute.g):
                return True
    return False


def _widen(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in graph.value_info:
        if _type(value) == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == _TYPE_ATTRIBUTES.get(node.op_type) and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            if attribute.HasField("g"):
                _widen(attribute.g)
                for value in (*attribute.g.input, *attribute.g.output):
                    if _type(value) == TensorProto.FLOAT16:
                        value.type.tensor_type.elem_type = TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Whatever reads `old` reads `new`, in subgraphs too."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_reads(attribute.g, old, new)
                for value in attribute.g.output:
                    if value.name == old:
                        value.name = new

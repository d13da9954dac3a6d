"""What must hold of a model before anything reads it on: a few bytes can stand for any amount of work or memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from google.protobuf.message import Message

from krypton_onnx.errors import ModelError, NotRewritable

# ONNX Runtime writes out every call of a function. Models of large language models have some 10**5 nodes.
MAX_NODES = 1_000_000

# Element types of which several share a byte.
_BITS = {
    getattr(onnx.TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(onnx.TensorProto, name)
}
# Where values lie that are not raw bytes, of the types that have a field of their own.
_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data", onnx.TensorProto.DOUBLE: "double_data", onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.INT32: "int32_data", onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.STRING: "string_data",
}  # fmt: skip

_Key = tuple[str, str]  # domain and name of a function


def check_sound(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError where constants are not what they say, or in files of unknown place, where an input is no
    tensor, or functions have no end.

    where : starts the message.
    """
    if not _texts_are_text(model):
        raise ModelError(f"{where}: a name or text in it is not UTF-8")
    initialized = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initialized:
            _check_input(value, where)
    for tensor in _tensors(model):
        # Those of a path are read by now. A place without a folder would be looked for in the current one.
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{where}: the values of '{tensor.name}' are in another file: give the path of the model")
    # Sparse ones are left to ONNX Runtime.
    for tensor in model.graph.initializer:
        _check_values(tensor, where)
    if model.functions:
        _check_functions(model, where)


def _texts_are_text(message: Message) -> bool:
    """False where a name or text is not UTF-8, in all but tensors' values: protobuf then gives it as bytes."""
    if isinstance(message, onnx.TensorProto):
        return isinstance(message.name, str) and isinstance(message.doc_string, str)  # its other fields are large
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            if not all(map(_texts_are_text, (value,) if isinstance(value, Message) else value)):
                return False
        elif field.type == field.TYPE_STRING:
            texts = (value,) if isinstance(value, (str, bytes)) else value
            if any(isinstance(text, bytes) for text in texts):
                return False
    return True


def _check_input(value: onnx.ValueInfoProto, where: str) -> None:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = "no type" if kind is None else f"the type {kind.removesuffix('_type')}"
        raise ModelError(f"{where}: input '{value.name}' has {what}: every input must be a tensor")
    try:
        onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    except KeyError:
        number = value.type.tensor_type.elem_type
        raise ModelError(f"{where}: input '{value.name}' has an unknown element type ({number})") from None


def _check_values(tensor: onnx.TensorProto, where: str) -> None:
    """A tensor of many dims and few bytes would be taken at its word, and so for a large one."""
    name = f"{where}: initializer '{tensor.name}'"
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        raise ModelError(f"{name} has an unknown element type ({tensor.data_type})") from None
    shape = " x ".join(map(str, tensor.dims))
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{name} has the impossible shape {shape}")
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        wanted = -(-elements * _BITS.get(tensor.data_type, 8 * dtype.itemsize) // 8)
        have = len(tensor.raw_data)
        if have != wanted:
            raise ModelError(f"{name} of shape {shape} ({dtype}) needs {wanted} bytes and has {have}")
    elif tensor.data_type in _FIELDS:
        have = len(getattr(tensor, _FIELDS[tensor.data_type]))
        if have != elements:
            raise ModelError(f"{name} of shape {shape} ({dtype}) needs {elements} values and has {have}")


def check_rewritable(model: onnx.ModelProto) -> None:
    """Raises NotRewritable where a sound model does what the rewriter does not provide for."""
    inputs = {value.name for value in model.graph.input}
    outputs = [value.name for value in model.graph.output]
    for name in outputs:
        if name in inputs:
            raise NotRewritable(f"its output '{name}' is an input")
        if outputs.count(name) > 1:
            raise NotRewritable(f"it lists the output '{name}' twice")
    for tensor in _tensors(model):
        if tensor.data_type == onnx.TensorProto.STRING:
            raise NotRewritable(f"its constant '{tensor.name}' is of strings")


def check_sizes(types: Mapping[str, tuple[str, tuple[int | str | None, ...]]]) -> None:
    """Raises ModelError where a tensor of one image is larger than this machine's memory.

    types : (element type, shape) by name; an unknown dimension counts as 1.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, (_, shape) in types.items():
        size = 4 * math.prod(dim for dim in shape if isinstance(dim, int))
        if size > memory:
            text = " x ".join(map(str, shape))
            raise ModelError(
                f"tensor '{name}' of {text} needs {size / 1e9:,.0f} GB for one image, more than this machine has"
            )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant: initializers, attributes, those of inner graphs and of functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs.extend(attribute.graphs)


def _check_functions(model: onnx.ModelProto, where: str) -> None:
    """Count the nodes that are there once every call is written out, inner calls first and without recursion."""
    bodies = {(function.domain, function.name): list(function.node) for function in model.functions}
    sizes: dict[_Key, int] = {}
    open_: set[_Key] = set()
    stack = list(bodies)
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        calls = _calls(bodies[key])
        missing = [call for call in calls if call in bodies and call not in sizes]
        if missing:
            if key in open_:
                raise ModelError(f"{where}: function '{key[1]}' calls itself, directly or through another")
            open_.add(key)
            stack.extend(missing)
            continue
        sizes[key] = sum(sizes.get(call, 1) for call in calls)
        stack.pop()
    if sum(sizes.get(call, 1) for call in _calls(model.graph.node)) > MAX_NODES:
        raise ModelError(f"{where}: its functions stand for more than {MAX_NODES:,} nodes")


def _calls(nodes: object) -> list[_Key]:
    """(domain, operator) of every node, those of inner graphs too."""
    found: list[_Key] = []
    waiting = list(nodes)  # type: ignore[call-overload]
    while waiting:
        node = waiting.pop()
        found.append((node.domain, node.op_type))
        for attribute in node.attribute:
            waiting.extend(attribute.g.node)
            for graph in attribute.graphs:
                waiting.extend(graph.node)
    return found

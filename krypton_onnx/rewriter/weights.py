"""Models larger than a protobuf message may be: 2 GB, beyond which one is neither written nor copied as a whole.

Their weights travel beside them: tensor by tensor where a model is copied or exported, as arrays where ONNX Runtime
opens it (ort_graph.py), and in a second file where it is written. One tensor alone must stay below 2 GB.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import EncodeError, Message
from onnx import numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from krypton_onnx.errors import ModelError

INLINE_BYTES = 1 << 30
"""Of initializers: a model with more is opened and written with its weights apart. Half of what protobuf takes, for
the nodes, and for what a model may gain while it is rewritten."""

WEIGHT_BYTES = 1 << 16
"""A smaller initializer stays in the model: shapes, axes and bounds must be at hand when types are inferred."""

_PAGE = 4096  # where weights begin in a file: ONNX Runtime maps them into memory

# Types that NumPy and ONNX Runtime share; others stay in the model.
_SHARED = ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_ITEM_BYTES = {
    data_type: onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize
    for data_type in (getattr(onnx.TensorProto, name) for name in _SHARED)
}


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Of its values, by shape and type; its own message is not asked, which would write it out."""
    size = _ITEM_BYTES.get(tensor.data_type, 1)
    for dim in tensor.dims:
        size *= dim
    return size


def weight_bytes(model: onnx.ModelProto) -> int:
    """Of all initializers."""
    return sum(tensor_bytes(tensor) for tensor in model.graph.initializer)


def is_large(model: onnx.ModelProto) -> bool:
    """Whether its weights must travel apart."""
    return weight_bytes(model) > INLINE_BYTES


def movable(tensor: onnx.TensorProto) -> bool:
    """Whether an initializer can travel apart: large enough, of a plain type, and with its values at hand."""
    plain = tensor.data_type in _ITEM_BYTES and tensor.data_location != onnx.TensorProto.EXTERNAL
    return plain and tensor_bytes(tensor) >= WEIGHT_BYTES


def without_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy without the movable initializers, and these: they still belong to `model`, which is left as it is."""
    copy = onnx.ModelProto()
    _copy_fields(model, copy, but="graph")
    _copy_fields(model.graph, copy.graph, but="initializer")
    weights = []
    for tensor in model.graph.initializer:
        if movable(tensor):
            weights.append(tensor)
        else:
            copy.graph.initializer.append(tensor)
    return copy, weights


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, of a model of any size. Raises ModelError where one tensor alone is too large."""
    copy, weights = without_weights(model)
    extend_initializers(copy, weights)
    return copy


def extend_initializers(model: onnx.ModelProto, weights: Iterable[onnx.TensorProto]) -> None:
    """Add copies of `weights`. Raises ModelError where one alone is too large."""
    for tensor in weights:
        if tensor_bytes(tensor) >= 1 << 31:
            raise ModelError(
                f"initializer '{tensor.name}' alone is larger than 2 GB, which ONNX's protobuf messages cannot be: "
                "split it in two"
            )
        model.graph.initializer.append(tensor)


def export(graph: gs.Graph) -> onnx.ModelProto:
    """As onnx_graphsurgeon.export_onnx without its type check, which copies the finished graph as a whole."""
    held: dict[str, tuple[gs.Constant, Any]] = {}
    try:
        for name, tensor in graph.tensors().items():
            if isinstance(tensor, gs.Constant) and _is_weight(tensor):
                held[name] = tensor, tensor._values
                dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
                tensor._values = LazyValues(onnx.TensorProto(data_type=dtype, dims=tensor.shape))
        model = gs.export_onnx(graph, do_type_check=False)
    finally:
        for tensor, values in held.values():
            tensor._values = values
    for initializer in model.graph.initializer:
        if initializer.name in held:
            _, values = held[initializer.name]
            if isinstance(values, LazyValues):
                initializer.ClearField("dims")
                initializer.MergeFrom(values.tensor)
                initializer.name = held[initializer.name][0].name
            else:
                initializer.raw_data = values.tobytes()
    return model


def _is_weight(tensor: gs.Constant) -> bool:
    values = tensor._values
    if isinstance(values, LazyValues):
        return isinstance(values.tensor, onnx.TensorProto) and movable(values.tensor)
    return isinstance(values, np.ndarray) and values.nbytes >= WEIGHT_BYTES and values.dtype.kind in "fiu"


def array_of(tensor: onnx.TensorProto) -> np.ndarray:
    """Its values, read-only."""
    return numpy_helper.to_array(tensor)


def save(model: onnx.ModelProto, path: str | os.PathLike[str], weights_name: str) -> bool:
    """Write a model to `path`, and where it is too large for one file its weights to `weights_name` in the same folder.

    Returns whether there is a second file. Raises OSError, or ModelError where what is left is still too large.
    """
    if not is_large(model):
        onnx.save(model, os.fspath(path))
        return False
    copy, weights = without_weights(model)
    with open(os.path.join(os.path.dirname(path), weights_name), "wb") as file:
        for tensor in weights:
            values = tensor.raw_data if tensor.HasField("raw_data") else array_of(tensor).tobytes()
            refer(copy, tensor, {"location": weights_name, "offset": str(_begin(file)), "length": str(len(values))})
            file.write(values)
        file.flush()
        os.fsync(file.fileno())  # before a model names it
    with open(path, "wb") as file:
        file.write(as_bytes(copy))
    return True


def refer(model: onnx.ModelProto, tensor: onnx.TensorProto, where: dict[str, str]) -> None:
    """Add an initializer like `tensor` whose values lie elsewhere."""
    external = model.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    external.data_location = onnx.TensorProto.EXTERNAL
    for key, value in where.items():
        external.external_data.add(key=key, value=value)


def as_bytes(model: onnx.ModelProto) -> bytes:
    """The serialized message. Raises ModelError where it is larger than a message may be."""
    try:
        return model.SerializeToString()
    except EncodeError:
        raise ModelError("the model is larger than 2 GB even without its large initializers") from None


def _begin(file: BinaryIO) -> int:
    file.seek(-(-file.tell() // _PAGE) * _PAGE)
    return file.tell()


def _copy_fields(source: Message, target: Message, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if isinstance(value, (str, int, float, bytes)):
            setattr(target, field.name, value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            getattr(target, field.name).CopyFrom(value)

"""What the broken models are made of: two sound ones, and the registries that cases join."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from graph_builder import Graph
from onnx import TensorProto, helper

Maker = Callable[[Path], Path]
Change = Callable[[onnx.ModelProto], onnx.ModelProto | bytes | None]

BROKEN: dict[str, Maker] = {}
SOUND: dict[str, Maker] = {}
EITHER: dict[str, Maker] = {}

SIZE = 12
HUGE = 2**40


def plain(opset: int = 17, ir: int = 8, batch: int | str = "batch") -> onnx.ModelProto:
    """A network of 2 x 12 x 12 to 3 classes with a branch, a pool, and weights of a few hundred bytes."""
    g = Graph(1, opset=opset, ir=ir)
    x = g.conv_relu(g.input("image", [batch, 2, SIZE, SIZE], channels=2), 3, 3, pads=1)
    x = g.pool("MaxPool", x, 2, 2)
    x = g.relu(g.node("Add", g.conv(x, 3, 3, pads=1), x))
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(x, 3, 3, gain=16, name="logits")
    return g.model({"logits": [batch, 3]})


def branched() -> onnx.ModelProto:
    """As old exporters write: opset 9, weights listed as inputs, batch 1, batch norm, Concat, Reshape, Softmax."""
    g = Graph(2, opset=9, ir=3)
    x = g.input("data", [1, 2, SIZE, SIZE], channels=2)
    x = g.relu(g.batch_norm(g.conv(x, 4, 3, stride=2, pads=[1, 1, 1, 1])))
    x = g.concat(g.conv_relu(x, 2, 1), g.pool("AveragePool", x, 3, 1, pads=[1, 1, 1, 1]))
    x = g.node("Reshape", g.pool("MaxPool", x, 2, 2), g.initializer([1, 54], np.int64))
    g.node("Softmax", g.gemm(x, 54, 3, name="logits"), axis=1, name="prob")
    for tensor in g.initializers:
        g.inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return g.model({"prob": [1, 3]})


def file_of(folder: Path, content: bytes | onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializePartialToString())
    return path


def case(kind: dict[str, Maker]) -> Callable[[Change], Change]:
    """Registers a function that changes `plain()` in place, or returns what takes its place."""

    def register(change: Change) -> Change:
        def make(folder: Path) -> Path:
            model = plain()
            changed = change(model)
            return file_of(folder, model if changed is None else changed)

        kind[change.__name__] = make
        return change

    return register


def path_case(kind: dict[str, Maker]) -> Callable[[Maker], Maker]:
    """Registers a function that makes the file itself."""

    def register(make: Maker) -> Maker:
        kind[make.__name__] = make
        return make

    return register


def add_case(kind: dict[str, Maker], name: str, change: Change) -> None:
    change.__name__ = name
    case(kind)(change)


def set_attribute(model: onnx.ModelProto, op_type: str, name: str, value: object) -> None:
    node = next(node for node in model.graph.node if node.op_type == op_type)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def set_shape(model: onnx.ModelProto, *dims: int | str | None) -> None:
    value = model.graph.input[0]
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))


def node_of(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def before_the_first(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes from "image" to "changed" before the first convolution."""
    rest = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    rest[0].input[0] = "changed"
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])

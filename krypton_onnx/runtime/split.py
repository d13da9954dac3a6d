"""Cut a rewritten model in two: what depends on the image only, and what runs once a batch of positions.

- materialize: image -> views and unoccluded outputs (run once an image; dynamic in its batch).
- incremental: views + occlusion_* -> outputs (run once a batch).
- full: image batch -> original outputs; the model itself, for session.run and naive mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper

from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.plan import Plan
from krypton_onnx.rewriter.rewrite import UNOCCLUDED


@dataclass(frozen=True)
class Crossing:
    """Tensors that the incremental part reads from outside it: views, and graph inputs (the image of NHWC models)."""

    views: tuple[str, ...]
    passed: tuple[str, ...]


def find_crossing(model: onnx.ModelProto) -> Crossing:
    """What crosses from the base pass of a rewritten model into its incremental part."""
    graph = model.graph
    changed = {ORIGIN, PATCH, THRESHOLD}
    read: dict[str, None] = {}
    for node in graph.node:  # a valid model is in topological order
        if changed.intersection(node.input):
            changed.update(name for name in node.output if name)
            read.update(dict.fromkeys(node.input))
    inside = changed | {initializer.name for initializer in graph.initializer} | {""}
    crossing = [name for name in read if name not in inside]
    inputs = {value.name for value in graph.input}
    return Crossing(
        tuple(name for name in crossing if name not in inputs), tuple(name for name in crossing if name in inputs)
    )


def view_bytes(model: onnx.ModelProto) -> int:
    """What the views of a rewritten model take, as far as their shapes are written in it."""
    views = set(find_crossing(model).views)
    sizes = (
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
        if value.name in views
    )
    return sum(4 * prod(size) for size in sizes)


def materialize_model(model: onnx.ModelProto, plan: Plan, crossing: Crossing) -> onnx.ModelProto:
    """image -> unoccluded outputs, unoccluded logits of the plan, and views."""
    unoccluded = [UNOCCLUDED + name for name in plan.outputs]
    logits = [pair[1] for pair in plan.logits.values()]
    outputs = list(dict.fromkeys([*unoccluded, *logits, *crossing.views]))
    return _part(model, _image_inputs(model), outputs, free_batch=True)


def incremental_model(model: onnx.ModelProto, plan: Plan, crossing: Crossing) -> onnx.ModelProto:
    """views + occlusion_* -> outputs, and the logits of the plan."""
    names = (*crossing.views, *crossing.passed, ORIGIN, PATCH, THRESHOLD)
    outputs = list(dict.fromkeys([*plan.outputs, *(pair[0] for pair in plan.logits.values())]))
    return _part(model, [_value(model.graph, name) for name in names], outputs, free_batch=False)


def full_model(model: onnx.ModelProto, plan: Plan, logits: bool = False) -> onnx.ModelProto:
    """The original model cut out of a rewritten one: dynamic batch, original output names (and logits if asked)."""
    renamed = {UNOCCLUDED + name: name for name in plan.outputs}
    extra = [pair[1] for pair in plan.logits.values()] if logits else []
    part = _part(model, _image_inputs(model), list(dict.fromkeys([*renamed, *extra])), free_batch=True)
    for node in part.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = renamed.get(name, name)
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    for value in part.graph.output:
        value.name = renamed.get(value.name, value.name)
    return part


def _image_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [value for value in model.graph.input if value.name not in (ORIGIN, PATCH, THRESHOLD)]


def _part(
    model: onnx.ModelProto, inputs: Iterable[onnx.ValueInfoProto], outputs: list[str], free_batch: bool
) -> onnx.ModelProto:
    """The nodes that lead from `inputs` to `outputs`, with the initializers and functions that they use."""
    inputs = list(inputs)
    available = {value.name for value in inputs} | {initializer.name for initializer in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output if name}
    needed: set[int] = set()
    stack = list(outputs)
    while stack:
        name = stack.pop()
        if name in available or name not in producer or id(producer[name]) in needed:
            continue
        needed.add(id(producer[name]))
        stack.extend(operand for operand in producer[name].input if operand)
    part = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    part.opset_import.extend(model.opset_import)
    nodes = [node for node in model.graph.node if id(node) in needed]
    used = {name for node in nodes for name in node.input}
    part.graph.name = model.graph.name or "krypton"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    for value in inputs:
        part.graph.input.add().CopyFrom(value)
        dims = part.graph.input[-1].type.tensor_type.shape.dim
        if free_batch and dims and dims[0].dim_value <= 1:  # a larger one is no batch
            dims[0].Clear()
            dims[0].dim_param = "batch"
    for name in outputs:
        part.graph.output.append(onnx.ValueInfoProto(name=name))  # ONNX Runtime infers the type
    if any(node.domain for node in nodes):
        part.functions.extend(model.functions)
    return part


def _value(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    """The typed value of a tensor that becomes a graph input."""
    for value in [*graph.input, *graph.value_info]:
        if value.name == name:
            return value
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

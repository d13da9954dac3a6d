"""Cut the index arithmetic out of an incremental model: where regions lie is computed on the CPU, for all operators.

Origins and extents depend on the occlusions alone, never on what the network computes. On a device an extent decides a
shape, so it must be in host memory before an operator can be queued: computed on the device, each would be waited for.
Cut out, they are known before the first operator runs.

- placing: occlusion_* -> every origin, extent and index that operators on data read;
- device: views, patches and those -> outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.rewriter.functions import DOMAIN

SHAPE_READERS = ("PlaceRegions", "Shape", "Size")
"""Operators that read of an input no more than its shape; PlaceRegions so of the patch."""


@dataclass(frozen=True)
class Placed:
    """The two models, and what goes from one to the other.

    uploaded : read by kernels in device memory only; handed : read in host memory, or by ONNX Runtime's own operators,
    which know for themselves where they want it.
    """

    placing: onnx.ModelProto
    device: onnx.ModelProto
    uploaded: tuple[str, ...]
    handed: tuple[str, ...]


@dataclass(frozen=True)
class IndexPart:
    """Nodes of a graph that compute indices only, by their place in it, and their results that other nodes read."""

    nodes: frozenset[int]
    results: tuple[str, ...]


def index_part(graph: onnx.GraphProto, roots: Collection[str], shaped: Collection[str]) -> IndexPart:
    """What depends on the graph inputs `roots`, on the shapes of the inputs `shaped` and on constants alone."""
    indices = set(roots)
    constant = {tensor.name for tensor in graph.initializer} | {""}
    nodes: set[int] = set()
    for place, node in enumerate(graph.node):  # a valid model is in topological order
        read = [name for name in node.input if name not in constant]
        if node.op_type in SHAPE_READERS:
            read = [name for name in read if name not in shaped]
            is_index = all(name in indices for name in read)
        elif not read:
            constant.update(node.output)
            continue
        else:
            is_index = all(name in indices for name in read)
        if is_index:
            nodes.add(place)
            indices.update(name for name in node.output if name)
    used: dict[str, None] = {}
    for place, node in enumerate(graph.node):
        if place not in nodes:
            used.update(dict.fromkeys(name for name in node.input if name in indices))
    ends = {value.name for value in graph.output}
    return IndexPart(frozenset(nodes), tuple(name for name in used if name not in constant) + tuple(ends & indices))


def cut(
    model: onnx.ModelProto, part: IndexPart, types: Mapping[str, onnx.ValueInfoProto], kernels: Iterable[Kernel]
) -> Placed:
    """Both models. types : of the results of the index part, as ONNX Runtime tells them of the placing model."""
    host = {kernel.op_type: kernel.host for kernel in kernels}
    on_host: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if place in part.nodes:
            continue
        ours = host.get(node.op_type) if node.domain == DOMAIN else None
        for index, name in enumerate(node.input):
            if ours is None or index in ours:
                on_host.add(name)
    inputs = [value for value in model.graph.input] + [types[name] for name in part.results if name in types]
    rest = set(range(len(model.graph.node))) - part.nodes
    device = _model(model, rest, inputs, list(model.graph.output))
    return Placed(
        placing=placing_model(model, part),
        device=device,
        uploaded=tuple(name for name in part.results if name not in on_host),
        handed=tuple(name for name in part.results if name in on_host),
    )


def placing_model(model: onnx.ModelProto, part: IndexPart) -> onnx.ModelProto:
    """The index part as a model of its own; ONNX Runtime infers the types of its outputs."""
    made = {name for place in part.nodes for name in model.graph.node[place].output}
    results = [onnx.ValueInfoProto(name=name) for name in part.results if name in made]
    return _model(model, set(part.nodes), list(model.graph.input), results)


def _model(
    model: onnx.ModelProto,
    places: set[int],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """These nodes, with the constants and functions that they use, of the inputs those that are read."""
    nodes = list(model.graph.node)
    producers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    given = {value.name for value in inputs}
    wanted, stack = set(places), list(places)
    while stack:  # constants are nodes of neither part
        for name in nodes[stack.pop()].input:
            place = producers.get(name)
            if place is not None and name not in given and place not in wanted:
                wanted.add(place)
                stack.append(place)
    chosen = [nodes[place] for place in sorted(wanted)]
    read = {name for node in chosen for name in node.input} | {value.name for value in outputs}
    part = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    part.opset_import.extend(model.opset_import)
    part.graph.name = model.graph.name or "krypton"
    part.graph.node.extend(chosen)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    part.graph.input.extend(value for value in inputs if value.name in read)
    part.graph.output.extend(outputs)
    if any(node.domain for node in chosen):
        part.functions.extend(model.functions)
    return part


def value_info(name: str, element: str) -> onnx.ValueInfoProto:
    """A graph input from what ONNX Runtime says of a session's output: "tensor(int64)". Of unknown rank: ONNX Runtime
    tells that by the same words as a scalar."""
    elem_type = {"tensor(int64)": onnx.TensorProto.INT64, "tensor(float)": onnx.TensorProto.FLOAT,
                 "tensor(bool)": onnx.TensorProto.BOOL, "tensor(int32)": onnx.TensorProto.INT32}[element]  # fmt: skip
    return helper.make_tensor_value_info(name, elem_type, None)

"""Sound and rewritten models with random changes, from a seed."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from broken_base import HUGE, branched, plain
from onnx import helper

from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.rewriter.plan import METADATA_KEY

BASES = {"plain": plain, "branched": branched}
_DIMS = (0, 1, 1, 2, 2, 3, 3, 4, -1, 7, 1000, HUGE)


def mutated(seed: int) -> bytes:
    """A sound model with one or two random changes: of its bytes (every second seed), else of its messages."""
    rng = np.random.default_rng(seed)
    model = list(BASES.values())[seed // 2 % 2]()
    if seed % 2:
        for _ in range(rng.integers(1, 3)):
            _mutate_message(model, rng)
        return model.SerializePartialToString()
    data = bytearray(model.SerializeToString())
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(len(data)))
        match rng.integers(12):  # a byte more or less nearly always leaves nothing that can be read
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                data[place] = int(rng.integers(256))
            case 2:
                del data[place : place + int(rng.integers(1, 9))]
            case 3:
                data[place:place] = rng.bytes(int(rng.integers(1, 9)))
            case _:
                data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _mutate_message(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    graph = model.graph
    node = graph.node[int(rng.integers(len(graph.node)))]
    names = [name for other in graph.node for name in [*other.input, *other.output] if name]
    name = names[int(rng.integers(len(names)))]
    dim = int(_DIMS[int(rng.integers(len(_DIMS)))])
    match int(rng.integers(20)):
        case 12 | 13 | 14 | 15 if any(attribute.ints for attribute in node.attribute):
            attribute = next(attribute for attribute in node.attribute if attribute.ints)
            attribute.ints[int(rng.integers(len(attribute.ints)))] = dim
        case 16 | 17 | 18:
            unary = ("Relu", "Abs", "Neg", "Exp", "Sqrt", "Sigmoid", "Ceil", "Softsign", "Log", "Reciprocal")
            inner = f"inner{len(graph.node)}"
            graph.node.insert(0, helper.make_node(unary[int(rng.integers(len(unary)))], [graph.input[0].name], [inner]))
            graph.node[1].input[0] = inner
        case 0:
            node.op_type = graph.node[int(rng.integers(len(graph.node)))].op_type
        case 1 if node.input:
            node.input[int(rng.integers(len(node.input)))] = name
        case 2 if node.output:
            node.output[int(rng.integers(len(node.output)))] = name
        case 3:
            graph.node.remove(node)
        case 4 if node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            if attribute.ints:
                attribute.ints[int(rng.integers(len(attribute.ints)))] = dim
            else:
                attribute.i = dim
        case 5 if node.attribute:
            del node.attribute[int(rng.integers(len(node.attribute)))]
        case 6 if graph.initializer:
            del graph.initializer[int(rng.integers(len(graph.initializer)))]
        case 7 if graph.initializer:
            tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
            if tensor.dims:
                tensor.dims[int(rng.integers(len(tensor.dims)))] = dim
        case 8 if graph.initializer:
            tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
            tensor.data_type = int(rng.integers(0, 24))
        case 9 if graph.input:
            shape = graph.input[0].type.tensor_type.shape.dim
            if shape:
                shape[int(rng.integers(len(shape)))].dim_value = dim
        case 10 if node.input:
            del node.input[int(rng.integers(len(node.input)))]
        case _:
            node.op_type = ("Conv", "Add", "Concat", "Relu", "Gemm", "MaxPool", "Softmax", "Reshape", "Transpose")[
                int(rng.integers(9))
            ]


def mutated_rewritten(seed: int) -> onnx.ModelProto:
    """A rewritten model with a random change of its plan, or of one of our operators: no longer what it says it is."""
    rng = np.random.default_rng(seed)
    model = rewrite_model(list(BASES.values())[seed % 2]())
    ours = [node for node in model.graph.node if node.domain]
    node = ours[int(rng.integers(len(ours)))]
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    match int(rng.integers(5)):
        case 0 | 1:
            plan = json.loads(entry.value)
            *path, last = _choice(rng, list(_leaves(plan)))
            place = plan
            for key in path:
                place = place[key]
            place[last] = _choice(rng, [0, -1, 3, 7, 100, HUGE, "x", None])
            entry.value = json.dumps(plan)
        case 2 if node.attribute:
            attribute = _choice(rng, list(node.attribute))
            if attribute.ints:
                attribute.ints[int(rng.integers(len(attribute.ints)))] = int(_choice(rng, list(_DIMS)))
            else:
                attribute.i = int(_choice(rng, list(_DIMS)))
        case 3:
            names = [name for other in model.graph.node for name in [*other.input, *other.output] if name]
            node.input[int(rng.integers(len(node.input)))] = _choice(rng, names)
        case _:
            node.op_type = _choice(rng, ours).op_type
    return model


def _choice(rng: np.random.Generator, values: list) -> Any:
    return values[int(rng.integers(len(values)))]


def _leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value of a JSON document that is neither a list nor an object."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _leaves(value[key], (*path, key))
    else:
        yield path

"""The ONNX project's own node tests as image models of batch 1, each with an image of the case's own values.

A case becomes an image model where its first input is float32 and can be read as an image: of rank 4 as it is (one
image of its batch), of a lower rank after axes of length 1 in front, where the operator means the same with them.
The other inputs become initializers, or, as a second variant, stay inputs.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import helper, numpy_helper

from krypton_onnx.rewriter.operators.elementwise import NARY, UNARY

MAX_OPSET = 26  # of ONNX Runtime; what these operators mean has not changed since

BROADCAST = frozenset((
    *UNARY, *NARY, "BitShift", "CastLike", "Dropout", "DynamicQuantizeLinear", "EyeLike", "Swish",
))  # fmt: skip
"""Operators to which axes of length 1 in front make no difference."""
AXES: Mapping[str, int | None] = {
    **dict.fromkeys((
        "ArgMax", "ArgMin", "CenterCropPad", "Compress", "Concat", "DynamicQuantizeLinear", "Gather", "GatherElements",
        "Hardmax", "LayerNormalization", "LogSoftmax", "LpNormalization", "QuantizeLinear", "RMSNormalization",
        "ScatterElements", "Softmax", "Split", "SplitToSequence", "SwiGLU", "TopK",
    )),
    **dict.fromkeys((
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare", "CumSum", "Squeeze", "Unsqueeze",
    ), 1),
    "Slice": 3,
}  # fmt: skip
"""Operators that name axes, which move when axes are put in front: the input where they do, else an attribute."""
DEFAULT_AXIS = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "GatherElements": 0, "QuantizeLinear": 1, "ScatterElements": 0,
                "Split": 0}  # fmt: skip
"""The default, where it counts from the front."""
WHOLE = ("Concat", "GatherElements", "ScatterElements")
"""Of these the other inputs have the rank of the first."""
SHAPED = ("Reshape", "Expand", "Tile")
"""Their second input has a number an axis."""


class Unfit(Exception):
    """Why a case is no image model."""


@dataclass(frozen=True)
class Case:
    """One node of the standard's tests on an image (1, C, H, W), with the values of its other inputs."""

    name: str
    op_type: str
    model: onnx.ModelProto  # the other inputs as initializers
    open_model: onnx.ModelProto | None  # the other inputs as inputs, where their values could be any
    image_input: str
    image: np.ndarray
    others: Mapping[str, np.ndarray]


@cache
def node_cases() -> tuple[object, ...]:
    """Every one-node test case of the installed onnx package (a few seconds)."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the cases are about
        return tuple(case for case in collect_testcases(None) if case.model and len(case.model.graph.node) == 1)


def image_case(case) -> Case:
    """The case as an image model. Raises Unfit with the reason."""
    source, (arrays, _) = case.model, case.data_sets[0]
    node = onnx.NodeProto.FromString(source.graph.node[0].SerializeToString())
    if node.domain not in ("", "ai.onnx"):
        raise Unfit("another domain than ai.onnx")
    if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
        raise Unfit("control flow")
    infos = list(source.graph.input)
    if not infos or not all(info.type.HasField("tensor_type") for info in infos):
        raise Unfit("an input is no tensor, or there is none")
    values = {info.name: _array(value) for info, value in zip(infos, arrays, strict=True)}
    # The first input; of Where the second, as the first is a condition.
    key = node.input[1 if node.op_type == "Where" else 0]
    image = values[key]
    if image.dtype != np.float32:
        raise Unfit("its first input is not float32")
    if image.ndim > 4 or not image.size:
        raise Unfit("its first input has more than four axes, or no cells")
    values, named = _lifted(node, values, image.ndim) if image.ndim < 4 else (_one_image(values, image), {})
    values |= named
    image = np.ascontiguousarray(values.pop(key))
    free = node.op_type in NARY and all(value.dtype.kind in "fiub" for value in values.values())
    free = free and bool(values) and all(value.ndim == 4 for value in values.values())
    return Case(
        case.name.removeprefix("test_"), node.op_type, _model(source, node, key, image, values, as_inputs=False),
        _model(source, node, key, image, values, as_inputs=True) if free else None, key, image, values,
    )  # fmt: skip


def _array(value: object) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _one_image(values: Mapping[str, np.ndarray], image: np.ndarray) -> dict[str, np.ndarray]:
    """Batch 1: the first image, and the same of every input that has a row an image."""
    batch = len(image)
    return {
        name: value[:1] if value.ndim == image.ndim and len(value) == batch > 1 else value
        for name, value in values.items()
    }


def _lifted(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray], rank: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The values with axes of length 1 in front, and those that name axes; attributes of `node` are changed."""
    more = 4 - rank
    if node.op_type in BROADCAST:
        return {name: value.reshape((1,) * (4 - value.ndim) + value.shape) if value.ndim else value
                for name, value in values.items()}, {}  # fmt: skip
    if node.op_type not in (*AXES, *SHAPED, "Transpose") or rank == 0:
        raise Unfit(f"of rank {rank}, which {node.op_type} reads otherwise at rank 4")
    first = node.input[0]
    front = {first: values[first].reshape((1,) * more + values[first].shape)}
    if node.op_type in SHAPED:
        return {**values, **front}, {node.input[1]: np.concatenate([np.ones(more, np.int64), values[node.input[1]]])}
    given = {entry.name: entry for entry in node.attribute}
    if node.op_type == "Transpose":
        perm = list(given["perm"].ints) if "perm" in given else list(range(rank))[::-1]
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("perm", [*range(more), *(axis + more for axis in perm)]))
        return {**values, **front}, {}
    index, named = AXES[node.op_type], {}
    for name in ("axis", "axes"):
        if name in given:
            entry = given[name]
            entry.i += more if entry.type == entry.INT and entry.i >= 0 else 0
            entry.ints[:] = [axis + more if axis >= 0 else axis for axis in entry.ints]
    if index is not None and len(node.input) > index and node.input[index]:
        axes = values[node.input[index]]
        named = {node.input[index]: np.where(axes >= 0, axes + more, axes)}
    elif node.op_type in DEFAULT_AXIS and "axis" not in given:
        node.attribute.append(helper.make_attribute("axis", DEFAULT_AXIS[node.op_type] + more))
    others = {name: value.reshape((1,) * more + value.shape) for name, value in values.items()
              if node.op_type in WHOLE and name != first and value.ndim == rank}  # fmt: skip
    return {**values, **front, **others}, named


def _model(
    source: onnx.ModelProto, node: onnx.NodeProto, key: str, image: np.ndarray, values: Mapping[str, np.ndarray],
    as_inputs: bool,
) -> onnx.ModelProto:  # fmt: skip
    def info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    inputs = [info(key, image), *([info(name, value) for name, value in values.items()] if as_inputs else [])]
    constants = [] if as_inputs else [numpy_helper.from_array(value, name) for name, value in values.items()]
    results = []
    for result in source.graph.output:
        if not result.type.HasField("tensor_type"):
            raise Unfit("an output is no tensor")
        results.append(helper.make_tensor_value_info(result.name, result.type.tensor_type.elem_type, None))
    graph = helper.make_graph([node], "case", inputs, results, constants)
    opset = min(source.opset_import[0].version, MAX_OPSET)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13)


def image_cases() -> Iterator[tuple[str, str, Case | str]]:
    """(name, op_type, the image model or why there is none) of every one-node case."""
    for case in node_cases():
        try:
            fit: Case | str = image_case(case)
        except Unfit as reason:
            fit = str(reason)
        yield case.name.removeprefix("test_"), case.model.graph.node[0].op_type, fit

"""inspect: the growth of the region and R, against a count that walks the original graph operator by operator."""

from itertools import product

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from graph_builder import Graph
from naive import session_of

import krypton_onnx as kx
from krypton_onnx.rewriter import rewrite_model

PATCH, STRIDE = (6, 5), (7, 5)
LOCAL = {"Conv", "MaxPool", "AveragePool"}
GLOBAL = {"GlobalAveragePool", "Flatten", "ReduceMean", "Reshape"}
CHAINS = [
    "vgg",
    "squeezenet",
    "squeezenet_ceil",
    "mobilenet_v2",
    "resnet18_legacy",
    "inception",
    "densenet",
    "googlenet",
]

Interval = tuple[int, int]


def frames_of(model: onnx.ModelProto) -> dict[str, Interval]:
    """Height and width of every tensor of rank 4 (NCHW), as a run shows them."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type != "Constant"]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    image = example_image(model)
    results = session_of(probe).run(names, {model.graph.input[0].name: image})
    frames = {name: value.shape[2:] for name, value in zip(names, results, strict=True) if value.ndim == 4}
    return {model.graph.input[0].name: image.shape[2:], **frames}


def through(interval: Interval, axis: int, attributes: dict, frame: int) -> Interval:
    """DESIGN.md, Geometry: the cells of a local operator that read the interval."""
    kernel, stride = attributes["kernel_shape"][axis], attributes.get("strides", [1, 1])[axis]
    pad = attributes.get("pads", [0] * 4)[axis]
    reach = attributes.get("dilations", [1, 1])[axis] * (kernel - 1)
    first = max(0, -((reach - interval[0] - pad) // stride))
    end = min(frame, (interval[1] - 1 + pad) // stride + 1)
    assert first < end, "nothing reads it: choose another patch"
    return first, end


def regions_of(
    model: onnx.ModelProto, frames: dict, top: int, left: int
) -> dict[str, tuple[Interval, Interval]]:
    """Rows and columns, of every tensor up to the first global operator of each branch, that one occlusion changes."""
    regions = {model.graph.input[0].name: ((top, top + PATCH[0]), (left, left + PATCH[1]))}
    for node in model.graph.node:
        inputs = [regions[name] for name in node.input if name in regions]
        if not inputs or node.op_type in GLOBAL:
            continue
        attributes = {
            attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        union = [(min(r[axis][0] for r in inputs), max(r[axis][1] for r in inputs)) for axis in (0, 1)]
        if node.op_type in LOCAL:
            union = [through(union[axis], axis, attributes, frames[node.output[0]][axis]) for axis in (0, 1)]
        regions[node.output[0]] = tuple(union)
    return regions


def count(model: onnx.ModelProto) -> tuple[int, int]:
    """Convolution multiply-adds of the whole grid: by full inference, and inside the regions."""
    frames = frames_of(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    costs = {
        node.output[0]: int(np.prod(shapes[node.input[1]]))
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    height, width = frames[model.graph.input[0].name]
    full = inside = 0
    for top, left in product(
        range(0, height - PATCH[0] + 1, STRIDE[0]), range(0, width - PATCH[1] + 1, STRIDE[1])
    ):
        regions = regions_of(model, frames, top, left)
        for name, cost in costs.items():
            full += cost * frames[name][0] * frames[name][1]
            (y, below), (x, right) = regions[name]
            inside += cost * (below - y) * (right - x)
    return full, inside


@pytest.mark.parametrize("name", CHAINS)
def test_the_redundancy_ratio_is_what_a_count_finds(name: str) -> None:
    model = FAMILIES[name]()
    full, inside = count(model)
    inspection = kx.inspect(model, patch=PATCH, stride=STRIDE)
    assert inspection.redundancy_ratio == pytest.approx(full / inside, rel=1e-12)
    assert 1 <= inspection.achieved_redundancy_ratio <= inspection.redundancy_ratio
    assert inspection.batches >= 1
    operators = inspection.operators
    assert sum(operator.multiply_adds for operator in operators) * inspection.positions == full
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert sum(operator.multiply_adds > 0 for operator in operators) == len(convolutions)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_of_every_family_is_incremental(name: str) -> None:
    model = FAMILIES[name]()
    shape = example_image(model).shape
    inspection = kx.inspect(model, patch=PATCH, stride=STRIDE, input_shape=shape)
    assert inspection.incremental_share == 1.0
    assert all(operator.kind != "global" for operator in inspection.operators if operator.op_type == "Conv")
    assert inspection.redundancy_ratio > 1 and inspection.input_shape == shape
    for operator in inspection.operators:
        assert (operator.kind == "global") == (operator.reason is not None) == (operator.region is None)
        if operator.region is not None:
            assert all(1 <= have <= most for have, most in zip(operator.region, operator.frame, strict=True))
            assert operator.incremental_multiply_adds <= operator.multiply_adds
    assert inspection.end_reasons


def test_every_operator_in_order() -> None:
    """Numbers by hand: a 4 x 4 patch at the middle (rows 8 to 11, columns 10 to 13) of a 20 x 24 image."""
    g = Graph(60, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 20, 24]), 6, 3, pads=1)  # rows 7-12, columns 9-14
    x = g.pool("MaxPool", x, 2, 2)  # rows 3-6, columns 4-7
    x = g.relu(
        g.conv(x, 8, (5, 1), stride=(1, 2), pads=[2, 0, 0, 0], bias=False)
    )  # rows 1-8 of 8: 1-7; columns 2-3
    x = g.node("Flatten", x, axis=1)
    g.node("Softmax", g.gemm(x, 8 * 8 * 6, 4), name="prob")
    inspection = kx.inspect(g.model({"prob": ["batch", 4]}), patch=4, stride=(4, 5))
    rows = [(row.op_type, row.kind, row.frame, row.region, row.multiply_adds) for row in inspection.operators]
    assert rows == [
        ("Conv", "local", (20, 24), (6, 6), 20 * 24 * 6 * 27),
        ("Relu", "pointwise", (20, 24), (6, 6), 0),
        ("MaxPool", "local", (10, 12), (4, 4), 0),
        ("Conv", "local", (8, 6), (7, 2), 8 * 6 * 8 * 30),
        ("Relu", "pointwise", (8, 6), (7, 2), 0),
        ("Flatten", "global", None, None, 0),
        ("Gemm", "global", None, None, 0),
        ("Softmax", "global", None, None, 0),
    ]
    assert inspection.operators[0].incremental_multiply_adds == 36 * 6 * 27
    assert inspection.operators[3].incremental_multiply_adds == 14 * 8 * 30
    flatten = inspection.operators[5]
    assert inspection.end_reasons == (f"Flatten '{flatten.name}': it mixes all cells of the frame",)
    assert inspection.operators[6].reason == "an operator before it ended the incremental part"
    assert (inspection.patch, inspection.stride, inspection.positions) == ((4, 4), (4, 5), 5 * 5)
    assert inspection.to_dict()["operators"][2]["region"] == (4, 4)


def test_where_the_incremental_part_ends_early() -> None:
    """A local operator after one that mixes the frame is full, and R counts it in full."""
    g = Graph(61, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 20, 24]), 6, 3, pads=1)
    x = g.node("InstanceNormalization", x, g.initializer(np.ones(6)), g.initializer(np.zeros(6)), name="norm")
    x = g.conv(x, 8, 3, pads=1)
    g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), 8, 4, name="logits")
    inspection = kx.inspect(g.model({"logits": ["batch", 4]}), patch=20, stride=4)
    first, second = 20 * 24 * 6 * 27, 20 * 24 * 8 * 54
    assert inspection.incremental_share == pytest.approx(first / (first + second))
    # Two positions, columns 0-19 and 4-23: their regions are 21 columns wide, cut off at one side.
    assert inspection.redundancy_ratio == pytest.approx((first + second) / (20 * 21 * 6 * 27 + second))
    assert inspection.end_reasons == ("InstanceNormalization 'node_norm': it mixes all cells of the frame",)


def test_a_rewritten_model_says_the_same() -> None:
    model = FAMILIES["inception"]()
    assert kx.inspect(rewrite_model(model), PATCH, STRIDE) == kx.inspect(model, PATCH, STRIDE)


def test_a_model_without_convolutions() -> None:
    g = Graph(62, opset=17, ir=8)
    x = g.pool("MaxPool", g.input("image", ["batch", 3, 20, 24]), 2, 2)
    g.node("Flatten", g.node("GlobalAveragePool", x), name="means")
    inspection = kx.inspect(g.model({"means": ["batch", 3]}), patch=4)
    assert inspection.redundancy_ratio == inspection.achieved_redundancy_ratio == 1.0


@pytest.mark.parametrize("patch, message", [(41, "larger than the 32 x 40 image"), (0, "at least 1 pixel")])
def test_a_patch_that_does_not_fit(patch: int, message: str) -> None:
    with pytest.raises(kx.ImageError, match=message):
        kx.inspect(FAMILIES["vgg"](), patch=patch)

"""The rewritten model as a file: what it declares, how it is stored, and that its parts stay incremental."""

import dataclasses
from functools import cache

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image, is_nhwc
from graph_builder import Graph
from naive import session_of
from onnx import TensorProto, helper, numpy_helper
from rewritten_models import INPUTS, assert_exact, conv_share, operators_of

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter import Plan, plan_of, rewrite_model
from krypton_onnx.rewriter.functions import functions_for
from krypton_onnx.rewriter.normalize import BODY_OPSET
from krypton_onnx.rewriter.operators import FUNCTIONS
from krypton_onnx.rewriter.ort_graph import MAX_IR_VERSION, MAX_OPSET
from krypton_onnx.rewriter.plan import METADATA_KEY

# Families whose convolutions are not incremental, and why that is right.


@cache
def rewritten(name: str) -> onnx.ModelProto:
    model = FAMILIES[name]()
    return rewrite_model(model, None, example_image(model).shape)


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_a_valid_model_that_onnx_runtime_loads(name: str) -> None:
    model = rewritten(name)
    onnx.checker.check_model(model, full_check=True)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert BODY_OPSET <= versions[""] <= MAX_OPSET and versions["ai.krypton"] == 1
    assert model.ir_version <= MAX_IR_VERSION and model.producer_name == "krypton-onnx"
    session = session_of(model)
    assert {value.name for value in session.get_outputs()} == {value.name for value in model.graph.output}


@pytest.mark.parametrize("name", FAMILIES)
def test_it_has_the_documented_inputs_and_outputs(name: str) -> None:
    original, model = FAMILIES[name](), rewritten(name)
    image = example_image(original)
    inputs = {value.name: value for value in model.graph.input}
    assert list(inputs) == [original.graph.input[0].name, *INPUTS]
    assert dims(model.graph.input[0]) == list(image.shape)
    origin, patch, threshold = (inputs[name] for name in INPUTS)
    assert [value.type.tensor_type.elem_type for value in (origin, patch, threshold)] == [
        TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT,
    ]  # fmt: skip
    assert [type(dim) for dim in dims(origin)] == [str, int] and dims(origin)[1] == 2
    assert [type(dim) for dim in dims(patch)] == [str, int, str, str] and dims(patch)[1] == 3
    assert [type(dim) for dim in dims(threshold)] == [str]
    names = [value.name for value in original.graph.output]
    outputs = {value.name: value for value in model.graph.output}
    assert list(outputs) == [*names, *(f"unoccluded_{name}" for name in names)]
    for value in original.graph.output:
        shape = dims(value)[1:]
        assert dims(outputs[value.name])[1:] == dims(outputs[f"unoccluded_{value.name}"])[1:] == shape
        assert isinstance(dims(outputs[value.name])[0], str) and dims(outputs[f"unoccluded_{value.name}"])[0] == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_its_plan_survives_being_stored(name: str) -> None:
    original, plan = FAMILIES[name](), plan_of(rewritten(name))
    assert Plan.from_json(plan.to_json()) == plan
    _, *sides = example_image(original).shape
    channels, height, width = (sides[2], *sides[:2]) if is_nhwc(original) else sides
    assert plan.image_shape == (channels, height, width)
    assert plan.layout == ("NHWC" if is_nhwc(original) else "NCHW")
    assert plan.outputs == tuple(value.name for value in original.graph.output)
    tensors = {output for node in rewritten(name).graph.node for output in node.output}
    assert {tensor for pair in plan.logits.values() for tensor in pair} <= tensors
    assert all(0 <= row.geometry < len(plan.geometries) for row in plan.operators if row.geometry is not None)
    assert all(row.reason for row in plan.operators if row.kind == "global")


@pytest.mark.parametrize("name", FAMILIES)
def test_its_convolutions_are_incremental(name: str) -> None:
    share = conv_share(plan_of(rewritten(name)))
    assert share >= 0.99


@pytest.mark.parametrize("name", FAMILIES)
def test_rewriting_it_again_changes_nothing(name: str) -> None:
    model = rewritten(name)
    data = model.SerializeToString()
    assert rewrite_model(model).SerializeToString() == data == rewrite_model(data).SerializeToString()


@pytest.mark.parametrize("name", ["vgg_nhwc", "inception", "mobilenet_v2"])
def test_it_holds_the_functions_that_it_needs_and_no_other(name: str) -> None:
    model = rewritten(name)
    needed = functions_for(model.graph.node, FUNCTIONS, model.opset_import[0].version)
    assert [function.name for function in model.functions] == [function.name for function in needed]


def test_rewriting_is_the_same_every_time_and_leaves_the_original_alone() -> None:
    model = FAMILIES["inception"]()
    model.metadata_props.add(key="labels", value="a,b")
    before = model.SerializeToString()
    first = rewrite_model(model)
    assert model.SerializeToString() == before
    assert rewrite_model(before).SerializeToString() == first.SerializeToString()
    assert {entry.key: entry.value for entry in first.metadata_props}["labels"] == "a,b"
    assert plan_of(model) is None


def test_a_plan_of_another_format_is_refused() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(rewritten("vgg"))
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = entry.value.replace('"format": ', '"format": 9')
    with pytest.raises(ValueError, match="convert the original model again"):
        plan_of(model)


def test_the_plan_as_a_table() -> None:
    """One row a geometry; cost is the convolutions' multiply-adds per cell, so that cost x frame is all of them."""
    plan = plan_of(rewritten("mobilenet_v2"))
    table = plan.table()
    for name in ("jump", "before", "after", "scale", "frame"):
        assert table[name].dtype == np.int64 and table[name].shape == (len(plan.geometries), 2)
    assert (table["cost"] * table["frame"].prod(axis=1)).sum() == pytest.approx(
        sum(operator.multiply_adds for operator in plan.operators)
    )
    assert dataclasses.asdict(plan.geometries[0]) == {
        "y": {"jump": 1, "before": 0, "after": 0, "scale": 1}, "x": {"jump": 1, "before": 0, "after": 0, "scale": 1},
        "frame": (48, 64),
    }  # fmt: skip


def small(opset: int = 18) -> Graph:
    g = Graph(0, opset=opset, ir=8)
    g.input("x", ["N", 3, 16, 14])
    return g


def pooled(g: Graph, x: str, name: str = "y") -> None:
    g.node("Flatten", g.node("GlobalAveragePool", x), name=name)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 17])
def test_an_old_opset_stays_incremental(opset: int) -> None:
    """The upgrade turns attributes into inputs (Clip, Pad, ReduceMean): constants all the same."""
    g = small(opset)
    x = g.conv("x", 4, 3, pads=1)
    bounds = {"min": 0.0, "max": 0.7} if opset < 11 else {}
    limits = [] if opset < 11 else [g.initializer(0.0), g.initializer(0.7)]
    x = g.node("Clip", x, *limits, **bounds)
    amounts = [0, 0, 1, 0, 0, 0, 2, 1]
    x = g.node("Pad", x, pads=amounts) if opset < 11 else g.node("Pad", x, g.initializer(amounts, np.int64))
    x = g.conv(g.batch_norm(x), 4, 3)
    g.node("ReduceMean", x, axes=[2, 3], keepdims=0, name="y")
    model = g.model({"y": ["N", 4]})
    plan = assert_exact(model)
    assert conv_share(plan) == 1
    found = operators_of(rewrite_model(model))
    assert "IncrementalGlobalAveragePool" in found and not any(name.startswith("FullFrame") for name in found)


def test_a_convolution_read_through_a_transpose_and_beside_it() -> None:
    """What reads the transposed activation alone must not be fused into the convolution that others read too."""
    g = Graph(0, opset=18, ir=8)
    x = g.input("x", ["N", 16, 14, 3])
    y = g.conv(g.node("Transpose", x, perm=[0, 3, 1, 2]), 3, 3, pads=1)
    g.node("Add", x, g.node("Transpose", y, perm=[0, 2, 3, 1]), name="sum")
    pooled(g, y)
    assert_exact(g.model({"sum": ["N", 16, 14, 3], "y": ["N", 3]}))


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "size"), [(1, 2, (0, 0), 16), (3, 3, (1, 2), 16), (2, 2, (0, 1), 14)]
)
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_a_last_window_that_starts_in_the_padding_is_none(op_type: str, kernel, stride, pads, size) -> None:
    """ceil_mode before opset 22: onnx infers one window more than ONNX Runtime computes."""
    g = Graph(0, opset=17, ir=8)
    g.input("x", ["N", 3, size, size])
    x = g.pool(op_type, g.conv("x", 4, 3, pads=1), kernel, stride, pads=[pads[0]] * 2 + [pads[1]] * 2, ceil_mode=1)
    pooled(g, g.conv(x, 4, 3, pads=1))
    assert_exact(g.model({"y": ["N", 4]}))


@pytest.mark.parametrize("opset", [17, 18, 22])
@pytest.mark.parametrize("rank", [2, 3])
def test_batch_norm_of_another_rank_in_the_head(opset: int, rank: int) -> None:
    g = small(opset)
    x = g.conv_relu("x", 4, 3, pads=1)
    x = g.node("Flatten", g.node("GlobalAveragePool", x)) if rank == 2 else g.node(
        "Reshape", x, g.initializer([0, 4, -1], np.int64))  # fmt: skip
    g.channels[x] = 4
    g.node("Identity", g.batch_norm(g.relu(x)), name="y")
    assert_exact(g.model({"y": ["N", 4] if rank == 2 else ["N", 4, 224]}))


@pytest.mark.parametrize("to", [TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32, TensorProto.FLOAT16])
def test_an_activation_of_another_type(to: int) -> None:
    """A mask as an output, and in front of a head."""
    g = small()
    mask = g.node("Greater", g.conv("x", 2, 3, pads=1), g.initializer(0.5))
    g.node("Cast", mask, name="mask", to=to)
    g.node("Flatten", g.node("Cast", "mask", to=TensorProto.FLOAT), name="y")
    model = g.model({"y": ["N", 448], "mask": ["N", 2, 16, 14]})
    model.graph.output[1].type.tensor_type.elem_type = to
    assert_exact(model)


def test_outputs_that_share_a_tensor_or_do_not_depend_on_the_image() -> None:
    g = small()
    x = g.node("Relu", g.conv("x", 4, 3, pads=1), name="features")
    pooled(g, x, "a")
    g.node("Identity", "a", name="b")
    g.node("Identity", "x", name="image")
    g.node("Identity", g.initializer([[1.0, 2.0]]), name="constant")
    model = g.model({
        "a": ["N", 4], "b": ["N", 4], "features": ["N", 4, 16, 14], "image": ["N", 3, 16, 14], "constant": [1, 2],
    })  # fmt: skip
    onnx.checker.check_model(rewrite_model(model), full_check=True)
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.output[4:]
    assert_exact(kept)


def test_control_flow_that_depends_on_the_image_is_refused() -> None:
    g = small()
    x = g.conv("x", 4, 3, pads=1)
    branches = [
        helper.make_graph([helper.make_node(op, [x], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
        for op in ("Relu", "Neg")
    ]
    mean = g.node("ReduceMean", "x", g.initializer([1, 2, 3], np.int64), keepdims=0)
    condition = g.node("Greater", mean, g.initializer(0.0))
    g.node("If", condition, name="y", then_branch=branches[0], else_branch=branches[1])
    with pytest.raises(ModelError, match="If node 'node_y' depends on the image: control flow is not supported"):
        rewrite_model(g.model({"y": ["N", 4, 16, 14]}))


def test_a_second_input_reaches_the_head() -> None:
    """Inputs that are not the image are read as they are, once for all positions."""
    g = small()
    extra = g.input("extra", [1, 4], channels=4)
    pooled(g, g.conv("x", 4, 3, pads=1), "mean")
    g.node("Add", "mean", extra, name="y")
    model = rewrite_model(g.model({"y": ["N", 4]}))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x", "extra", *INPUTS]
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((1, 3, 16, 14)).astype(np.float32), "occlusion_origin": np.array([[0, 0], [9, 8]]),
        "occlusion_patch": np.ones((1, 3, 4, 4), np.float32), "propagation_threshold": np.ones(1, np.float32),
    }  # fmt: skip
    session = session_of(model)
    zero, one = (session.run(None, {**feeds, "extra": np.full((1, 4), v, np.float32)}) for v in (0, 1))
    for plain, more in zip(zero, one, strict=True):
        np.testing.assert_allclose(more, plain + 1, atol=1e-6)


def test_initializers_of_the_original_are_kept_once() -> None:
    """The base pass and the incremental part read the same weights."""
    model = rewritten("vgg")
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    large = [array.tobytes() for array in arrays if array.size > 100]
    assert len(large) == len(set(large)) >= 9

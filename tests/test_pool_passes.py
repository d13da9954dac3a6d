"""ceil_mode written out as end pads, and channels picked with their axis kept: the same results before and after."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graph_builder import Graph
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_models import applied, assert_same, check, finish, graph, refuse, run

from krypton_onnx.rewriter.ort_graph import tensor_types
from krypton_onnx.rewriter.passes.floor_pools import floor_first_pools
from krypton_onnx.rewriter.passes.kept_axis import keep_gathered_axis


def pools(model: onnx.ModelProto) -> list[dict]:
    return [
        {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for node in model.graph.node
        if node.op_type in ("MaxPool", "AveragePool")
    ]


@settings(max_examples=150, deadline=None)
@given(
    op_type=st.sampled_from(["MaxPool", "AveragePool"]),
    frame=st.tuples(st.integers(4, 15), st.integers(4, 15)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    data=st.data(),
)
def test_a_pool_without_ceil_mode_gives_the_same(op_type, frame, kernel, stride, data) -> None:
    pads = [data.draw(st.integers(0, kernel - 1)) for _ in range(4)]
    g = graph(3, frame, opset=18)
    more = {"count_include_pad": data.draw(st.integers(0, 1))} if op_type == "AveragePool" else {}
    g.node(
        op_type, "x", name="y", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, ceil_mode=1, **more
    )  # fmt: skip
    model = g.model({"y": ["N", 3, "h", "w"]})
    after, _ = applied(model, floor_first_pools)
    (attributes,) = pools(after)
    assert not attributes["ceil_mode"]
    assert_same(run(after), run(model))


def test_it_stops_behind_a_wrong_shape_and_goes_on_when_called_again() -> None:
    """16 cells, kernel 1, stride 2, end pad 0: inference says 9 windows, ONNX Runtime computes 8."""
    g = Graph(0, opset=17, ir=8)
    g.input("x", ["N", 3, 16, 16])
    x = "x"
    for _ in range(2):
        x = g.node("MaxPool", x, kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1)
    g.node("Identity", x, name="y")
    model = g.model({"y": ["N", 3, "h", "w"]})
    imported = gs.import_onnx(model)
    calls = []
    for _ in range(4):
        before = gs.export_onnx(imported, do_type_check=False)
        before.ir_version = 8
        del before.graph.value_info[:]
        calls.append(floor_first_pools(imported, tensor_types(before)))
        if not calls[-1]:
            break
    assert calls[-1] is False and len(calls) >= 2
    after = gs.export_onnx(imported, do_type_check=False)
    after.ir_version = 8
    del after.graph.value_info[:]
    assert all(not attributes["ceil_mode"] for attributes in pools(after))
    assert_same(run(after), run(model))


def keep(imported, types) -> bool:
    return keep_gathered_axis(imported)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_gathered_and_restored_axis_is_kept(axis: int) -> None:
    g = graph(3)
    picked = g.node("Gather", "x", g.initializer(1, np.int64), axis=axis)
    g.node("Unsqueeze", picked, g.initializer([axis], np.int64), name="y")
    check(finish(g, "y"), keep, {"Gather": 1, "Unsqueeze": 0})


def test_another_axis_or_another_reader_is_left_alone() -> None:
    g = graph(3)
    picked = g.node("Gather", "x", g.initializer(1, np.int64), axis=1)
    g.node("Unsqueeze", picked, g.initializer([2], np.int64), name="y")
    refuse(finish(g, "y"), keep)
    g = graph(3)
    picked = g.node("Gather", "x", g.initializer(1, np.int64), axis=1)
    g.node("Unsqueeze", picked, g.initializer([1], np.int64), name="y")
    g.node("Relu", picked, name="z")
    refuse(finish(g, "y", "z"), keep)

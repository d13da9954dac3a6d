"""Every normalization pass, case by case, and where it keeps its hands off: the same results before and after."""

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from pass_models import FRAME, applied, assert_same, check, finish, graph, refuse, run

from krypton_onnx.rewriter.passes.affine_into_conv import fold_affine_into_conv
from krypton_onnx.rewriter.passes.batch_norm import lower_batch_norm
from krypton_onnx.rewriter.passes.explicit_pads import write_explicit_pads
from krypton_onnx.rewriter.passes.global_pool import name_global_average_pool
from krypton_onnx.rewriter.passes.pad_into_pool import fold_pad_into_pool

SHAPES = {"scalar": (), "one": (1,), "channels": (4, 1, 1), "batch of channels": (1, 4, 1, 1), "ones": (1, 1, 1)}


def fold_affine(graph, types) -> bool:
    return fold_affine_into_conv(graph)


def lower_norms(graph, types) -> bool:
    return lower_batch_norm(graph, types)


def fold_pads(graph, types) -> bool:
    return fold_pad_into_pool(graph)


class TestAffineIntoConv:
    @staticmethod
    def value(g: Graph, shape: tuple[int, ...]) -> str:
        return g.initializer(g.rng.uniform(0.5, 2, shape))

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("first", [True, False], ids=["y op c", "c op y"])
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    @pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
    def test_folds(self, op: str, shape, first: bool, bias: bool) -> None:
        first = first or op == "Div"  # c / y is not affine: see below
        g = graph()
        pair = [g.conv("x", 4, 3, pads=1, bias=bias), self.value(g, shape)]
        g.node(op, *(pair if first else pair[::-1]), name="y")
        check(finish(g, "y"), fold_affine, {"Conv": 1, op: 0})

    def test_folds_a_whole_chain(self) -> None:
        g = graph()
        y = g.conv("x", 4, 3, group=1, stride=2)
        for op in ("Sub", "Mul", "Add", "Div"):
            y = g.node(op, y, self.value(g, (4, 1, 1)))
        g.node("Relu", y, name="y")
        check(finish(g, "y"), fold_affine, {"Conv": 1, "Sub": 0, "Mul": 0, "Add": 0, "Div": 0, "Relu": 1})

    def test_folds_into_grouped_and_one_dimensional_convolutions(self) -> None:
        g = graph(4)
        g.node("Mul", g.conv("x", 8, 3, group=2), self.value(g, (8, 1, 1)), name="y")
        rows = g.node("Reshape", "x", g.initializer([0, 4, -1], np.int64))
        line = g.node("Conv", rows, g.weight(4, 4, 3, fan_in=12), kernel_shape=[3])
        g.node("Add", line, self.value(g, (4, 1)), name="z")
        check(finish(g, "y", "z"), fold_affine, {"Conv": 2, "Mul": 0, "Add": 0})

    def test_weights_that_two_convolutions_share_stay_as_they_are_for_the_other(self) -> None:
        g = graph()
        weights = g.weight(4, 3, 3, 3, fan_in=27)
        g.node("Mul", g.node("Conv", "x", weights), self.value(g, ()), name="y")
        g.node("Relu", g.node("Conv", "x", weights), name="z")
        check(finish(g, "y", "z"), fold_affine, {"Conv": 2, "Mul": 0})

    @pytest.mark.parametrize("shape", [(9,), (11, 9), (1, 1, 11, 1), (4, 11, 9), (1, 1, 1, 1, 1), (2, 4, 1, 1)])
    def test_refuses_a_constant_that_is_not_one_a_channel(self, shape) -> None:
        g = graph()
        g.node("Add", g.conv("x", 4, 3, pads=1), self.value(g, shape), name="y")
        refuse(finish(g, "y"), fold_affine)

    def test_refuses_a_constant_that_widens_one_channel(self) -> None:
        g = graph()
        g.node("Mul", g.conv("x", 1, 3), self.value(g, (4, 1, 1)), name="y")
        refuse(finish(g, "y"), fold_affine)

    def test_refuses_a_division_by_the_convolution(self) -> None:
        g = graph()
        g.node("Div", self.value(g, ()), g.node("Exp", g.conv("x", 4, 3)), name="y")
        refuse(finish(g, "y"), fold_affine)
        g = graph()
        g.node("Div", self.value(g, ()), g.conv("x", 4, 1, gain=1e-6), name="y")
        after, changed = applied(finish(g, "y"), fold_affine)
        assert not changed and [node.op_type for node in after.graph.node] == ["Conv", "Div"]

    @pytest.mark.parametrize("other", ["reader", "output", "itself"])
    def test_refuses_a_convolution_that_others_read(self, other: str) -> None:
        g = graph()
        y = g.conv("x", 4, 3)
        g.node("Add", y, y if other == "itself" else self.value(g, ()), name="y")
        outputs = ["y"]
        if other != "itself":
            outputs.append(y if other == "output" else g.node("Relu", y, name="z"))
        refuse(finish(g, *outputs), fold_affine)

    def test_refuses_weights_and_operands_that_are_no_constants(self) -> None:
        g = graph()
        y = g.node("Conv", "x", g.node("Exp", g.weight(4, 3, 3, 3, fan_in=27)))
        g.node("Add", y, self.value(g, ()), name="y")
        z = g.conv("x", 3, 3, pads=1)
        g.node("Add", z, g.node("Relu", "x"), name="z")
        refuse(finish(g, "y", "z"), fold_affine)


class TestBatchNorm:
    @pytest.mark.parametrize("rank", [2, 3, 4, 5])
    def test_becomes_mul_and_add_at_any_rank(self, rank: int) -> None:
        g = graph()
        shapes = {2: [-1, 3], 3: [0, 3, -1], 4: [0, 3, 9, 11], 5: [0, 3, 1, 11, 9]}
        x = g.node("Reshape", "x", g.initializer(shapes[rank], np.int64), channels=3)
        g.node("Identity", g.batch_norm(x, epsilon=0.3), name="y")
        check(finish(g, "y"), lower_norms, {"BatchNormalization": 0, "Mul": 1, "Add": 1})

    def test_epsilon_by_default(self) -> None:
        g = graph()
        small = [g.initializer(np.full(3, value)) for value in (1.0, 0.5, 0.2, 1e-6)]
        g.node("BatchNormalization", "x", *small, name="y")
        check(finish(g, "y"), lower_norms, {"BatchNormalization": 0})

    def test_two_in_a_row_with_the_same_parameters(self) -> None:
        g = graph()
        parameters = [g.initializer(g.rng.uniform(0.5, 1.5, 3)) for _ in range(4)]
        y = g.node("BatchNormalization", "x", *parameters)
        g.node("BatchNormalization", y, *parameters, name="y")
        check(finish(g, "y"), lower_norms, {"BatchNormalization": 0, "Mul": 2, "Add": 2})

    def test_refuses_parameters_that_are_computed(self) -> None:
        g = graph()
        parameters = [g.initializer(g.rng.uniform(0.5, 1.5, 3)) for _ in range(3)]
        variance = g.node("Exp", g.node("ReduceMean", "x", g.initializer([0, 2, 3], np.int64), keepdims=0))
        g.node("BatchNormalization", "x", *parameters, variance, name="y")
        refuse(finish(g, "y"), lower_norms)

    def test_refuses_training_mode(self) -> None:
        g = graph()
        parameters = [g.initializer(g.rng.uniform(0.5, 1.5, 3)) for _ in range(4)]
        g.nodes.append(
            helper.make_node("BatchNormalization", ["x", *parameters], ["y", "mean", "var"], name="n", training_mode=1)
        )
        model = finish(g, "y")
        after, changed = applied(model, lower_norms)
        assert not changed and after.graph.node[0].op_type == "BatchNormalization"


@st.composite
def auto_padded(draw: st.DrawFn) -> onnx.ModelProto:
    frame = draw(st.tuples(st.integers(3, 13), st.integers(3, 13)))
    g = graph(2, frame)
    op_type = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool", "LpPool"]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    # SAME with a stride beyond the kernel, or with dilations, ONNX Runtime refuses (or, for MaxPool, computes oddly).
    mode = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    strides = [draw(st.integers(1, 3 if mode == "VALID" else size)) for size in kernel]
    dilated = mode == "VALID" and op_type in ("Conv", "MaxPool")
    dilations = [draw(st.integers(1, 2)) if dilated else 1 for _ in kernel]
    assume(all((k - 1) * d < n for k, d, n in zip(kernel, dilations, frame, strict=True)))
    if op_type == "Conv":
        y = g.conv("x", 3, kernel, stride=tuple(strides), dilation=tuple(dilations), auto_pad=mode)
        g.node("Identity", y, name="y")
    else:
        extra = {"dilations": dilations} if op_type == "MaxPool" else {}
        if op_type == "AveragePool":
            extra["count_include_pad"] = draw(st.integers(0, 1))
        if draw(st.booleans()):
            extra["strides"] = strides
        g.node(op_type, "x", kernel_shape=kernel, auto_pad=mode, name="y", **extra)
    return finish(g, "y")


class TestExplicitPads:
    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(auto_padded())
    def test_pads_are_those_of_onnx_runtime(self, model: onnx.ModelProto) -> None:
        after, changed = applied(model, write_explicit_pads)
        assert changed
        for node in after.graph.node:
            assert "auto_pad" not in [attribute.name for attribute in node.attribute]
        assert_same(run(after), run(model))

    def test_the_odd_cell_goes_to_the_named_side(self) -> None:
        pads = {}
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            g = graph(frame=(10, 9))
            g.node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], auto_pad=mode, name="y")
            after, _ = applied(finish(g, "y"), write_explicit_pads)
            (found,) = (a.ints for a in after.graph.node[0].attribute if a.name == "pads")
            pads[mode] = list(found)
        assert pads == {"SAME_UPPER": [0, 0, 1, 1], "SAME_LOWER": [1, 1, 0, 0], "VALID": [0, 0, 0, 0]}

    def test_kernel_shape_is_read_from_the_weights(self) -> None:
        g = graph()
        g.node("Conv", "x", g.weight(4, 3, 4, 2, fan_in=24), auto_pad="SAME_LOWER", name="y")
        check(finish(g, "y"), write_explicit_pads, {"Conv": 1})

    def test_leaves_unknown_frames_and_explicit_pads_alone(self) -> None:
        g = Graph(0, opset=18, ir=8)
        g.input("x", ["N", 3, "H", "W"])
        g.node("Relu", g.conv("x", 4, 3, auto_pad="SAME_UPPER"), name="y")
        refuse(finish(g, "y"), write_explicit_pads)
        g = graph()
        g.node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 0, 1, 0], auto_pad="NOTSET", name="y")
        refuse(finish(g, "y"), write_explicit_pads)


class TestGlobalPool:
    @pytest.mark.parametrize("attributes", [
        {}, {"pads": [0] * 4}, {"strides": list(FRAME)}, {"ceil_mode": 1}, {"count_include_pad": 1},
    ])  # fmt: skip
    def test_an_average_over_the_frame_is_named(self, attributes: dict) -> None:
        g = graph()
        g.node("AveragePool", "x", kernel_shape=list(FRAME), name="y", **attributes)
        check(finish(g, "y"), name_global_average_pool, {"AveragePool": 0, "GlobalAveragePool": 1})

    @pytest.mark.parametrize("attributes", [
        {"kernel_shape": [11, 8]}, {"kernel_shape": [11, 9], "pads": [0, 0, 0, 1], "count_include_pad": 1},
        {"kernel_shape": [11, 9], "auto_pad": "SAME_UPPER"}, {"kernel_shape": [3, 3]},
    ])  # fmt: skip
    def test_any_other_is_not(self, attributes: dict) -> None:
        g = graph()
        g.node("AveragePool", "x", name="y", **attributes)
        refuse(finish(g, "y"), name_global_average_pool)

    def test_a_maximum_over_the_frame_is_not(self) -> None:
        g = graph()
        g.node("MaxPool", "x", kernel_shape=list(FRAME), name="y")
        refuse(finish(g, "y"), name_global_average_pool)


class TestPadIntoPool:
    @staticmethod
    def model(pads, mode: str = "edge", op: str = "MaxPool", more: bool = False, own=None, **attributes):
        """Pad and pool; more: the Pad is an output too; own: pads of the pool itself."""
        g = graph()
        if own:
            attributes["pads"] = own
        y = g.node("Pad", "x", g.initializer([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64), mode=mode)
        g.node(op, y, kernel_shape=[3, 3], name="y", **attributes)
        return finish(g, "y", y) if more else finish(g, "y")

    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("pads", [(0, 0, 1, 1), (1, 1, 1, 1), (2, 0, 1, 2), (0, 0, 0, 0), (2, 2, 2, 2)])
    def test_copies_of_the_border_are_folded(self, pads, stride: int) -> None:
        check(self.model(pads, strides=[stride] * 2), fold_pads, {"Pad": 0, "MaxPool": 1})

    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("pads", [(0, 0, 1, 1), (1, 1, 2, 2), (2, 1, 0, 2)])
    def test_with_ceil_mode_the_result_is_the_same(self, pads, stride: int) -> None:
        model = self.model(pads, strides=[stride] * 2, ceil_mode=1)
        after, _ = applied(model, fold_pads)
        assert_same(run(after), run(model))

    # Another mode, pads as wide as the kernel, a pool that pads itself or dilates, a padded activation read elsewhere.
    @pytest.mark.parametrize("refused", [
        {"pads": (3, 0, 0, 0)}, {"pads": (0, 0, 1, 3)}, {"mode": "constant"}, {"mode": "reflect"}, {"more": True},
        {"op": "AveragePool"}, {"dilations": [2, 1]}, {"auto_pad": "SAME_UPPER"}, {"own": [0, 0, 1, 1]},
    ], ids=str)  # fmt: skip
    def test_refuses(self, refused: dict) -> None:
        arguments = {"pads": (1, 1, 1, 1), **refused}
        pads = arguments.pop("pads")
        refuse(self.model(pads, **arguments), fold_pads)

    def test_refuses_pads_of_channels_and_negative_ones(self) -> None:
        for pads in ([0, 1, 0, 0, 0, 0, 0, 0], [0, 0, -1, 0, 0, 0, 0, 0]):
            g = graph()
            y = g.node("Pad", "x", g.initializer(pads, np.int64), mode="edge")
            g.node("MaxPool", y, kernel_shape=[3, 3], name="y")
            refuse(finish(g, "y"), fold_pads)


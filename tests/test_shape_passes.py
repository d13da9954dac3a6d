"""Passes that fold what exporters compute from shapes: run-time shapes, and movement across a fixed batch of 1."""

import numpy as np
import pytest
from graph_builder import Graph
from naive import session_of
from pass_models import FRAME, applied, assert_same, check, finish, graph, refuse, run

from krypton_onnx.rewriter.passes.flat_movement import lower_flat_movement
from krypton_onnx.rewriter.passes.shape_constants import fold_shape_constants

FARTHEST = np.iinfo(np.int64)


def integers(g: Graph, *values: int) -> str:
    return g.initializer(list(values), np.int64)


def shape_of(g: Graph, **attributes: int) -> str:
    """Shape of an activation (N, 4, 11, 9)."""
    return g.node("Shape", g.conv("x", 4, 3, pads=1), **attributes)


class TestShapeConstants:
    @pytest.mark.parametrize("indices", [2, -1, [1, 3], [[1, 2], [-1, -2]]], ids=str)
    def test_gather_of_known_dimensions(self, indices) -> None:
        g = graph()
        g.node("Identity", g.node("Gather", shape_of(g), g.initializer(indices, np.int64), axis=0), name="y")
        after = check(finish(g, "y"), fold_shape_constants, {"Shape": 0, "Gather": 0})
        np.testing.assert_array_equal(run(after)[0], np.array([2, 4, *FRAME])[np.array(indices)])

    @pytest.mark.parametrize("bounds", [
        ([1], [4]), ([2], [FARTHEST.max]), ([-2], [-1]), ([1], [3], [0]), ([-1], [FARTHEST.min + 5], [0], [-1]),
        ([3], [0], [0], [-2]),
    ], ids=str)  # fmt: skip
    def test_slice_of_known_dimensions(self, bounds) -> None:
        """The fifth walks backwards through all of them, the batch included: that one stays."""
        g = graph()
        g.node("Identity", g.node("Slice", shape_of(g), *(integers(g, *bound) for bound in bounds)), name="y")
        model = finish(g, "y")
        if len(bounds) == 4 and bounds[1][0] < 0:
            refuse(model, fold_shape_constants)
        else:
            check(model, fold_shape_constants, {"Shape": 0, "Slice": 0})

    @pytest.mark.parametrize("bounds", [(1, None), (2, 4), (-2, None), (-3, -1)])
    def test_shape_that_leaves_known_dimensions(self, bounds) -> None:
        g = graph()
        start, end = bounds
        g.node("Identity", shape_of(g, start=start, **({} if end is None else {"end": end})), name="y")
        check(finish(g, "y"), fold_shape_constants, {"Shape": 0})

    def test_gather_counts_from_the_start_of_a_partial_shape(self) -> None:
        g = graph()
        g.node("Identity", g.node("Gather", shape_of(g, end=3), integers(g, 2), axis=0), name="y")
        after = check(finish(g, "y"), fold_shape_constants, {"Shape": 0, "Gather": 0})
        assert run(after)[0].tolist() == [FRAME[0]]

    def test_a_shape_read_by_several_is_folded_where_it_can_be(self) -> None:
        g = graph()
        shape = shape_of(g)
        g.node("Identity", g.node("Gather", shape, integers(g, 0), axis=0), name="batch")
        g.node("Identity", g.node("Gather", shape, integers(g, 2), axis=0), name="height")
        g.node("Add", g.node("Gather", shape, integers(g, 3), axis=0), shape, name="sum")
        check(finish(g, "batch", "height", "sum"), fold_shape_constants, {"Shape": 1, "Gather": 1})

    def test_refuses_what_reads_the_batch(self) -> None:
        g = graph()
        shape = shape_of(g)
        g.node("Identity", g.node("Gather", shape, integers(g, 1, 0), axis=0), name="gathered")
        g.node("Identity", g.node("Slice", shape, integers(g, 0), integers(g, 2)), name="sliced")
        g.node("Identity", shape_of(g, end=2), name="part")
        refuse(finish(g, "gathered", "sliced", "part"), fold_shape_constants)

    def test_refuses_indices_that_are_computed(self) -> None:
        g = graph()
        shape = shape_of(g)
        index = g.node("Sub", g.node("Size", shape), integers(g, 1))
        g.node("Identity", g.node("Gather", shape, index, axis=0), name="y")
        refuse(finish(g, "y"), fold_shape_constants)

    def test_refuses_an_unknown_frame(self) -> None:
        g = Graph(0, opset=18, ir=8)
        g.input("x", ["N", 3, "H", "W"])
        shape = shape_of(g)
        g.node("Identity", g.node("Gather", shape, integers(g, 2), axis=0), name="y")
        refuse(finish(g, "y"), fold_shape_constants)


class TestFlatMovement:
    """Fixed batch 1 in; afterwards the same for batch 1, and per image where the batch is freed."""

    @staticmethod
    def per_image(model, after) -> None:
        """`after` gives for a batch of three what three runs of `model` give."""
        images = np.random.default_rng(1).standard_normal((3, 3, *FRAME)).astype(np.float32)
        for value in [*after.graph.input, *after.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        single = session_of(model)
        expected = np.concatenate([single.run(None, {"x": images[n : n + 1]})[0] for n in range(3)])
        assert_same(session_of(after).run(None, {"x": images}), [expected])

    def test_a_gather_of_the_flat_batch(self) -> None:
        """torch's as_strided: (1, C) picked out of the flat mean, in any order."""
        g = graph(batch=1)
        mean = g.node("GlobalAveragePool", g.conv("x", 4, 3))
        flat = g.node("Reshape", mean, integers(g, -1))
        g.node("Gather", flat, g.initializer([[2, 0, 1]], np.int64), axis=0, name="y")
        model = finish(g, "y")
        after = check(model, lower_flat_movement, {"Reshape": 1, "Flatten": 1, "Gather": 1})
        self.per_image(model, after)

    def test_where_nothing_moves_no_gather_is_left(self) -> None:
        g = graph(batch=1)
        y = g.node("Reshape", g.conv("x", 4, 3), integers(g, 4, -1))
        g.node("Unsqueeze", g.node("Identity", y), integers(g, 0), name="y")
        model = finish(g, "y")
        after = check(model, lower_flat_movement, {"Reshape": 1, "Flatten": 1, "Gather": 0, "Unsqueeze": 0})
        self.per_image(model, after)

    def test_a_chain_of_every_movement(self) -> None:
        g = graph(batch=1)
        y = g.node("Reshape", g.conv("x", 4, 3), integers(g, 4, 9, 7))
        y = g.node("Transpose", y, perm=[2, 0, 1])
        y = g.node("Gather", y, integers(g, 6, 0, 3), axis=0)
        y = g.node("Flatten", y, axis=2)
        y = g.node("Unsqueeze", y, integers(g, 1))
        y = g.node("Squeeze", y, integers(g, 1))
        g.node("Reshape", y, integers(g, 1, 12, 9), name="y")
        model = finish(g, "y")
        left = {"Flatten": 1, "Gather": 1, "Reshape": 1, "Transpose": 0, "Squeeze": 0, "Unsqueeze": 0}
        after = check(model, lower_flat_movement, left)
        self.per_image(model, after)

    @pytest.mark.parametrize("shape", [[1, -1], [1, 4, 63], [1, 2, 2, 9, 7]], ids=str)
    def test_an_ordinary_reshape_is_left_to_the_batch_pass(self, shape) -> None:
        g = graph(batch=1)
        g.node("Reshape", g.conv("x", 4, 3), integers(g, *shape), name="y")
        refuse(finish(g, "y"), lower_flat_movement)

    def test_refuses_a_dynamic_batch(self) -> None:
        g = graph()
        flat = g.node("Reshape", g.node("GlobalAveragePool", g.conv("x", 4, 3)), integers(g, -1))
        g.node("Reshape", flat, integers(g, -1, 4), name="y")
        refuse(finish(g, "y"), lower_flat_movement)

    @pytest.mark.parametrize("case", ["computes", "never returns", "read twice", "output", "computed indices"])
    def test_refuses_chains_that_do_more_than_move(self, case: str) -> None:
        g = graph(batch=1)
        outputs = ["y"]
        y = g.node("Reshape", g.node("GlobalAveragePool", g.conv("x", 4, 3)), integers(g, -1))
        if case == "computes":
            y = g.node("Softmax", y, axis=0)
        if case == "read twice":
            outputs.append(g.node("Relu", y, name="z"))
        if case == "output":
            outputs.append(y)
        if case == "computed indices":
            y = g.node("Gather", y, g.node("ArgMax", y, axis=0, keepdims=1), axis=0)
        if case == "never returns":
            g.node("Transpose", y, name="y")
        else:
            g.node("Unsqueeze", y, integers(g, 0), name="y")
        refuse(finish(g, *outputs), lower_flat_movement)

    def test_two_chains_in_one_graph(self) -> None:
        g = graph(batch=1)
        for name in ("y", "z"):
            flat = g.node("Reshape", g.node("GlobalAveragePool", g.conv("x", 4, 3)), integers(g, -1))
            g.node("Gather", flat, g.initializer([[3, 1]], np.int64), axis=0, name=name)
        after, changed = applied(finish(g, "y", "z"), lower_flat_movement)
        assert changed and [node.op_type for node in after.graph.node].count("Flatten") == 2
        assert_same(run(after), run(finish(g, "y", "z")))

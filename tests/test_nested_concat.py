"""Concats that grow layer by layer are built from one another: the same results, fewer operands."""

import numpy as np
import onnx
from graph_builder import Graph
from pass_models import FRAME, check, finish, graph, refuse

from krypton_onnx.rewriter.passes.nested_concat import nest_concats


def nest(graph, types) -> bool:
    return nest_concats(graph)


class TestNestedConcat:
    @staticmethod
    def features(g: Graph, count: int) -> list[str]:
        return [g.conv("x", 2, 3, pads=1) for _ in range(count)]

    @staticmethod
    def operands(model: onnx.ModelProto) -> list[int]:
        return sorted(len(node.input) for node in model.graph.node if node.op_type == "Concat")

    def test_a_growing_concat_is_built_from_the_one_before(self) -> None:
        """As in DenseNet: 2, 3, 4 and 5 operands become two each."""
        g = graph()
        features = self.features(g, 5)
        outputs = [g.node("Relu", g.concat(*features[:count]), name=f"y{count}") for count in range(2, 6)]
        after = check(finish(g, *outputs), nest, {"Concat": 4})
        assert self.operands(after) == [2, 2, 2, 2]

    def test_the_longest_start_is_used(self) -> None:
        g = graph()
        a, b, c, d, e = self.features(g, 5)
        outputs = [g.node("Relu", g.concat(*names)) for names in ((a, b), (a, b, c), (a, b, c, d, e))]
        after = check(finish(g, *outputs), nest, {"Concat": 3})
        assert self.operands(after) == [2, 2, 3]

    def test_refuses_another_order_another_axis_and_equal_ones(self) -> None:
        g = graph()
        a, b, c = self.features(g, 3)
        outputs = [g.node("Relu", g.concat(*names)) for names in ((a, b), (b, a, c), (c, a, b), (a, b))]
        outputs.append(g.node("Relu", g.node("Concat", a, b, c, axis=2)))
        refuse(finish(g, *outputs), nest)

    def test_refuses_constants(self) -> None:
        g = graph(batch=1)
        (a,) = self.features(g, 1)
        plane = g.initializer(np.ones((1, 1, *FRAME)))
        outputs = [g.node("Relu", g.node("Concat", *names, axis=1)) for names in ((a, plane), (a, plane, a))]
        refuse(finish(g, *outputs), nest)

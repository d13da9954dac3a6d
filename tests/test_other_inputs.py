"""Tensors beside the image, from other inputs of the model: they meet patch activations and stay incremental."""

from collections.abc import Callable

import numpy as np
import pytest
from graph_builder import Graph
from naive import occluded, session_of
from tolerances import score_tolerance

import krypton_onnx as kx

RNG = np.random.default_rng(4)
IMAGE = RNG.standard_normal((1, 3, 20, 24)).astype(np.float32)
JOINS: dict[str, tuple[list, Callable[[Graph, str, str], str]]] = {
    "mask": ([1, 1, 10, 12], lambda g, x, more: g.node("Mul", x, more)),
    "mask_without_batch": ([10, 12], lambda g, x, more: g.node("Mul", more, x, channels=6)),
    "gains": ([1, 6, 1, 1], lambda g, x, more: g.node("Mul", x, g.node("Sigmoid", more))),
    "gains_of_a_batch": (["N", 6, 1, 1], lambda g, x, more: g.node("Add", x, more)),
    "number": ([], lambda g, x, more: g.node("Pow", g.node("Abs", x), more)),
    "limit": ([], lambda g, x, more: g.node("Clip", x, "", more)),
    "plane": ([1, 2, 10, 12], lambda g, x, more: g.concat(x, more)),
    "own_branch": (["N", 2, 20, 24], lambda g, x, more: g.concat(g.conv(more, 3, 3, stride=2, pads=1), x)),
}


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_a_join_with_another_input(name: str, mode: str) -> None:
    shape, join = JOINS[name]
    g = Graph(9, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["N", 3, 20, 24]), 6, 3, stride=2, pads=1)
    more = g.input("more", shape, channels=2)
    x = g.conv(join(g, x, more), 5, 3, pads=1)
    g.node("Flatten", g.node("GlobalAveragePool", x), name="y")
    model = g.model({"y": ["N", 5]})
    value = np.asarray(RNG.uniform(0.3, 1.2, [1 if size == "N" else size for size in shape]), np.float32)
    session = kx.OcclusionSession(model, image_input="image")
    heat_map = session.explain({"image": IMAGE, "more": value}, range(5), patch=(5, 4), stride=3, fill=0.4, mode=mode)
    oracle, patch = session_of(model), np.full((3, 5, 4), 0.4, np.float32)
    expected = np.stack([
        oracle.run(None, {"image": occluded(IMAGE, patch, top, left), "more": value})[0][0]
        for top in heat_map.tops for left in heat_map.lefts
    ], axis=1).reshape(heat_map.scores.shape)  # fmt: skip
    np.testing.assert_allclose(heat_map.scores, expected, rtol=0, atol=score_tolerance(expected, False))
    assert np.ptp(expected) > 20 * score_tolerance(expected, False)
    ends = session.plan().operators
    assert [one.op_type for one in ends if one.frontier] == ["GlobalAveragePool"]

"""Apply one normalization pass to a small model, and check in ONNX Runtime that the model still says the same."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from graph_builder import Graph
from naive import session_of

from krypton_onnx.rewriter.ort_graph import tensor_types

RELATIVE = 1e-5
"""Largest difference that folding constants may make, times the largest value."""

FRAME = (11, 9)


def graph(channels: int = 3, frame: Sequence[int] = FRAME, batch: int | str = "N", opset: int = 18) -> Graph:
    """A graph with the input x of this many channels."""
    g = Graph(0, opset=opset, ir=8)
    g.input("x", [batch, channels, *frame], channels=channels)
    return g


def finish(g: Graph, *outputs: str) -> onnx.ModelProto:
    """The model of these outputs, with shapes as ONNX Runtime infers them."""
    model = g.model({name: ["?"] for name in outputs})
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    types = tensor_types(model)
    codes = {"tensor(float)": onnx.TensorProto.FLOAT, "tensor(int64)": onnx.TensorProto.INT64}
    del model.graph.output[:]
    for name in outputs:
        dtype, shape = types[name]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, codes[dtype], shape))
    return model


def applied(model: onnx.ModelProto, rewrite: Callable) -> tuple[onnx.ModelProto, bool]:
    """The model after rewrite(graph, types), and what that returned."""
    imported = gs.import_onnx(model)
    changed = rewrite(imported, tensor_types(model))
    after = gs.export_onnx(imported.toposort(), do_type_check=False)
    after.ir_version = model.ir_version
    del after.graph.value_info[:]
    return after, changed


def run(model: onnx.ModelProto, batch: int = 2, seed: int = 0) -> list[np.ndarray]:
    """All outputs for random images; unknown sides: 11 x 9."""
    session = session_of(model)
    (value,) = session.get_inputs()
    shape = [dim if isinstance(dim, int) else other for dim, other in zip(value.shape, (batch, 3, *FRAME), strict=True)]
    return session.run(None, {value.name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)})


def check(
    model: onnx.ModelProto, rewrite: Callable, operators: Mapping[str, int], changed: bool = True
) -> onnx.ModelProto:
    """Assert what the pass returns, how many operators of these types it leaves, and that results are the same."""
    after, said = applied(model, rewrite)
    found = [node.op_type for node in after.graph.node]
    assert {name: found.count(name) for name in operators} == dict(operators), found
    assert bool(said) == changed
    assert_same(run(after), run(model))
    return after


def refuse(model: onnx.ModelProto, rewrite: Callable) -> None:
    """Assert that the pass leaves the model as it is."""
    before = [node.op_type for node in model.graph.node]
    after = check(model, rewrite, {name: before.count(name) for name in before}, changed=False)
    assert sorted(node.op_type for node in after.graph.node) == sorted(before)


def assert_same(results: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for got, want in zip(results, expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=RELATIVE * scale)

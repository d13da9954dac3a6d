"""A model of a fixed batch is rewritten for any number of positions, rightly, or refused with the reason."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from naive import naive_scores, session_of
from rewritten_models import Rewritten, assert_exact

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.runtime.split import full_model

Tail = Callable[[Graph, str], None]
"""Adds the nodes from the activation (batch, 4, 16, 14), given by name, to the output y."""


def fixed(tail: Tail, shape: list[int], batch: int = 1) -> onnx.ModelProto:
    """A convolution of a (batch, 3, 16, 14) image, then `tail`."""
    g = Graph(0, opset=18, ir=8)
    tail(g, g.conv(g.input("x", [batch, 3, 16, 14]), 4, 3, pads=1))
    return g.model({"y": shape})


def ints(g: Graph, *values: int) -> str:
    return g.initializer(list(values), np.int64)


def reshape(*shape: int) -> Tail:
    return lambda g, x: g.node("Reshape", x, ints(g, *shape), name="y") and None


@pytest.mark.parametrize("shape", [(1, 896), (1, -1), (-1, 896), (0, -1), (1, 4, 224), (1, 2, 2, 16, 14), (1, 1, 896)])
def test_a_reshape_that_keeps_the_batch_first(shape: tuple[int, ...]) -> None:
    known = [896 // abs(int(np.prod([dim for dim in shape if dim > 0]))) if dim == -1 else dim for dim in shape]
    assert_exact(fixed(reshape(*shape), [1, *known[1:]]))


def test_reshapes_in_a_row() -> None:
    def tail(g: Graph, x: str) -> None:
        x = g.node("Reshape", x, ints(g, 1, 4, 224))
        x = g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 1]), ints(g, 1, 16, 14, 4))
        g.node("Reshape", g.node("Relu", x), ints(g, 1, -1), name="y")

    assert_exact(fixed(tail, [1, 896]))


def test_shape_arithmetic_on_the_fixed_batch() -> None:
    """x.view(x.size(0), -1), as torch's legacy exporter writes it."""

    def tail(g: Graph, x: str) -> None:
        batch = g.node("Unsqueeze", g.node("Gather", g.node("Shape", x), g.initializer(0, np.int64)), ints(g, 0))
        g.node("Reshape", x, g.node("Concat", batch, ints(g, -1), axis=0), name="y")

    assert_exact(fixed(tail, [1, 896]))


REFUSED: dict[str, tuple[Tail, list[int], str]] = {
    "a flat reshape": (reshape(-1), [896], "Reshape node 'node_y' mixes the batch with other axes"),
    "a reshape without the batch": (reshape(4, 224), [4, 224], "Reshape node 'node_y' mixes the batch"),
    "expand": (
        lambda g, x: g.node("Expand", x, ints(g, 2, 4, 16, 14), name="y") and None, [2, 4, 16, 14],
        "Expand node 'node_y' may hold the fixed batch 1",
    ),
    "tile": (
        lambda g, x: g.node("Tile", x, ints(g, 2, 1, 1, 1), name="y") and None, [2, 4, 16, 14],
        "Tile node 'node_y' may hold the fixed batch 1",
    ),
    "transpose": (
        lambda g, x: g.node("Transpose", x, perm=[1, 0, 2, 3], name="y") and None, [4, 1, 16, 14],
        "Transpose node 'node_y' moves the batch away from axis 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_hold_the_batch_is_refused_with_the_reason(case: str) -> None:
    tail, shape, reason = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        rewrite_model(fixed(tail, shape))
    message = str(caught.value)
    assert reason in message and "export it with a dynamic batch" in message and "\n" not in message


def unary(op_type: str, *operands: list[int] | int, **attributes: object) -> Tail:
    def tail(g: Graph, x: str) -> None:
        constants = [g.initializer(operand, np.int64) for operand in operands]
        g.node(op_type, x, *constants, name="y", **attributes)

    return tail


def resized(g: Graph, x: str) -> None:
    g.node("Resize", x, "", "", ints(g, 1, 4, 11, 17), name="y")


def gathered(g: Graph, x: str) -> None:
    indices = g.initializer(g.rng.integers(0, 16, (1, 4, 3, 14)), np.int64)
    g.node("GatherElements", x, indices, axis=2, name="y")


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        (unary("Expand", [1, 4, 16, 14]), [1, 4, 16, 14]),
        (unary("Tile", [1, 2, 1, 1]), [1, 8, 16, 14]),
        (unary("Unsqueeze", [4, 2]), [1, 4, 1, 16, 1, 14]),
        (resized, [1, 4, 11, 17]),
        (gathered, [1, 4, 3, 14]),
    ],
)  # fmt: skip
def test_a_batch_of_one_that_is_written_down(tail: Tail, shape: list[int]) -> None:
    assert_exact(fixed(tail, shape))


def squeezed(g: Graph, x: str) -> None:
    g.node("Unsqueeze", g.node("Relu", g.node("Squeeze", x, ints(g, 0))), ints(g, 0), name="y")


def picked(g: Graph, x: str) -> None:
    x = g.node("Gather", g.node("Flatten", g.node("GlobalAveragePool", x)), g.initializer(0, np.int64), axis=0)
    g.node("Softmax", x, axis=0, name="y")


# What exporters write where the batch was 1; an axis 0 that means the batch, or a shape that holds it.
BATCH_ONE: dict[str, tuple[Tail, list[int]]] = {
    "Squeeze and Unsqueeze": (squeezed, [1, 4, 16, 14]),
    "Gather of image 0, a vector out": (picked, [4]),
    "Gather of a list": (unary("Gather", [0], axis=0), [1, 4, 16, 14]),
    "Slice of the first image": (unary("Slice", [0], [1], [0]), [1, 4, 16, 14]),
    "Slice that takes all": (unary("Slice", [0], [2**31], [0]), [1, 4, 16, 14]),
    "maximum over the batch": (unary("ReduceMax", [0], keepdims=1), [1, 4, 16, 14]),
    "Softmax over the batch": (unary("Softmax", axis=0), [1, 4, 16, 14]),
    "Softmax over the channels": (unary("Softmax", axis=1), [1, 4, 16, 14]),
    "Concat of the batch with itself": (
        lambda g, x: g.node("Concat", x, x, axis=0, name="y") and None, [2, 4, 16, 14],
    ),
    "Flatten of everything": (unary("Flatten", axis=0), [1, 896]),
    "Flatten of batch and channels": (unary("Flatten", axis=2), [4, 224]),
    "Transpose of all axes": (unary("Transpose"), [14, 16, 4, 1]),
    "Resize to sizes": (
        lambda g, x: g.node("Resize", x, "", "", ints(g, 1, 4, 32, 28), mode="nearest", name="y") and None,
        [1, 4, 32, 28],
    ),
    "one more axis in front": (unary("Unsqueeze", [0]), [1, 1, 4, 16, 14]),
}  # fmt: skip


@pytest.mark.parametrize("case", BATCH_ONE)
def test_a_fixed_batch_of_one_is_freed_rightly_or_refused(case: str) -> None:
    tail, shape = BATCH_ONE[case]
    model = fixed(tail, shape)
    try:
        rewritten = rewrite_model(model)
    except ModelError as refusal:
        assert "fixed batch" in str(refusal)
        return
    assert shape[0] == 1, "an output without a batch axis was not refused"
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 16, 14)).astype(np.float32)
    patch, origins = np.full((3, 5, 4), 2, np.float32), np.array([(0, 0), (11, 10), (6, 3)], np.int64)
    expected, _ = naive_scores(model, image, origins, patch)
    (got,) = Rewritten(rewritten).outputs(image, origins, patch)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_a_batch_of_four_becomes_any() -> None:
    model = fixed(reshape(4, -1), [4, 896], batch=4)
    rewritten = rewrite_model(model)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 16, 14)).astype(np.float32)
    patch, origins = np.full((3, 5, 4), 2, np.float32), np.array([(0, 0), (11, 10), (6, 3)], np.int64)
    session = Rewritten(rewritten)
    (got,) = session.outputs(image, origins, patch)
    occluded = np.repeat(image, 4, axis=0)
    for position, (top, left) in enumerate(origins):
        occluded[position, :, top : top + 5, left : left + 4] = 2
    (expected,) = session_of(model).run(None, {"x": occluded})
    np.testing.assert_allclose(got, expected[:3], rtol=0, atol=1e-4)
    # Image 3 is the unoccluded one.
    full = session_of(full_model(rewritten, session.plan))
    np.testing.assert_allclose(full.run(None, {"x": image})[0], expected[3:], rtol=0, atol=1e-4)


def test_a_constant_as_long_as_the_batch_is_refused() -> None:
    """Batch 4 and one weight an image: no other batch can be meant."""

    def tail(g: Graph, x: str) -> None:
        g.node("Mul", x, g.initializer(np.arange(1.0, 5).reshape(4, 1, 1, 1)), name="y")

    with pytest.raises(ModelError, match="fixed batch"):
        rewrite_model(fixed(tail, [4, 4, 16, 14], batch=4))


def test_a_dynamic_batch_is_left_as_it_is() -> None:
    g = Graph(0, opset=18, ir=8)
    x = g.conv(g.input("x", ["N", 3, 16, 14]), 4, 3, pads=1)
    x = g.node("Expand", x, ints(g, 1, 4, 16, 14))  # refused where the batch is fixed
    g.node("Flatten", x, name="y")
    assert_exact(g.model({"y": ["N", 896]}))

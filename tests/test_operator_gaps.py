"""Where ONNX Runtime and the standard, or two opsets, mean different things by one node: exact as ONNX Runtime is."""

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from naive import session_of
from rewritten_models import assert_exact

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.rewriter.upgrade import upgraded

SCALES = [(2.0, 2.0), (1.5, 2.0), (2.0, 1.0), (0.5, 0.6), (0.6, 1.0), (2.0, 0.5), (0.6, 3.0)]


def end(g: Graph, x: str) -> onnx.ModelProto:
    g.node("Relu", x, name="y")
    return g.model({"y": ["N", g.channels[x], "H", "W"]})


def resized(opset: int, mode: str, scales: tuple[float, float], at_run_time: bool = False) -> onnx.ModelProto:
    g = Graph(3, opset=opset, ir=8)
    x = g.input("x", ["N", 3, 13, 16])
    values = [1.0, 1.0, *scales]
    if opset < 9:
        return end(g, g.node("Upsample", x, scales=values, mode=mode))
    constant = g.initializer(values)
    if at_run_time:
        constant = g.node("Mul", constant, g.node("Sign", g.node("ReduceMax", g.node("Abs", x), keepdims=0)))
    return end(g, g.node("Upsample" if opset < 10 else "Resize", x, constant, mode=mode))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("opset", "scales"), [(opset, pair) for opset in (7, 9, 10) for pair in SCALES if opset == 10 or min(pair) >= 1]
)  # Upsample only grows
def test_an_old_resize_is_asymmetric(opset: int, scales: tuple[float, float], mode: str) -> None:
    model = resized(opset, mode, scales)
    image = np.random.default_rng(0).standard_normal((2, 3, 13, 16)).astype(np.float32)
    (before,) = session_of(model).run(None, {"x": image})
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    (after,) = session_of(upgraded(copy, 18)).run(None, {"x": image})
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
    assert_exact(model)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("width", "scales"), [(2, (1.25, 1.25)), (3, (1.0, 1.25)), (3, (2.0, 1.25)), (3, (1.05, 1.25))]
)
def test_scales_that_keep_the_size_of_an_axis(width: int, scales: tuple[float, float], mode: str) -> None:
    g = Graph(8, opset=17, ir=8)
    x = g.conv(g.input("x", ["N", 3, 8, width + 1]), 4, 2)
    x = g.node("Resize", x, "", g.initializer([1, 1, *scales]), mode=mode, coordinate_transformation_mode="asymmetric",
               nearest_mode="floor")  # fmt: skip
    assert_exact(end(g, x), size=(3, 1))


def test_scales_at_run_time_are_refused() -> None:
    with pytest.raises(ModelError, match="scales computed at run time, and an opset below 11"):
        rewrite_model(resized(10, "nearest", (2.0, 2.0), at_run_time=True))


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_an_old_pad_with_a_value_that_it_never_reads(mode: str) -> None:
    g = Graph(4, opset=10, ir=8)
    x = g.conv(g.input("x", ["N", 3, 13, 16]), 4, 3)
    assert_exact(end(g, g.node("Pad", x, mode=mode, pads=[0, 0, 1, 2, 0, 0, 2, 1], value=0.0)))


@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(("kernel", "dilation"), [([1, 2], [1, 2]), ([3, 2], [2, 2]), ([3, 3], [1, 3])])
def test_a_dilated_pool_is_padded_as_if_it_were_not(op_type: str, same: str, kernel, dilation) -> None:
    g = Graph(5, opset=19, ir=9)
    x = g.input("x", ["N", 3, 13, 16])
    assert_exact(end(g, g.pool(op_type, x, tuple(kernel), (2, 1), dilations=dilation, auto_pad=same)))


@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("height", "kernel", "stride", "dilation"),
    [(21, 1, 3, 1), (15, 1, 3, 1), (14, 2, 3, 1), (10, 1, 4, 1), (9, 2, 3, 2)],
)
def test_a_pool_whose_stride_skips_cells(same: str, height: int, kernel: int, stride: int, dilation: int) -> None:
    g = Graph(6, opset=19, ir=9)
    x = g.input("x", ["N", 3, height, 16])
    dilations = [dilation, 1]
    assert_exact(end(g, g.pool("LpPool", x, (kernel, 3), (stride, 1), p=1, auto_pad=same, dilations=dilations)))


def test_indices_that_are_an_output() -> None:
    g = Graph(7, opset=17, ir=8)
    x = g.input("x", ["N", 3, 13, 16])
    g.nodes.append(onnx.helper.make_node("MaxPool", [x], ["y", "indices"], kernel_shape=[3, 2], strides=[2, 2]))
    outputs = [onnx.helper.make_tensor_value_info("y", 1, ["N", 3, 6, 8])]
    outputs.append(onnx.helper.make_tensor_value_info("indices", 7, ["N", 3, 6, 8]))
    graph = onnx.helper.make_graph(g.nodes, "graph", g.inputs, outputs)
    imports = [onnx.helper.make_opsetid("", 17)]
    assert_exact(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8))


@pytest.mark.parametrize("opset", [13, 21, 23])
def test_a_dequantized_tensor_has_a_view(opset: int) -> None:
    g = Graph(9, opset=opset, ir=10)
    x = g.input("x", ["N", 3, 13, 16])
    scale, zero = g.initializer(0.05), g.initializer(3, np.uint8)
    x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, scale, zero, channels=3), scale, zero, channels=3)
    assert_exact(end(g, g.conv(x, 4, 3, pads=1)))

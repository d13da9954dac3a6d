"""Models of other numbers than float32: float16, images of bytes, quantized with QDQ nodes."""

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from graph_builder import Graph
from naive import naive_map, session_of
from onnx import TensorProto, helper, numpy_helper
from tolerances import score_tolerance

import krypton_onnx as kx
from krypton_onnx.rewriter import plan_of, rewrite_model

SMALL = {"patch": (8, 6), "stride": 7, "fill": 0.5}


def halved(model: onnx.ModelProto, inputs_and_outputs: bool) -> onnx.ModelProto:
    """As a float16 converter writes it: all weights, and the inputs and outputs or Casts at them."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    for tensor in graph.initializer:
        _halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _halve(attribute.t)
    if inputs_and_outputs:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        return model
    nodes = list(graph.node)
    for value in graph.input:
        for node in nodes:
            node.input[:] = ["half/in" if name == value.name else name for name in node.input]
        nodes.insert(0, helper.make_node("Cast", [value.name], ["half/in"], to=TensorProto.FLOAT16))
    for value in graph.output:
        for node in nodes:
            node.output[:] = ["half/out" if name == value.name else name for name in node.output]
        nodes.append(helper.make_node("Cast", ["half/out"], [value.name], to=TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _halve(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))


@pytest.mark.parametrize("inputs_and_outputs", [True, False])
@pytest.mark.parametrize("name", ["squeezenet", "mobilenet_v2", "vgg_nhwc"])
def test_float16(name: str, inputs_and_outputs: bool) -> None:
    """What ONNX Runtime rounds to float16 in between it does at other places than we do: one unit of it at most."""
    model = halved(FAMILIES[name](), inputs_and_outputs)
    image = example_image(model)
    image = image.astype(np.float16) if inputs_and_outputs else image
    heat_map = kx.OcclusionSession(model).explain(image, [0, 1], **SMALL)
    patch = np.full((3, 8, 6), 0.5, image.dtype)
    expected, _ = naive_map(model, image, heat_map.tops, heat_map.lefts, patch)
    expected = expected[:, :2].T.reshape(heat_map.scores.shape).astype(np.float32)
    scale = np.abs(expected).max()
    assert np.abs(heat_map.scores - expected).max() <= 2 ** -9 * scale
    assert np.ptp(expected) > 2**-6 * scale
    assert kx.inspect(model).incremental_share == 1.0


def bytes_model(nhwc: bool = True) -> onnx.ModelProto:
    """uint8 pixels, scaled inside the model, as served models take them."""
    g = Graph(3, opset=17, ir=8)
    x = g.input("pixels", ["N", 34, 30, 3] if nhwc else ["N", 3, 34, 30])
    g.inputs[0].type.tensor_type.elem_type = TensorProto.UINT8
    if nhwc:
        x = g.node("Transpose", x, perm=[0, 3, 1, 2], channels=3)
    x = g.node("Div", g.node("Sub", g.node("Cast", x, to=1), g.initializer(127.0)), g.initializer(64.0), channels=3)
    x = g.conv_relu(x, 8, 3, stride=2, pads=1)
    x = g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 8, 3, pads=1)))
    g.gemm(x, 8, 4, gain=16, name="logits")
    return g.model({"logits": ["N", 4]})


@pytest.mark.parametrize("nhwc", [True, False])
@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_an_image_of_bytes(nhwc: bool, mode: str) -> None:
    model = bytes_model(nhwc)
    image = np.random.default_rng(0).integers(0, 256, (1, 34, 30, 3) if nhwc else (1, 3, 34, 30)).astype(np.uint8)
    heat_map = kx.OcclusionSession(model).explain(image, range(4), patch=(8, 6), stride=5, fill=200.7, mode=mode)
    expected, _ = naive_map(model, image, heat_map.tops, heat_map.lefts, np.full((3, 8, 6), 200, np.uint8))
    expected = expected.T.reshape(heat_map.scores.shape)
    np.testing.assert_allclose(heat_map.scores, expected, rtol=0, atol=score_tolerance(expected, False))


def test_an_image_that_bytes_cannot_hold() -> None:
    session = kx.OcclusionSession(bytes_model())
    for value in (0.5, -1.0, 256.0):
        with pytest.raises(kx.ImageError, match="uint8: give whole numbers from 0 to 255"):
            session.explain(np.full((34, 30, 3), value, np.float32))


class Quantizer:
    """Puts QDQ pairs around a network as static quantization does."""

    def __init__(self, per_channel: bool) -> None:
        self.g = Graph(5, opset=17, ir=8)
        self.per_channel = per_channel

    def pair(self, x: str, scale: float) -> str:
        scale_name, zero = self.g.initializer(scale), self.g.initializer(128, np.uint8)
        return self.g.node("DequantizeLinear", self.g.node("QuantizeLinear", x, scale_name, zero), scale_name, zero)

    def conv(self, x: str, out: int, **attributes) -> str:
        g = self.g
        weights = g.rng.standard_normal((out, g.channels[x], 3, 3)) / np.sqrt(9 * g.channels[x]) * 1.4
        axes = (1, 2, 3) if self.per_channel else (0, 1, 2, 3)
        scale = np.abs(weights).max(axis=axes, keepdims=True) / 127
        values = g.initializer(np.rint(weights / scale), np.int8)
        if self.per_channel:
            scales, zeros = g.initializer(scale.ravel()), g.initializer(np.zeros(out), np.int8)
            kernel = g.node("DequantizeLinear", values, scales, zeros, axis=0)
        else:
            kernel = g.node("DequantizeLinear", values, g.initializer(scale.item()), g.initializer(0, np.int8))
        return g.node("Conv", x, kernel, channels=out, pads=[1] * 4, **attributes)

    def model(self) -> onnx.ModelProto:
        g = self.g
        x = self.pair(g.input("image", ["N", 3, 34, 30]), 0.03)
        x = self.pair(g.relu(self.conv(x, 8, strides=[2, 2])), 0.03)
        y = self.pair(self.conv(x, 8), 0.03)
        x = self.pair(g.relu(g.node("Add", x, y)), 0.04)
        x = self.pair(g.pool("MaxPool", x, 2, 2), 0.04)
        x = self.pair(self.conv(x, 6), 0.04)
        g.node("Flatten", g.node("GlobalAveragePool", x), name="y")
        return g.model({"y": ["N", 6]})


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantized(per_channel: bool) -> None:
    """Equal to ONNX Runtime's integer kernels, but for the few values that fall between two steps."""
    model = Quantizer(per_channel).model()
    assert kx.inspect(model).incremental_share == 1.0
    image = np.random.default_rng(1).standard_normal((1, 3, 34, 30)).astype(np.float32)
    heat_map = kx.OcclusionSession(model).explain(image, range(6), patch=(8, 6), stride=2, fill=0.5)
    patch = np.full((3, 8, 6), 0.5, np.float32)
    expected, _ = naive_map(model, image, heat_map.tops, heat_map.lefts, patch)
    difference = np.abs(heat_map.scores - expected.T.reshape(heat_map.scores.shape))
    cells = 8 * 7  # of the last frame, whose mean is scored: one of them a step away is 0.04 / cells
    assert np.ptp(expected) > 0.2
    assert difference.max() <= 8 * 0.04 / cells and np.mean(difference > 1e-6) < 0.2
    kinds = {operator.kind for operator in plan_of(rewrite_model(model)).operators if operator.op_type != "Flatten"}
    assert kinds == {"pointwise", "local", "global"}
    assert session_of(model).run(None, {"image": image})[0].shape == (1, 6)


@pytest.mark.parametrize("model", ["float16", "bytes", "quantized"])
def test_conversion_is_checked_and_passes(model: str, tmp_path) -> None:
    made = {
        "float16": lambda: halved(FAMILIES["mobilenet_v2"](), True), "bytes": bytes_model,
        "quantized": lambda: Quantizer(True).model(),
    }[model]()  # fmt: skip
    report = kx.convert(made, tmp_path / "rewritten.onnx")
    assert report.checked_positions > 0
    assert kx.check(made, tmp_path / "rewritten.onnx").passed

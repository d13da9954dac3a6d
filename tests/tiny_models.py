"""The smallest models that show what a session does, beside the architecture families; the same weights every call."""

import numpy as np
import onnx
from graph_builder import Graph
from onnx import TensorProto, helper

CLASSES = 4


def _features(g: Graph, x: str) -> str:
    """(batch, 8): two convolutions, a pooling between them, global average pooling."""
    x = g.pool("MaxPool", g.conv_relu(x, 6, 3, pads=1), 2, 2)
    return g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 8, 3, pads=1)), axis=1)


def tiny(
    channels: int = 3, height: int | str = 20, width: int | str = 24, layout: str = "NCHW"
) -> onnx.ModelProto:
    """image -> logits, nothing after them."""
    g = Graph(50, opset=17, ir=8)
    shape = [channels, height, width] if layout == "NCHW" else [height, width, channels]
    x = g.input("image", ["batch", *shape], channels=channels)
    if layout == "NHWC":
        x = g.node("Transpose", x, perm=[0, 3, 1, 2])
    g.gemm(_features(g, x), 8, CLASSES, gain=16, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def sigmoid_of_one() -> onnx.ModelProto:
    """A single probability: no class to compare with."""
    g = Graph(51, opset=17, ir=8)
    logit = g.gemm(_features(g, g.input("image", ["batch", 3, 20, 24])), 8, 1, gain=16, name="logit")
    g.node("Sigmoid", logit, name="probability")
    return g.model({"probability": ["batch", 1]})


def two_image_inputs() -> onnx.ModelProto:
    g = Graph(52, opset=17, ir=8)
    left, right = (g.input(name, ["batch", 3, 20, 24]) for name in ("left", "right"))
    g.gemm(_features(g, g.node("Sub", left, right)), 8, CLASSES, gain=16, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def with_second_input(kind: str, batch: int | str = "batch") -> onnx.ModelProto:
    """Beside the image an input `more`, by which the logits change.

    kind: "vector" (batch, classes) added; "shared" (classes,) added, without a batch; "number" () added;
    "ids" int64 (batch,), rows of a table that are added; "scales" (batch, 6), of the channels between convolutions.
    """
    g = Graph(53, opset=17, ir=8)
    image = g.input("image", [batch, 3, 20, 24])
    if kind == "scales":
        x = g.conv_relu(image, 6, 3, pads=1)
        scales = g.node("Unsqueeze", g.input("more", [batch, 6]), g.initializer([2, 3], np.int64))
        features = _features(g, g.node("Mul", x, scales, channels=6))
        g.gemm(features, 8, CLASSES, gain=16, name="logits")
        return g.model({"logits": [batch, CLASSES]})
    added = "more"
    if kind == "ids":
        g.inputs.append(helper.make_tensor_value_info("more", TensorProto.INT64, [batch]))
        added = g.node("Gather", g.weight(5, CLASSES, fan_in=1), "more", axis=0)
    else:
        g.input("more", {"vector": [batch, CLASSES], "shared": [CLASSES], "number": []}[kind])
    g.node("Add", g.gemm(_features(g, image), 8, CLASSES, gain=16), added, name="logits")
    return g.model({"logits": [batch, CLASSES]})


def image_of(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded noise, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

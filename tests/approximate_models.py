"""A model and images whose occlusion maps are large enough to be approximated, and quick to compute."""

import numpy as np
import onnx
from graph_builder import Graph

SIZE = 64  # with patch 8, stride 2: 29 x 29 positions


def deep(classes: int = 5, probabilities: bool = False) -> onnx.ModelProto:
    """image -> logits, or their softmax: six convolutions over three frames, so that regions outgrow the patch."""
    g = Graph(60, opset=17, ir=8)
    x = g.input("image", ["batch", 3, SIZE, SIZE])
    x = g.pool("MaxPool", g.conv_relu(g.conv_relu(x, 16, 3, pads=1), 16, 3, pads=1), 2, 2)
    x = g.pool("MaxPool", g.conv_relu(g.conv_relu(x, 24, 3, pads=1), 24, 3, pads=1), 2, 2)
    x = g.conv_relu(g.conv_relu(x, 32, 3, pads=1), 32, 3, pads=1)
    features = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    logits = g.gemm(features, 32, classes, gain=16, name="logits")
    if not probabilities:
        return g.model({"logits": ["batch", classes]})
    g.node("Softmax", logits, axis=1, name="probabilities")
    return g.model({"probabilities": ["batch", classes]})


def scene(seed: int) -> np.ndarray:
    """float32 (1, 3, SIZE, SIZE): blobs of colour on waves, others for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    image = np.zeros((3, SIZE, SIZE))
    for _ in range(6):
        centre, width = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
        image += rng.normal(0, 2, 3)[:, None, None] * blob
    image += 0.3 * np.sin(rng.uniform(5, 40, (3, 1, 1)) * x + rng.uniform(5, 40, (3, 1, 1)) * y)
    return image[None].astype(np.float32)

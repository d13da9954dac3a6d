"""Models with operators that mix the whole frame, and what freezing means for them, computed node by node."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from graph_builder import Graph
from naive import occluded
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from krypton_onnx.rewriter.geometry import Geometry

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {}


def frozen_model(name: str, *arguments: object) -> Callable:
    """Register a builder under a name, called with these arguments; may be stacked."""

    def register(build: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
        MODELS[name] = lambda: build(*arguments)
        return build

    return register


def head(g: Graph, x: str, classes: int = 5) -> onnx.ModelProto:
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(pooled, g.channels[x], classes, gain=16, name="logits")
    return g.model({"logits": ["batch", classes]})


def squeeze_excite(g: Graph, x: str, gate: str = "Sigmoid", gain: float = 8.0) -> str:
    """x times its gate; `gain`: so that a patch moves the gate."""
    channels = g.channels[x]
    squeezed = g.relu(g.conv(g.node("GlobalAveragePool", x), max(channels // 2, 2), 1, gain=gain))
    return g.node("Mul", g.node(gate, g.conv(squeezed, channels, 1, gain=gain)), x, channels=channels)


@frozen_model("squeeze_excite", "Sigmoid")
@frozen_model("squeeze_excite_hard", "HardSigmoid")
def residual_blocks(gate: str, size: tuple[int, int] = (40, 44)) -> onnx.ModelProto:
    """MobileNetV3: inverted residuals with a gate behind the depthwise convolution."""
    g = Graph(70, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, *size]), 8, 3, stride=2, pads=1)
    for out, stride in ((8, 1), (12, 2), (12, 1)):
        wide = 3 * g.channels[x]
        y = g.relu(g.conv(g.relu(g.conv(x, wide, 1)), wide, 3, stride=stride, pads=1, group=wide))
        y = g.conv(squeeze_excite(g, y, gate), out, 1, gain=4.0)
        x = g.node("Add", y, x) if stride == 1 else y
    return head(g, g.conv_relu(x, 16, 3, pads=1))


@frozen_model("response_norm")
def response_norm() -> onnx.ModelProto:
    """ConvNeXt V2: every channel over the mean norm of all of them."""
    g = Graph(71, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 36, 40]), 8, 4, stride=4)
    for _ in range(2):
        y = g.relu(g.conv(g.conv(x, 8, 3, pads=1, group=8), 16, 1))
        norm = g.node("ReduceL2", y, g.initializer([2, 3], np.int64))
        mean = g.node("Add", g.node("ReduceMean", norm, g.initializer([1], np.int64)), g.initializer(1e-6))
        scaled = g.node("Mul", y, g.node("Div", norm, mean))
        x = g.node("Add", g.conv(g.node("Add", scaled, y), 8, 1, gain=1.0), x)
    return head(g, g.conv_relu(x, 12, 3, pads=1))


@frozen_model("instance_norm")
def instance_norm() -> onnx.ModelProto:
    """A normalization by the statistics of the frame, far from zero, where sums of squares would cancel."""
    g = Graph(72, opset=18, ir=8)
    x = g.conv(g.input("image", ["batch", 3, 34, 38]), 8, 3, stride=2, pads=1)
    x = g.node("Add", x, g.initializer(np.full((1, 8, 1, 1), 60.0)))
    scale, bias = (g.initializer(g.rng.uniform(0.5, 1.5, 8)) for _ in range(2))
    x = g.node("InstanceNormalization", x, scale, bias, epsilon=1e-3)
    return head(g, g.conv_relu(g.relu(x), 12, 3, pads=1))


@frozen_model("reshaped_norm")
def reshaped_norm() -> onnx.ModelProto:
    """GroupNorm as PyTorch's older exporter writes it: between two Reshapes, and read by a convolution."""
    g = Graph(73, opset=17, ir=8)
    x = g.conv(g.input("image", ["batch", 3, 34, 38]), 8, 3, stride=2, pads=1)
    flat = g.node("Reshape", x, g.initializer([0, 2, -1], np.int64))
    ones, zeros = g.initializer(np.ones(2)), g.initializer(np.zeros(2))
    normed = g.node("InstanceNormalization", flat, ones, zeros, epsilon=1e-3)
    back = g.node("Reshape", normed, g.initializer([-1, 8, 17, 19], np.int64), name="back", channels=8)
    return head(g, g.conv_relu(back, 12, 3, pads=1))


@frozen_model("pooled_branch")
def pooled_branch() -> onnx.ModelProto:
    """What the mean of the frame says, joined to every cell as channels of its own (a segmentation head)."""
    g = Graph(74, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 36, 40]), 8, 3, stride=2, pads=1)
    mean = g.relu(g.conv(g.node("GlobalAveragePool", x), 8, 1, gain=20.0))
    everywhere = g.node("Expand", mean, g.initializer([1, 8, 18, 20], np.int64), channels=8)
    return head(g, g.conv_relu(g.concat(x, everywhere), 12, 3, pads=1))


def without_join() -> onnx.ModelProto:
    """The mean of the frame goes nowhere but to the scores."""
    g = Graph(75, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 40, 44]), 8, 3, stride=2, pads=1)
    return head(g, g.conv_relu(x, 12, 3, pads=1))


def frozen_scores(
    model: onnx.ModelProto,
    image: np.ndarray,
    origins: Sequence[tuple[int, int]] | np.ndarray,
    patch: np.ndarray,
    frozen: Mapping[str, Geometry],
) -> np.ndarray:
    """(P, classes) by the definition: outside their region, the tensors in `frozen` keep their unoccluded values.

    NCHW. frozen : by the name of a tensor, where its region lies.
    """
    base = _evaluate(model, image, {})
    rows = []
    for top, left in origins:
        spliced = {}
        for name, geometry in frozen.items():
            inside = np.zeros(geometry.frame, bool)
            (y,), (y_end,) = geometry.y.region(np.array([top]), patch.shape[1], geometry.frame[0])
            (x,), (x_end,) = geometry.x.region(np.array([left]), patch.shape[2], geometry.frame[1])
            inside[y:y_end, x:x_end] = True
            spliced[name] = inside, base[name]
        values = _evaluate(model, occluded(image, patch, int(top), int(left)), spliced)
        rows.append(values[model.graph.output[0].name][0])
    return np.array(rows)


def _evaluate(
    model: onnx.ModelProto, image: np.ndarray, spliced: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Every tensor, node by node; of those in `spliced` (inside, other): the others' values where not inside."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values[model.graph.input[0].name] = image
    for node in model.graph.node:
        graph = onnx.helper.make_graph(
            [node], "one",
            [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype), None)
             for name in dict.fromkeys(node.input)],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output],
        )  # fmt: skip
        one = onnx.helper.make_model(graph, opset_imports=model.opset_import)
        results = ReferenceEvaluator(one).run(None, {name: values[name] for name in dict.fromkeys(node.input)})
        for name, result in zip(node.output, results, strict=True):
            if name in spliced:
                inside, other = spliced[name]
                result = np.where(inside, result, other)
            values[name] = result
    return values

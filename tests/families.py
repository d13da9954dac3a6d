"""Small instances of every architecture family: the operator patterns of the real files, few channels.

FAMILIES maps a name to a function that builds the model; the same weights at every call. Sides differ
(H is not W) wherever the architecture lets them, so that a swapped axis shows.
"""

from collections.abc import Callable

import numpy as np
import onnx
from exporter_patterns import (
    constant_pad,
    flatten_tf2onnx,
    no_op_cast,
    pool_tail_computed_shape,
    pool_tail_dynamo,
    pool_tail_strided,
    same_pad_float,
    same_pad_integer,
)
from graph_builder import Graph

FAMILIES: dict[str, Callable[[], onnx.ModelProto]] = {}
PROBABILITIES: set[str] = set()
"""Families whose first output is a softmax or a sigmoid."""


def family(name: str, *arguments: object, probabilities: bool = False) -> Callable:
    """Register a builder under a name, called with these arguments; may be stacked."""

    def register(build: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
        FAMILIES[name] = lambda: build(*arguments)
        if probabilities:
            PROBABILITIES.add(name)
        return build

    return register


def is_nhwc(model: onnx.ModelProto) -> bool:
    return model.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3


def fixed_batch(model: onnx.ModelProto) -> bool:
    return model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def example_image(model: onnx.ModelProto, batch: int = 1, seed: int = 0) -> np.ndarray:
    """Seeded float32 images in the model's own layout: waves and noise, O(1). Unknown sides: 44 x 38."""
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    nhwc = is_nhwc(model)
    height, width = dims[1:3] if nhwc else dims[2:4]
    height, width = height or 44, width or 38
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 0.2, (batch, 3, 2, 1, 1))
    y, x = np.mgrid[:height, :width]
    smooth = np.sin(waves[:, :, 0] * y + waves[:, :, 1] * x)
    image = (smooth + 0.5 * rng.standard_normal(smooth.shape)).astype(np.float32)
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1)) if nhwc else image


@family("vgg", probabilities=True)
def vgg() -> onnx.ModelProto:
    g = Graph(1, opset=13, ir=8)
    x = g.input("input", ["batch", 3, 32, 40])
    for channels, repeats in ((8, 2), (12, 2), (16, 3)):
        for _ in range(repeats):
            x = g.conv_relu(x, channels, 3, pads=1)
        x = g.pool("MaxPool", x, 2, 2)
    x = g.relu(g.gemm(g.node("Flatten", x, axis=1), 16 * 4 * 5, 24))
    g.node("Softmax", g.gemm(x, 24, 5), name="prob", axis=1)
    return g.model({"prob": ["batch", 5]})


@family("vgg_nhwc", probabilities=True)
def vgg_nhwc() -> onnx.ModelProto:
    """As tf2onnx writes Keras: NHWC input, Transpose, Flatten by shape arithmetic, dense batch norm."""
    g = Graph(2, opset=13, ir=7)
    x = g.input("input", ["unk__99", 40, 32, 3])
    x = g.node("Transpose", x, perm=[0, 3, 1, 2])
    for channels, repeats in ((8, 2), (12, 1), (16, 2)):
        for _ in range(repeats):
            x = g.conv_relu(x, channels, 3, pads=1)
        x = g.pool("MaxPool", x, 2, 2)
    x = flatten_tf2onnx(g, x, 5 * 4 * 16)
    for inner, out in ((5 * 4 * 16, 24), (24, 16)):
        x = g.node("MatMul", x, g.weight(inner, out, fan_in=inner))
        x = g.relu(g.node("Add", x, g.initializer(g.rng.normal(0, 0.1, out))))
        x = g.node("Mul", x, g.initializer(g.rng.uniform(0.7, 1.3, out)))
        x = g.node("Add", x, g.initializer(g.rng.normal(0, 0.2, out)))
    x = g.node("MatMul", x, g.weight(16, 4, fan_in=16))
    x = g.node("Add", x, g.initializer(g.rng.normal(0, 0.1, 4)))
    g.node("Softmax", x, name="dense_3")
    return g.model({"dense_3": ["unk__100", 4]}, domains=("ai.onnx.ml",))


def _basic_blocks(g: Graph, x: str) -> str:
    """A ResNet's stem and three basic blocks, the second and third with a 1x1 stride 2 shortcut."""
    x = g.conv_relu(x, 8, 7, stride=2, pads=3)
    x = g.pool("MaxPool", x, 3, 2, pads=[1] * 4, ceil_mode=0)
    for channels, stride in ((8, 1), (12, 2), (16, 2)):
        y = g.conv_relu(x, channels, 3, stride=stride, pads=1)
        y = g.conv(y, channels, 3, pads=1, gain=1.0)
        shortcut = g.conv(x, channels, 1, stride=stride, gain=1.0) if stride > 1 else x
        x = g.relu(g.node("Add", y, shortcut))
    return x


@family("resnet18_legacy")
def resnet18_legacy() -> onnx.ModelProto:
    """torch's legacy exporter; equal biases are shared through Identity nodes."""
    g = Graph(3, opset=20, ir=9)
    image = g.input("input", ["batch", 3, 64, 48])
    x = _basic_blocks(g, image)
    shared = g.node("Identity", g.initializer(g.rng.normal(0, 0.1, 16)))
    x = g.node("Conv", x, g.weight(16, 16, 1, 1, fan_in=16), shared, kernel_shape=[1, 1], channels=16)
    x = g.node("Flatten", g.node("GlobalAveragePool", g.relu(x)), axis=1)
    g.gemm(x, 16, 5, name="output", gain=16)
    return g.model({"output": ["batch", 5]})


@family("resnet_dynamo", "view", None)
@family("resnet_dynamo_fixed_batch", "view", 1)
@family("resnet_dynamo_computed", "computed", None)
@family("resnet_dynamo_strided", "strided", None)
@family("resnet_dynamo_strided_fixed_batch", "strided", 1)
def resnet_dynamo(tail: str, batch: int | None) -> onnx.ModelProto:
    """torch's dynamo exporter; `tail` is how the pooled activation becomes (batch, C)."""
    g = Graph(4, opset=18 if tail == "view" else 20, ir=10)
    image = g.input("x", [batch or "batch", 3, 48, 56])
    x = _basic_blocks(g, image)
    if tail == "view":
        x = pool_tail_dynamo(g, x, batch)
    elif tail == "computed":
        x = pool_tail_computed_shape(g, x, image)
    else:
        x = pool_tail_strided(g, x, image, batch)
    g.gemm(x, 16, 5, name="linear", gain=16)
    return g.model({"linear": [batch or "batch", 5]})


@family("resnet50_thin_nhwc", probabilities=True)
def resnet50_thin_nhwc() -> onnx.ModelProto:
    """open_nsfw: every Conv between two Transposes, batch norm in NHWC, paddings computed at run time."""
    g = Graph(5, opset=17, ir=8)

    def vector(channels: int, low: float, high: float) -> str:
        return g.initializer(g.rng.uniform(low, high, (1, 1, 1, channels)))

    def conv_norm(x: str, out: int, kernel: int, stride: int, pads: int, gain: float) -> str:
        x = g.node("Transpose", no_op_cast(g, x), perm=[0, 3, 1, 2])
        x = g.conv(x, out, kernel, stride=stride, pads=pads, bias=False, gain=gain)
        x = no_op_cast(g, g.node("Transpose", x, perm=[0, 2, 3, 1]))
        x = no_op_cast(g, g.node("Add", x, vector(out, -0.1, 0.1)))
        x = g.node("Mul", g.node("Sub", x, vector(out, -0.2, 0.2)), vector(out, 0.7, 1.3))
        return no_op_cast(g, g.node("Add", x, vector(out, -0.2, 0.2)))

    def relu(x: str) -> str:
        return no_op_cast(g, g.relu(no_op_cast(g, x)))

    x = no_op_cast(g, g.input("input_0", ["batch", 52, 44, 3]))
    x = no_op_cast(g, constant_pad(g, x, [0, 0, 3, 3, 3, 3]))
    x = relu(conv_norm(x, 8, 7, 2, 0, 2.0))
    x = same_pad_integer(g, g.node("Transpose", x, perm=[0, 3, 1, 2]), 3, 2, "edge")
    x = g.pool("MaxPool", x, 3, 2, pads=[0] * 4, dilations=[1, 1], ceil_mode=0)
    x = no_op_cast(g, g.node("Transpose", no_op_cast(g, x), perm=[0, 2, 3, 1]))
    for width, stride in ((4, 1), (4, 1), (6, 2), (8, 2)):
        projects = stride > 1 or g.channels[x] != 4 * width
        y = relu(conv_norm(x, width, 1, stride, 0, 2.0))  # the stride sits on the first 1x1
        y = relu(conv_norm(y, width, 3, 1, 1, 2.0))
        y = conv_norm(y, 4 * width, 1, 1, 0, 1.0)
        shortcut = conv_norm(x, 4 * width, 1, stride, 0, 1.0) if projects else no_op_cast(g, x)
        x = relu(no_op_cast(g, g.node("Add", y, shortcut)))
    x = no_op_cast(g, g.node("ReduceMean", x, axes=[1, 2], keepdims=0))
    x = no_op_cast(g, g.node("MatMul", x, g.weight(32, 2, fan_in=32, gain=8.0)))
    x = no_op_cast(g, g.node("Add", x, g.initializer([0.9, -0.9])))
    g.node("Softmax", x, name="4195", axis=-1)
    return g.model({"4195": ["batch", 2]})


@family("squeezenet", None, False, probabilities=True)
@family("squeezenet_fixed_batch", [1, 6], False, probabilities=True)
@family("squeezenet_fixed_batch_inferred", [1, -1], False, probabilities=True)
@family("squeezenet_ceil", None, True, probabilities=True)
def squeezenet(reshape: list[int] | None, ceil: bool) -> onnx.ModelProto:
    """Fire modules. `reshape`: replaces Flatten in files of a fixed batch; `ceil`: pools that overhang."""
    g = Graph(56, opset=13, ir=8)
    batch: int | str = 1 if reshape else "N"
    height, width = (58, 50) if ceil else (59, 51)
    x = g.conv_relu(g.input("data", [batch, 3, height, width]), 8, 3, stride=2)  # a valid first convolution
    for index in range(4):
        if index in (0, 2):
            x = g.pool("MaxPool", x, 3, 2, **({"ceil_mode": 1} if ceil else {}))
        squeezed = g.conv_relu(x, 6, 1)
        x = g.concat(g.conv_relu(squeezed, 8, 1), g.conv_relu(squeezed, 8, 3, pads=1))
    x = g.node("GlobalAveragePool", g.relu(g.conv(x, 6, 1, gain=4)))
    x = g.node("Reshape", x, g.initializer(reshape, np.int64)) if reshape else g.node("Flatten", x)
    g.node("Softmax", x, name="prob", axis=1)
    return g.model({"prob": [batch, 6]})


def _inverted_residual(
    g: Graph, x: str, out: int, kernel: int, stride: int, pads: int | list[int], relu6: Callable[[str], str]
) -> str:
    """1x1 expansion, depthwise, 1x1 projection; added to its input where the shapes allow."""
    wide = g.channels[x] * 3
    y = relu6(g.conv(x, wide, 1))
    y = relu6(g.conv(y, wide, kernel, stride=stride, pads=pads, group=wide))
    y = g.conv(y, out, 1, gain=1.0)
    return g.node("Add", x, y) if stride == 1 and out == g.channels[x] else y


@family("mobilenet_v2")
def mobilenet_v2() -> onnx.ModelProto:
    g = Graph(7, opset=17, ir=8)

    def relu6(x: str) -> str:
        return g.node("Clip", x, g.constant(0, np.float32), g.constant(6, np.float32))

    x = g.input("input", ["batch", 3, 48, 64])
    x = relu6(g.conv(x, 8, 3, stride=2, pads=1))
    for out, stride in ((8, 1), (12, 2), (12, 1), (16, 2), (16, 1)):
        x = _inverted_residual(g, x, out, 3, stride, 1, relu6)
    x = relu6(g.conv(x, 24, 1))
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(x, 24, 5, name="output", gain=8)
    return g.model({"output": ["batch", 5]})


@family("efficientnet_lite", "static")
@family("efficientnet_lite_legacy", "run time")
def efficientnet_lite(padding: str) -> onnx.ModelProto:
    """SAME padding: asymmetric pads on the Conv (dynamo), or a Pad computed at run time (legacy)."""
    static = padding == "static"
    g = Graph(8, opset=20, ir=10 if static else 9)
    low, high = g.initializer(0.0), g.initializer(6.0)

    def relu6(x: str) -> str:
        return g.node("Clip", x, low, high)

    def same(x: str, out: int, kernel: int, group: int) -> str:
        """Stride 2. The frames here are all even: one row more at the end than at the beginning."""
        begin = (kernel - 2) // 2
        if static:
            return g.conv(x, out, kernel, stride=2, pads=[begin, begin, begin + 1, begin + 1], group=group)
        return g.conv(same_pad_float(g, x, kernel, 2), out, kernel, stride=2, group=group)

    x = g.input("input", ["batch", 3, 48, 40])
    x = relu6(same(x, 8, 3, 1))
    for out, kernel, stride in ((8, 3, 1), (12, 5, 2), (12, 5, 1), (16, 3, 2), (16, 5, 1)):
        if stride == 1:
            x = _inverted_residual(g, x, out, kernel, 1, kernel // 2, relu6)
            continue
        wide = g.channels[x] * 3
        y = relu6(same(relu6(g.conv(x, wide, 1)), wide, kernel, wide))
        x = g.conv(y, out, 1, gain=1.0)
    x = relu6(g.conv(x, 24, 1))
    x = pool_tail_dynamo(g, x, None) if static else g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(x, 24, 5, name="logits", gain=8)
    return g.model({"logits": ["batch", 5]})


@family("inception", probabilities=True)
def inception() -> onnx.ModelProto:
    g = Graph(9, opset=17, ir=8)

    def unit(
        x: str, out: int, kernel: int | tuple[int, int], stride: int = 1, pads: int | list[int] = 0
    ) -> str:
        return g.relu(g.batch_norm(g.conv(x, out, kernel, stride=stride, pads=pads, bias=False)))

    def average(x: str) -> str:
        return g.pool("AveragePool", x, 3, 1, pads=[1] * 4, count_include_pad=0)

    x = unit(g.input("input", ["N", 3, 59, 51]), 6, 3, stride=2)
    x = unit(unit(x, 6, 3), 8, 3, pads=1)
    x = unit(g.pool("MaxPool", x, 3, 2, pads=[0] * 4), 8, 1)  # 13 x 11
    x = g.concat(unit(x, 4, 1), unit(unit(x, 4, 1), 6, 5, pads=2), unit(average(x), 4, 1))
    y = unit(unit(x, 6, 1), 6, (1, 7), pads=[0, 3, 0, 3])
    x = g.concat(unit(x, 4, 1), unit(y, 6, (7, 1), pads=[3, 0, 3, 0]), unit(average(x), 4, 1))
    x = g.concat(unit(x, 8, 3, stride=2), g.pool("MaxPool", x, 3, 2, pads=[0] * 4))  # 6 x 5
    y = unit(x, 6, 1)
    y = g.concat(unit(y, 4, (1, 3), pads=[0, 1, 0, 1]), unit(y, 4, (3, 1), pads=[1, 0, 1, 0]))
    x = g.concat(unit(x, 4, 1), y, unit(average(x), 4, 1))
    x = g.pool("AveragePool", x, (6, 5), (6, 5), pads=[0] * 4, count_include_pad=0)  # covers the frame
    x = g.relu(g.gemm(g.node("Flatten", x), 16, 12, trans_b=False))
    g.node("Softmax", g.gemm(x, 12, 5, trans_b=False), name="probs", axis=1)
    return g.model({"probs": ["N", 5]})


@family("densenet")
def densenet() -> onnx.ModelProto:
    g = Graph(10, opset=17, ir=8)

    def norm_relu(x: str) -> str:
        return g.relu(g.batch_norm(x, epsilon=1e-5))

    x = g.conv_relu(g.input("input", ["batch", 3, 64, 56]), 8, 7, stride=2, pads=3)
    x = g.pool("MaxPool", x, 3, 2, pads=[1] * 4, ceil_mode=0)
    for block in range(2):
        features = [x]
        for _ in range(3):
            y = norm_relu(g.concat(*features))
            y = g.conv_relu(y, 8, 1)  # its batch norm is folded, the one before cannot be
            features.append(g.conv(y, 4, 3, pads=1, bias=False))
        x = g.concat(*features)
        if block == 0:
            x = g.conv(norm_relu(x), 10, 1, bias=False)
            x = g.pool("AveragePool", x, 2, 2, pads=[0] * 4, ceil_mode=0, count_include_pad=1)
    x = g.node("Flatten", g.node("GlobalAveragePool", norm_relu(x)), axis=1)
    g.gemm(x, 22, 5, name="output", gain=16)
    return g.model({"output": ["batch", 5]})


@family("googlenet", False)
@family("googlenet_transform_input", True)
def googlenet(transform_input: bool) -> onnx.ModelProto:
    """`transform_input`: torchvision's rescaling of the image, channel by channel, with Gather and Concat."""
    g = Graph(11, opset=17, ir=8)

    def module(x: str) -> str:
        pooled = g.pool("MaxPool", x, 3, 1, pads=[1] * 4, ceil_mode=1)
        return g.concat(
            g.conv_relu(x, 6, 1),
            g.conv_relu(g.conv_relu(x, 4, 1), 8, 3, pads=1),
            g.conv_relu(g.conv_relu(x, 4, 1), 4, 5, pads=2),
            g.conv_relu(pooled, 4, 1),
        )

    x = g.input("input", ["batch", 3, 64, 58])
    if transform_input:
        planes = []
        for channel, (scale, shift) in enumerate(((0.9, -0.1), (1.1, 0.05), (0.8, 0.2))):
            plane = g.node("Gather", x, g.constant(channel), axis=1)
            plane = g.node("Unsqueeze", plane, g.constant([1]))
            plane = g.node("Mul", plane, g.constant(scale, np.float32))
            planes.append(g.node("Add", plane, g.constant(shift, np.float32), channels=1))
        x = g.concat(*planes)
    x = g.conv_relu(x, 8, 7, stride=2, pads=3)
    x = g.pool("MaxPool", x, 3, 2, pads=[0] * 4, ceil_mode=1)  # 32 x 29: overhangs the rows
    x = g.conv_relu(g.conv_relu(x, 8, 1), 12, 3, pads=1)
    x = module(g.pool("MaxPool", x, 3, 2, pads=[0] * 4, ceil_mode=1))
    x = module(g.pool("MaxPool", x, 2, 2, pads=[0] * 4, ceil_mode=1))
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(x, 22, 5, name="output", gain=16)
    return g.model({"output": ["batch", 5]})


@family("pads")
def pads() -> onnx.ModelProto:
    """The odd ones: auto_pad, ceil_mode with both kinds of averages, dilation, groups, unread pixels."""
    g = Graph(12, opset=17, ir=8)
    x = g.input("input", ["batch", 3, 48, 45])
    x = g.relu(g.conv(x, 8, 3, stride=2, auto_pad="SAME_UPPER"))  # 24 x 23
    x = g.relu(g.conv(x, 8, 4, auto_pad="SAME_LOWER"))
    x = g.pool("MaxPool", x, (2, 3), 1, auto_pad="SAME_UPPER")
    average = {"ceil_mode": 1, "pads": [1, 0, 1, 1]}
    x = g.concat(
        g.pool("AveragePool", x, 3, 2, count_include_pad=0, **average),
        g.pool("AveragePool", x, 3, 2, count_include_pad=1, **average),
    )
    x = g.relu(g.conv(x, 12, 3, dilation=2, pads=2))
    x = g.relu(g.conv(x, 12, 3, group=3, pads=1))
    x = g.pool("MaxPool", x, 2, 1, dilations=[2, 2])  # 11 x 10
    x = g.relu(g.conv(x, 10, 1, pads=1))  # 13 x 12: a border of biases
    x = g.relu(g.conv(x, 12, 2, stride=3))  # 4 x 4: rows and columns that nothing reads
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    g.gemm(x, 12, 5, name="output", gain=8)
    return g.model({"output": ["batch", 5]})


@family("dynamic_size")
def dynamic_size() -> onnx.ModelProto:
    g = Graph(13, opset=17, ir=8)
    x = g.conv_relu(g.input("input", ["batch", 3, "height", "width"]), 8, 3, stride=2, pads=1)
    x = g.pool("MaxPool", g.conv_relu(x, 8, 3, pads=1), 3, 2, pads=[1] * 4)
    x = g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 12, 3, pads=1)))
    g.gemm(x, 12, 5, name="output", gain=16)
    return g.model({"output": ["batch", 5]})


@family("two_outputs", probabilities=True)
def two_outputs() -> onnx.ModelProto:
    """A Sigmoid head and a head of logits; opset 11, older than some function bodies need."""
    g = Graph(14, opset=11, ir=6)
    x = g.conv_relu(g.input("image", ["batch", 3, 40, 48]), 8, 3, pads=1)
    x = g.conv_relu(g.pool("MaxPool", x, 2, 2), 12, 3, stride=2, pads=1)
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.node("Sigmoid", g.gemm(pooled, 12, 4, gain=8), name="presence")
    x = g.node("ReduceMean", g.conv_relu(x, 8, 3, pads=1), axes=[2, 3], keepdims=0)
    g.gemm(x, 8, 3, name="logits", gain=16)
    return g.model({"presence": ["batch", 4], "logits": ["batch", 3]})

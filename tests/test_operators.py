"""Operators of classifiers, segmenters and detectors, one small network each: incremental, and exact anywhere."""

from collections.abc import Callable

import numpy as np
import pytest
from graph_builder import Graph
from rewritten_models import assert_exact, operators_of

from krypton_onnx.rewriter import plan_of, rewrite_model

NETWORKS: dict[str, tuple[Callable[[Graph, str], str], int]] = {}


def network(name: str, opset: int = 18) -> Callable:
    """A stretch of operators between two convolutions: (graph, activation of 6 channels) -> activation."""

    def register(build: Callable[[Graph, str], str]) -> Callable[[Graph, str], str]:
        NETWORKS[name] = (build, opset)
        return build

    return register


def model_of(name: str, channels: int = 6):
    """conv 3x3 s2 -> the stretch -> conv 3x3, so that regions are clipped, start anywhere, and go on behind it."""
    build, opset = NETWORKS[name]
    g = Graph(7, opset=opset, ir=8 if opset < 20 else 10)
    x = g.conv_relu(g.input("image", ["N", 3, 29, 34]), channels, 3, stride=2, pads=1)  # 15 x 17
    x = build(g, x)
    g.node("Identity", g.conv(x, 5, 3, pads=1), name="y")
    return g.model({"y": ["N", "C", "H", "W"]})


def ints(g: Graph, *values: int) -> str:
    return g.initializer(values, np.int64)


def transposed(g: Graph, x: str, out: int, kernel: int, group: int = 1, **attributes) -> str:
    inner = g.channels[x]
    weights = g.weight(inner, out // group, kernel, kernel, fan_in=inner * kernel * kernel // group)
    bias = g.initializer(g.rng.standard_normal(out) * 0.1)
    return g.node("ConvTranspose", x, weights, bias, channels=out, group=group, **attributes)


for label, kernel, attributes in [
    ("conv_transpose_2", 2, {"strides": [2, 2]}),
    ("conv_transpose_pads", 4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("conv_transpose_odd", 3, {"strides": [3, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 1]}),
    ("conv_transpose_dilated", 3, {"strides": [2, 3], "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    ("conv_transpose_grouped", 3, {"strides": [2, 2], "group": 2, "pads": [1, 1, 0, 0]}),
    ("conv_transpose_dense", 3, {"pads": [1, 1, 1, 1]}),
    ("conv_transpose_same", 3, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("conv_transpose_shape", 3, {"strides": [2, 2], "output_shape": [30, 33]}),
]:
    network(label)(lambda g, x, kernel=kernel, attributes=attributes: transposed(g, x, 8, kernel, **attributes))


def resized(g: Graph, x: str, scales=None, sizes=None, **attributes) -> str:
    roi = g.initializer(np.zeros(0))
    if scales is not None:
        return g.node("Resize", x, roi, g.initializer([1, 1, *scales]), **attributes)
    batch_and_channels = g.node("Slice", g.node("Shape", x), ints(g, 0), ints(g, 2))
    return g.node("Resize", x, roi, "", g.node("Concat", batch_and_channels, ints(g, *sizes), axis=0), **attributes)


for mode in ("nearest", "linear", "cubic"):
    for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for label, where in [
            ("double", {"scales": [2, 2]}), ("scales", {"scales": [1.5, 0.6]}), ("sizes", {"sizes": [29, 21]}),
        ]:  # fmt: skip
            network(f"resize_{mode}_{coordinates}_{label}")(
                lambda g, x, mode=mode, coordinates=coordinates, where=where: resized(
                    g, x, mode=mode, coordinate_transformation_mode=coordinates, **where
                )
            )
for label, scales in (("small", [1.03, 1.0]), ("smaller", [1.04, 0.97]), ("nothing", [1.01, 1.02])):
    for mode in ("nearest", "linear"):
        # 15 * 1.03 = 15.45: sizes that stay, read by the scale that is given.
        network(f"resize_{mode}_{label}_scales")(
            lambda g, x, mode=mode, scales=scales: resized(
                g, x, scales, mode=mode, coordinate_transformation_mode="asymmetric"
            )
        )
network("resize_antialias")(lambda g, x: resized(g, x, [0.5, 0.4], mode="linear", antialias=1))
network("resize_nearest_ceil")(lambda g, x: resized(g, x, [1.7, 2.3], mode="nearest", nearest_mode="ceil"))
network("resize_axes")(
    lambda g, x: g.node("Resize", x, "", g.initializer([2.0, 1.5]), axes=[2, 3], mode="linear")
)
network("upsample_9", opset=9)(lambda g, x: g.node("Upsample", x, g.initializer([1, 1, 2, 2]), mode="nearest"))
network("upsample_7", opset=7)(lambda g, x: g.node("Upsample", x, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"))
network("upsample_9_linear", opset=9)(lambda g, x: g.node("Upsample", x, g.initializer([1, 1, 2, 3]), mode="linear"))
network("upsample_9_fractions", opset=9)(lambda g, x: g.node("Upsample", x, g.initializer([1, 1, 1.5, 1.7])))
network("upsample_7_linear", opset=7)(lambda g, x: g.node("Upsample", x, scales=[1.0, 1.0, 1.5, 3.0], mode="linear"))
for label, scales in (("up", [2, 2]), ("fractions", [1.5, 1.7]), ("down", [0.5, 0.6])):
    for mode in ("linear", "nearest"):
        network(f"resize_10_{mode}_{label}", opset=10)(
            lambda g, x, mode=mode, scales=scales: g.node("Resize", x, g.initializer([1, 1, *scales]), mode=mode)
        )
network("pad_reflect_10", opset=10)(
    lambda g, x: g.node("Pad", x, mode="reflect", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.0)
)


@network("depth_to_space_dcr")
def depth_to_space(g: Graph, x: str, mode: str = "DCR") -> str:
    return g.node("DepthToSpace", g.conv(x, 18, 1), blocksize=3, mode=mode, channels=2)


network("depth_to_space_crd")(lambda g, x: depth_to_space(g, x, "CRD"))


@network("space_to_depth")
def space_to_depth(g: Graph, x: str) -> str:
    even = g.node("Slice", x, ints(g, 1, 1), ints(g, 100, 100), ints(g, 2, 3))  # 14 x 16
    return g.node("SpaceToDepth", even, blocksize=2, channels=24)


for pad_mode in ("reflect", "edge", "wrap", "constant"):
    network(f"pad_{pad_mode}", opset=19)(
        lambda g, x, mode=pad_mode: g.node("Pad", x, ints(g, 0, 0, 2, 1, 0, 0, 0, 3), g.initializer(0.7), mode=mode)
    )
network("pad_negative")(lambda g, x: g.node("Pad", x, ints(g, 0, 0, -2, 1, 0, 0, 1, -3), g.initializer(-0.5)))
network("pad_axes")(lambda g, x: g.node("Pad", x, ints(g, 1, 2), g.initializer(0.0), ints(g, -1), mode="edge"))
network("slice_space")(lambda g, x: g.node("Slice", x, ints(g, 2, -9), ints(g, 14, 99), ints(g, 2, 3)))
network("slice_steps")(
    lambda g, x: g.node("Slice", x, ints(g, 0, 1), ints(g, 99, 99), ints(g, 2, 3), ints(g, 2, 3))
)
network("slice_mirrored")(lambda g, x: g.node("Slice", x, ints(g, -1), ints(g, -99), ints(g, 3), ints(g, -1)))


@network("slice_channels_and_space")
def slice_both(g: Graph, x: str) -> str:
    return g.node("Slice", x, ints(g, 1, 3), ints(g, 5, 99), ints(g, 1, 2), channels=4)


@network("gather_rows")
def gather_rows(g: Graph, x: str) -> str:
    return g.node("Gather", x, ints(g, 0, 2, 3, 5, 8, 9, 10, -1), axis=2)


@network("focus")
def focus(g: Graph, x: str) -> str:
    """Every second cell of four phases, side by side: space to depth as detectors write it."""
    even = g.node("Slice", x, ints(g, 1, 1), ints(g, 100, 100), ints(g, 2, 3))
    parts = [
        g.node("Slice", even, ints(g, top, left), ints(g, 100, 100), ints(g, 2, 3), ints(g, 2, 2))
        for top in (0, 1)
        for left in (0, 1)
    ]
    return g.concat(*parts)


@network("split_uneven")
def split(g: Graph, x: str) -> str:
    names = [g._fresh("part") for _ in range(3)]
    import onnx

    g.nodes.append(onnx.helper.make_node("Split", [x, ints(g, 1, 3, 2)], names, name="split", axis=1))
    for name, channels in zip(names, (1, 3, 2), strict=True):
        g.channels[name] = channels
    return g.concat(g.node("Tanh", names[2]), names[1], g.relu(names[0]))


@network("channel_shuffle")
def channel_shuffle(g: Graph, x: str) -> str:
    y = g.node("Reshape", x, ints(g, 0, 2, 3, 15, 17))
    y = g.node("Transpose", y, perm=[0, 2, 1, 3, 4])
    return g.node("Reshape", y, ints(g, 0, 6, 15, 17))


network("lrn")(lambda g, x: g.node("LRN", x, size=3, alpha=0.3, beta=0.6, bias=1.2))
network("softmax_channels")(lambda g, x: g.node("Softmax", x, axis=1))
network("log_softmax_channels")(lambda g, x: g.node("LogSoftmax", x, axis=-3))
network("lp_normalization")(lambda g, x: g.node("LpNormalization", x, axis=1, p=2))
network("lp_pool")(lambda g, x: g.pool("LpPool", x, 3, 2, pads=[1, 0, 1, 1], p=2))
network("lp_pool_ceil")(lambda g, x: g.pool("LpPool", x, (2, 3), (2, 2), ceil_mode=1, p=1))
network("average_pool_dilated", opset=19)(
    lambda g, x: g.pool("AveragePool", x, 3, 2, dilations=[2, 1], pads=[1, 0, 2, 1], count_include_pad=0)
)


@network("layer_norm")
def layer_norm(g: Graph, x: str) -> str:
    y = g.node("Transpose", x, perm=[0, 2, 3, 1])
    scale, shift = (g.initializer(g.rng.uniform(0.5, 1.5, g.channels[x])) for _ in range(2))
    y = g.node("LayerNormalization", y, scale, shift, axis=-1, epsilon=1e-5)
    return g.node("Transpose", y, perm=[0, 3, 1, 2])


@network("layer_norm_written_out")
def layer_norm_written_out(g: Graph, x: str) -> str:
    mean = g.node("ReduceMean", x, ints(g, 1), channels=1)
    centred = g.node("Sub", x, mean)
    variance = g.node("ReduceMean", g.node("Pow", centred, g.initializer(2.0)), ints(g, 1), channels=1)
    return g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, g.initializer(1e-5))))


@network("convnext_block")
def convnext_block(g: Graph, x: str) -> str:
    y = g.node("Transpose", g.conv(x, 6, 7, pads=3, group=6), perm=[0, 2, 3, 1])
    y = g.node("LayerNormalization", y, g.initializer(np.ones(6)), g.initializer(np.zeros(6)), axis=-1)
    y = g.node("Add", g.node("MatMul", y, g.weight(6, 24, fan_in=6)), g.initializer(g.rng.normal(0, 0.1, 24)))
    half, root = g.initializer(0.5), g.initializer(np.sqrt(2))
    gate = g.node("Add", g.node("Erf", g.node("Div", y, root)), g.initializer(1.0))
    y = g.node("Mul", g.node("Mul", y, gate), half)
    y = g.node("Add", g.node("MatMul", y, g.weight(24, 6, fan_in=24)), g.initializer(g.rng.normal(0, 0.1, 6)))
    y = g.node("Transpose", y, perm=[0, 3, 1, 2], channels=6)
    return g.node("Add", x, g.node("Mul", g.initializer(g.rng.uniform(0.5, 1, (6, 1, 1))), y, channels=6))


network("position_embedding")(lambda g, x: g.node("Add", x, g.initializer(g.rng.standard_normal((1, 6, 15, 17)))))
network("row_constant")(lambda g, x: g.node("Mul", g.initializer(g.rng.uniform(0.5, 2, (15, 1))), x, channels=6))


@network("masked")
def masked(g: Graph, x: str) -> str:
    mask = g.initializer(g.rng.random((1, 1, 15, 17)) < 0.5, bool)
    return g.node("Where", mask, x, g.node("Neg", x), channels=6)


@network("leaky_by_where")
def leaky_by_where(g: Graph, x: str) -> str:
    y = g.conv(x, 6, 3, pads=1)
    positive = g.node("Greater", y, g.initializer(0.0))
    return g.node("Where", positive, y, g.node("Mul", y, g.initializer(0.2)), channels=6)


@network("bool_meets_bool")
def bool_meets_bool(g: Graph, x: str) -> str:
    """Two masks of different regions meet: windows of booleans."""
    near = g.node("Greater", g.conv(x, 6, 1), g.initializer(0.0))
    far = g.node("Greater", g.conv(x, 6, 5, pads=2), g.initializer(0.0))
    return g.node("Cast", g.node("Xor", near, far), to=1)


@network("cast_and_back")
def cast_and_back(g: Graph, x: str) -> str:
    y = g.node("Clip", g.node("Mul", x, g.initializer(40.0)), g.initializer(0.0), g.initializer(255.0))
    return g.node("Mul", g.node("Cast", g.node("Cast", y, to=2), to=1), g.initializer(0.02))


@network("channel_maximum_gate")
def spatial_attention(g: Graph, x: str) -> str:
    """CBAM's spatial half: a map of one channel gates them all."""
    both = g.concat(
        g.node("ReduceMax", x, ints(g, 1), channels=1), g.node("ReduceMean", x, ints(g, 1), channels=1)
    )
    return g.node("Mul", x, g.node("Sigmoid", g.conv(both, 1, 7, pads=3)))


@network("unet")
def unet(g: Graph, x: str) -> str:
    """Down and up again, with skips across: branches of equal stride meet."""
    down = g.conv_relu(x, 8, 3, stride=2, pads=1)  # 8 x 9
    deep = g.conv_relu(down, 8, 3, stride=2, pads=1)  # 4 x 5
    up = resized(g, deep, sizes=[8, 9], mode="linear", coordinate_transformation_mode="half_pixel")
    y = g.conv_relu(g.concat(up, down), 8, 3, pads=1)
    up = g.node("Slice", transposed(g, y, 6, 2, strides=[2, 2]), ints(g, 0, 0), ints(g, 15, 17), ints(g, 2, 3))
    return g.concat(up, x)


network("super_resolution")(lambda g, x: resized(g, resized(g, x, [3, 3], mode="linear"), [1.5, 1.7], mode="cubic"))


@pytest.mark.parametrize("name", NETWORKS)
def test_incremental_and_exact(name: str) -> None:
    model = model_of(name)
    plan = assert_exact(model, (5, 4))
    ended = [f"{operator.op_type}: {operator.reason}" for operator in plan.operators if operator.kind == "global"]
    assert not ended
    assert "FullFrame" in operators_of(rewrite_model(model))  # of the last convolution, and of that alone


def test_a_size_that_is_inferred_otherwise_than_it_is_computed() -> None:
    """45 * 1.4 is 62.99 or 63.0: ONNX Runtime infers the one and computes the other. Exact, but not incremental."""
    g = Graph(7, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["N", 3, 45, 40]), 6, 3, pads=1)
    g.node("Identity", g.conv(resized(g, x, [1.4, 1], mode="linear"), 5, 3, pads=1), name="y")
    plan = assert_exact(g.model({"y": ["N", "C", "H", "W"]}))
    assert [operator.kind for operator in plan.operators][-2:] == ["global", "global"]


def test_a_patch_larger_than_half_the_image() -> None:
    for name in ("unet", "pad_reflect", "resize_cubic_half_pixel_scales"):
        assert_exact(model_of(name), (21, 30))


def test_sums_over_the_frame() -> None:
    g = Graph(8, opset=13, ir=8)
    x = g.conv_relu(g.input("image", ["N", 3, 29, 34]), 6, 3, pads=1)
    g.node("ReduceSum", x, ints(g, 2, 3), keepdims=0, name="y")
    plan = assert_exact(g.model({"y": ["N", 6]}))
    assert plan.operators[-1].reason and "running sum" in plan.operators[-1].reason


def test_regions_do_not_grow_where_nothing_reads_further() -> None:
    """Up by two and down by two again is the geometry it was, and meets what was there before."""
    g = Graph(9, opset=18, ir=8)
    x = g.conv_relu(g.input("image", ["N", 3, 32, 32]), 6, 3, stride=2, pads=1)
    y = g.pool("MaxPool", resized(g, x, [2, 2], mode="nearest"), 2, 2)
    g.node("Add", x, y, name="y")
    plan = plan_of(rewrite_model(g.model({"y": ["N", 6, 16, 16]})))
    assert plan is not None and plan.operators[-1].kind == "pointwise"
    assert plan.geometries[plan.operators[-1].geometry].y.jump == 2  # type: ignore[index]

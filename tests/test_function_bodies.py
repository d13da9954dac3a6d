"""Every CPU kernel against the function body that defines its operator, in ONNX Runtime itself."""

import re

import numpy as np
import pytest
from hypothesis import given
from onnx import TensorProto, helper
from operator_models import ROUNDING, WINOGRAD, Case, cases, compare, sweep

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter.functions import functions_for
from krypton_onnx.rewriter.operators import FUNCTIONS
from krypton_onnx.runtime.custom_ops import shim_path

pytestmark = pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")

LOWEST = float(np.finfo(np.float32).min)


def compare_conv(case: Case, channels: int, outputs: int, groups: int, attributes: dict, frame, source, tolerance):
    """IncrementalConv with random weights, region, activation and residual."""
    origin, extent = case.region(frame)
    weights = case.floats(outputs, channels // groups, *attributes["kernel_shape"])
    residual = case.residual(outputs, frame, origin, extent)
    attributes = {**attributes, "group": groups, **case.activation()}
    compare(
        "IncrementalConv" + ("Add" if residual else "") + attributes["activation"],
        [*source, weights, case.floats(outputs), origin, extent, *residual], attributes,
        constants=case.choice((3, 4), ()), tolerance=tolerance, strict_tolerance=ROUNDING,
    )  # fmt: skip


@sweep(120)
@given(cases)
def test_incremental_conv(case: Case) -> None:
    """Any kernel, stride, pads, dilation and groups."""
    groups = case.choice(1, 1, 2, 3)
    channels, outputs = groups * case.integer(1, 6), groups * case.integer(1, 6)
    frame = case.frame()
    source = case.source(channels, frame)
    attributes, output_frame = case.spatial(frame)
    compare_conv(case, channels, outputs, groups, attributes, output_frame, source, ROUNDING)


@sweep(100)
@given(cases)
def test_incremental_conv_depthwise(case: Case) -> None:
    """One filter a channel, or several (a depth multiplier)."""
    channels, multiplier = case.choice(1, 3, 8, 17), case.choice(1, 1, 2)
    frame = case.frame()
    source = case.source(channels, frame)
    attributes, output_frame = case.spatial(frame, kernels=(1, 5))
    compare_conv(case, channels, channels * multiplier, channels, attributes, output_frame, source, ROUNDING)


@sweep(120)
@given(cases)
def test_incremental_conv_three_by_three(case: Case) -> None:
    """Channels on both sides of what Winograd needs, regions on both sides of where it pays."""
    channels, outputs = case.choice(3, 15, 16, 17, 33), case.choice(5, 15, 16, 24, 40)
    frame = case.frame(3, 17)
    source = case.source(channels, frame)
    attributes = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1]}
    attributes["pads"] = pads = [case.integer(0, 2) for _ in range(4)]
    output_frame = frame[0] + pads[0] + pads[2] - 2, frame[1] + pads[1] + pads[3] - 2
    compare_conv(case, channels, outputs, 1, attributes, output_frame, source, WINOGRAD)


@sweep(100)
@given(cases)
def test_pointwise_conv(case: Case) -> None:
    channels, outputs, frame = case.integer(1, 36), case.integer(1, 36), case.frame()
    patch, origin, _ = case.source(channels, frame)
    residual = case.residual(outputs, frame, origin, np.array(patch.shape[1:3]))
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    attributes.update(case.activation())
    weights, bias = case.floats(outputs, channels, 1, 1), case.floats(outputs)
    compare(
        "PointwiseConv" + ("Add" if residual else "") + attributes["activation"],
        [patch, weights, bias, *([origin, *residual] if residual else [])], attributes,
        constants=case.choice((1, 2), ()), tolerance=ROUNDING,
    )  # fmt: skip


@sweep(100)
@given(cases)
def test_window(case: Case) -> None:
    """Windows inside the frame, hanging outside of it, around the patch and beside it."""
    patch, patch_origin, view = case.source(case.integer(1, 9), case.frame())
    origin = case.rng.integers(-9, 15, (case.positions, 2))
    extent = np.array(case.frame(1, 16), np.int64)
    pad_value = case.choice(0.0, -2.5, LOWEST, float("-inf"))
    compare("Window", [patch, patch_origin, view, origin, extent], {"pad_value": pad_value})


@sweep(15)
@given(cases)
def test_window_of_an_empty_patch(case: Case) -> None:
    """A plain cut of the view: what IncrementalGlobalAveragePool's body asks for."""
    channels, frame = case.integer(1, 9), case.frame()
    view = case.floats(1, *frame, channels)
    origin, extent = case.region(frame)
    empty = np.empty((case.choice(1, case.positions), 0, 0, channels), np.float32)
    (got,) = compare("Window", [empty, origin, view, origin, extent], {"pad_value": 7.0})
    for cut, (top, left) in zip(got, origin, strict=True):
        np.testing.assert_array_equal(cut, view[0, top : top + extent[0], left : left + extent[1]])


def table(case: Case, frame: int, outputs: int, taps: int, outside: bool) -> np.ndarray:
    """int64 (outputs * taps,) cells of a frame; some of them -1, where there is an outside."""
    return case.rng.integers(-1 if outside else 0, frame, outputs * taps)


@sweep(100)
@given(cases)
def test_remap(case: Case) -> None:
    frame, output = case.frame(), case.frame()
    tables = [table(case, frame[axis], output[axis], 1, True) for axis in (0, 1)]
    inputs = [*case.source(case.integer(1, 9), frame), *tables, *case.region(output)]
    compare("Remap", inputs, {"pad_value": case.choice(0.0, -2.5)}, constants=case.choice((3, 4), ()))


@sweep(100)
@given(cases)
def test_incremental_resample(case: Case) -> None:
    frame, output, taps = case.frame(), case.frame(), (case.integer(1, 4), case.integer(1, 4))
    tables = [table(case, frame[axis], output[axis], taps[axis], False) for axis in (0, 1)]
    weights = [case.floats(output[axis], taps[axis]) for axis in (0, 1)]
    inputs = [*case.source(case.integer(1, 9), frame), *tables, *weights, *case.region(output)]
    compare("IncrementalResample", inputs, {}, constants=case.choice((3, 4, 5, 6), ()), tolerance=ROUNDING)


@sweep(100)
@given(cases)
def test_incremental_max_pool(case: Case) -> None:
    frame = case.frame()
    source = case.source(case.integer(1, 20), frame)
    attributes, output_frame = case.spatial(frame)
    compare("IncrementalMaxPool", [*source, *case.region(output_frame)], attributes)


@sweep(100)
@given(cases)
def test_incremental_average_pool(case: Case) -> None:
    frame = case.frame()
    source = case.source(case.integer(1, 20), frame)
    attributes, output_frame = case.spatial(frame, dilations=(1, 1))
    counts = [case.rng.integers(1, 5, size).astype(np.float32) for size in output_frame]
    compare(
        "IncrementalAveragePool", [*source, *counts, *case.region(output_frame)], attributes,
        constants=case.choice((3, 4), ()), tolerance=ROUNDING,
    )  # fmt: skip


@sweep(60)
@given(cases)
def test_incremental_global_average_pool(case: Case) -> None:
    source = case.source(case.integer(1, 40), case.frame())
    compare("IncrementalGlobalAveragePool", source, tolerance=ROUNDING)


@sweep(60)
@given(cases)
def test_channel_affine(case: Case) -> None:
    channels = case.integer(1, 36)
    patch, _, _ = case.source(channels, case.frame())
    attributes = case.activation()
    inputs = [patch, case.floats(channels), case.floats(channels)]
    name, constants = "ChannelAffine" + attributes["activation"], case.choice((1, 2), ())
    compare(name, inputs, attributes, constants=constants, tolerance=ROUNDING)


@sweep(60)
@given(cases)
def test_incremental_concat(case: Case) -> None:
    """Branches of any channels and regions, of one frame."""
    frame, branches = case.frame(), case.integer(2, 8)
    sources = [case.source(case.integer(1, 9), frame) for _ in range(branches)]
    inputs = [array for source in sources for array in source]
    compare(f"IncrementalConcat{branches}", [*inputs, *case.region(frame)])


@sweep(150)
@given(cases)
def test_place_regions(case: Case) -> None:
    """Any growth, and thresholds of 1.0 and below: one for all geometries, or one each."""
    geometries, image = case.integer(1, 4), np.array(case.frame(4, 60))
    size = [case.integer(1, side) for side in image]
    growth = {
        name: case.rng.integers(low, high, (geometries, 2)) for name, low, high in
        (("jump", 1, 9), ("before", -4, 25), ("after", -4, 25), ("scale", 1, 4))
    }  # fmt: skip
    about = image * growth["scale"] // growth["jump"]
    growth["frame"] = np.maximum(about + case.rng.integers(-1, 3, (geometries, 2)), 1)
    # 0.5 and 0.25 meet frames whose cap is halfway between two cells.
    tau = case.rng.choice(np.array([1, 0.75, 0.5, 0.25, 0.05], np.float32), case.choice(1, geometries))
    attributes = {name: values.ravel().tolist() for name, values in growth.items()}
    inputs = [case.places(image, size), case.floats(case.choice(1, case.positions), 2, *size), tau]
    compare("PlaceRegions", inputs, attributes, outputs=(TensorProto.INT64, TensorProto.INT64))


VARIANTS = re.compile("(Add)?(Relu|Clip)?[2-8]?$")  # the sweeps draw them


def test_every_kernel_is_compared_here() -> None:
    for kernel in CPU_KERNELS:
        name = re.sub("([A-Z])", r"_\1", VARIANTS.sub("", kernel.op_type)).lower()
        assert f"test{name}" in globals(), f"{kernel.op_type} has a kernel that nothing here compares to its body"


@pytest.mark.parametrize("kernel", CPU_KERNELS, ids=lambda kernel: kernel.op_type)
def test_a_kernel_takes_what_its_body_takes(kernel) -> None:
    (text,) = (text for text in FUNCTIONS if text.op_type == kernel.op_type)
    body = text.parse(18)
    assert body.name == kernel.op_type
    assert kernel.required <= len(body.input) <= len(kernel.inputs)
    assert len(body.output) == len(kernel.outputs)
    assert set(kernel.attributes) <= set(body.attribute)


def test_functions_for_brings_nested_ones_once() -> None:
    nodes = [helper.make_node(op, [], [], domain="ai.krypton") for op in ("IncrementalMaxPool", "FullFrameNHWC")]
    nodes.append(helper.make_node("Relu", [], []))
    names = [body.name for body in functions_for(nodes, FUNCTIONS, 18)]
    assert names == ["FullFrameNHWC", "IncrementalMaxPool", "Window"]

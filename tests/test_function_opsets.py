"""Every function body at every opset a rewritten model may have: it parses, it checks, and it gives the same."""

import re
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from operator_models import ROUNDING, assert_close, one_node, run_body, run_kernel

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.normalize import BODY_OPSET
from krypton_onnx.rewriter.operators import FUNCTIONS
from krypton_onnx.rewriter.ort_graph import MAX_IR_VERSION, MAX_OPSET
from krypton_onnx.runtime.custom_ops import shim_path

OPSETS = (18, 20, 23, 26)
KERNELS = {kernel.op_type for kernel in CPU_KERNELS}
FRAME, POSITIONS, CHANNELS, OUTPUTS = (9, 11), 3, 4, 5

SPATIAL = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [2, 1]}
OUTPUT_FRAME = (4, 11)
DENSE = {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [0, 1, 2, 1], "dilations": [1, 1]}
DENSE_FRAME = (9, 6)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def places(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.int64)


def source() -> list[np.ndarray]:
    """Patches in two corners and inside."""
    return [floats(POSITIONS, 3, 4, CHANNELS), places((0, 0), (6, 7), (2, 5)), floats(1, *FRAME, CHANNELS)]


def node_of(text: FunctionText) -> tuple[list[np.ndarray], dict, tuple[int, ...]]:
    """Inputs, attributes and output types of a node that means this body."""
    operator, added, activation = re.fullmatch("(.*?)(Add)?(Relu|Clip|[2-8])?", text.op_type).groups()
    active = {"activation": activation or "", "clip_min": -0.5, "clip_max": 0.75}
    region, result = [places((0, 0), (2, 8), (1, 4)), np.array([2, 3])], (TensorProto.FLOAT,)
    residual: list[np.ndarray] = []
    if added:
        frame = FRAME if operator == "PointwiseConv" else OUTPUT_FRAME
        residual = [floats(POSITIONS, 2, 2, OUTPUTS), places((0, 1), (2, 7), (1, 3)), floats(1, *frame, OUTPUTS)]
    match operator:
        case "PlaceRegions":
            table = {
                "jump": [1, 1, 2, 3], "before": [0, 0, 3, 1], "after": [0, 0, 1, 4], "scale": [1, 1, 1, 2],
                "frame": [32, 30, 16, 20],
            }  # fmt: skip
            return [places((0, 26), (9, 0), (20, 13)), floats(1, 3, 5, 4), np.array([1, 0.2], np.float32)], table, (
                TensorProto.INT64, TensorProto.INT64,
            )  # fmt: skip
        case "Window":
            return [*source(), places((-2, 8), (5, -3), (1, 3)), np.array([6, 5])], {"pad_value": -2.5}, result
        case "OccludeInput":
            return [places((0, 26), (9, 0), (20, 13)), floats(1, 3, 5, 4)], {}, result
        case "FullFrame" | "FullFrameNHWC" | "IncrementalGlobalAveragePool":
            return source(), {}, result
        case "IncrementalConv":
            weights = [floats(OUTPUTS, CHANNELS, 3, 2), floats(OUTPUTS)]
            return [*source(), *weights, *region, *residual], {**SPATIAL, "group": 1, **active}, result
        case "PointwiseConv":
            weights = [floats(OUTPUTS, CHANNELS, 1, 1), floats(OUTPUTS)]
            inputs = [source()[0], *weights, *([source()[1], *residual] if residual else [])]
            ones = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
            return inputs, {**ones, **active}, result
        case "ChannelAffine":
            return [source()[0], floats(CHANNELS), floats(CHANNELS)], active, result
        case "IncrementalConcat":
            return [array for _ in range(int(activation)) for array in source()] + region, {}, result
        case "IncrementalMaxPool":
            return [*source(), *region], SPATIAL, result
        case "IncrementalAveragePool":
            counts = [np.arange(1, size + 1, dtype=np.float32) for size in DENSE_FRAME]
            region = [places((0, 0), (7, 3), (1, 2)), np.array([2, 3])]
            return [*source(), *counts, *region], DENSE, result
        case "IncrementalLpPool":
            return [*source(), *region], {**SPATIAL, "p": 3}, result
        case "Remap":
            tables = [np.array([0, 3, -1, 8]), np.arange(FRAME[1])]
            return [*source(), *tables, *region], {"pad_value": 0.5}, result
        case "IncrementalResample":
            tables = [np.arange(8), np.arange(22) % FRAME[1]]
            return [*source(), *tables, floats(4, 2), floats(11, 2), *region], {}, result
        case "IncrementalConvTranspose":
            weights = [floats(CHANNELS, 3, 3, 2), floats(6)]
            enlarging = {**SPATIAL, "pads": [1, 0, 0, 0], "dilations": [1, 2], "group": 2}
            return [*source(), *weights, floats(1, 18, 13, 6), *region], enlarging, result
        case "IncrementalDepthToSpace":
            blocks = {"blocksize": 2, "mode": "CRD", "kernel_shape": [2, 2]}
            return [*source(), floats(1, 18, 22, 1), *region], blocks, result
        case "IncrementalSpaceToDepth":
            blocks = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0] * 4, "dilations": [1, 1]}
            return [*source(), places((0, 0), (2, 2), (1, 1)), np.array([2, 3])], {**blocks, "blocksize": 2}, result
    raise NotImplementedError(f"write an example of {text.op_type}")


@cache
def at_opset(text: FunctionText, opset: int) -> onnx.ModelProto:
    inputs, attributes, outputs = node_of(text)
    return one_node(text.op_type, inputs, attributes, outputs=outputs, opset=opset)


def name(text: FunctionText) -> str:
    return text.op_type


def body_of(op_type: str) -> FunctionText:
    return next(text for text in FUNCTIONS if text.op_type == op_type)


def test_the_opsets_span_what_a_rewritten_model_may_have() -> None:
    assert (OPSETS[0], OPSETS[-1]) == (BODY_OPSET, MAX_OPSET)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("text", FUNCTIONS, ids=name)
def test_the_body_passes_the_full_check(text: FunctionText, opset: int) -> None:
    model = at_opset(text, opset)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= MAX_IR_VERSION
    body = next(body for body in model.functions if body.name == text.op_type)
    imports = {entry.domain: entry.version for entry in body.opset_import}
    assert imports == {"": opset, "ai.krypton": 1}


@pytest.mark.parametrize("text", FUNCTIONS, ids=name)
def test_the_body_gives_the_same_at_every_opset(text: FunctionText) -> None:
    inputs, _, _ = node_of(text)
    first, *others = (run_body(at_opset(text, opset), inputs) for opset in OPSETS)
    assert all(array.size and np.isfinite(array).all() for array in first)
    for results in others:
        assert_close(results, first, ROUNDING)


@pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("text", [text for text in FUNCTIONS if text.op_type in KERNELS], ids=name)
def test_the_kernel_stands_in_for_the_body_at_every_opset(text: FunctionText, opset: int) -> None:
    inputs, _, _ = node_of(text)
    model = at_opset(text, opset)
    assert_close(run_kernel(model, inputs), run_body(model, inputs), ROUNDING)


def test_occlude_input_repeats_a_shared_patch_and_keeps_one_a_position() -> None:
    text = body_of("OccludeInput")
    origin, shared = node_of(text)[0]
    (got,) = run_body(at_opset(text, 18), [origin, shared])
    np.testing.assert_array_equal(got, np.repeat(shared.transpose(0, 2, 3, 1), 3, axis=0))
    each = floats(3, 3, 5, 4)
    (got,) = run_body(at_opset(text, 18), [origin, each])
    np.testing.assert_array_equal(got, each.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_full_frame_lays_the_patch_over_the_view(layout: str) -> None:
    text = body_of("FullFrame" if layout == "NCHW" else "FullFrameNHWC")
    patch, origin, view = source()
    expected = np.repeat(view, POSITIONS, axis=0)
    for position, (top, left) in enumerate(origin):
        expected[position, top : top + 3, left : left + 4] = patch[position]
    (got,) = run_body(at_opset(text, 18), [patch, origin, view])
    np.testing.assert_array_equal(got, expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected)

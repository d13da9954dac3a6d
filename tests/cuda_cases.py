"""Small random cases of every operator that has a CUDA kernel, and what runs a kernel on them: Numba's simulator, or a
GPU where conftest.py finds that it shall."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numba import cuda
from operator_models import ROUNDING, WINOGRAD, Case, Inputs

from krypton_onnx.numba_kernels import CPU_KERNELS, Kernel
from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS

GARBAGE = 123456  # what outputs hold before, so that a cell that is not written shows
LOWEST = float(np.finfo(np.float32).min)
ON_CPU = {kernel.op_type: kernel for kernel in CPU_KERNELS}
ON_DEVICE = {kernel.op_type: kernel for kernel in CUDA_KERNELS}
CONSTANTS = {"IncrementalConv": (3, 4), "PointwiseConv": (1, 2)}
"""Inputs that must be known when a kernel is made."""


def known(kernel: Kernel, inputs: Inputs) -> list[np.ndarray | None]:
    """What make() is given: the constant inputs."""
    fixed = next((indices for family, indices in CONSTANTS.items() if kernel.op_type.startswith(family)), ())
    return [array if index in fixed else None for index, array in enumerate(inputs)]


def run_on_cpu(op_type: str, inputs: Inputs, attributes: dict, strict: bool) -> np.ndarray:
    """The result of the CPU kernel."""
    kernel, results = ON_CPU[op_type], []

    def allocate(index: int, shape: tuple[int, ...]) -> np.ndarray:
        results.append(np.full(shape, GARBAGE, np.float32))
        return results[0]

    kernel.make(attributes, known(kernel, inputs), strict)(inputs, allocate)
    return results[0]


def run_on_device(op_type: str, inputs: Inputs, attributes: dict, strict: bool) -> np.ndarray:
    """The result of the CUDA kernel."""
    kernel, results = ON_DEVICE[op_type], []

    def allocate(index: int, shape: tuple[int, ...]) -> object:
        assert index == 0 and all(type(size) is int for size in shape)
        results.append(cuda.to_device(np.full(shape, GARBAGE, np.float32)))
        return results[0]

    compute = kernel.make(attributes, known(kernel, inputs), strict)
    there = [
        array if array is None or index in kernel.host else cuda.to_device(array) for index, array in enumerate(inputs)
    ]
    compute(there, allocate, 0)
    return results[0].copy_to_host()


class Example(NamedTuple):
    """One case of an operator; tolerances as for operator_models.compare."""

    inputs: Sequence[np.ndarray | None]
    attributes: dict
    tolerance: float = 0.0
    strict_tolerance: float | None = None


class SmallCase(Case):
    """As Case, of what the simulator takes milliseconds for."""

    def __init__(self, draw: st.DrawFn) -> None:
        super().__init__(draw)
        self.positions = 1 + self.positions % 3

    def frame(self, least: int = 1, most: int = 6) -> tuple[int, int]:
        return super().frame(least, most)


small_cases = st.composite(lambda draw: SmallCase(draw))()


def _suffix(op_type: str, family: str) -> tuple[bool, str]:
    """Whether the name says that there is a residual, and the activation it names."""
    rest = op_type.removeprefix(family)
    return rest.startswith("Add"), rest.removeprefix("Add")


def _activation(name: str) -> dict:
    return {"activation": name, "clip_min": -0.5, "clip_max": 0.75}


def _residual(case: Case, wanted: bool, channels: int, frame, origin, extent) -> list[np.ndarray]:
    """Of the region's own geometry, or of any other."""
    if not wanted:
        return []
    if case.choice(True, False):
        return case.source(channels, frame)
    return [case.floats(len(origin), *extent, channels), origin.copy(), case.floats(1, *frame, channels)]


def conv(case: Case, op_type: str) -> Example:
    """Any kernel, stride, pads, dilation and groups; depthwise; or of stride 1 with channels enough for Winograd."""
    kind = case.choice("any", "any", "depthwise", "winograd")
    frame = case.frame()
    if kind == "any":
        groups = case.choice(1, 1, 2, 3)
        channels, outputs = groups * case.integer(1, 3), groups * case.integer(1, 3)
        attributes, output_frame = case.spatial(frame)
    elif kind == "depthwise":
        channels = groups = case.choice(1, 3, 5)
        outputs = channels * case.choice(1, 1, 2)
        attributes, output_frame = case.spatial(frame, kernels=(1, 3))
    else:
        frame, groups = case.frame(3, 6), 1
        channels, outputs = case.choice(15, 16), case.choice(15, 16, 17)
        pads = [case.integer(0, 2) for _ in range(4)]
        attributes = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": pads}
        output_frame = frame[0] + pads[0] + pads[2] - 2, frame[1] + pads[1] + pads[3] - 2
    weights = case.floats(outputs, channels // groups, *attributes["kernel_shape"])
    origin, extent = case.region(output_frame)
    with_residual, activation = _suffix(op_type, "IncrementalConv")
    inputs = [*case.source(channels, frame), weights, case.floats(outputs), origin, extent]
    inputs += _residual(case, with_residual, outputs, output_frame, origin, extent)
    tolerance = WINOGRAD if kind == "winograd" else ROUNDING
    return Example(inputs, {**attributes, "group": groups, **_activation(activation)}, tolerance, ROUNDING)


def pointwise_conv(case: Case, op_type: str) -> Example:
    channels, outputs, frame = case.integer(1, 9), case.integer(1, 9), case.frame()
    patch, origin, _ = case.source(channels, frame)
    with_residual, activation = _suffix(op_type, "PointwiseConv")
    residual = _residual(case, with_residual, outputs, frame, origin, np.array(patch.shape[1:3]))
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    inputs = [patch, case.floats(outputs, channels, 1, 1), case.choice(0, 1) * case.floats(outputs)]
    inputs += [origin, *residual] if with_residual else []
    return Example(inputs, {**attributes, **_activation(activation)}, ROUNDING)


def window(case: Case, op_type: str) -> Example:
    """Inside the frame, hanging outside of it, around the patch and beside it; or of an empty patch."""
    channels, frame = case.integer(1, 5), case.frame()
    patch, patch_origin, view = case.source(channels, frame)
    if case.choice(False, False, False, True):
        patch = np.empty((case.choice(1, case.positions), 0, 0, channels), np.float32)
    origin = case.rng.integers(-6, 8, (case.positions, 2))
    extent = np.array(case.frame(1, 9), np.int64)
    pad_value = case.choice(0.0, -2.5, LOWEST, float("-inf"))
    return Example([patch, patch_origin, view, origin, extent], {"pad_value": pad_value})


def _table(case: Case, frame: int, outputs: int, taps: int, least: int) -> np.ndarray:
    return case.rng.integers(least, frame, outputs * taps)


def remap(case: Case, op_type: str) -> Example:
    frame, output = case.frame(), case.frame()
    tables = [_table(case, frame[axis], output[axis], 1, -1) for axis in (0, 1)]
    inputs = [*case.source(case.integer(1, 5), frame), *tables, *case.region(output)]
    return Example(inputs, {"pad_value": case.choice(0.0, -2.5)})


def incremental_resample(case: Case, op_type: str) -> Example:
    frame, output, taps = case.frame(), case.frame(), (case.integer(1, 4), case.integer(1, 4))
    tables = [_table(case, frame[axis], output[axis], taps[axis], 0) for axis in (0, 1)]
    weights = [case.floats(output[axis], taps[axis]) for axis in (0, 1)]
    inputs = [*case.source(case.integer(1, 5), frame), *tables, *weights, *case.region(output)]
    return Example(inputs, {}, ROUNDING)


def incremental_max_pool(case: Case, op_type: str) -> Example:
    frame = case.frame()
    source = case.source(case.integer(1, 5), frame)
    attributes, output_frame = case.spatial(frame)
    return Example([*source, *case.region(output_frame)], attributes)


def incremental_average_pool(case: Case, op_type: str) -> Example:
    frame = case.frame()
    source = case.source(case.integer(1, 5), frame)
    attributes, output_frame = case.spatial(frame, dilations=(1, 1))
    counts = [case.rng.integers(1, 5, size).astype(np.float32) for size in output_frame]
    return Example([*source, *counts, *case.region(output_frame)], attributes, ROUNDING)


def incremental_global_average_pool(case: Case, op_type: str) -> Example:
    return Example(case.source(case.integer(1, 9), case.frame()), {}, ROUNDING)


def channel_affine(case: Case, op_type: str) -> Example:
    channels = case.integer(1, 9)
    patch, _, _ = case.source(channels, case.frame())
    _, activation = _suffix(op_type, "ChannelAffine")
    return Example([patch, case.floats(channels), case.floats(channels)], _activation(activation), ROUNDING)


def incremental_concat(case: Case, op_type: str) -> Example:
    """Branches of any channels and regions, of one frame."""
    frame = case.frame(1, 5)
    sources = [case.source(case.integer(1, 4), frame) for _ in range(int(op_type[-1]))]
    return Example([*(array for source in sources for array in source), *case.region(frame)], {})


FAMILIES: dict[str, tuple[Callable[[Case, str], Example], int]] = {
    "IncrementalConv": (conv, 14),
    "PointwiseConv": (pointwise_conv, 8),
    "Window": (window, 40),
    "Remap": (remap, 30),
    "IncrementalResample": (incremental_resample, 30),
    "IncrementalMaxPool": (incremental_max_pool, 40),
    "IncrementalAveragePool": (incremental_average_pool, 40),
    "IncrementalGlobalAveragePool": (incremental_global_average_pool, 20),
    "ChannelAffine": (channel_affine, 8),
    "IncrementalConcat": (incremental_concat, 8),
}
"""What draws a case of an operator of this family, and how many to draw for each of its names."""


def family(op_type: str) -> tuple[Callable[[Case, str], Example], int]:
    """The entry of FAMILIES for this operator, that of the longest name it begins with. KeyError where none is."""
    return FAMILIES[max((name for name in FAMILIES if op_type.startswith(name)), key=len, default=op_type)]

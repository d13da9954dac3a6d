"""Models of one ai.krypton node, run by its function body or by its kernel, and random inputs for them."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter.functions import DOMAIN, VERSION, functions_for
from krypton_onnx.rewriter.operators import FUNCTIONS
from krypton_onnx.rewriter.rewrite import MIN_IR_VERSION
from krypton_onnx.runtime import custom_ops

ROUNDING = 2e-5
"""Largest difference of sums of a few hundred float32 terms in another order, times the largest value."""
WINOGRAD = 2e-4
"""The same where the kernel may use Winograd's F(4x4, 3x3)."""

Inputs = Sequence[np.ndarray | None]


def sweep(examples: int) -> settings:
    """Settings of a test over random cases: the same cases in every run, as sessions take milliseconds each."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


def one_node(
    op_type: str,
    inputs: Inputs,
    attributes: dict | None = None,
    *,
    constants: Sequence[int] = (),
    outputs: Sequence[int] = (TensorProto.FLOAT,),
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of one node and the functions it needs. `constants`: inputs that become initializers."""
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(inputs)]
    results = [f"o{index}" for index in range(len(outputs))]
    node = helper.make_node(op_type, names, results, name="node", domain=DOMAIN, **(attributes or {}))
    values, initializers = [], []
    for index, (name, array) in enumerate(zip(names, inputs, strict=True)):
        if array is None:
            continue
        if index in constants:
            initializers.append(numpy_helper.from_array(array, name))
        else:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
            values.append(helper.make_tensor_value_info(name, dtype, [f"{name}_{axis}" for axis in range(array.ndim)]))
    results_info = [
        helper.make_tensor_value_info(name, dtype, None) for name, dtype in zip(results, outputs, strict=True)
    ]
    # The checker wants a rank of every output.
    for info in results_info:
        info.type.tensor_type.shape.SetInParent()
        rank = 4 if info.type.tensor_type.elem_type == TensorProto.FLOAT else {"o0": 3, "o1": 2}[info.name]
        for axis in range(rank):
            info.type.tensor_type.shape.dim.add().dim_param = f"{info.name}_{axis}"
    graph = helper.make_graph([node], "one_node", values, results_info, initializers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    functions = functions_for([node], FUNCTIONS, opset)
    ir_version = max(MIN_IR_VERSION, helper.find_min_ir_version_for(imports, ignore_unknown=True))
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=ir_version)


def run_body(model: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    """In stock ONNX Runtime: the function body."""
    return _run(model, inputs, _options())


def run_kernel(model: onnx.ModelProto, inputs: Inputs, strict: bool = False) -> list[np.ndarray]:
    """With our kernels registered."""
    options = _options()
    assert custom_ops.register(options, CPU_KERNELS, strict=strict)
    return _run(model, inputs, options)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _run(model: onnx.ModelProto, inputs: Inputs, options: ort.SessionOptions) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {value.name for value in session.get_inputs()}
    return session.run(None, {f"i{i}": array for i, array in enumerate(inputs) if f"i{i}" in fed})


def compare(
    op_type: str, inputs: Inputs, attributes: dict | None = None, *, tolerance: float = 0.0,
    strict_tolerance: float | None = None, **options: object,
) -> list[np.ndarray]:  # fmt: skip
    """Assert that the kernel, strict or not, gives what the body gives, which is returned.

    Tolerances are relative to the largest expected value (at least 1); 0: bit for bit. `options`: as for one_node.
    """
    model = one_node(op_type, inputs, attributes, **options)  # type: ignore[arg-type]
    expected = run_body(model, inputs)
    for strict in (False, True):
        allowed = strict_tolerance if strict and strict_tolerance is not None else tolerance
        assert_close(run_kernel(model, inputs, strict), expected, allowed)
    return expected


def assert_close(results: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> None:
    """Assert that all outputs agree; `tolerance` as for `compare`."""
    for got, want in zip(results, expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if tolerance == 0 or want.dtype == np.int64:
            np.testing.assert_array_equal(got, want)
        else:
            scale = max(1.0, float(np.abs(want).max(initial=0)))
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


class Case:
    """Random arrays of one example, in frames and regions that Hypothesis chose."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.positions = draw(st.integers(1, 5))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, *values):
        return self.draw(st.sampled_from(values))

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def frame(self, least: int = 1, most: int = 13) -> tuple[int, int]:
        return self.integer(least, most), self.integer(least, most)

    def places(self, frame: Sequence[int], extent: Sequence[int]) -> np.ndarray:
        """Origins of rectangles inside the frame: its corners and edges as often as anywhere else."""
        columns = []
        for size, length in zip(frame, extent, strict=True):
            anywhere = self.rng.integers(0, size - length + 1, self.positions)
            column = self.rng.choice([0, size - length, -1], self.positions)
            columns.append(np.where(column < 0, anywhere, column))
        return np.stack(columns, axis=1).astype(np.int64)

    def source(self, channels: int, frame: tuple[int, int]) -> list[np.ndarray]:
        """patch, patch_origin, view: patches of any size inside the frame."""
        size = tuple(self.integer(1, side) for side in frame)
        view = self.floats(1, *frame, channels)
        return [self.floats(self.positions, *size, channels), self.places(frame, size), view]

    def region(self, frame: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """origin (N, 2) and extent (2,) of a region in a frame."""
        extent = [self.integer(1, size) for size in frame]
        return self.places(frame, extent), np.array(extent, np.int64)

    def spatial(
        self, frame: tuple[int, int], kernels: tuple[int, int] = (1, 4), dilations: tuple[int, int] = (1, 2)
    ) -> tuple[dict, tuple[int, int]]:
        """kernel_shape, strides, pads (asymmetric) and dilations that leave an output frame, and that frame."""
        attributes: dict = {"kernel_shape": [], "strides": [], "pads": [], "dilations": []}
        ends, outputs = [], []
        for size in frame:
            kernel, stride, dilation = self.integer(*kernels), self.integer(1, 3), self.integer(*dilations)
            reach = (kernel - 1) * dilation + 1
            begin, end = self.integer(0, reach - 1), self.integer(0, reach - 1)
            begin += max(0, reach - size - begin - end)
            for name, value in zip(attributes, (kernel, stride, begin, dilation), strict=True):
                attributes[name].append(value)
            ends.append(end)
            outputs.append((size + begin + end - reach) // stride + 1)
        attributes["pads"] += ends
        return attributes, (outputs[0], outputs[1])

    def activation(self) -> dict:
        return {"activation": self.choice("", "Relu", "Clip"), "clip_min": -0.5, "clip_max": 0.75}

    def residual(
        self, channels: int, frame: tuple[int, int], origin: np.ndarray, extent: np.ndarray
    ) -> list[np.ndarray]:
        """Inputs of a residual: none, one of the region's own geometry, or of any other."""
        kind = self.choice("absent", "same", "other")
        if kind == "absent":
            return []
        if kind == "same":
            return [self.floats(self.positions, *extent, channels), origin.copy(), self.floats(1, *frame, channels)]
        return self.source(channels, frame)


cases = st.composite(lambda draw: Case(draw))()

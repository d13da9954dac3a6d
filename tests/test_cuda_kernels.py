"""Every CUDA kernel against the function body that defines its operator, in ONNX Runtime, and against its CPU twin.

They run in Numba's simulator, compiled for the CPU, or on a GPU (conftest.py).
"""

import subprocess
import sys

import numpy as np
import pytest
from cuda_cases import (
    CONSTANTS,
    GARBAGE,
    LOWEST,
    ON_CPU,
    SmallCase,
    conv,
    family,
    run_on_cpu,
    run_on_device,
    small_cases,
)
from hypothesis import given
from operator_models import ROUNDING, WINOGRAD, assert_close, one_node, run_body, sweep

from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS, columns, compiled
from krypton_onnx.numba_kernels.cuda.winograd import WinogradConvolution
from krypton_onnx.rewriter.operators import FUNCTIONS

NAMES = [kernel.op_type for kernel in CUDA_KERNELS]


def check(op_type: str, inputs, attributes, tolerance: float = 0.0, strict_tolerance: float | None = None) -> None:
    """Assert that the kernel gives what body and CPU kernel give; tolerances as for operator_models.compare."""
    body = run_body(one_node(op_type, inputs, attributes), inputs)
    for strict in (False, True):
        if strict and strict_tolerance is None:
            break
        allowed = strict_tolerance if strict and strict_tolerance is not None else tolerance
        got = [run_on_device(op_type, inputs, attributes, strict)]
        assert_close(got, body, allowed)
        assert_close(got, [run_on_cpu(op_type, inputs, attributes, strict)], allowed)


@pytest.mark.parametrize("op_type", NAMES)
def test_a_kernel_equals_its_body_and_its_twin(op_type: str) -> None:
    draw, examples = family(op_type)

    @sweep(examples)
    @given(small_cases)
    def compare(case: SmallCase) -> None:
        check(op_type, *draw(case, op_type))

    compare()


@pytest.mark.parametrize("op_type", NAMES)
def test_a_kernel_gives_the_same_with_any_number_of_threads(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, _ = family(op_type)

    @sweep(2)
    @given(small_cases)
    def compare(case: SmallCase) -> None:
        example = draw(case, op_type)
        results = []
        for shape in ((1, 1), (4, 64), (3, 5)):
            monkeypatch.setattr(compiled, "launch_shape", lambda count, shape=shape: shape)
            results.append(run_on_device(op_type, example.inputs, example.attributes, False))
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])

    compare()


def stride_one(kernel: tuple[int, int], frame: tuple[int, int], pads: list[int], residual: bool, seed: int):
    """Inputs and attributes of a convolution of stride 1 whose regions cross every border."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    channels, outputs = 16, 17
    output = [frame[axis] + pads[axis] + pads[axis + 2] - kernel[axis] + 1 for axis in (0, 1)]
    origin = np.array([[0, 0], [output[0] - 5, output[1] - 6]])
    inputs = [floats(2, 2, 3, channels), np.array([[0, 1], [frame[0] - 2, frame[1] - 3]]), floats(1, *frame, channels),
              floats(outputs, channels, *kernel), floats(outputs), origin, np.array([5, 6])]  # fmt: skip
    if residual:
        inputs += [floats(2, 3, 2, outputs), np.array([[1, 1], [0, 2]]), floats(1, *output, outputs)]
    attributes = {"kernel_shape": kernel, "strides": [1, 1], "pads": pads, "dilations": [1, 1], "group": 1,
                  "activation": "Relu", "clip_min": 0.0, "clip_max": 0.0}  # fmt: skip
    return "IncrementalConv" + ("Add" if residual else "") + "Relu", inputs, attributes


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (7, 1), (1, 7), (5, 5), (3, 4)])
@pytest.mark.parametrize("residual", [False, True])
def test_winograd(kernel: tuple[int, int], residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WinogradConvolution, "pays", lambda self, height, width: True)
    ran = []
    run = WinogradConvolution.run
    monkeypatch.setattr(WinogradConvolution, "run", lambda *arguments: (ran.append(1), run(*arguments)))
    pads = [kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, (kernel[1] - 1) // 2]
    check(*stride_one(kernel, (7, 8), pads, residual, kernel[0]), tolerance=WINOGRAD)
    assert ran


@pytest.mark.parametrize("strict", [False, True], ids=["winograd", "columns"])
def test_chunks_give_what_one_piece_gives(strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    op_type, inputs, attributes = stride_one((3, 3), (7, 8), [1, 1, 1, 1], True, 3)
    monkeypatch.setattr(WinogradConvolution, "pays", lambda self, height, width: True)
    whole = run_on_device(op_type, inputs, attributes, strict)
    filled = []
    chunk = columns.chunk
    for module in (columns, sys.modules[WinogradConvolution.__module__]):
        monkeypatch.setattr(module, "chunk", lambda total, floats: filled.append(total) or min(total, 3))
    np.testing.assert_allclose(run_on_device(op_type, inputs, attributes, strict), whole, rtol=0, atol=ROUNDING * 100)
    assert filled and filled[0] > 3
    assert [chunk(total, columns.SCRATCH_FLOATS // 4) for total in (1, 4, 5, 9)] == [1, 4, 3, 3]
    assert chunk(7, 2 * columns.SCRATCH_FLOATS) == 1


def test_the_choice_of_an_algorithm_is_the_cpus() -> None:
    """Small plain weights stay beside Winograd's; strict sessions have none of it."""
    op_type, inputs, attributes = stride_one((3, 3), (7, 8), [1, 1, 1, 1], False, 4)
    inputs[6] = np.array([1, 1])  # a pixel: not worth a tile
    pixel = run_on_device(op_type, inputs, attributes, False)
    np.testing.assert_array_equal(pixel, run_on_device(op_type, inputs, attributes, True))
    inputs[5], inputs[6] = np.zeros((2, 2), np.int64), np.array([7, 8])
    region = run_on_device(op_type, inputs, attributes, False)
    assert not np.array_equal(region, run_on_device(op_type, inputs, attributes, True))  # rounded otherwise


def test_infinite_values_and_nan_stay_what_they_are() -> None:
    infinite = np.array([-np.inf, np.inf, np.nan], np.float32).reshape(1, 1, 1, 3)
    ones, origin, extent = np.ones(3, np.float32), np.zeros((1, 2), np.int64), np.ones(2, np.int64)
    for activation, expected in (("", infinite), ("Relu", [[[[0, np.inf, np.nan]]]]), ("Clip", [[[[0, 6, np.nan]]]])):
        attributes = {"activation": activation, "clip_min": 0.0, "clip_max": 6.0}
        got = run_on_device("ChannelAffine" + activation, [infinite, ones, 0 * ones], attributes, False)
        np.testing.assert_array_equal(got, expected)
    pool = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
    inputs = [infinite, origin, infinite, origin, extent]
    got = run_on_device("IncrementalMaxPool", inputs, pool, False)
    np.testing.assert_array_equal(got, run_on_cpu("IncrementalMaxPool", inputs, pool, False))
    assert got.ravel()[0] == LOWEST and got.ravel()[1] == np.inf


def test_the_global_average_is_summed_in_float64() -> None:
    """In float32 the small ones would be lost beside the large ones that the patch takes away again."""
    view = np.full((1, 8, 8, 2), 1e-3, np.float32)
    view[0, :, 0, 0] = 1e8
    patch, origin = np.full((2, 8, 1, 2), 1e-3, np.float32), np.array([[0, 0], [0, 3]])
    got = run_on_device("IncrementalGlobalAveragePool", [patch, origin, view], {}, False)
    expected = np.array([[1e-3, 1e-3], [(8e8 + 56e-3) / 64, 1e-3]], np.float32)
    np.testing.assert_allclose(got[:, :, 0, 0], expected, rtol=1e-5)


def test_nothing_to_compute_launches_nothing() -> None:
    view = np.ones((1, 4, 4, 3), np.float32)
    none, extent = np.empty((0, 2), np.int64), np.array([2, 2])
    got = run_on_device("Window", [np.empty((0, 1, 1, 3), np.float32), none, view, none, extent], {}, False)
    assert got.shape == (0, 2, 2, 3)


# -- declarations ------------------------------------------------------------------------------------------------------


def test_every_operator_but_place_regions_has_a_kernel() -> None:
    assert sorted(NAMES) == sorted(set(ON_CPU) - {"PlaceRegions"})


@pytest.mark.parametrize("kernel", CUDA_KERNELS, ids=lambda kernel: kernel.op_type)
def test_a_kernel_declares_what_its_twin_declares_and_reads_extents_on_the_host(kernel) -> None:
    twin = ON_CPU[kernel.op_type]
    for field in ("inputs", "required", "outputs", "attributes", "consumed"):
        assert getattr(kernel, field) == getattr(twin, field)
    assert (kernel.provider, twin.provider, twin.host) == ("CUDAExecutionProvider", "CPUExecutionProvider", ())
    (text,) = (text for text in FUNCTIONS if text.op_type == kernel.op_type)
    names = text.parse(18).input
    assert [names[index] for index in kernel.host] == [name for name in names if name.endswith("extent")]


@pytest.mark.parametrize("op_type", ["IncrementalConvRelu", "PointwiseConv"])
def test_weights_that_are_no_constants_are_refused(op_type: str) -> None:
    (kernel,) = (kernel for kernel in CUDA_KERNELS if kernel.op_type == op_type)
    with pytest.raises(ValueError, match="weights and bias must be constants of the model"):
        kernel.make({}, [None] * len(kernel.inputs), False)


def test_the_cases_can_tell_a_kernel_that_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.DeviceKernel, "__call__", lambda *arguments: None)
    inputs, attributes, *_ = family("Window")[0](_FixedCase(), "Window")
    assert (run_on_device("Window", inputs, attributes, False) == GARBAGE).all()


class _FixedCase(SmallCase):
    """A case that nothing is drawn for."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.positions = 2

    def integer(self, low: int, high: int) -> int:
        return high

    def choice(self, *values):
        return values[0]


@pytest.mark.parametrize("module", ["krypton_onnx", "krypton_onnx.numba_kernels", "krypton_onnx.runtime.session"])
def test_nothing_of_cuda_is_imported_before_it_is_asked_for(module: str) -> None:
    text = f"import sys, {module}; print([name for name in sys.modules if name.startswith(('numba.cuda', 'cupy'))])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constants_are_what_the_kernels_prepare() -> None:
    """cuda_cases hands these over when a kernel is made; all other inputs only when it runs."""
    _, inputs, _ = stride_one((3, 3), (7, 8), [1, 1, 1, 1], False, 5)
    assert CONSTANTS["IncrementalConv"] == (3, 4) and inputs[3].ndim == 4 and inputs[4].ndim == 1
    assert conv(_FixedCase(), "IncrementalConv").inputs[3].ndim == 4

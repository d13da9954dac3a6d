"""What lies between CUDA kernels and a GPU, tested without one: pointers, launches, products, scratch memory."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from host_cuda import HostCublas, HostStream, host_cupy
from numba import types

from krypton_onnx.numba_kernels.cuda import arrays, compiled, products, target, workspace
from krypton_onnx.numba_kernels.precision import light_products

# -- products ----------------------------------------------------------------------------------------------------------


def fake_library() -> tuple[products.Library, HostCublas]:
    cublas = HostCublas()
    HostStream.entered.clear()
    return products.Library(host_cupy(), cublas), cublas


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def on_host(weights: np.ndarray) -> SimpleNamespace:
    """As products.Weights, in host memory."""
    return SimpleNamespace(shape=weights.shape, start=weights.ctypes.data, values=weights)


@pytest.mark.parametrize(
    ("stack", "rows", "depth", "columns"), [(1, 5, 7, 3), (3, 4, 2, 6), (36, 1, 3, 2), (2, 3, 1, 1)]
)
@pytest.mark.parametrize("side_by_side", [False, True])
def test_cublas_is_asked_for_what_the_simulator_computes(stack, rows, depth, columns, side_by_side) -> None:
    a, weights = random(stack, rows, depth), random(stack, depth, columns)
    expected = a @ weights
    if side_by_side:  # the groups of a convolution
        out_row, out_stack, expected = stack * columns, columns, expected.transpose(1, 0, 2)
    else:
        out_row, out_stack = columns, rows * columns
    library, cublas = fake_library()
    out = np.full(expected.shape, np.nan, np.float32)
    library.multiply(a.ctypes.data, on_host(weights), out.ctypes.data, rows, out_row, out_stack, 123)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert HostStream.entered == [123] and cublas.computed == [cublas.CUBLAS_COMPUTE_32F]
    simulated = np.full(expected.size, np.nan, np.float32)
    given = SimpleNamespace(shape=weights.shape, start=weights.reshape(-1))
    products._simulate(a.reshape(-1), given, simulated, rows, out_row, out_stack)
    np.testing.assert_allclose(simulated.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_tf32_is_used_where_products_may_be_light_and_nowhere_else() -> None:
    library, cublas = fake_library()

    def multiply(stack: int, depth: int) -> None:
        a, weights, out = random(stack, 1, depth), random(stack, depth, 1), random(stack, 1, 1)
        library.multiply(a.ctypes.data, on_host(weights), out.ctypes.data, 1, 1, 1, 0)

    multiply(1, 300)
    multiply(36, 300)
    with light_products():
        multiply(1, 4)
        multiply(36, 300)
        multiply(36, 4)  # narrow products of Winograd would round too much
    multiply(1, 4)
    exact, light = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    assert cublas.computed == [exact, exact, light, light, exact, exact]
    assert set(HostStream.entered) == {0}


@pytest.mark.skipif(not hasattr(products.library, "cache_clear"), reason="host_cuda.py has taken its place")
def test_no_cupy_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    products.library.cache_clear()
    with pytest.raises(ImportError, match=r"CuPy .*: pip install 'krypton-onnx\[gpu\]'") as error:
        products.library()
    assert "\n" not in str(error.value)


def test_nodes_with_equal_weights_share_them_while_one_lives() -> None:
    values = random(2, 3, 4)
    first = products.prepared("some", values, lambda: values)
    assert products.prepared("some", values.copy(), lambda: values) is first
    assert products.prepared("other", values, lambda: values) is not first
    assert products.prepared("some", values + 1, lambda: values) is not first
    before = len(products._prepared)
    del first
    assert len(products._prepared) == before - 1


# -- launches ----------------------------------------------------------------------------------------------------------


class FakeCuda:
    """What compiled.py uses of numba.cuda on a device."""

    def __init__(self) -> None:
        self.compiled, self.configured, self.launched = [], [], []

    def jit(self, signature, cache=False):
        def decorate(function):
            self.compiled.append((signature, cache))
            return self

        return decorate

    def __getitem__(self, configuration):
        self.configured.append(configuration)
        return lambda *arguments: self.launched.append((configuration, arguments))


def test_a_kernel_is_compiled_once_and_configured_once_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(compiled, "cuda", cuda)
    monkeypatch.setattr(compiled, "SIMULATED", False)
    monkeypatch.setattr(compiled, "require_numba_cuda", lambda: None)
    kernel = compiled.DeviceKernel(lambda data, count: None, (compiled.FLOATS, compiled.INT))
    one, other = SimpleNamespace(handle=11), SimpleNamespace(handle=ctypes.c_void_p(12))
    kernel(0, one, 4096)
    assert not cuda.compiled, "nothing to compute, but something was compiled"
    for stream, count in ((one, 10), (one, 20_000), (one, 20), (other, 10), (one, 5_000_000)):
        kernel(count, stream, 4096)
    assert cuda.compiled == [(types.void(compiled.FLOATS, compiled.INT), True)]
    assert cuda.configured == [(128, 256, one), (128, 256, other), (4096, 256, one)]
    assert [arguments for _, arguments in cuda.launched] == [(4096, count) for count in (10, 20_000, 20, 10, 5_000_000)]


def test_numbas_own_target_is_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    target.require_numba_cuda()
    monkeypatch.setattr(target, "SIMULATED", False)
    for implementation, refused in (("NVIDIA", False), ("Built-in", True)):
        monkeypatch.setattr(target, "cuda", SimpleNamespace(implementation=implementation))
        if refused:
            with pytest.raises(ImportError, match=r"need numba-cuda.*pip install 'krypton-onnx\[gpu\]'"):
                target.require_numba_cuda()
        else:
            target.require_numba_cuda()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 40_000, target.MOST_CELLS - 1])
def test_a_launch_has_threads_for_its_elements_up_to_a_bound(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SIMULATED", False)
    blocks, threads = compiled.launch_shape(count)
    assert threads == 256 and 128 <= blocks <= 4096
    assert blocks * threads >= min(count, 4096 * 256)
    assert count + blocks * threads < 2**31  # a thread's count must not wrap around
    monkeypatch.setattr(compiled, "SIMULATED", True)
    assert np.prod(compiled.launch_shape(count)) <= 256


# -- pointers ----------------------------------------------------------------------------------------------------------


def test_a_pointer_is_the_address_of_any_array_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SIMULATED", False)
    numbas = SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(4096))
    described = SimpleNamespace(__cuda_array_interface__={"data": (8192, False)})
    empty = SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(0))
    assert [arrays.pointer(array) for array in (numbas, described, empty)] == [4096, 8192, 0]
    assert arrays.offset(4096, 3) == 4096 + 12
    assert arrays.nothing() == 0


def test_a_batch_that_is_too_large_says_what_to_do() -> None:
    assert arrays.counted(2**15, 2**15, 1, 1) == 2**30
    with pytest.raises(ValueError, match=r"4294967296 elements.*use a smaller batch size"):
        arrays.counted(2**16, 2**16)


def test_half_a_residual_is_refused() -> None:
    assert arrays.residual([None] * 3, 0) == arrays.NO_RESIDUAL == arrays.residual([], 7)
    with pytest.raises(ValueError, match="a residual needs its patch, its origin and its view"):
        arrays.residual([random(1, 1, 1, 1), None, random(1, 1, 1, 1)], 0)


@pytest.mark.skipif(not target.SIMULATED, reason="looks into the simulator's arrays")
def test_scratch_memory_is_kept_for_its_stream_and_grows() -> None:
    workspace.forget()
    one, other = SimpleNamespace(handle=1), SimpleNamespace(handle=2)
    with workspace.workspace(one) as scratch:
        small = scratch.floats("a", 10)
        assert scratch.floats("a", 7) is small and scratch.floats("b", 7) is not small
        assert len(scratch.floats("a", 11)) >= 11
        assert np.asarray(scratch.doubles("c", 3)).dtype == np.float64
        assert scratch.lock.locked()
        with workspace.workspace(other) as beside:  # another stream does not wait
            assert beside is not scratch
    with workspace.workspace(one) as again:
        assert again is scratch
    assert not scratch.lock.locked()
    workspace.forget()
    with workspace.workspace(one) as fresh:
        assert fresh is not scratch


@pytest.mark.skipif(not target.SIMULATED, reason="a GPU runs these tests")
def test_the_simulator_computes_indices_with_pythons_numbers() -> None:
    assert target.int32 is int and target.device_number() == 0 and target.stream_address(0) == 0

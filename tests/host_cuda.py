"""A stand-in for numba.cuda that compiles kernels for the CPU: the same functions, with the same argument types.

Numba's simulator runs kernels as Python, with Python's numbers, on NumPy arrays. Here they are compiled as for a GPU:
indices are 32-bit numbers that wrap around, arrays are bare addresses, floats are float32, and a name or a type that
Numba cannot compile is an error. One thread does what thousands do on a GPU, at a speed that allows for real sizes.
Products go the way of a GPU too, to a stand-in for cuBLAS. Chosen by KRYPTON_TEST_CUDA=compiled (conftest.py).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numba
import numpy as np
from numba import cfunc, njit, types


class HostArray:
    """What numba.cuda.to_device gives: memory that is known by its address only."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = np.ascontiguousarray(values)
        self.shape = self._values.shape
        self.__cuda_array_interface__ = {"data": (self._values.ctypes.data, False)}

    def copy_to_host(self) -> np.ndarray:
        return self._values.copy()


class _Compiled:
    """A kernel: [any configuration] gives what launches it."""

    def __init__(self, function: Callable[..., None], signature: Any) -> None:
        self._code = cfunc(signature, error_model="numpy")(function)
        plain = {types.int32: ctypes.c_int32, types.float32: ctypes.c_float}
        arguments = [plain.get(argument, ctypes.c_void_p) for argument in signature.args]
        self._launch = ctypes.CFUNCTYPE(None, *arguments)(self._code.address)

    def __getitem__(self, configuration: object) -> Callable[..., None]:
        return self._launch


def _jit(signature: Any = None, device: bool = False, cache: bool = False) -> Callable[[Callable], Any]:
    return njit(error_model="numpy") if device else lambda function: _Compiled(function, signature)


@njit
def _grid(dimensions):
    return 0


@njit
def _grid_size(dimensions):
    return 1


def floats_at(address: int, count: int) -> np.ndarray:
    """The float32 numbers that lie there."""
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32)


class HostCublas:
    """What products.py uses of cupy.cuda.cublas, on addresses in host memory, as cuBLAS documents it: columns first."""

    CUBLAS_DEFAULT_MATH, CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32 = 0, 68, 77
    HANDLE = 7

    def __init__(self) -> None:
        self.math_mode = 3  # as if somebody had allowed TF32
        self.computed: list[int] = []

    def setMathMode(self, handle: int, mode: int) -> None:
        assert handle == self.HANDLE
        self.math_mode = mode

    def gemmStridedBatchedEx(
        self, handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, stride_a, b, b_type, ldb, stride_b, beta,
        c, c_type, ldc, stride_c, batch, compute, algorithm,
    ) -> None:  # fmt: skip
        """C (m, n) = alpha A (m, k) B (k, n) + beta C, all column-major, for each of a batch."""
        assert (handle, op_a, op_b, a_type, b_type, c_type, algorithm) == (self.HANDLE, 0, 0, 0, 0, 0, -1)
        assert floats_at(alpha, 1)[0] == 1 and floats_at(beta, 1)[0] == 0
        assert self.math_mode == self.CUBLAS_DEFAULT_MATH
        assert lda >= m and ldb >= k and ldc >= m
        self.computed.append(compute)

        def transposed(start: int, leading: int, rows: int, columns: int) -> np.ndarray:
            """A column-major matrix (rows, columns), as NumPy's (columns, rows)."""
            flat = floats_at(start, leading * (columns - 1) + rows)
            return np.lib.stride_tricks.as_strided(flat, (columns, rows), (4 * leading, 4))

        for index in range(batch):
            target = transposed(c + 4 * index * stride_c, ldc, m, n)
            target[:] = transposed(b + 4 * index * stride_b, ldb, k, n) @ transposed(
                a + 4 * index * stride_a, lda, m, k
            )


class HostStream:
    """cupy.cuda.Stream: made from anything that speaks CUDA's protocol for streams, then entered."""

    entered: ClassVar[list[int]] = []
    null: ClassVar[HostStream]

    def __init__(self, address: int) -> None:
        self.address = address

    @classmethod
    def from_external(cls, stream: Any) -> HostStream:
        version, address = stream.__cuda_stream__()
        assert version == 0
        return cls(address)

    def __enter__(self) -> None:
        self.entered.append(self.address)

    def __exit__(self, *error: object) -> None:
        pass


HostStream.null = HostStream(0)


def host_cupy() -> Any:
    """What products.py uses of CuPy."""
    device = SimpleNamespace(get_cublas_handle=lambda: HostCublas.HANDLE)
    return SimpleNamespace(cuda=SimpleNamespace(Stream=HostStream, device=device))


def install() -> None:
    """Take the place of numba.cuda, before anything of krypton_onnx.numba_kernels.cuda is imported."""
    assert "numba.cuda" not in sys.modules
    module: Any = ModuleType("numba.cuda")
    module.config = SimpleNamespace(ENABLE_CUDASIM=0)
    module.grid, module.gridsize, module.jit = _grid, _grid_size, _jit
    module.to_device = lambda values: HostArray(np.array(values))
    module.device_array = lambda count, dtype: HostArray(np.full(count, 7, dtype))  # garbage
    module.get_current_device = lambda: SimpleNamespace(id=0)
    sys.modules["numba.cuda"] = numba.cuda = module
    from krypton_onnx.numba_kernels.cuda import products

    library = products.Library(host_cupy(), HostCublas())
    products.library = lambda: library

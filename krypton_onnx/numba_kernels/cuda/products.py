"""Products of matrices by fixed weights: cuBLAS, through CuPy. In the simulator, NumPy.

Precision is stated in every call, so that neither an environment variable nor what other code of the process asked of
the same handle changes it: full float32, except where `precision.light_products` says that a result is an
approximation anyway. There wide products are TF32: float32 rounded to 11 bits on the way in, summed in float32.

Weights that are prepared once are shared by all nodes of a process that have equal ones, so by all sessions of one
model on one GPU.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..precision import parts_used
from .arrays import Pointer, pointer, upload
from .target import SIMULATED, device_number, stream_address


class Weights:
    """A stack of matrices (S, K, N), float32, on the device."""

    def __init__(self, values: np.ndarray) -> None:
        self.shape: tuple[int, int, int] = values.shape
        self._array = upload(values)
        self.start = pointer(self._array)


_lock = threading.Lock()
_prepared: WeakValueDictionary[tuple[object, ...], Weights] = WeakValueDictionary()


def prepared(kind: str, source: np.ndarray, make: Callable[[], np.ndarray]) -> Weights:
    """Weights make(), which depend on `source` in a way that `kind` tells. Raises ImportError where CuPy is missing."""
    if not SIMULATED:
        library()
    digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16).digest()
    key = device_number(), kind, source.shape, digest
    with _lock:
        found = _prepared.get(key)
        if found is None:
            found = _prepared[key] = Weights(make())
        return found


def multiply(a: Pointer, weights: Weights, out: Pointer, rows: int, out_row: int, out_stack: int, stream: Any) -> None:
    """out = a (S, rows, K) @ weights (S, K, N), queued on `stream`.

    Row r of result s is at out + s * out_stack + r * out_row, in floats: a result may be columns of a wider matrix.
    """
    if rows == 0:
        return
    if SIMULATED:
        _simulate(a, weights, out, rows, out_row, out_stack)
    else:
        library().multiply(a, weights, out, rows, out_row, out_stack, stream_address(stream))


def _simulate(a: Any, weights: Weights, out: Any, rows: int, out_row: int, out_stack: int) -> None:
    """The same by NumPy, on the simulator's arrays."""
    stack, depth, columns = weights.shape
    size = np.dtype(np.float32).itemsize
    target = np.lib.stride_tricks.as_strided(
        np.asarray(out), (stack, rows, columns), (out_stack * size, out_row * size, size)
    )
    terms = np.asarray(a)[: stack * rows * depth].reshape(stack, rows, depth)
    target[:] = terms @ np.asarray(weights.start).reshape(weights.shape)


class Library:
    """cuBLAS, as CuPy binds it: on the stream and the device that are current for CuPy in this thread."""

    def __init__(self, cupy: Any, cublas: Any) -> None:
        self._cupy, self._cublas = cupy, cublas
        self._streams: dict[int, Any] = {}
        self._one, self._zero = np.ones(1, np.float32), np.zeros(1, np.float32)  # cuBLAS reads factors from the host

    def multiply(
        self, a: int, weights: Weights, out: int, rows: int, out_row: int, out_stack: int, stream: int
    ) -> None:
        """As `multiply` above; stream: address of a cudaStream_t."""
        cublas, (stack, depth, columns) = self._cublas, weights.shape
        exact = parts_used(stack, depth) > 1
        float32, plain, default = 0, 0, -1  # CUDA_R_32F, CUBLAS_OP_N, CUBLAS_GEMM_DEFAULT
        with self._stream(stream):
            handle = self._cupy.cuda.device.get_cublas_handle()
            # It would allow TF32 in spite of the compute type, if somebody had set it so.
            cublas.setMathMode(handle, cublas.CUBLAS_DEFAULT_MATH)
            # cuBLAS counts down columns: to it every matrix here is its transpose, and out' = weights' @ a'.
            cublas.gemmStridedBatchedEx(
                handle, plain, plain, columns, rows, depth, self._one.ctypes.data,
                weights.start, float32, columns, depth * columns,
                a, float32, depth, rows * depth,
                self._zero.ctypes.data,
                out, float32, out_row, out_stack,
                stack, cublas.CUBLAS_COMPUTE_32F if exact else cublas.CUBLAS_COMPUTE_32F_FAST_TF32, default,
            )  # fmt: skip

    def _stream(self, address: int) -> Any:
        """CuPy's stream for this address."""
        found = self._streams.get(address)
        if found is None:
            outside = self._cupy.cuda.Stream
            found = outside.from_external(_Stream(address)) if address else outside.null
            self._streams[address] = found
        return found


class _Stream:
    """A stream as CUDA's protocol for Python describes it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


@cache
def library() -> Library:
    """cuBLAS. Raises ImportError, in one line, where CuPy or cuBLAS is missing."""
    try:
        return Library(import_module("cupy"), import_module("cupy.cuda").cublas)
    except Exception as error:  # CuPy also loads CUDA's libraries, which may be missing or of another version
        raise ImportError(
            f"CUDA kernels multiply with cuBLAS through CuPy ({error}): pip install 'krypton-onnx[gpu]'"
        ) from error

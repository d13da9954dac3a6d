"""An NVIDIA GPU as kernels and sessions see it: streams and pointers of ONNX Runtime's, wrapped for Numba.

Nothing of CUDA is imported before a GPU is asked for. Numba, CuPy and ONNX Runtime share the device's primary context,
so that each can use what the others allocate.
"""

from __future__ import annotations

import io
import threading
from contextlib import redirect_stdout
from ctypes import addressof, c_void_p
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort

from krypton_onnx.errors import ModelError, one_line
from krypton_onnx.forking import generation
from krypton_onnx.runtime.custom_ops.ort_api import OrtApi
from krypton_onnx.runtime.providers import CUDA as PROVIDER

INSTALL = "pip install 'krypton-onnx[gpu]' (and no onnxruntime beside onnxruntime-gpu)"
BUILT_IN = "Built-in"  # what Numba's own, deprecated target calls itself; numba-cuda takes its place
_KEPT_ARRAYS = 4096
_COPY_ANYWHERE = 4  # cudaMemcpyDefault: from and to what the pointers tell


class _Pointer:
    """Device memory as __cuda_array_interface__ describes it, which Numba and CuPy take without a copy."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3, "strides": None,
            "stream": None,  # kernels are queued behind what wrote it
        }  # fmt: skip


class CudaDevice:
    """One GPU (`custom_ops.device.Device`)."""

    provider = PROVIDER

    def __init__(self, number: int, cuda: Any, cupy: Any) -> None:
        """number : of the GPU, as in provider option device_id. cuda, cupy : numba.cuda and CuPy."""
        self.number = number
        self._cuda, self._cupy = cuda, cupy
        self._streams: dict[int, Any] = {}
        # ONNX Runtime's arena hands out the same blocks run after run, and to wrap one takes longer than to find it.
        self._arrays: dict[tuple[int, tuple[int, ...], np.dtype], Any] = {}
        self._here = threading.local()
        self._born = generation()

    def _enter(self) -> None:
        """Makes the GPU the current one of this thread, once."""
        if generation() != self._born:
            raise ModelError("CUDA cannot be used in a forked process: start it with multiprocessing's spawn")
        if not getattr(self._here, "entered", False):
            self._cuda.select_device(self.number)
            self._cupy.cuda.Device(self.number).use()
            self._here.entered = True

    def stream(self, api: OrtApi, context: int) -> Any:
        """Numba's wrapper of the cudaStream_t on which ONNX Runtime runs the node."""
        self._enter()
        handle = c_void_p()
        api.check(api.KernelContext_GetGPUComputeStream(context, addressof(handle)))
        key = handle.value or 0
        stream = self._streams.get(key)
        if stream is None:
            stream = self._cuda.external_stream(key) if key else self._cuda.default_stream()
            self._streams[key] = stream
        return stream

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A Numba device array over ONNX Runtime's memory, without a copy."""
        key = (address, shape, dtype)
        array = self._arrays.get(key)
        if array is None:
            self._enter()
            if len(self._arrays) >= _KEPT_ARRAYS:
                self._arrays.clear()
            if prod(shape):
                array = self._cuda.as_cuda_array(_Pointer(address, shape, dtype), sync=False)
            else:  # no memory behind it
                array = self._cuda.device_array(shape, dtype)
            self._arrays[key] = array
        return array

    def upload(self, values: np.ndarray) -> Any:
        """A Numba device array with these values."""
        self._enter()
        return self._cuda.to_device(np.ascontiguousarray(values))

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A copy in host memory of what lies at an address of either memory."""
        self._enter()
        values = np.empty(shape, dtype)
        if values.nbytes:
            self._cupy.cuda.runtime.memcpy(values.ctypes.data, address, values.nbytes, _COPY_ANYWHERE)
        return values

    def wait(self) -> None:
        """Until everything queued so far is done."""
        self._enter()
        self._cuda.synchronize()

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody has taken."""
        self._enter()
        return int(self._cupy.cuda.runtime.memGetInfo()[0])


def _load_libraries() -> None:
    """CUDA's and cuDNN's, where they came as wheels: the system's loader does not look there."""
    with redirect_stdout(io.StringIO()):  # it prints what it does not find, and that may be where the loader looks
        getattr(ort, "preload_dlls", lambda: None)()


@cache
def cuda_device(number: int = 0) -> CudaDevice:
    """The GPU with this number. Raises ModelError with one line that says what is missing."""
    _load_libraries()
    try:
        from numba import cuda
    except ImportError as error:
        raise ModelError(f"{PROVIDER} needs Numba's CUDA target ({one_line(error)}): {INSTALL}") from error
    if getattr(cuda, "implementation", BUILT_IN) == BUILT_IN:
        raise ModelError(f"{PROVIDER} needs numba-cuda; Numba's own CUDA target is too old: {INSTALL}")
    try:
        import cupy
    except Exception as error:  # it also loads CUDA's libraries, which may be missing or of another version
        raise ModelError(f"{PROVIDER} needs CuPy for its matrix products ({one_line(error)}): {INSTALL}") from error
    try:
        there = len(cuda.gpus)
    except Exception as error:  # the driver is missing, or too old; Numba's exceptions share no base class
        raise ModelError(f"{PROVIDER} finds no GPU that it can use: {one_line(error)}") from error
    if not 0 <= number < there:
        raise ModelError(f"{PROVIDER}: device_id is {number}, but there are {there} GPUs, counted from 0")
    return CudaDevice(number, cuda, cupy)

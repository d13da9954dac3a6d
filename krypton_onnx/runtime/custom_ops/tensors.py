"""Zero-copy numpy views of ONNX Runtime's tensors.

Runs for every input and output of every node, so what costs a microsecond counts: the out-parameters are
made once a thread, and the array from a memoryview, which is several times cheaper than ctypes' own arrays.
"""

import ctypes
import threading
from ctypes import POINTER, addressof, c_int, c_int64, c_size_t, c_void_p
from math import prod

import numpy as np

from krypton_onnx.runtime.custom_ops.ort_api import OrtApi

_memoryview = ctypes.pythonapi.PyMemoryView_FromMemory
_memoryview.restype = ctypes.py_object
_memoryview.argtypes = (c_void_p, ctypes.c_ssize_t, c_int)
# Also for inputs, which nobody may write to: to Numba a read-only array is another type, and would compile
# every kernel a second time.
_WRITABLE = 0x200  # PyBUF_WRITE


class _Scratch(threading.local):
    """Out-parameters of the C calls, and their addresses."""

    def __init__(self) -> None:
        self.value, self.data = c_void_p(), c_void_p()
        self.element_type, self.dims, self.rank = c_int(), POINTER(c_int64)(), c_size_t()
        self.value_out, self.data_out = addressof(self.value), addressof(self.data)
        self.shape_out = (addressof(self.element_type), addressof(self.dims), addressof(self.rank))


class TensorAccess:
    """Views of the tensors that a kernel call can reach. A view is valid until that call returns (views of
    constants: as long as the kernel)."""

    def __init__(self, api: OrtApi) -> None:
        self._api = api
        self._get_input = api.KernelContext_GetInput
        self._get_output = api.KernelContext_GetOutput
        self._get_shape = api.GetTensorElementTypeAndShapeDataReference
        self._get_data = api.GetTensorMutableData
        self._scratch = _Scratch()

    def input(self, context: int, index: int, dtype: np.dtype) -> np.ndarray | None:
        """View of an input in host memory, None where an optional one is absent."""
        value = self.input_value(context, index)
        return self.view(value, dtype) if value else None

    def output(
        self, context: int, dtypes: tuple[np.dtype, ...], index: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Allocates an output in host memory and views it."""
        return self._array(self.output_value(context, index, shape), shape, dtypes[index])

    def view(self, value: int, dtype: np.dtype) -> np.ndarray:
        """View of an OrtValue, a tensor of the given element type in host memory."""
        return self._array(value, self.shape(value), dtype)

    def input_value(self, context: int, index: int) -> int | None:
        """The OrtValue of an input, None where an optional one is absent."""
        scratch = self._scratch
        status = self._get_input(context, index, scratch.value_out)
        if status:
            self._api.check(status)
        return scratch.value.value or None

    def output_value(self, context: int, index: int, shape: tuple[int, ...]) -> int:
        """Allocates an output, an OrtValue."""
        scratch = self._scratch
        rank = len(shape)
        status = self._get_output(context, index, (c_int64 * rank)(*shape), rank, scratch.value_out)
        if status:
            self._api.check(status)
        value = scratch.value.value
        if not value:
            raise IndexError(f"the operator has no output {index}")
        return value

    def shape(self, value: int) -> list[int]:
        """The shape of an OrtValue, a tensor."""
        scratch = self._scratch
        status = self._get_shape(value, *scratch.shape_out)
        if status:
            self._api.check(status)
        return scratch.dims[: scratch.rank.value]

    def address(self, value: int) -> int:
        """Where the elements of an OrtValue are, in whatever memory; 0 where there are none."""
        scratch = self._scratch
        status = self._get_data(value, scratch.data_out)
        if status:
            self._api.check(status)
        return scratch.data.value or 0

    def _array(self, value: int, shape: tuple[int, ...] | list[int], dtype: np.dtype) -> np.ndarray:
        size = prod(shape) * dtype.itemsize
        if not size:  # there may be no memory behind it
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, _memoryview(self.address(value), size, _WRITABLE))

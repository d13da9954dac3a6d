"""One node of a session that a kernel runs: made from what ONNX Runtime knows of the node, then called."""

import ctypes
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import partial

import numpy as np

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.detached import ATTRIBUTE, constants_of
from krypton_onnx.runtime.custom_ops.ort_api import ELEMENT_TYPES, OrtApi, OrtApiError
from krypton_onnx.runtime.custom_ops.tensors import TensorAccess


class Node:
    """A compute callable with its constant inputs at hand and its other inputs fetched at each run."""

    def __init__(self, kernel: Kernel, strict: bool, api: OrtApi, tensors: TensorAccess, info: int) -> None:
        """info: address of the OrtKernelInfo, valid only during this call."""
        self._tensors = tensors
        self._output_dtypes = tuple(ELEMENT_TYPES[name][1] for name in kernel.outputs)
        # One entry an input, also for those that the node does not have, so that kernels can unpack it.
        self._inputs: list[np.ndarray | None] = [None] * len(kernel.inputs)
        self._fetched: list[tuple[int, np.dtype]] = []
        count = c_size_t()
        api.check(api.KernelInfo_GetInputCount(info, byref(count)))
        for index, name in enumerate(kernel.inputs[: count.value]):
            dtype = ELEMENT_TYPES[name][1]
            constant = _constant(api, tensors, info, index, dtype)
            if constant is None:
                self._fetched.append((index, dtype))
            self._inputs[index] = constant
        detached = constants_of(_detached(api, info))
        for index, constant in detached.items():
            self._inputs[index] = constant
        self._compute = kernel.make(_attributes(kernel, api, info), tuple(self._inputs), strict)
        for index, constant in detached.items():  # only its shape is needed from now on
            self._inputs[index] = np.broadcast_to(np.zeros((), constant.dtype), constant.shape)

    def run(self, context: int) -> None:
        """context: address of the OrtKernelContext of this run."""
        inputs = self._inputs.copy()
        fetch = self._tensors.input
        for index, dtype in self._fetched:
            inputs[index] = fetch(context, index, dtype)
        self._compute(inputs, partial(self._tensors.output, context, self._output_dtypes))


def node_name(api: OrtApi, info: int) -> str:
    """The node's name in the graph, for messages; may be empty."""
    size = c_size_t()
    api.check(api.KernelInfo_GetNodeName(info, None, byref(size)))
    text = ctypes.create_string_buffer(size.value)
    api.check(api.KernelInfo_GetNodeName(info, text, byref(size)))
    return text.value.decode(errors="replace")


def _constant(
    api: OrtApi, tensors: TensorAccess, info: int, index: int, dtype: np.dtype
) -> np.ndarray | None:
    """View of an input that is a constant initializer (it lives as long as the session), else None."""
    is_constant, value = c_int(), c_void_p()
    api.check(api.KernelInfoGetConstantInput_tensor(info, index, byref(is_constant), byref(value)))
    return tensors.view(value.value, dtype) if is_constant.value and value.value else None


def _attributes(kernel: Kernel, api: OrtApi, info: int) -> dict[str, object]:
    """The attributes that the kernel declares and the node has."""
    attributes: dict[str, object] = {}
    for name, kind in kernel.attributes.items():
        try:
            attributes[name] = _READERS[kind](api, info, name.encode())
        except OrtApiError as error:
            # The C API has no other way to ask whether an attribute is there.
            if not str(error).startswith("No attribute"):
                raise OrtApiError(f"attribute {name}: {error}") from None
    return attributes


def _detached(api: OrtApi, info: int) -> str:
    try:
        return _read_string(api, info, ATTRIBUTE.encode())
    except OrtApiError:  # as above
        return ""


def _read_int(api: OrtApi, info: int, name: bytes) -> int:
    value = c_int64()
    api.check(api.KernelInfoGetAttribute_int64(info, name, byref(value)))
    return value.value


def _read_float(api: OrtApi, info: int, name: bytes) -> float:
    value = c_float()
    api.check(api.KernelInfoGetAttribute_float(info, name, byref(value)))
    return value.value


def _read_ints(api: OrtApi, info: int, name: bytes) -> tuple[int, ...]:
    size = c_size_t()
    api.check(api.KernelInfoGetAttributeArray_int64(info, name, None, byref(size)))
    values = (c_int64 * size.value)()
    api.check(api.KernelInfoGetAttributeArray_int64(info, name, values, byref(size)))
    return tuple(values)


def _read_string(api: OrtApi, info: int, name: bytes) -> str:
    size = c_size_t()
    api.check(api.KernelInfoGetAttribute_string(info, name, None, byref(size)))
    text = ctypes.create_string_buffer(size.value)
    api.check(api.KernelInfoGetAttribute_string(info, name, text, byref(size)))
    return text.value.decode()


_READERS = {"int": _read_int, "float": _read_float, "ints": _read_ints, "string": _read_string}

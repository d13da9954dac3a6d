"""What ONNX Runtime knows of a node when its kernel is made: name, attributes, constants handed over aside."""

import ctypes
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.detached import ATTRIBUTE, constants_of
from krypton_onnx.runtime.custom_ops.ort_api import OrtApi, OrtApiError


def node_name(api: OrtApi, info: int) -> str:
    """The node's name in the graph, for messages; may be empty."""
    size = c_size_t()
    api.check(api.KernelInfo_GetNodeName(info, None, byref(size)))
    text = ctypes.create_string_buffer(size.value)
    api.check(api.KernelInfo_GetNodeName(info, text, byref(size)))
    return text.value.decode(errors="replace")


def input_count(api: OrtApi, info: int) -> int:
    """How many inputs the node has; absent optional ones between others count."""
    count = c_size_t()
    api.check(api.KernelInfo_GetInputCount(info, byref(count)))
    return count.value


def constant_input(api: OrtApi, info: int, index: int) -> int | None:
    """The OrtValue of an input that is a constant initializer (it lives as long as the session), else None."""
    is_constant, value = c_int(), c_void_p()
    api.check(api.KernelInfoGetConstantInput_tensor(info, index, byref(is_constant), byref(value)))
    return value.value if is_constant.value and value.value else None


def attributes_of(kernel: Kernel, api: OrtApi, info: int) -> dict[str, object]:
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


def detached_inputs(api: OrtApi, info: int) -> dict[int, np.ndarray]:
    """Inputs whose values are kept out of the session, by index (`detached.py`)."""
    try:
        text = _read_string(api, info, ATTRIBUTE.encode())
    except OrtApiError:  # as above
        text = ""
    return constants_of(text)


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

"""A kernel as the struct of callbacks that ONNX Runtime knows a custom operator by."""

import ctypes
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops import ort_api
from krypton_onnx.runtime.custom_ops.device import Device
from krypton_onnx.runtime.custom_ops.device_node import DeviceNode
from krypton_onnx.runtime.custom_ops.node import Node
from krypton_onnx.runtime.custom_ops.node_info import node_name
from krypton_onnx.runtime.custom_ops.ort_api import ELEMENT_TYPES, OrtApi, OrtCustomOp
from krypton_onnx.runtime.custom_ops.tensors import TensorAccess

_T = TypeVar("_T")
_FIRST_OPERATOR_VERSION, _LAST_OPERATOR_VERSION = 1, 2**31 - 1


def immortal(thing: _T) -> _T:
    """Keeps a Python object to the very end of the process. A session may outlive this module at interpreter
    shutdown, and calls back while it is destroyed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def build_custom_op(kernel: Kernel, strict: bool, api: OrtApi, device: Device | None = None) -> OrtCustomOp:
    """The struct for one kernel; device: where it runs, None for the CPU. It and its callbacks live as long as the
    process."""
    nodes: dict[int, Node | DeviceNode] = {}  # by the handle that ONNX Runtime keeps for us
    handles = count(1)
    tensors = TensorAccess(api)

    def create(_op: int, _api: int, info: int, handle: Any) -> int | None:
        try:
            key = next(handles)
            if device is None:
                nodes[key] = Node(kernel, strict, api, tensors, info)
            else:
                nodes[key] = DeviceNode(kernel, strict, api, tensors, info, device)
            handle[0] = key
        except BaseException as error:
            # Unlike an error at run time, ONNX Runtime does not say which node this comes from.
            return api.failure(f"{kernel.op_type} node {node_name(api, info)!r}: {_describe(error)}")
        return None

    def compute(handle: int, context: int) -> int | None:
        try:
            nodes[handle].run(context)
        except BaseException as error:
            return api.failure(_describe(error))
        return None

    def destroy(handle: int) -> None:
        del nodes[handle]

    def characteristic(_op: int, index: int) -> int:
        return ort_api.INPUT_REQUIRED if index < kernel.required else ort_api.INPUT_OPTIONAL

    def memory_type(_op: int, index: int) -> int:
        return ort_api.MEMORY_HOST if index in kernel.host else ort_api.MEMORY_DEFAULT

    name = immortal(ctypes.create_string_buffer(kernel.op_type.encode()))
    provider = immortal(ctypes.create_string_buffer(kernel.provider.encode()))
    input_types = [ELEMENT_TYPES[element][0] for element in kernel.inputs]
    output_types = [ELEMENT_TYPES[element][0] for element in kernel.outputs]
    op = OrtCustomOp(version=ort_api.CUSTOM_OP_VERSION)

    def set_callback(field: str, prototype: Any, function: Callable[..., Any]) -> None:
        setattr(op, field, ctypes.cast(immortal(prototype(function)), ctypes.c_void_p).value)

    set_callback("GetName", ort_api.StringCallback, lambda _op: ctypes.addressof(name))
    set_callback("GetExecutionProviderType", ort_api.StringCallback, lambda _op: ctypes.addressof(provider))
    set_callback("GetInputTypeCount", ort_api.CountCallback, lambda _op: len(input_types))
    set_callback("GetInputType", ort_api.IndexedCallback, lambda _op, index: input_types[index])
    set_callback("GetInputCharacteristic", ort_api.IndexedCallback, characteristic)
    set_callback("GetInputMemoryType", ort_api.IndexedCallback, memory_type)
    set_callback("GetOutputTypeCount", ort_api.CountCallback, lambda _op: len(output_types))
    set_callback("GetOutputType", ort_api.IndexedCallback, lambda _op, index: output_types[index])
    set_callback("GetOutputCharacteristic", ort_api.IndexedCallback, lambda _op, index: 0)
    set_callback("GetStartVersion", ort_api.IntCallback, lambda _op: _FIRST_OPERATOR_VERSION)
    set_callback("GetEndVersion", ort_api.IntCallback, lambda _op: _LAST_OPERATOR_VERSION)
    set_callback("CreateKernelV2", ort_api.CreateCallback, create)
    set_callback("KernelComputeV2", ort_api.ComputeCallback, compute)
    set_callback("KernelDestroy", ort_api.DestroyCallback, destroy)
    return immortal(op)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

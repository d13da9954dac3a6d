"""The part of ONNX Runtime's C API that a custom operator needs, through ctypes.

ONNX Runtime hands out a table of function pointers (struct OrtApi) that only ever grows: an entry keeps its
index in every later version. The indices below are those of onnxruntime_c_api.h.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from typing import Any

import numpy as np

API_VERSION = 24
"""The oldest version of the table with every entry below; onnxruntime 1.24."""

CUSTOM_OP_VERSION = 17
"""Version of the OrtCustomOp fields that are filled; onnxruntime 1.17."""

ORT_RUNTIME_EXCEPTION = 6
INPUT_REQUIRED, INPUT_OPTIONAL = 0, 1
MEMORY_HOST, MEMORY_DEFAULT = -2, 0  # OrtMemTypeCPUInput; OrtMemTypeDefault is the provider's own memory

STATUS = HANDLE = c_void_p
# An address of plain memory. Not POINTER(type): to convert an argument to that costs a third of the call.
ADDRESS = c_void_p

ELEMENT_TYPES: dict[str, tuple[int, np.dtype]] = {
    "float": (1, np.dtype(np.float32)),
    "int64": (7, np.dtype(np.int64)),
}
"""Element type of a tensor -> (ONNXTensorElementDataType, numpy dtype)."""

# Kept-GIL prototypes (PYFUNCTYPE) below: each call takes well under a microsecond, less than giving up the
# GIL and taking it back, which with one worker a core also invites another thread to run in between.
_FUNCTIONS: dict[str, tuple[int, Any, tuple[Any, ...]]] = {
    "CreateStatus": (0, STATUS, (c_int, c_char_p)),
    "GetErrorMessage": (2, c_char_p, (STATUS,)),
    "CreateCustomOpDomain": (26, STATUS, (c_char_p, ADDRESS)),
    "CustomOpDomain_Add": (27, STATUS, (HANDLE, HANDLE)),
    "AddCustomOpDomain": (28, STATUS, (HANDLE, HANDLE)),
    "GetTensorMutableData": (51, STATUS, (HANDLE, ADDRESS)),
    "KernelInfoGetAttribute_float": (85, STATUS, (HANDLE, c_char_p, ADDRESS)),
    "KernelInfoGetAttribute_int64": (86, STATUS, (HANDLE, c_char_p, ADDRESS)),
    "KernelInfoGetAttribute_string": (87, STATUS, (HANDLE, c_char_p, ADDRESS, ADDRESS)),
    "KernelContext_GetInput": (90, STATUS, (HANDLE, c_size_t, ADDRESS)),
    "KernelContext_GetOutput": (91, STATUS, (HANDLE, c_size_t, ADDRESS, c_size_t, ADDRESS)),
    "ReleaseStatus": (93, None, (STATUS,)),
    "KernelInfoGetAttributeArray_int64": (163, STATUS, (HANDLE, c_char_p, ADDRESS, ADDRESS)),
    "KernelContext_GetGPUComputeStream": (193, STATUS, (HANDLE, ADDRESS)),
    "KernelInfo_GetInputCount": (230, STATUS, (HANDLE, ADDRESS)),
    "KernelInfo_GetNodeName": (244, STATUS, (HANDLE, ADDRESS, ADDRESS)),
    "KernelInfoGetConstantInput_tensor": (249, STATUS, (HANDLE, c_size_t, ADDRESS, ADDRESS)),
    "GetTensorElementTypeAndShapeDataReference": (414, STATUS, (HANDLE, ADDRESS, ADDRESS, ADDRESS)),
}


class OrtApiError(RuntimeError):
    """A call into ONNX Runtime's C API failed; the message is ONNX Runtime's own."""


class OrtApi:
    """Calls by name, as in the C API: api.CreateStatus(code, message). Those that return a status return
    None or its address; hand it to check()."""

    def __init__(self, table: int) -> None:
        """table: address of the OrtApi table."""
        entries = ctypes.cast(table, POINTER(c_void_p))
        for name, (index, result, arguments) in _FUNCTIONS.items():
            setattr(self, name, ctypes.PYFUNCTYPE(result, *arguments)(entries[index]))

    def __getattr__(self, name: str) -> Any:  # only reached for a name that is not in _FUNCTIONS
        raise AttributeError(f"OrtApi has no {name}")

    @classmethod
    def from_base(cls, api_base: int) -> "OrtApi | None":
        """api_base: address of an OrtApiBase. None where this ONNX Runtime is older than API_VERSION."""
        get_api = ctypes.PYFUNCTYPE(c_void_p, c_uint32)(ctypes.cast(api_base, POINTER(c_void_p))[0])
        table = get_api(API_VERSION)
        return cls(table) if table else None

    def check(self, status: int | None) -> None:
        """Releases a status and raises OrtApiError if it is a failure."""
        if status:
            message = self.GetErrorMessage(status).decode(errors="replace")
            self.ReleaseStatus(status)
            raise OrtApiError(message)

    def failure(self, message: str) -> int:
        """A failure to return to ONNX Runtime, which owns and releases it."""
        return self.CreateStatus(ORT_RUNTIME_EXCEPTION, message.encode(errors="replace"))


# Callbacks that ONNX Runtime calls, with the GIL taken on entry (CFUNCTYPE).
RegisterCallback = ctypes.CFUNCTYPE(STATUS, c_void_p, c_void_p)
StringCallback = ctypes.CFUNCTYPE(c_void_p, c_void_p)
CountCallback = ctypes.CFUNCTYPE(c_size_t, c_void_p)
IntCallback = ctypes.CFUNCTYPE(c_int, c_void_p)
IndexedCallback = ctypes.CFUNCTYPE(c_int, c_void_p, c_size_t)
CreateCallback = ctypes.CFUNCTYPE(STATUS, c_void_p, c_void_p, c_void_p, POINTER(c_void_p))
ComputeCallback = ctypes.CFUNCTYPE(STATUS, c_void_p, c_void_p)
DestroyCallback = ctypes.CFUNCTYPE(None, c_void_p)


class OrtCustomOp(ctypes.Structure):
    """struct OrtCustomOp: a version, then function pointers (0 where unused)."""

    _fields_ = (
        ("version", c_uint32),
        ("CreateKernel", c_void_p),
        ("GetName", c_void_p),
        ("GetExecutionProviderType", c_void_p),
        ("GetInputType", c_void_p),
        ("GetInputTypeCount", c_void_p),
        ("GetOutputType", c_void_p),
        ("GetOutputTypeCount", c_void_p),
        ("KernelCompute", c_void_p),
        ("KernelDestroy", c_void_p),
        ("GetInputCharacteristic", c_void_p),
        ("GetOutputCharacteristic", c_void_p),
        ("GetInputMemoryType", c_void_p),
        ("GetVariadicInputMinArity", c_void_p),
        ("GetVariadicInputHomogeneity", c_void_p),
        ("GetVariadicOutputMinArity", c_void_p),
        ("GetVariadicOutputHomogeneity", c_void_p),
        ("CreateKernelV2", c_void_p),
        ("KernelComputeV2", c_void_p),
        ("InferOutputShapeFn", c_void_p),
        ("GetStartVersion", c_void_p),
        ("GetEndVersion", c_void_p),
        ("GetMayInplace", c_void_p),
        ("ReleaseMayInplace", c_void_p),
        ("GetAliasMap", c_void_p),
        ("ReleaseAliasMap", c_void_p),
    )

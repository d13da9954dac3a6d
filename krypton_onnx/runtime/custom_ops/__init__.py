"""Our kernels as custom operators of ONNX Runtime: a three-line C shim, filled through ctypes.

Knows no operator: what there is to register comes as Kernel specifications.
"""

from krypton_onnx.runtime.custom_ops.library import shim_path
from krypton_onnx.runtime.custom_ops.registration import register

__all__ = ["register", "shim_path"]

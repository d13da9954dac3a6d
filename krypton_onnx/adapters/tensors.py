"""Tensors in, tensors out, without PyTorch: what has a method `detach` is a tensor, and then PyTorch is loaded."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from krypton_onnx.errors import ImageError


def is_tensor(value: object) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")


def as_array(value: Any, name: str) -> np.ndarray:
    """float32 of a tensor (of any device) or an array. Raises ImageError, which names the argument, for all else."""
    if is_tensor(value):
        value = value.detach().cpu().float().numpy()  # NumPy has no bfloat16
    elif not isinstance(value, np.ndarray):
        raise ImageError(f"{name} must be one tensor or array, got {type(value).__name__}")
    if value.dtype.kind not in "fiub":
        raise ImageError(f"{name} has dtype {value.dtype}; expected numbers")
    with np.errstate(over="ignore"):  # infinite values are refused where images are checked
        return np.asarray(value, np.float32)


def like(array: np.ndarray, given: Any) -> Any:
    """The array as what was given: a tensor on the same device, or the array itself."""
    if not is_tensor(given):
        return array
    return sys.modules["torch"].from_numpy(np.ascontiguousarray(array)).to(given.device)

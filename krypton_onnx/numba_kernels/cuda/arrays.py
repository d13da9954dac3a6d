"""Device memory as kernels take it: pointers to C-contiguous arrays, and the shapes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .compiled import FLOATS, INT, INTEGERS
from .target import MOST_CELLS, SIMULATED, cuda

Pointer = Any
"""What a kernel gets for an array: its address, or, in the simulator, the array itself, flat."""

SOURCE = (FLOATS, INTEGERS, FLOATS, INT, INT, INT, INT)
"""Types of the arguments that `source` gives."""


def pointer(array: Any) -> Pointer:
    """The pointer to a C-contiguous array on the device; it does not keep the array."""
    if SIMULATED:
        return array.reshape(-1)
    try:
        return array.device_ctypes_pointer.value or 0  # Numba's own arrays; quicker than to describe itself
    except AttributeError:
        return array.__cuda_array_interface__["data"][0]


def offset(start: Pointer, floats: int) -> Pointer:
    """The pointer so many float32 further."""
    return start[floats:] if SIMULATED else start + 4 * floats


def nothing(dtype: type = np.float32) -> Pointer:
    """A pointer that is never read."""
    return np.zeros(1, dtype) if SIMULATED else 0


def upload(values: np.ndarray) -> Any:
    """A copy on the device, float32."""
    return cuda.to_device(np.ascontiguousarray(values, np.float32))


def counted(*shape: int) -> int:
    """How many elements an array of this shape has. Raises ValueError for more than kernels count."""
    count = prod(shape)
    if count >= MOST_CELLS:
        raise ValueError(f"a batch makes an array of {count} elements, CUDA kernels take fewer than {MOST_CELLS}: "
                         "use a smaller batch size")  # fmt: skip
    return count


def source(patch: Any, origin: Any, view: Any) -> tuple[Pointer, Pointer, Pointer, int, int, int, int]:
    """A patch activation (N,h,w,C) at origin (N,2) over its view (1,H,W,C): pointers, then h, w, H, W."""
    counted(*patch.shape)
    counted(*view.shape)
    return pointer(patch), pointer(origin), pointer(view), *patch.shape[1:3], *view.shape[1:3]


NO_SOURCE = (nothing(), nothing(np.int64), nothing(), 0, 0, 0, 0)

Residual = tuple[Any, ...]
"""1 and a source, or 0 and NO_SOURCE: what is added before the activation."""
RESIDUAL = (INT, *SOURCE)
"""Types of the arguments of a residual."""
NO_RESIDUAL: Residual = (0, *NO_SOURCE)


def residual(inputs: Sequence[Any], first: int) -> Residual:
    """The residual in inputs[first:first+3] (patch, origin, view), or NO_RESIDUAL where it is absent."""
    if len(inputs) <= first or inputs[first] is None:
        return NO_RESIDUAL
    patch, origin, view = inputs[first : first + 3]
    if origin is None or view is None:
        raise ValueError("a residual needs its patch, its origin and its view")
    return 1, *source(patch, origin, view)

"""Which numba.cuda there is: a device's, or the simulator, which runs kernels in Python.

numba-cuda puts itself in the place of numba.cuda where it is installed (the extra `gpu`). Numba's own built-in target
is deprecated and too old for kernels of this package on a device; its simulator runs them all the same, so that they
can be tested with nothing but Numba installed. The simulator is chosen by the environment variable
NUMBA_ENABLE_CUDASIM=1, which Numba reads when numba.cuda is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from numba import cuda as _cuda
except ImportError as error:  # later releases of Numba may come without a target of their own
    raise ImportError(
        f"the CUDA kernels need Numba's CUDA target ({error}): pip install 'krypton-onnx[gpu]'"
    ) from error

cuda: Any = _cuda
"""The module numba.cuda, in which types that are read from its source tell nothing true of kernels."""
SIMULATED = bool(cuda.config.ENABLE_CUDASIM)
"""Whether kernels run in Numba's simulator."""

int32: Any = int if SIMULATED else np.int32
"""In kernels: this expression in 32 bits, which GPUs compute with at twice the speed of 64 and more.

Numba widens whatever is computed of integers to 64 bits; a conversion of the result makes the compiler compute all of
it in 32. Python's integers, in the simulator, need none of it.
"""
uint32: Any = int if SIMULATED else np.uint32
"""The same, unsigned."""

MOST_CELLS = 2**31 - 2**24
"""Elements of an array must be fewer: kernels count them in 32 bits, in steps of as many as there are threads."""


def require_numba_cuda() -> None:
    """Raise ImportError, in one line, where a device would be used through Numba's own target: it takes no pointers."""
    if not SIMULATED and getattr(cuda, "implementation", "") == "Built-in":
        raise ImportError("on a GPU the CUDA kernels need numba-cuda, not Numba's own deprecated CUDA target: "
                          "pip install 'krypton-onnx[gpu]'")  # fmt: skip


def device_number() -> int:
    """The GPU that is current in this thread."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


def stream_address(stream: Any) -> int:
    """The cudaStream_t behind a stream of numba.cuda; 0 is the default one, and the simulator's."""
    handle = getattr(stream, "handle", stream)
    return int(getattr(handle, "value", handle) or 0)

"""Run on its own: compiles every CUDA kernel to PTX, as for a GPU but without one, and prints {name: PTX} as JSON.

For the types that the kernel is launched with, which are part of its declaration. `planted` is a function with the
mistake that tests of the others look for.
"""

import json
import sys
from types import SimpleNamespace

from numba import cuda, types
from numba.cuda import dispatcher

from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS  # noqa: F401  imports the kernels
from krypton_onnx.numba_kernels.cuda.compiled import FLOATS, INT, KERNELS

CAPABILITY = (8, 0)


def planted(values, count):
    """Arithmetic in float64: the constant is one."""
    values[count] = values[0] * 0.1


def ptx(function, arguments) -> str:
    signature = types.void(*arguments)
    return cuda.compile(function, signature, device=False, abi="numba", cc=CAPABILITY, output="ptx")[0]


def main() -> None:
    # Functions that kernels call are compiled for the current device, of which there is none.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)
    compiled = {f"{kernel.function.__module__}.{kernel.function.__name__}": ptx(kernel.function, kernel.arguments)
                for kernel in KERNELS}  # fmt: skip
    json.dump({**compiled, "planted": ptx(planted, (FLOATS, INT))}, sys.stdout)


if __name__ == "__main__":
    main()

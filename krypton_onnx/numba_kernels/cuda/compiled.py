"""How every kernel here is compiled and launched.

kernel   an entry point: grid-stride over the elements of a flat array, so that any number of threads gives the same
         result. Its argument types are stated, and it is compiled for these only, at the first launch (then kept in
         Numba's cache on disk): a launch converts and compares no types.
device   a function that kernels call.

Arrays arrive as bare pointers, and shapes as 32-bit numbers beside them. Numba would pass a four-dimensional array in
13 parts, which takes longer to put together than many of these kernels run, and index it in 64 bits. What a launch
costs on a device is not measured yet.

Floats are computed as IEEE 754 says, but for products and sums that are contracted: NaN and infinities stay what they
are (max pooling pads with the lowest float).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import types

from .target import SIMULATED, cuda, require_numba_cuda, stream_address

FLOATS, DOUBLES, INTEGERS = (types.CPointer(kind) for kind in (types.float32, types.float64, types.int64))
INT, FLOAT = types.int32, types.float32

_THREADS = 256  # of a block
# Powers of two in between, so that few configurations are made. The blocks that a small launch does not need end at
# once; four thousand fill any GPU several times.
_FEWEST_BLOCKS, _MOST_BLOCKS = 128, 4096


def launch_shape(count: int) -> tuple[int, int]:
    """(blocks, threads a block) for `count` elements. The simulator's threads are Python's: few, and slow to start."""
    if SIMULATED:
        return 1, 8
    wanted = -(-count // _THREADS)
    return min(max(1 << (wanted - 1).bit_length(), _FEWEST_BLOCKS), _MOST_BLOCKS), _THREADS


class DeviceKernel:
    """A kernel and what its launches need: its argument types, its compiled form, its launch configurations."""

    def __init__(self, function: Callable[..., None], arguments: Sequence[types.Type]) -> None:
        self.function, self.arguments = function, tuple(arguments)
        self._compiled: Any = None
        self._configured: dict[tuple[int, int, int], Any] = {}

    def __call__(self, count: int, stream: Any, *arguments: Any) -> None:
        """Queue it on `stream` for `count` elements. arguments: pointers (arrays.py) and numbers, then `count`."""
        if count == 0:
            return
        blocks, threads = launch_shape(count)
        if SIMULATED:
            self._compile()[blocks, threads](*arguments, count)
            return
        key = blocks, threads, stream_address(stream)
        launch = self._configured.get(key)
        if launch is None:
            launch = self._configured[key] = self._compile()[blocks, threads, stream]
        launch(*arguments, count)

    def _compile(self) -> Any:
        if self._compiled is None:
            if SIMULATED:
                self._compiled = cuda.jit(self.function)
            else:
                require_numba_cuda()
                self._compiled = cuda.jit(types.void(*self.arguments), cache=True)(self.function)
        return self._compiled


KERNELS: list[DeviceKernel] = []
"""Every kernel of the modules that were imported: tests compile them all."""


def kernel(*arguments: types.Type) -> Callable[[Callable[..., None]], DeviceKernel]:
    """Declare a kernel with these argument types; `count` (INT) is the last of them and not named here."""

    def declare(function: Callable[..., None]) -> DeviceKernel:
        KERNELS.append(DeviceKernel(function, (*arguments, INT)))
        return KERNELS[-1]

    return declare


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call. In the simulator a plain one: its own wrapper takes longer than most of them."""
    return function if SIMULATED else cuda.jit(device=True)(function)

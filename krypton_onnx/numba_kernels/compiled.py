"""How every kernel here is compiled: serial, without the GIL, cached on disk, re-entrant.

Two decorators, because speed on channels-last arrays hangs on one thing: LLVM vectorizes a loop over several
arrays only if it knows that they do not overlap, and Numba cannot tell it so through an ordinary option.

kernel   an entry point, called from Python with canonical arrays (`arguments.py`). It assumes nothing about
         overlap, so it may receive the same memory in two shapes.
inline   a primitive over rows, always inlined into a kernel. Its array arguments must not overlap where one
         of them is written: that promise is what lets its loop vectorize without run-time checks.

The fast-math flags keep NaN and infinities exact (max pooling pads with the lowest float) and only allow
contraction and reordering.
"""

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.compiler import Compiler

_FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}


class _NoOverlap(Compiler):
    """Numba's own compiler, with its `noalias` flag set (parfors set it the same way)."""

    def define_pipelines(self) -> Any:
        self.state.flags.noalias = True
        return super().define_pipelines()


kernel: Callable[..., Any] = njit(nogil=True, cache=True, fastmath=_FAST_MATH, error_model="numpy")
inline: Callable[..., Any] = njit(
    nogil=True, forceinline=True, fastmath=_FAST_MATH, error_model="numpy", pipeline_class=_NoOverlap
)

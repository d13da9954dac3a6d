"""How every kernel here is compiled: serial, without the GIL, cached on disk, re-entrant.

Two decorators, because speed on channels-last arrays hangs on two things. LLVM vectorizes a loop over several
arrays only if it knows that they do not overlap, and Numba cannot tell it so through an ordinary option. And Numba
counts references to slices, atomically where one of several arrays is chosen, which costs more than a short row.

kernel   an entry point, called from Python with canonical arrays (`arguments.py`). It assumes nothing about
         overlap, so it may receive the same memory in two shapes. It allocates nothing and counts no references.
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


_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": _FAST_MATH, "error_model": "numpy", "_nrt": False}

kernel: Callable[..., Any] = njit(cache=True, **_OPTIONS)
inline: Callable[..., Any] = njit(forceinline=True, pipeline_class=_NoOverlap, **_OPTIONS)
choice: Callable[..., Any] = njit(inline="always", **_OPTIONS)

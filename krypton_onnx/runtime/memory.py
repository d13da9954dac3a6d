"""Give memory back that the C library keeps after large temporary copies of a model were freed."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

import onnxruntime as ort

CPU_ARENA = "cpu:0"
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Memory that this process has now; where the system does not tell, the most it ever had."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def release_freed_memory() -> None:
    """Collect cyclic graphs, and where the C library is glibc return its free pages to the system.

    Rewriting and loading a model makes short-lived copies of all weights; glibc keeps such freed blocks (its threshold
    for returning them grows with use), which doubled the peak memory of an explanation of VGG16.
    """
    gc.collect()
    return_free_pages()


def return_free_pages() -> None:
    """The second half of it: quick, for memory that no cycle holds."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def shrinking(arena: str = CPU_ARENA) -> ort.RunOptions:
    """Options of a run after which its session gives back the memory that it keeps for the next one.

    arena : "cpu:0", or that of a GPU, "gpu:0"."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
    return options

"""Scratch memory of a stream: grown on demand, reused by every kernel that runs on it.

What is on one stream runs in order, so one block of memory serves all of its kernels, if each operator puts all of
its launches there before the next one does: `workspace` is a lock for that too. To grow, a larger block takes the
place of the old one, which Numba gives back once the device is done with it; that happens while the first batches run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arrays import Pointer, pointer
from .target import cuda, device_number, stream_address

SCRATCH_FLOATS = 16 << 20
"""What an operator takes of each kind (columns, or transformed inputs and products) at once, at most: 64 MiB.

Beyond it, it works in chunks. Small enough that the second-level cache of a large GPU holds much of it, large enough
to fill one; which size is best is not measured yet. A single row of work may be larger.
"""


class Workspace:
    """The blocks of one stream, by what they are for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._blocks: dict[str, tuple[int, Any, Pointer]] = {}

    def floats(self, slot: str, count: int) -> Pointer:
        """Uninitialized float32 (count,), valid until the next call for the same slot."""
        return self._block(slot, count, np.float32)

    def doubles(self, slot: str, count: int) -> Pointer:
        """The same of float64."""
        return self._block(slot, count, np.float64)

    def _block(self, slot: str, count: int, dtype: type) -> Pointer:
        size, _, start = self._blocks.get(slot, (-1, None, None))
        if size < count:
            array = cuda.device_array(max(count, 1), dtype)
            start = pointer(array)
            self._blocks[slot] = (count, array, start)
        return start


_lock = threading.Lock()
_workspaces: dict[tuple[int, int], Workspace] = {}


@contextmanager
def workspace(stream: Any) -> Iterator[Workspace]:
    """The scratch memory of a stream of the current device, for as long as one operator's launches take."""
    key = device_number(), stream_address(stream)
    found = _workspaces.get(key)
    if found is None:
        with _lock:
            found = _workspaces.setdefault(key, Workspace())
    with found.lock:
        yield found


def forget() -> None:
    """Give all scratch memory back; the next call makes its own."""
    with _lock:
        _workspaces.clear()

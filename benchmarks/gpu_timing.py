"""Time on a GPU by its own events, on one stream, and what Python takes to queue it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any

import numpy as np

from krypton_onnx.numba_kernels.cuda.products import Weights, multiply
from krypton_onnx.numba_kernels.cuda.target import cuda, stream_address

_SIDE = 4096  # of the product that keeps the device busy while Python queues what is timed
_BLOCKERS = 3


@dataclass(frozen=True)
class Timed:
    """Microseconds of one call, medians. device: between events, while Python is far ahead of the device; host: until
    the call returns; alone: between events when the device waits for Python, so the longer of the two."""

    device: float
    host: float
    alone: float


class DeviceClock:
    """A stream and its events."""

    def __init__(self) -> None:
        self.stream = cuda.stream()
        self.address = stream_address(self.stream)
        self._busy: Any = None

    def between(self, work: Callable[[], Any], calls: int = 1) -> tuple[float, float]:
        """Milliseconds by the device's events, and by the clock of the host, of so many calls of `work`."""
        start, end = cuda.event(timing=True), cuda.event(timing=True)
        self.stream.synchronize()
        began = time.perf_counter()
        start.record(self.stream)
        for _ in range(calls):
            work()
        end.record(self.stream)
        end.synchronize()
        return float(cuda.event_elapsed_time(start, end)), 1e3 * (time.perf_counter() - began)

    def keep_busy(self) -> None:
        """Queue work of some milliseconds."""
        if self._busy is None:
            weights = Weights(np.zeros((1, _SIDE, _SIDE), np.float32))
            self._busy = weights, *(cuda.device_array((2 * _SIDE, _SIDE), np.float32) for _ in range(2))
        weights, a, out = self._busy
        for _ in range(_BLOCKERS):
            multiply(_address(a), weights, _address(out), 2 * _SIDE, _SIDE, 0, self.stream)

    def timed(self, work: Callable[[], Any], rounds: int = 5, calls: int = 10) -> Timed:
        """Microseconds of one call of `work`, which must have run before."""
        device, host, alone = [], [], []
        for _ in range(rounds):
            alone.append(1e3 * self.between(work)[0])
            start, end = cuda.event(timing=True), cuda.event(timing=True)
            self.keep_busy()
            start.record(self.stream)
            began = time.perf_counter()
            for _ in range(calls):
                work()
            host.append(1e6 * (time.perf_counter() - began) / calls)
            end.record(self.stream)
            end.synchronize()
            device.append(1e3 * float(cuda.event_elapsed_time(start, end)) / calls)
        return Timed(median(device), median(host), median(alone))


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])


class MemoryPeak:
    """Most device memory in use while this runs, by sampling: bytes, of all processes on the GPU."""

    def __init__(self, used: Callable[[], int], pause: float = 0.002) -> None:
        self._used, self._pause = used, pause
        self._end = threading.Event()
        self.first = self.most = used()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(self._pause):
            self.most = max(self.most, self._used())

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.most = max(self.most, self._used())

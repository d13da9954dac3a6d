"""How many images to infer in one run: found on the runs themselves, since it depends on caches and on the model."""

from __future__ import annotations

import threading

from krypton_onnx.runtime.costs import HOST

TRIES = 3  # of every size; the first takes memory, and does not count


class RunSize:
    """The fastest of some sizes, once each was tried; shared by all explanations of a session. Thread-safe."""

    def __init__(self, sizes: tuple[int, ...] = HOST.full_sizes) -> None:
        self._lock = threading.Lock()
        self._times: dict[int, list[float]] = {size: [] for size in sizes}

    def next(self) -> int:
        """How many images to run next, at most."""
        with self._lock:
            for size in self._times:
                if len(self._times[size]) < TRIES:
                    return size
            return min(self._times, key=lambda size: min(self._times[size][1:]))

    def best(self) -> float:
        """Seconds an image in the fastest run that counts; infinity where none does yet."""
        with self._lock:
            return min((seconds for times in self._times.values() for seconds in times[1:]), default=float("inf"))

    def told(self, images: int, seconds: float) -> None:
        """What a run of so many images took; of other sizes it tells nothing."""
        with self._lock:
            if images in self._times and len(self._times[images]) < TRIES:
                self._times[images].append(seconds / images)

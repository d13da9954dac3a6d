"""How many images to infer in one run: found on the runs themselves, since it depends on caches and on the model."""

from __future__ import annotations

import threading

SIZES = (8, 4)
TRIES = 3  # of every size; the first takes memory, and does not count


class RunSize:
    """The fastest of SIZES, once each was tried; shared by all explanations of a session. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[int, list[float]] = {size: [] for size in SIZES}

    def next(self) -> int:
        """How many images to run next, at most."""
        with self._lock:
            for size in SIZES:
                if len(self._times[size]) < TRIES:
                    return size
            return min(SIZES, key=lambda size: min(self._times[size][1:]))

    def best(self) -> float:
        """Seconds an image in the fastest run that counts; infinity where none does yet."""
        with self._lock:
            return min((seconds for times in self._times.values() for seconds in times[1:]), default=float("inf"))

    def told(self, images: int, seconds: float) -> None:
        """What a run of so many images took; of other numbers than SIZES it tells nothing."""
        with self._lock:
            if images in self._times and len(self._times[images]) < TRIES:
                self._times[images].append(seconds / images)

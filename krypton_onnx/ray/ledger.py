"""How often a process died at an image: one that kills whoever computes it must not be tried for ever."""

from __future__ import annotations

from typing import Any

import ray

MOST_DEATHS = 3  # a node may be lost, or a worker killed by mistake, and the image be sound


class Ledger:
    """Counts, in a process of its own, the images that were begun and never ended."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, key: str) -> int:
        """An image is to be computed. Returns how often that was begun, and not ended, before."""
        before = self._begun.get(key, 0)
        self._begun[key] = before + 1
        return before

    def end(self, key: str) -> None:
        """It was computed, or failed as it should."""
        self._begun.pop(key, None)


def start() -> Any:
    """A ledger as an actor of Ray's, which ends with the caller's handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote()

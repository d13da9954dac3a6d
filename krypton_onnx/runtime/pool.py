"""The worker threads of a session: all its explanations share them, however many threads call it at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from krypton_onnx.forking import abandon, forget_in_children

_this_thread = threading.local()


def _mark() -> None:
    _this_thread.works = True


class Pool:
    """As many threads as `workers`, which live while any explanation runs: the first starts them, the last ends them.

    Batches of several explanations wait in one queue, first come, first served.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._users = 0
        forget_in_children(self)

    @contextmanager
    def executor(self) -> Iterator[ThreadPoolExecutor]:
        """For one explanation, which must let its own work end before it leaves.

        One that a worker itself asks for (in a fill or score of the caller's) gets threads of its own: it would wait
        for the thread that it occupies.
        """
        if getattr(_this_thread, "works", False):
            with self._new() as executor:
                yield executor
            return
        with self._lock:
            if self._executor is None:
                self._executor = self._new()
            executor = self._executor
            self._users += 1
        try:
            yield executor
        finally:
            with self._lock:
                if executor is self._executor:  # else this is a forked child, which let go of it
                    self._users -= 1
                    if not self._users:
                        self._executor = None
                        executor.shutdown()  # they idle: whoever comes next waits but a moment

    def after_fork(self) -> None:
        abandon(self._executor)
        self._lock = threading.Lock()
        self._executor, self._users = None, 0

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="krypton", initializer=_mark)

"""The loop behind an explanation: batches of positions over worker threads, scores into a map."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.grid import Grid, Patches
from krypton_onnx.runtime.heat_map import HeatMap

B = TypeVar("B")
RunBatch = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # tops, lefts, patches -> (N, classes)


class MapInProgress:
    """Scores as they arrive; written by the thread that collects, never by the workers."""

    def __init__(self, grid: Grid, targets: Sequence[int], baseline: np.ndarray, mode: str) -> None:
        self.grid = grid
        self.targets = tuple(targets)
        self.baseline = np.ascontiguousarray(baseline[list(targets)], dtype=np.float32)
        self.mode = mode
        self.scores = np.full((len(self.targets), *grid.shape), np.nan, np.float32)
        self.computed = np.zeros(grid.shape, bool)

    def add(self, cells: np.ndarray, scores: np.ndarray) -> None:
        """scores: float32 (n, T) of cells, int64 (n,): row * columns + column."""
        self.scores.reshape(len(self.targets), -1)[:, cells] = scores.T
        self.computed.ravel()[cells] = True

    def heat_map(self, note: str = "") -> HeatMap:
        return HeatMap(
            scores=self.scores.copy(), baseline=self.baseline, targets=self.targets, tops=self.grid.tops,
            lefts=self.grid.lefts, patch=self.grid.patch, stride=self.grid.stride, mode=self.mode,
            computed=self.computed.copy(), complete=bool(self.computed.all()), note=note,
        )  # fmt: skip


class Stop:
    """Why to start no further batch: a time budget that has passed, or Ctrl-C."""

    def __init__(self, time_budget: float | None = None) -> None:
        self._deadline = None if time_budget is None else time.monotonic() + time_budget
        self.interrupted = False

    @property
    def limited(self) -> bool:
        """True where there is a time budget."""
        return self._deadline is not None

    @property
    def reason(self) -> str:
        """In words, once there is one."""
        return "by Ctrl-C" if self.interrupted else "by the time budget"

    def __bool__(self) -> bool:
        return self.interrupted or (self._deadline is not None and time.monotonic() >= self._deadline)


@dataclass(frozen=True)
class Scoring:
    """Scores of positions: what hides the image there, and the run that infers it."""

    grid: Grid
    patches: Patches
    run: RunBatch
    targets: tuple[int, ...]

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """float32 (n, T) of cells, int64 (n,): row * columns + column."""
        rows, columns = np.divmod(cells, len(self.grid.lefts))
        tops, lefts = np.ascontiguousarray(self.grid.tops[rows]), np.ascontiguousarray(self.grid.lefts[columns])
        # float64: the mean over K fills must not depend on their order
        each = [self.run(tops, lefts, fill)[:, list(self.targets)] for fill in self.patches(tops, lefts)]
        return np.asarray(np.mean(each, axis=0, dtype=np.float64), np.float32)


def run_batches(
    batches: Iterable[B],
    score: Callable[[B], np.ndarray],
    workers: int,
    stop: Stop,
    add: Callable[[B, np.ndarray], None],
    begun: bool = False,
) -> bool:
    """Score every batch, `workers` at once, and hand it and its scores to `add`, in this thread.

    Returns False where `stop` left some undone. The first batch runs in any case unless some work was `begun` before.
    Ctrl-C lets the batches that run end; it is raised where there is nothing yet to show for it.
    """
    waiting: Iterator[B] = iter(batches)
    left = next(waiting, None)
    with _one_blas_thread(), ThreadPoolExecutor(workers, thread_name_prefix="krypton") as pool:
        running: dict[Future[np.ndarray], B] = {}
        try:
            while True:
                try:
                    while left is not None and len(running) < workers and not (begun and stop):
                        running[pool.submit(score, left)] = left
                        left = next(waiting, None)
                    if not running:
                        return left is None
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        batch, begun = running.pop(future), True
                        add(batch, future.result())
                except KeyboardInterrupt:
                    if stop.interrupted or not begun:
                        raise
                    stop.interrupted = True
        finally:
            for future in running:
                future.cancel()


def fill_map(
    progress_map: MapInProgress,
    batches: Sequence[Batch],
    patches: Patches,
    run: RunBatch,
    workers: int,
    time_budget: float | None,
    progress: Callable[[int, int], None] | None,
    on_update: Callable[[HeatMap], None] | None,
) -> HeatMap:
    """Run every batch, `workers` at once; after `time_budget` seconds, or Ctrl-C, no further batch starts."""
    grid = progress_map.grid
    done = 0

    def add(cells: np.ndarray, scores: np.ndarray) -> None:
        nonlocal done
        progress_map.add(cells, scores)
        done += len(cells)
        if progress is not None:
            progress(done, grid.positions)
        if on_update is not None:
            on_update(progress_map.heat_map())

    score = Scoring(grid, patches, run, progress_map.targets)
    columns = len(grid.lefts)
    cells = (np.add.outer(batch.rows * columns, batch.cols).ravel() for batch in batches)
    stop = Stop(time_budget)
    whole = run_batches(cells, score, workers, stop, add)
    return progress_map.heat_map("" if whole else f"stopped early {stop.reason}, {done / grid.positions:.0%} computed")


# BLAS threads are a setting of the whole process, so it is changed only while some explanation runs, by the first
# that starts, and restored by the last that ends.
_blas_lock = threading.Lock()
_blas_users = 0
_blas_limit: threadpool_limits | None = None


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """One BLAS thread a worker: the workers are the threads."""
    global _blas_users, _blas_limit
    with _blas_lock:
        if _blas_users == 0:
            _blas_limit = threadpool_limits(limits=1, user_api="blas")  # of every library loaded by now
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0 and _blas_limit is not None:
                _blas_limit.restore_original_limits()
                _blas_limit = None

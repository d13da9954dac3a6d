"""The loop behind an explanation: batches of positions over worker threads, scores into a map."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.grid import Grid, Patches
from krypton_onnx.runtime.heat_map import HeatMap

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

    def add(self, batch: Batch, scores: np.ndarray) -> None:
        """scores: float32 (N, T) of the positions of a batch, row by row."""
        block = scores.T.reshape(len(self.targets), len(batch.rows), len(batch.cols))
        self.scores[np.ix_(np.arange(len(self.targets)), batch.rows, batch.cols)] = block
        self.computed[np.ix_(batch.rows, batch.cols)] = True

    def heat_map(self) -> HeatMap:
        return HeatMap(
            scores=self.scores.copy(), baseline=self.baseline, targets=self.targets, tops=self.grid.tops,
            lefts=self.grid.lefts, patch=self.grid.patch, stride=self.grid.stride, mode=self.mode,
            computed=self.computed.copy(), complete=bool(self.computed.all()),
        )  # fmt: skip


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
    """Run every batch, `workers` at once; after `time_budget` seconds no further batch starts."""
    grid = progress_map.grid
    deadline = None if time_budget is None else time.monotonic() + time_budget
    targets = list(progress_map.targets)

    def scores_of(batch: Batch) -> np.ndarray:
        origins = batch.origins(grid.tops, grid.lefts)
        tops, lefts = np.ascontiguousarray(origins[:, 0]), np.ascontiguousarray(origins[:, 1])
        fills = patches(tops, lefts)
        # float64: the mean over K fills must not depend on their order
        each = [run(tops, lefts, fill)[:, targets] for fill in fills]
        return np.asarray(np.mean(each, axis=0, dtype=np.float64), np.float32)

    done = 0
    waiting: Iterator[Batch] = iter(batches)
    with _one_blas_thread(), ThreadPoolExecutor(workers, thread_name_prefix="krypton") as pool:
        running: dict[Future[np.ndarray], Batch] = {}
        try:
            while True:
                while len(running) < workers and (deadline is None or time.monotonic() < deadline or not done):
                    batch = next(waiting, None)
                    if batch is None:
                        break
                    running[pool.submit(scores_of, batch)] = batch
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    batch = running.pop(future)
                    progress_map.add(batch, future.result())
                    done += batch.size
                    if progress is not None:
                        progress(done, grid.positions)
                    if on_update is not None:
                        on_update(progress_map.heat_map())
        finally:
            for future in running:
                future.cancel()
    return progress_map.heat_map()


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

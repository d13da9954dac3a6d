"""The loop behind an explanation: batches of positions over worker threads, scores into a map."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from krypton_onnx.errors import KryptonError
from krypton_onnx.forking import generation, native, reset_in_children
from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.patches import Patches
from krypton_onnx.runtime.pool import Pool

B = TypeVar("B")
RunBatch = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # tops, lefts, patches -> (N, classes)


class MapInProgress:
    """Scores as they arrive; written by the thread that collects, never by the workers."""

    def __init__(
        self, grid: Grid, targets: Sequence[int], baseline: np.ndarray, mode: str, score_name: str = "score"
    ) -> None:
        self.grid = grid
        self.targets = tuple(targets)
        self.baseline = np.ascontiguousarray(baseline[list(targets)], dtype=np.float32)
        self.mode = mode
        self.score_name = score_name
        self.predicted = np.full(grid.shape, -1, np.int64)  # written by the workers, each at cells of its own
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
            frame=self.grid.frame, mask=self.grid.mask,
            predicted=np.where(self.computed, self.predicted, -1), score_name=self.score_name,
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
    """Scores of positions: what hides the image there, and the run that infers it.

    predicted : int64 (rows, columns), where the class of the largest score is written.
    """

    grid: Grid
    patches: Patches
    run: RunBatch
    targets: tuple[int, ...]
    predicted: np.ndarray

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """float32 (n, T) of cells, int64 (n,): row * columns + column."""
        rows, columns = np.divmod(cells, len(self.grid.lefts))
        tops, lefts = np.ascontiguousarray(self.grid.tops[rows]), np.ascontiguousarray(self.grid.lefts[columns])
        scores = self.patches.mean([self.run(tops, lefts, fill) for fill in self.patches(tops, lefts)])
        known = ~np.isnan(scores)
        best = np.where(known, scores, -np.inf).argmax(axis=1)
        self.predicted.reshape(-1)[cells] = np.where(known.any(axis=1), best, -1)
        return scores[:, list(self.targets)]


def run_batches(
    batches: Iterable[B],
    score: Callable[[B], np.ndarray],
    workers: int,
    stop: Stop,
    add: Callable[[B, np.ndarray], None],
    begun: bool = False,
    pool: Pool | None = None,
) -> bool:
    """Score every batch, `workers` at once, and hand it and its scores to `add`, in this thread.

    pool : whose threads do it, None: new ones. Returns False where `stop` left some undone. The first batch runs in any
    case unless some work was `begun` before. Ctrl-C lets the batches that run end; it is raised where there is nothing
    yet to show for it. Raises KryptonError in a child that `add` forked, where the workers are no more.
    """
    waiting: Iterator[B] = iter(batches)
    left = next(waiting, None)
    whole, born = True, generation()

    def start(batch: B) -> np.ndarray | None:
        # It may have waited for a thread while other explanations had them all.
        return None if begun and stop else score(batch)

    with _one_blas_thread(), (pool or Pool(workers)).executor() as executor:
        running: dict[Future[np.ndarray | None], B] = {}
        try:
            while True:
                try:
                    while left is not None and len(running) < workers and not (begun and stop):
                        running[executor.submit(start, left)] = left
                        left = next(waiting, None)
                    if not running:
                        return whole and left is None
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        batch, scores = running.pop(future), future.result()
                        if scores is None:
                            whole = False
                            continue
                        begun = True
                        add(batch, scores)
                        if generation() != born:
                            raise KryptonError("a process forked while a map is computed cannot go on with that map")
                except KeyboardInterrupt:
                    if stop.interrupted or not begun:
                        raise
                    stop.interrupted = True
        finally:
            if generation() == born:
                wait([future for future in running if not future.cancel()])


@dataclass(frozen=True, eq=False)
class Part:
    """Some positions of a map and the run that infers them. batches: int64 cells, row * columns + column."""

    batches: Sequence[np.ndarray]
    run: RunBatch
    workers: int


def cells_of(batches: Iterable[Batch], grid: Grid) -> list[np.ndarray]:
    """The cells of batches, row * columns + column."""
    return [np.add.outer(batch.rows * len(grid.lefts), batch.cols).ravel() for batch in batches]


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
    part = Part(cells_of(batches, progress_map.grid), run, workers)
    return fill_parts(progress_map, [part], patches, time_budget, progress, on_update)


def fill_parts(
    progress_map: MapInProgress,
    parts: Iterable[Part],
    patches: Patches,
    time_budget: float | None,
    progress: Callable[[int, int], None] | None,
    on_update: Callable[[HeatMap], None] | None,
    pool: Pool | None = None,
) -> HeatMap:
    """As fill_map, part after part; the next one is asked for when a part is done. pool : as for run_batches."""
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

    stop = Stop(time_budget)
    whole = True
    for part in parts:
        score = Scoring(grid, patches, part.run, progress_map.targets, progress_map.predicted)
        whole = run_batches(part.batches, score, part.workers, stop, add, begun=done > 0, pool=pool)
        if not whole:
            break
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
    born = generation()
    with _blas_lock:
        if _blas_users == 0:
            with native():
                _blas_limit = threadpool_limits(limits=1, user_api="blas")  # of every library loaded by now
        _blas_users += 1
    try:
        yield
    finally:
        if generation() == born:
            with _blas_lock:
                _blas_users -= 1
                if _blas_users == 0:
                    _restore_blas()


def _restore_blas() -> None:
    global _blas_limit
    limit, _blas_limit = _blas_limit, None
    if limit is not None:
        with native():
            limit.restore_original_limits()


def _reset_blas() -> None:
    """In a forked child, where no explanation runs."""
    global _blas_lock, _blas_users
    _blas_lock, _blas_users = threading.Lock(), 0
    _restore_blas()


reset_in_children(_reset_blas)

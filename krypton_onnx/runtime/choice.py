"""Incremental or full inference: which is faster for exact maps, foretold from the plan or measured on first batches.

Incremental inference wins by the multiply-adds that it leaves out, and loses by what it adds: more nodes, smaller
products, full frames written for every global operator. Where the plan foretells no clear gain, some batches of a map
are computed in one way and some in the other. Both give scores of the map, and the faster way computes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.costs import HOST, Costs
from krypton_onnx.runtime.explain import Part, RunBatch
from krypton_onnx.runtime.fidelity import EXACT
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.schedule import default_batch, full_cost, position_cost, run_cost

LEAST_SHARE = 0.05  # of the work: where less is incremental, no more than that can be gained
CLEAR_GAIN = 1.6  # foretold: from here on incremental inference is taken for the faster,
CLEAR_SHARE = 0.9  # where no less of the work is incremental: what else global operators cost is not foretold
UNMEASURED_GAIN = 1.25  # foretold: from here on it is taken where a map has too few positions to measure
NO_GAIN = 0.5  # foretold: down from here full inference is
SMALL_WORK = 2e10  # multiply-adds of a map by full inference: a second at most, not worth to measure
MEASURED_ROUNDS = 1  # batches of every worker that are timed; one before them is not
TRIED_SHARE = 0.08  # of the positions are computed to measure, at most, in each way
SMALLEST_BATCH = 3  # positions: where batches to measure would be smaller, they tell nothing

clock = time.perf_counter
Way = str  # "incremental", "full" or "measure"


@dataclass(frozen=True)
class Verdict:
    """What was measured: seconds a position."""

    incremental: float
    full: float

    @property
    def full_wins(self) -> bool:
        return self.full < self.incremental

    @property
    def reason(self) -> str:
        """Why full inference, in words."""
        return (
            f"incremental inference of this model is slower ({1000 * self.incremental:.3g} against "
            f"{1000 * self.full:.3g} ms a position)"
        )


def nothing_incremental(plan: Plan) -> str | None:
    """Why incremental inference of the model cannot be worth its while, or None."""
    if plan.refusal is not None:
        return plan.refusal
    share = _incremental_share(plan)
    if share >= LEAST_SHARE:
        return None
    ends = (f", which ends at {op.op_type} '{op.name}': {op.reason}" for op in plan.operators if op.frontier)
    return f"{share:.1%} of the work is in the incremental part{next(ends, '')}"


def _incremental_share(plan: Plan) -> float:
    """Of the work of a full inference (multiply-adds, and elements read and written); 1.0 where there is none."""
    whole, part = full_cost(plan)
    return part / whole if whole else 1.0


def foretold_gain(plan: Plan, grid: Grid) -> float:
    """How many times as fast as full inference."""
    products = sum(operator.products for operator in plan.operators if operator.geometry is None)
    batch = default_batch(plan, grid, GeometryTable(**plan.table()), 1)
    return full_cost(plan)[0] / (position_cost(plan, grid, EXACT) + products + run_cost(plan) / batch)


def way(plan: Plan, grid: Grid, workers: int, costs: Costs = HOST) -> Way:
    """How to compute an exact map."""
    if nothing_incremental(plan) is not None:
        return "full"
    if not costs.foretold:
        return "incremental" if _trial(grid.positions, workers, costs) is None else "measure"
    work = sum(operator.multiply_adds + operator.products for operator in plan.operators)
    if work * grid.positions < SMALL_WORK:
        return "incremental"
    gain = foretold_gain(plan, grid)
    if gain >= CLEAR_GAIN and _incremental_share(plan) >= CLEAR_SHARE:
        return "incremental"
    if gain <= NO_GAIN:
        return "full"
    if _trial(grid.positions, workers, costs) is None:
        return "incremental" if gain >= UNMEASURED_GAIN else "full"
    return "measure"


@dataclass(frozen=True)
class _Trial:
    """Positions that are computed to measure. batch : of each incremental batch; full : of each of two full ones."""

    batch: int
    full: int


def _trial(positions: int, workers: int, costs: Costs = HOST) -> _Trial | None:
    """As large as TRIED_SHARE of the positions allows; None where they are too few."""
    batch = int(TRIED_SHARE * positions / ((1 + MEASURED_ROUNDS) * workers))
    if batch < SMALLEST_BATCH:
        return None
    return _Trial(min(batch, costs.most), min(costs.full_batch, int(TRIED_SHARE * positions / 2)))


@dataclass(frozen=True, eq=False)
class Ways:
    """Both ways to compute a map.

    cut : cells in batches of at most so many (None: as is best), for incremental inference. full_batch : most positions
    of a run of full inference, where the caller wants few. best_full : seconds a position of the fastest run of full
    inference yet: the first ones are slower than what is to come.
    """

    incremental: RunBatch
    cut: Callable[[np.ndarray, int | None], list[np.ndarray]]
    full: RunBatch
    workers: int
    full_batch: int | None = None
    best_full: Callable[[], float] = lambda: float("inf")
    costs: Costs = HOST


def measured_parts(positions: int, ways: Ways, remember: Callable[[Verdict], None]) -> Iterator[Part]:
    """The whole map: some positions in either way, then the rest in the faster one. They must not be too few (`way`).

    Threads are used as each way uses them best: one a batch for incremental inference, ONNX Runtime's own for full
    inference. The first run of each is not timed: sessions are made in it, and memory taken.
    """
    trial = _trial(positions, ways.workers, ways.costs)
    assert trial is not None
    # Anywhere on the map, so that both ways get positions as they are on average; the same in every map.
    mixed = np.random.default_rng(0).permutation(positions)
    size = ways.workers * trial.batch
    bounds = np.cumsum([size, MEASURED_ROUNDS * size, trial.full, trial.full])
    warm, timed, first, second, rest = (np.sort(cells) for cells in np.split(mixed, bounds))
    yield Part(ways.cut(warm, trial.batch), ways.incremental, ways.workers)
    incremental = _Timed(ways.incremental, ways.workers)
    yield Part(ways.cut(timed, trial.batch), incremental, ways.workers)
    full_batch = ways.full_batch or ways.costs.full_batch
    yield Part(cut(first, full_batch), ways.full, 1)
    full = _Timed(ways.full, 1)
    yield Part(cut(second, full_batch), full, 1)
    verdict = Verdict(incremental.seconds_a_position, min(full.seconds_a_position, ways.best_full()))
    remember(verdict)
    if verdict.full_wins:
        yield Part(cut(rest, full_batch), ways.full, 1)
    else:
        yield Part(ways.cut(rest, None), ways.incremental, ways.workers)


class _Timed:
    """A run and the time it took, each of `workers` at once: how they end together does not matter."""

    def __init__(self, run: RunBatch, workers: int) -> None:
        self._run, self._workers = run, workers
        self._runs: list[tuple[int, float]] = []  # appended to from several threads

    def __call__(self, tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
        started = clock()
        scores = self._run(tops, lefts, patches)
        self._runs.append((len(tops), clock() - started))
        return scores

    @property
    def positions(self) -> int:
        return sum(positions for positions, _ in self._runs)

    @property
    def seconds_a_position(self) -> float:
        return sum(seconds for _, seconds in self._runs) / (self._workers * self.positions)


def cut(cells: np.ndarray, size: int) -> list[np.ndarray]:
    """Cells in runs of at most `size`."""
    return np.array_split(cells, -(-len(cells) // size)) if len(cells) else []

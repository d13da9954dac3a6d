"""mode="approximate": the promise kept by a tuning, or, without one, by what the image at hand tells."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from krypton_onnx.numba_kernels import amx
from krypton_onnx.runtime.assembly import check_cells
from krypton_onnx.runtime.drill_down import Batch, DrillDown, Goal, Work
from krypton_onnx.runtime.explain import Scoring, Stop, run_batches
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.policy import FROZEN_MARGIN, general_relations, worthwhile
from krypton_onnx.runtime.question import FullyInferred, Materialized, Question, infer_fully, materialize
from krypton_onnx.runtime.relation import Relation
from krypton_onnx.runtime.schedule import positions_plan
from krypton_onnx.runtime.setting import SMALLEST_MAP, Setting, ladder
from krypton_onnx.runtime.tuning import Tuning

DEFAULT_SSIM = 0.9

# Without a tuning, fidelities are tried on the image at hand, at so many positions: the cheapest whose error there is
# at most this share of the scores' variance is taken. The estimate must keep this margin.
TRIED_POSITIONS = 32
TRIED = (
    *(Fidelity(reach, light=True, frozen=True) for reach in (1.7, 2.0, None)),
    Fidelity(1.7, light=True), Fidelity(2.0, light=True),
)  # fmt: skip
TRIED_ERROR = 0.03
UNTUNED_MARGIN = 1.0


@dataclass(frozen=True)
class Promise:
    """min_ssim : None is the tuned one. complete_exactly : where the estimate stays below."""

    min_ssim: float | None = None
    complete_exactly: bool = True


def answer_approximately(question: Question, tuning: Tuning | None, promise: Promise) -> HeatMap:
    """The map, by the tuning's setting; one is made up on the image at hand where there is none."""
    stop = Stop(question.time_budget)
    ready = _ready(question)
    targets = question.chosen(ready.baseline)
    notes = []
    if question.engine.plan.refusal is not None:
        notes.append(f"computed by full inference: {question.engine.plan.refusal}")
    setting, margin = Setting((EXACT,), ()), 0.0
    relations: tuple[Relation, ...] = ()
    if min(question.grid.shape) < SMALLEST_MAP:
        notes.append(f"a map of {question.grid.shape[0]} x {question.grid.shape[1]} positions is computed exactly")
    elif tuning is not None:
        setting, relations, margin = tuning.setting, tuning.relations, tuning.margin
    else:
        cheap = _fitting(ready, targets, stop) if isinstance(ready, Materialized) else EXACT
        setting, margin = ladder(cheap), FROZEN_MARGIN if cheap.frozen else UNTUNED_MARGIN
        relations = general_relations(setting, question.grid.shape)
        notes.append(f"not tuned: the setting was chosen on this image, at {len(_tried_cells(question))} positions")
    target = promise.min_ssim
    if target is None:
        target = tuning.min_ssim if tuning is not None else DEFAULT_SSIM
    # What tuning expects holds for its own target, and for whole maps.
    whole = make_grid(question.frame, question.grid.patch, question.grid.stride)
    expected = None
    if tuning is not None and target == tuning.min_ssim and question.grid.shape == whole.shape:
        expected = tuning.expected_ssim
    goal = Goal(target, relations, margin, expected, promise.complete_exactly)
    return DrillDown(
        question.grid, targets, np.ascontiguousarray(ready.baseline[list(targets)], np.float32), setting, goal,
        _work(ready, targets, setting.fidelities), stop, question.seed, question.progress, question.on_update,
    ).run("; ".join(notes))  # fmt: skip


def _ready(question: Question) -> Materialized | FullyInferred:
    return infer_fully(question) if question.engine.plan.refusal is not None else materialize(question)


def _work(ready: Materialized | FullyInferred, targets: tuple[int, ...], fidelities: tuple[Fidelity, ...]) -> Work:
    question = ready.question
    grid = question.grid
    most, workers = ready.within_memory(fidelities)
    plans = [question.plan(fidelity.frozen) for fidelity in fidelities]
    tables = [fidelity.table(plan, grid.patch) for fidelity, plan in zip(fidelities, plans, strict=True)]
    predicted = [np.full(grid.shape, -1, np.int64) for _ in fidelities]
    scorings = [
        Scoring(grid, question.patches, ready.runs(fidelity), targets, classes)
        for fidelity, classes in zip(fidelities, predicted, strict=True)
    ]

    def batches(number: int, cells: np.ndarray) -> list[np.ndarray]:
        return positions_plan(plans[number], grid, cells, tables[number], most, workers, question.costs)

    def score(batch: Batch) -> np.ndarray:
        number, cells = batch
        return scorings[number](cells)

    return Work(batches, score, workers, question.pool, tuple(predicted), question.scorer.name)


def _fitting(ready: Materialized, targets: tuple[int, ...], stop: Stop) -> Fidelity:
    """The cheapest fidelity whose scores are near the exact ones at a few positions of this image."""
    question = ready.question
    cells = _tried_cells(question)
    costs = worthwhile(question.plans, question.grid)
    tried = tuple(fidelity for fidelity in TRIED if fidelity in costs)
    work = _work(ready, targets, (EXACT, *tried))
    exact = _scores(work, 0, cells, len(targets), stop)
    for number, fidelity in enumerate(tried, start=1):
        if stop:
            return fidelity
        error = ((_scores(work, number, cells, len(targets), stop) - exact) ** 2).mean(axis=0)
        if (error <= TRIED_ERROR * exact.var(axis=0)).all():
            return fidelity
    return Fidelity(light=True) if amx.available() else EXACT


def _tried_cells(question: Question) -> np.ndarray:
    cells = check_cells(question.grid.shape, question.seed + 1)
    return cells[np.linspace(0, len(cells) - 1, min(len(cells), TRIED_POSITIONS)).round().astype(int)]


def _scores(work: Work, number: int, cells: np.ndarray, targets: int, stop: Stop) -> np.ndarray:
    """float64 (n, targets) of cells, ascending, at one fidelity; NaN where it was stopped before."""
    scores = np.full((len(cells), targets), np.nan)

    def add(batch: Batch, values: np.ndarray) -> None:
        scores[np.searchsorted(cells, batch[1])] = values

    batches = [(number, some) for some in work.plan(number, cells)]
    run_batches(batches, work.score, work.workers, stop, add, pool=work.pool)
    return scores


def observe(question: Question, fidelity: Fidelity) -> tuple[np.ndarray, float]:
    """The whole map of the predicted class at one fidelity, float32 (rows, columns), and its seconds."""
    started = time.perf_counter()
    ready = _ready(question)
    targets = question.chosen(ready.baseline)[:1]
    work = _work(ready, targets, (fidelity,))
    stop = Stop()
    scores = _scores(work, 0, np.arange(question.grid.positions), len(targets), stop)
    if stop.interrupted:  # a part is of no use
        raise KeyboardInterrupt
    return scores[:, 0].astype(np.float32).reshape(question.grid.shape), time.perf_counter() - started

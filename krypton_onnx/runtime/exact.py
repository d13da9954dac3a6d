"""mode="exact" and mode="naive": every position computed, by incremental or by full inference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.choice import Verdict, Ways, measured_parts, nothing_incremental, way
from krypton_onnx.runtime.engine import Engine
from krypton_onnx.runtime.explain import Part, cells_of
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.memory import CPU_ARENA
from krypton_onnx.runtime.question import Question, infer_fully, materialize
from krypton_onnx.runtime.schedule import exact_plan, naive_batches, positions_plan


def answer_naively(question: Question) -> HeatMap:
    """mode="naive": by full inference."""
    return _in_full(question, "naive")


def answer_exactly(question: Question) -> HeatMap:
    """mode="exact": by incremental inference, or by full inference where that is faster or nothing is incremental.

    A decision between the two by measurement holds for the engine, this patch and stride from then on.
    """
    engine, grid = question.engine, question.grid
    if not isinstance(engine, Engine):
        return _noted(_in_full(question, "exact"), nothing_incremental(engine.plan))
    occlusion = (grid.patch, grid.stride)
    verdict: Verdict | None = engine.verdicts.get(occlusion)
    if verdict is not None and verdict.full_wins:
        return _noted(_in_full(question, "exact"), verdict.reason)
    reason = nothing_incremental(engine.plan)
    if reason is not None:
        return _noted(_in_full(question, "exact"), reason)
    chosen = "incremental" if verdict is not None else way(engine.plan, grid, question.workers, question.costs)
    if chosen == "full":
        return _noted(_in_full(question, "exact"), "the plan foretells that it is faster")
    ready = materialize(question)
    most, workers = ready.within_memory()
    if chosen == "incremental" or question.memory_budget is not None:  # which a second session might break
        batches = cells_of(exact_plan(engine.plan, grid, most, workers, question.costs).batches, grid)
        return question.answer("exact", ready.baseline, [Part(batches, ready.runs(), workers)])
    table = GeometryTable(**engine.plan.table())

    def cut(cells: np.ndarray, size: int | None) -> list[np.ndarray]:
        sizes = [limit for limit in (size, most) if limit is not None]
        return positions_plan(engine.plan, grid, cells, table, min(sizes, default=None), workers, question.costs)

    def remember(measured: Verdict) -> None:
        engine.verdicts[occlusion] = measured
        if not measured.full_wins and question.full.arena != CPU_ARENA:
            question.full(question.image, last=True)  # what it took to be measured is worth more to who won

    size = question.full.size
    best_full = Ways.best_full if size is None else size.best
    ways = Ways(ready.runs(), cut, question.full_runs(), workers, question.batch_size, best_full, question.costs)
    heat_map = question.answer("exact", ready.baseline, measured_parts(grid.positions, ways, remember))
    verdict = engine.verdicts.get(occlusion)
    return _noted(heat_map, verdict.reason) if verdict is not None and verdict.full_wins else heat_map


def _in_full(question: Question, mode: str) -> HeatMap:
    ready = infer_fully(question)
    size, workers = ready.within_memory()
    batches = cells_of(naive_batches(question.grid, size), question.grid)
    return question.answer(mode, ready.baseline, [Part(batches, ready.runs(), workers)])


def _noted(heat_map: HeatMap, reason: str | None) -> HeatMap:
    """The map, which says why it was computed by full inference."""
    return replace(heat_map, note="; ".join(filter(None, [f"computed by full inference: {reason}", heat_map.note])))

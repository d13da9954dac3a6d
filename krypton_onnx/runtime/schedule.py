"""Which positions share a run, and what a run costs beside its multiply-adds."""

from __future__ import annotations

import numpy as np

from krypton_onnx.numba_kernels import amx
from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime import batching
from krypton_onnx.runtime.batching import Batch, GeometryTable
from krypton_onnx.runtime.costs import HOST, Costs
from krypton_onnx.runtime.fidelity import Fidelity
from krypton_onnx.runtime.grid import Grid

LIGHT_SHARE = 0.55  # of a multiply-add's time, where products may be rounded
RUN_SHARE = 0.015


def exact_plan(
    plan: Plan, grid: Grid, max_batch: int | None = None, workers: int = 1, costs: Costs = HOST
) -> batching.Plan[Batch]:
    """Batches whose regions are nearly truly clipped; max_batch None chooses by memory, some for every worker."""
    table = GeometryTable(**plan.table())
    if max_batch is None:
        max_batch = default_batch(plan, grid, table, workers, costs=costs)
    return batching.plan_grid(
        grid.tops, grid.lefts, grid.patch, table, max_batch=max_batch, fixed_cost=run_cost(plan, costs)
    )


def positions_plan(
    plan: Plan, grid: Grid, cells: np.ndarray, table: GeometryTable, max_batch: int | None, workers: int,
    costs: Costs = HOST,
) -> list[np.ndarray]:
    """Batches of some cells of the grid (int64, row * columns + column), for regions that lie as `table` says."""
    if max_batch is None:
        most = default_batch(plan, grid, table, workers, costs.most_listed, costs)
        max_batch = min(most, -(-len(cells) // workers) or 1)
    rows, columns = np.divmod(cells, len(grid.lefts))
    origins = np.stack([grid.tops[rows], grid.lefts[columns]], axis=1)
    batches = batching.plan_positions(
        origins, grid.patch, table, max_batch=max_batch, fixed_cost=run_cost(plan, costs)
    ).batches
    return [cells[batch.positions] for batch in batches]


def run_cost(plan: Plan, costs: Costs = HOST) -> float:
    """Multiply-adds that one more run costs."""
    weights = sum(
        operator.multiply_adds / np.prod(plan.geometries[operator.geometry].frame)
        for operator in plan.operators
        if operator.geometry is not None
    )
    return float(costs.a_node * len(plan.operators) + costs.a_weight * weights)


def _extents(grid: Grid, table: GeometryTable) -> tuple[np.ndarray, np.ndarray]:
    """int64 (rows, G) and (columns, G): how high and how wide regions are along the grid."""
    return table.extents(0, grid.tops, grid.patch[0]), table.extents(1, grid.lefts, grid.patch[1])


def default_batch(
    plan: Plan, grid: Grid, table: GeometryTable, workers: int, limit: int | None = None, costs: Costs = HOST
) -> int:
    """Most positions of a batch: by the memory of their activations, and some batches for every worker."""
    limit = costs.most if limit is None else limit
    most = costs.batch_bytes // patch_bytes(plan, grid, table)
    # A third of them where a run still costs little beside its multiply-adds.
    enough = -(-run_cost(plan, costs) // (RUN_SHARE * work(plan, grid, table)))
    share = -(-grid.positions // workers)
    return int(np.clip(max(most // 3, min(most, enough)), 1, min(limit, share)))


def work(plan: Plan, grid: Grid, table: GeometryTable) -> float:
    """Multiply-adds of a position, mean over the grid."""
    height, width = (extents.mean(axis=0) for extents in _extents(grid, table))
    whole = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    return float(whole + (height * width * table.cost).sum()) or 1.0


def position_cost(plan: Plan, grid: Grid, fidelity: Fidelity) -> float:
    """What a position costs beside its share of a run, as exact multiply-adds, mean over the grid; 1.0 at any fidelity
    where nothing is incremental."""
    if plan.refusal is not None:
        return 1.0
    table = fidelity.table(plan, grid.patch)
    height, width = (extents.mean(axis=0) for extents in _extents(grid, table))
    elements = sum(
        float(operator.elements)
        if operator.geometry is None
        else float(height[operator.geometry] * width[operator.geometry]) * operator.channels
        for operator in plan.operators
    )
    whole = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    # What is computed on whole frames is never rounded: it is ONNX Runtime's.
    share = LIGHT_SHARE if fidelity.light and amx.available() else 1.0
    return whole + share * (work(plan, grid, table) - whole) + HOST.an_element * elements


def full_cost(plan: Plan) -> tuple[float, float]:
    """What a position costs by full inference, on the scale of `position_cost`: in all, and where it is incremental."""
    frames = [float(np.prod(geometry.frame)) for geometry in plan.geometries]
    whole = part = 0.0
    for operator in plan.operators:
        index = operator.geometry
        elements = operator.elements if index is None else frames[index] * operator.channels
        cost = operator.multiply_adds + operator.products + HOST.an_element * elements
        whole += cost
        part += cost if index is not None else 0.0
    return whole, part


def patch_bytes(plan: Plan, grid: Grid, table: GeometryTable) -> int:
    """Bytes of the largest patch activation of one position, anywhere on the grid."""
    height, width = (extents.max(axis=0) for extents in _extents(grid, table))
    cells = (height * width).astype(np.int64)
    return max(
        (int(cells[op.geometry]) * op.channels * 4 for op in plan.operators if op.geometry is not None), default=4
    )


def naive_batches(grid: Grid, size: int = HOST.full_batch) -> list[Batch]:
    """The grid row by row, in batches of neighbours, for full inference."""
    rows, columns = grid.shape
    if size >= columns:
        step = size // columns
        return [
            Batch(np.arange(first, min(first + step, rows)), np.arange(columns)) for first in range(0, rows, step)
        ]
    return [
        Batch(np.array([row]), np.arange(first, min(first + size, columns)))
        for row in range(rows)
        for first in range(0, columns, size)
    ]

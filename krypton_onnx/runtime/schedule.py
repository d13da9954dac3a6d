"""Which positions share a run, and what a run costs beside its multiply-adds."""

from __future__ import annotations

import numpy as np

from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime import batching
from krypton_onnx.runtime.batching import Batch, GeometryTable
from krypton_onnx.runtime.grid import Grid

MAX_BATCH = 64
NAIVE_BATCH = 16

# What one more run costs beside its multiply-adds, as multiply-adds: calls and small arrays per node, and the weights
# that every run reads once more.
MULTIPLY_ADDS_A_NODE = 2e6
MULTIPLY_ADDS_A_WEIGHT = 32


def exact_plan(plan: Plan, grid: Grid, max_batch: int = MAX_BATCH) -> batching.Plan[Batch]:
    """Batches whose regions are nearly truly clipped."""
    weights = sum(
        operator.multiply_adds / np.prod(plan.geometries[operator.geometry].frame)
        for operator in plan.operators
        if operator.geometry is not None
    )
    fixed = MULTIPLY_ADDS_A_NODE * len(plan.operators) + MULTIPLY_ADDS_A_WEIGHT * weights
    table = GeometryTable(**plan.table())
    return batching.plan_grid(
        grid.tops, grid.lefts, grid.patch, table, max_batch=max_batch, fixed_cost=float(fixed)
    )


def naive_batches(grid: Grid, size: int = NAIVE_BATCH) -> list[Batch]:
    """The grid row by row, in batches of neighbours."""
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

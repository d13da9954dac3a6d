"""Which positions to send together to the rewritten model where it runs without this package (docs/deploy.md).

There every run computes the unoccluded pass again. So one more run costs a full inference on top of what it costs in
`exact_plan`, and batches are larger and fewer than exact mode's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime import batching, schedule
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.grid import Grid

FORMAT = 1
MOST_POSITIONS = 128  # more gain no more: the unoccluded pass is below a hundredth of a batch's full inferences
MOST_BYTES = 256 << 20  # of the largest patch activation of a run; it holds a few of them at once


@dataclass(frozen=True)
class RunAdvice:
    """The positions tops x lefts of one run, row by row: pixels, ascending."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]


@dataclass(frozen=True)
class BatchAdvice:
    """Runs that hold every position of a grid once, the most work first.

    image_shape : channels, height, width. redundancy_ratio : multiply-adds of full inference over those of these
    runs, the unoccluded pass of each among them.
    """

    image_shape: tuple[int, int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    rows: int
    columns: int
    redundancy_ratio: float
    batches: tuple[RunAdvice, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "format": FORMAT, "image_shape": list(self.image_shape), "patch": list(self.patch),
            "stride": list(self.stride), "rows": self.rows, "columns": self.columns,
            "redundancy_ratio": self.redundancy_ratio,
            "batches": [{"tops": list(run.tops), "lefts": list(run.lefts)} for run in self.batches],
        }  # fmt: skip


def advise(plan: Plan, grid: Grid, most: int | None = None) -> BatchAdvice:
    """Batches for the rewritten model as it is. most : positions of a run; None chooses by memory, 128 at most.

    Raises ModelError where the model has no rewritten form, ImageError where `most` is below 1.
    """
    if plan.refusal is not None:
        raise ModelError(f"there are no batches to advise, as the model cannot be rewritten: {plan.refusal}")
    if most is not None and most < 1:
        raise ImageError(f"a batch has at least 1 position, got {most}")
    table = GeometryTable(**plan.table())
    if most is None:
        most = max(1, min(MOST_POSITIONS, MOST_BYTES // schedule.patch_bytes(plan, grid, table)))
    # What no region bounds is computed at every position, and so is the same for any batches.
    rest = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    full = table.full_cost() + rest
    planned = batching.plan_grid(
        grid.tops, grid.lefts, grid.patch, table, max_batch=most, fixed_cost=full + schedule.run_cost(plan)
    )
    work = planned.achieved + rest * grid.positions + full * len(planned.batches)
    runs = tuple(
        RunAdvice(tuple(grid.tops[batch.rows].tolist()), tuple(grid.lefts[batch.cols].tolist()))
        for batch in planned.batches
    )
    rows, columns = grid.shape
    ratio = full * grid.positions / work if work else 1.0
    return BatchAdvice(plan.image_shape, grid.patch, grid.stride, rows, columns, ratio, runs)

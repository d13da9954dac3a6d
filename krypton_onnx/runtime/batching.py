"""Batches of positions whose regions are nearly truly clipped (docs/architecture.md).

All positions of a batch share one extent per geometry, so a batch should hold positions of similar extents.
A region's rows depend on the top only and its columns on the left only, so rows and columns are grouped apart
(grouping.py), and a batch is one group of rows x one group of columns, or an even part of it where that is
more than `max_batch` positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from krypton_onnx.runtime.grouping import group_axes


@dataclass(frozen=True, eq=False)
class GeometryTable:
    """Where an occlusion's region lies in every distinct frame, as PlaceRegions computes it.

    jump, before, after, frame: int64 (G, 2), (rows, columns). cost: float64 (G,), the multiply-adds per
    cell of the frame, summed over the operators computed in it. cap: int64 (G, 2), the largest extents under a
    propagation threshold; None where there is none. scale: int64 (G, 2), parts of a pixel that jump, before and
    after count; None where all are 1.
    """

    jump: np.ndarray
    before: np.ndarray
    after: np.ndarray
    frame: np.ndarray
    cost: np.ndarray
    cap: np.ndarray | None = None
    scale: np.ndarray | None = None

    def extents(self, axis: int, origins: np.ndarray, size: int) -> np.ndarray:
        """int64 (n, G): each occlusion's own extents along an axis (0: rows), never empty."""
        jump, frame = self.jump[:, axis], self.frame[:, axis]
        scale = np.ones_like(jump) if self.scale is None else self.scale[:, axis]
        start = np.asarray(origins, np.int64)[:, None] * scale
        first = -((self.before[:, axis] - start) // jump)  # ceil((start - before) / jump), scaled
        first = np.minimum(np.maximum(first, 0), frame - 1)
        end = np.minimum((start + scale * (size - 1) + self.after[:, axis]) // jump + 1, frame)
        own = np.maximum(end, first + 1) - first
        return own if self.cap is None else np.minimum(own, self.cap[:, axis])

    def full_cost(self) -> float:
        """Multiply-adds of one full inference."""
        return float((self.cost * self.frame.prod(axis=1)).sum())


@dataclass(frozen=True, eq=False)
class Batch:
    """The positions tops[rows] x lefts[cols], row by row. int64 indices, ascending, read-only."""

    rows: np.ndarray
    cols: np.ndarray

    def __post_init__(self) -> None:
        self.rows.setflags(write=False)
        self.cols.setflags(write=False)

    @property
    def size(self) -> int:
        return len(self.rows) * len(self.cols)

    def origins(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """int64 (size, 2): (top, left) of every position."""
        pairs = np.meshgrid(np.asarray(tops)[self.rows], np.asarray(lefts)[self.cols], indexing="ij")
        return np.stack(pairs, axis=-1).reshape(-1, 2).astype(np.int64)


@dataclass(frozen=True, eq=False)
class PositionBatch:
    """Some of a list of positions: int64 indices into it, ascending, read-only."""

    positions: np.ndarray

    def __post_init__(self) -> None:
        self.positions.setflags(write=False)

    @property
    def size(self) -> int:
        return len(self.positions)


B = TypeVar("B", Batch, PositionBatch)


@dataclass(frozen=True)
class Plan(Generic[B]):
    """Batches, the most work first, that hold every position once; and multiply-adds of all positions.

    full: by full inference. true: with every region clipped truly. achieved: as these batches compute them.
    """

    batches: tuple[B, ...]
    full: float
    true: float
    achieved: float

    @property
    def true_ratio(self) -> float:
        """The redundancy ratio R that true clipping has."""
        return self.full / self.true if self.true else 1.0

    @property
    def achieved_ratio(self) -> float:
        """The redundancy ratio R of these batches."""
        return self.full / self.achieved if self.achieved else 1.0


def plan_grid(
    tops: Sequence[int] | np.ndarray,
    lefts: Sequence[int] | np.ndarray,
    patch: tuple[int, int],
    geometry: GeometryTable,
    *,
    max_batch: int,
    fixed_cost: float,
) -> Plan[Batch]:
    """Plan the grid tops x lefts of occlusions of (height, width) `patch`.

    fixed_cost: what one more run costs, in multiply-adds; finite. Raises ValueError if max_batch < 1.
    """
    tops, lefts = np.asarray(tops, np.int64), np.asarray(lefts, np.int64)
    work = _Work(tops, lefts, patch, geometry)
    counts = np.ones((len(tops), len(lefts)), np.int64)
    row_groups, col_groups = group_axes(work.extents, work.cost, counts, max_batch, fixed_cost)
    planned: list[tuple[float, Batch]] = []
    for rows in row_groups:
        for cols in col_groups:
            row_parts, col_parts = _parts(len(rows), len(cols), max_batch)
            for some_rows in np.array_split(rows, row_parts):
                for some_cols in np.array_split(cols, col_parts):
                    batch = Batch(np.sort(some_rows), np.sort(some_cols))
                    planned.append((work.achieved(batch.rows, batch.cols, batch.size), batch))
    true = float(work.cost @ (work.extents[0].sum(axis=0) * work.extents[1].sum(axis=0)))
    return _plan(planned, len(tops) * len(lefts) * geometry.full_cost(), true)


def plan_positions(
    origins: np.ndarray, patch: tuple[int, int], geometry: GeometryTable, *, max_batch: int, fixed_cost: float
) -> Plan[PositionBatch]:
    """Plan any list of positions, (N, 2) of (top, left): as plan_grid, but only these positions count.

    The same position twice is computed twice.
    """
    origins = np.asarray(origins, np.int64).reshape(-1, 2)
    tops, row_of = np.unique(origins[:, 0], return_inverse=True)
    lefts, col_of = np.unique(origins[:, 1], return_inverse=True)
    work = _Work(tops, lefts, patch, geometry)
    counts = np.zeros((len(tops), len(lefts)), np.int64)
    np.add.at(counts, (row_of, col_of), 1)
    row_groups, col_groups = group_axes(work.extents, work.cost, counts, max_batch, fixed_cost)
    # Positions sorted by their pair of groups; inside a pair in the groups' order (of growing extents).
    row_group, row_rank = _ranks(row_groups, len(tops))
    col_group, col_rank = _ranks(col_groups, len(lefts))
    pair = row_group[row_of] * len(col_groups) + col_group[col_of]
    order = np.lexsort((col_rank[col_of], row_rank[row_of], pair))
    planned: list[tuple[float, PositionBatch]] = []
    for together in np.split(order, np.flatnonzero(np.diff(pair[order])) + 1) if len(order) else []:
        for some in np.array_split(together, -(-len(together) // max_batch)):
            batch = PositionBatch(np.sort(some))
            planned.append((work.achieved(row_of[some], col_of[some], len(some)), batch))
    true = float((work.extents[0][row_of] * work.extents[1][col_of]).sum(axis=0) @ work.cost)
    return _plan(planned, len(origins) * geometry.full_cost(), true)


def _plan(planned: list[tuple[float, B]], full: float, true: float) -> Plan[B]:
    """The most work first, so that worker threads end together."""
    planned.sort(key=lambda item: (-item[0], -item[1].size))
    return Plan(tuple(batch for _, batch in planned), full, true, float(sum(cost for cost, _ in planned)))


class _Work:
    """Extents along both axes, float64 (n, G): equal geometries merged, those without cost left out."""

    def __init__(self, tops: np.ndarray, lefts: np.ndarray, patch: tuple[int, int], geometry: GeometryTable):
        rows, cols = geometry.extents(0, tops, patch[0]), geometry.extents(1, lefts, patch[1])
        costly = np.flatnonzero(geometry.cost)
        signatures, same = np.unique(np.concatenate([rows, cols])[:, costly], axis=1, return_inverse=True)
        self.cost = np.bincount(same.ravel(), geometry.cost[costly], signatures.shape[1])
        self.extents = (
            signatures[: len(tops)].astype(np.float64),
            signatures[len(tops) :].astype(np.float64),
        )

    def achieved(self, rows: np.ndarray, cols: np.ndarray, size: int) -> float:
        """Multiply-adds of a batch of `size` positions in these rows and columns: their largest extents."""
        return size * float(
            self.cost @ (self.extents[0][rows].max(axis=0) * self.extents[1][cols].max(axis=0))
        )


def _ranks(groups: list[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every index: its group, and its rank inside that group."""
    group, rank = np.empty(count, np.int64), np.empty(count, np.int64)
    for number, members in enumerate(groups):
        group[members], rank[members] = number, np.arange(len(members))
    return group, rank


def _parts(rows: int, cols: int, max_batch: int) -> tuple[int, int]:
    """In how many parts to split rows and columns, the fewest whose sizes do not exceed max_batch."""
    by_rows = np.arange(1, rows + 1)
    widest = max_batch // -(-rows // by_rows)  # columns that fit beside the rows of a part; 0: too many rows
    by_cols = np.where(widest > 0, -(-cols // np.maximum(widest, 1)), rows * cols + 1)
    choice = int((by_rows * by_cols).argmin())
    return int(by_rows[choice]), int(by_cols[choice])

"""Which cells a rung samples, and the map that its scores give.

Exact scores at check cells are kept out of the map: their errors tell how good it is, and whether to climb on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from krypton_onnx.runtime.lattice import coarsest_level, interpolate, level_cells, refinement, whole_level
from krypton_onnx.runtime.setting import Rung

FEW_LEVELS = 4  # lattices of the coarsest levels hold fewer than some 16 cells
CHECKS = 64
CHECKED_SHARE = 0.02  # of the positions, at most CHECKS and at least a quarter of them


def check_cells(shape: tuple[int, int], seed: int) -> np.ndarray:
    """int64 (n,): cells (row * columns + column) of the finest level only, spread over the map, at random."""
    rows, columns = shape
    candidates = np.flatnonzero(~level_cells(shape, 1))
    count = int(np.clip(CHECKED_SHARE * rows * columns, CHECKS // 4, CHECKS))
    rng = np.random.default_rng(seed)
    # One of every equal part in reading order: spread, yet each cell as likely as any other.
    return np.array([rng.choice(part) for part in np.array_split(candidates, count) if len(part)], np.int64)


def wanted_cells(rung: Rung, values: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Per fidelity, bool (rows, columns): what the rung samples. values: float (T, rows, columns), NaN where unknown.

    What refines a level is read from the fidelity's own values: its whole level should be known before.
    """
    for level, value in zip(rung, values, strict=True):
        known = ~np.isnan(value[0])
        yield np.zeros(known.shape, bool) if level is None else refinement(value, known, level)


def assemble(values: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (T, rows, columns): the cheapest fidelity and the corrections by the better ones, interpolated.

    values : one (T, rows, columns) a fidelity, NaN where unknown. Cells known at a fidelity have its score, unless a
    better one corrects it. Raises ValueError where nothing is known.
    """
    total: np.ndarray | None = None
    for value in values:
        known = ~np.isnan(value[0])
        if not known.any():
            continue
        if total is None:
            total = interpolate(value, known)
        elif whole_level(known) <= coarsest_level(known.shape) - FEW_LEVELS:
            total = total + interpolate(np.where(known, value - total, 0.0), known)
        else:  # too few to tell about others, or a lattice that is only half computed
            total = np.where(known, value, total)
    if total is None:
        raise ValueError("no score is known yet")
    return total

"""Nested lattices of a grid's cells, coarse to fine, and the interpolation between them.

Level 0 is every cell; each level above keeps every second cell of the one below, in turn as a checkerboard
(quincunx) and as a square lattice of twice the spacing:

    level 0: all    level 1: checkerboard    level 2: every 2nd row and column    level 3: checkerboard of those ...

so levels halve the positions and the next finer one always holds the coarser one. A level of 1.4 is level 2 and the
60 % of level 1's other cells where it matters most (`refinement`).

A cell that is not known is predicted from the next coarser level by the quincunx filters of Kovacevic and Sweldens
("Wavelet families of increasing order in arbitrary dimensions", 2000, the Neville filters of order 4): the four
nearest cells and the eight next. Order 4 was as good as filters fitted to maps (docs/quality.md).
"""

from __future__ import annotations

from math import ceil

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

NEAREST, NEXT = 10 / 32, -1 / 32  # weights of the four nearest and of the eight next cells
DETAIL_REACH = 1.5  # how far details tell about their neighbours, in spacings of their level


def level_cells(shape: tuple[int, int], level: int) -> np.ndarray:
    """bool (rows, cols): the cells of a level. They hold the cells of every coarser (higher) level."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    spacing = 1 << (level + 1) // 2
    square = (rows % spacing == 0) & (cols % spacing == 0)
    if level % 2 == 0:
        return square
    half = spacing // 2
    return square | ((rows % spacing == half) & (cols % spacing == half))


def coarsest_level(shape: tuple[int, int]) -> int:
    """The level that keeps one cell."""
    return 2 * ceil(np.log2(max(max(shape), 1)))


def interpolate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """values with every cell that is not known predicted from those that are.

    values : float (T, rows, cols); what stands in unknown cells does not matter. known : bool (rows, cols).
    Returns float64 (T, rows, cols). Raises ValueError where no cell is known.
    """
    if not known.any():
        raise ValueError("nothing to interpolate from: no cell is known")
    filled = np.where(known, np.asarray(values, np.float64), 0.0)
    level = whole_level(known)
    cells = level_cells(known.shape, level)
    if not known[cells].all():  # no lattice is complete: begin with the known cell that is nearest
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        filled = filled[:, nearest[0], nearest[1]]
    for finer in range(level - 1, -1, -1):
        finer_cells = level_cells(known.shape, finer)
        new = finer_cells & ~cells & ~known
        if new.any():
            filled[:, new] = predict(filled, finer, cells)[:, new]
        cells = finer_cells
    return filled


def whole_level(known: np.ndarray) -> int:
    """The finest level whose cells are all known; the coarsest one where there is none."""
    level, last = 0, coarsest_level(known.shape)
    while level < last and not known[level_cells(known.shape, level)].all():
        level += 1
    return level


def predict(values: np.ndarray, level: int, coarser: np.ndarray) -> np.ndarray:
    """(T, rows, cols): what the cells that are new on `level` would be, from those of the next coarser level.

    coarser : bool (rows, cols), the cells of that level. Where the frame's border cuts the eight next cells off, the
    mean of the nearest ones inside the frame.
    """
    nearest, following = _rings(level)
    reach = max(abs(step) for ring in (nearest, following) for offset in ring for step in offset)
    padded = np.pad(np.where(coarser, values, 0.0), [(0, 0), (reach, reach), (reach, reach)])
    inside = np.pad(coarser.astype(np.float64), reach)

    def total(array: np.ndarray, ring: list[tuple[int, int]]) -> np.ndarray:
        rows, cols = coarser.shape
        shifted = [array[..., reach + y : reach + y + rows, reach + x : reach + x + cols] for y, x in ring]
        return np.sum(shifted, axis=0)

    near, count = total(padded, nearest), total(inside, nearest)
    complete = (count == len(nearest)) & (total(inside, following) == len(following))
    return np.where(complete, NEAREST * near + NEXT * total(padded, following), near / np.maximum(count, 1.0))


def _rings(level: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Offsets, in cells, from a cell that is new on `level` to the four nearest and the eight next coarser ones."""
    signs = [(y, x) for y in (-1, 1) for x in (-1, 1)]
    step = 1 << level // 2
    if level % 2:
        # Centres of squares: the corners lie on the diagonals.
        nearest = [(y * step, x * step) for y, x in signs]
        following = [(y * step * a, x * step * b) for y, x in signs for a, b in ((1, 3), (3, 1))]
    else:
        nearest = [(-step, 0), (step, 0), (0, -step), (0, step)]
        following = [(y * step * a, x * step * b) for y, x in signs for a, b in ((1, 2), (2, 1))]
    return nearest, following


def refinement(values: np.ndarray, known: np.ndarray, level: float) -> np.ndarray:
    """bool (rows, cols): the cells of a level that need not be whole.

    For a level between two, the finer one's cells are ranked by how much the score changed where the coarser one was
    refined last, in the neighbourhood: where prediction failed there, it will fail here. `values` (T, rows, cols) are
    read where `known`; the coarser level should be.
    """
    shape = known.shape
    whole = ceil(level)
    cells = level_cells(shape, whole)
    if whole == level:
        return cells
    candidates = level_cells(shape, whole - 1) & ~cells
    count = round((whole - level) * int(candidates.sum()))
    score = np.where(candidates, _expected_change(values, known & cells, whole), -np.inf)
    chosen = np.argsort(-score, axis=None, kind="stable")[:count]
    cells.ravel()[chosen] = True
    return cells


def _expected_change(values: np.ndarray, known: np.ndarray, level: int) -> np.ndarray:
    """(rows, cols): how wrong the prediction of this level's cells was nearby, the worst of the targets."""
    coarser = level_cells(known.shape, level + 1) & known
    new = known & ~coarser
    if not new.any() or not coarser.any():
        return np.zeros(known.shape)
    held = np.where(known, values, 0.0)
    spread = np.ptp(held[:, known], axis=1)[:, None, None] + np.finfo(np.float64).tiny
    change = np.where(new, held - predict(held, level, coarser), 0.0) / spread
    sigma = DETAIL_REACH * 2 ** (level / 2) / 2
    near = np.maximum(gaussian_filter(new.astype(np.float64), sigma), 1e-12)
    return np.stack([gaussian_filter(one * one, sigma) for one in change]).max(axis=0) / near

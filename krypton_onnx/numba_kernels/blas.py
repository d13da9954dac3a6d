"""Matrix products by BLAS, through np.matmul, which releases the GIL. The caller limits BLAS to one thread.

OpenBLAS's AVX-512 cores multiply matrices of at most a million multiply-adds without packing them, which is faster
(measured: 150-175 GFLOP/s against 115-145 for one large product, one core), if what is multiplied is aligned. So
there, a product by fixed weights is cut into pieces of columns and blocks of rows below that size: the piece of the
weights stays in the second-level cache while the rows stream by. Elsewhere a product stays whole.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import threadpoolctl

from .weights import Columns
from .workspace import aligned

_UNPACKED = 1_000_000  # multiply-adds: OpenBLAS, kernel/x86_64/sgemm_small_kernel_permit_skylakex.c
_UNPACKED_CORES = {"SkylakeX", "Cooperlake", "SapphireRapids"}
_MOST_ROWS = 192


@cache
def _multiplies_unpacked() -> bool:
    """Whether NumPy's BLAS has the kernels for small products (the choice never depends on a measurement, so that
    results are the same from run to run)."""
    return any(
        info.get("internal_api") == "openblas" and info.get("architecture") in _UNPACKED_CORES
        for info in threadpoolctl.threadpool_info()
    )


def _blocks(depth: int, columns: int) -> tuple[int, int]:
    """(columns of a piece, rows of a block) for weights (depth, columns); no blocks: (columns, 0)."""
    if not _multiplies_unpacked():
        return columns, 0
    # Pieces of 64 columns fill the vector kernels; 12 and 4 rows do, 12 whatever the columns.
    most = _UNPACKED // (8 * depth) // 64 * 64 or _UNPACKED // (12 * depth) // 32 * 32
    piece = min(columns, most)
    if piece == 0:
        return columns, 0
    rows = min(_UNPACKED // (depth * piece), _MOST_ROWS)
    return piece, rows // 12 * 12 if rows >= 12 else rows // 4 * 4


class Piece(NamedTuple):
    """Columns [first, last) of the weights, (S, K, last - first), and how many rows to multiply at once (0: all)."""

    first: int
    last: int
    weights: np.ndarray
    rows: int

    def multiply(self, a: np.ndarray, out: np.ndarray) -> None:
        """out (S, P, N) = a (S, P, K) @ the piece (S, K, N); a and out have contiguous rows.

        Rows that only round a block up hold whatever was there before: what NumPy would warn of is theirs, or the
        model's.
        """
        with np.errstate(all="ignore"):
            _multiply(a, self, out)


def pieces(weights: Columns) -> list[Piece]:
    """The weights (S, K, N), cut and aligned."""
    stack, depth, columns = weights.shape
    width, rows = _blocks(depth, columns)
    cut = []
    for first in range(0, columns, width):
        last = min(first + width, columns)
        part = aligned(stack * depth * (last - first)).reshape(stack, depth, last - first)
        part[:] = weights.whole(first, last)
        cut.append(Piece(first, last, part, rows))
    return cut


def _multiply(a: np.ndarray, piece: Piece, out: np.ndarray) -> None:
    stack, count, depth = a.shape
    rows = piece.rows
    if rows == 0 or count <= rows:
        np.matmul(a, piece.weights, out=out)
        return
    whole = count // rows * rows
    np.matmul(
        a[:, :whole].reshape(stack, -1, rows, depth),
        piece.weights[:, None],
        out=out[:, :whole].reshape(stack, whole // rows, rows, -1),
    )
    if whole < count:
        np.matmul(a[:, whole:], piece.weights, out=out[:, whole:])

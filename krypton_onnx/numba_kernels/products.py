"""Products of matrices by fixed weights: by Intel AMX where there is one, else by BLAS.

What is prepared for some weights is shared: between the nodes of a process that have equal ones, so between all
sessions of one model.
"""

import hashlib
import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from .arguments import Residual
from .blas import Piece, pieces
from .epilogue import Epilogue
from .tile_products import TileProduct, suit
from .weights import Columns, columns_of

# The results of a stack of products wait for what combines them, so a part of the columns at a time keeps memory low.
_STACKED_COLUMNS = 384


class Products:
    """What multiplies by weights (S, K, N): one of `parts` for some columns after the other."""

    def __init__(self, weights: Columns, bias: np.ndarray | None) -> None:
        stack, self.depth, columns = weights.shape
        self.parts: Sequence[TileProduct | Piece]
        if suit(self.depth, columns):
            count = 1 if stack == 1 else -(-columns // _STACKED_COLUMNS)
            width = -(-columns // (32 * count)) * 32
            self.parts = [
                TileProduct(weights, first, min(first + width, columns), bias) for first in range(0, columns, width)
            ]
        else:
            self.parts = pieces(weights)


_lock = threading.Lock()
_prepared: "WeakValueDictionary[tuple[object, ...], Products]" = WeakValueDictionary()


def _digest(values: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()


def products(kind: str, source: np.ndarray, weights: Columns, bias: np.ndarray | None = None) -> Products:
    """Products by `weights`, which are made from `source` in a way that `kind` and their shape tell.

    bias float32 (N,): for parts that finish what they multiply.
    """
    key = (kind, weights.shape, source.shape, *(_digest(array) for array in (source, bias) if array is not None))
    with _lock:
        found = _prepared.get(key)
        if found is None:
            found = _prepared[key] = Products(weights, bias)
        return found


class FinishedProducts:
    """Products by weights, and what follows them."""

    def __init__(self, weights: np.ndarray, epilogue: Epilogue) -> None:
        """weights float32 (S, K, M/S): the outputs of a convolution in S groups."""
        self._epilogue = epilogue
        self._one = len(weights) == 1
        self._products = products("plain", weights, columns_of(weights), epilogue.bias if self._one else None)

    @property
    def depth(self) -> int:
        """K."""
        return self._products.depth

    def at_once(self, residual: Residual) -> bool:
        """Whether rows are finished as they are multiplied, so that it gains nothing to cut them in chunks."""
        return self._one and not residual.present and isinstance(self._products.parts[0], TileProduct)

    def run(
        self, a: np.ndarray, out: np.ndarray, rows: np.ndarray, first: int, last: int, residual: Residual,
        origin: np.ndarray,
    ) -> None:  # fmt: skip
        """out (S, P, M/S) = a (S, P, K) @ weights, finished.

        out is a view of rows [first, last) of `rows` (N, eh, ew*M), as `Epilogue.finish` counts them.
        """
        epilogue = self._epilogue
        if self.at_once(residual):
            self._products.parts[0].finish(a, out, epilogue.low, epilogue.high)  # type: ignore[union-attr]
            return
        for part in self._products.parts:
            part.multiply(a, out[:, :, part.first : part.last])
        epilogue.finish(rows, first, last, residual, origin)

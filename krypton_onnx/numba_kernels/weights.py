"""The weights of a product, made a few columns at a time: a transformed copy of all of them may be large."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Columns(NamedTuple):
    """A stack of matrices (S, K, N), float32.

    take(first, last) -> their columns, (S, K, last - first).
    """

    shape: tuple[int, int, int]
    take: Callable[[int, int], np.ndarray]

    def part(self, first: int, last: int) -> "Columns":
        """Columns [first, last) of them."""
        stack, depth, _ = self.shape
        return Columns((stack, depth, last - first), lambda start, end: self.take(first + start, first + end))


def columns_of(weights: np.ndarray) -> Columns:
    """Of weights float32 (S, K, N) as they are."""
    stack, depth, columns = weights.shape
    return Columns((stack, depth, columns), lambda first, last: weights[:, :, first:last])

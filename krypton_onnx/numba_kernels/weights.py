"""The weights of a product, made a few columns at a time: a transformed copy of all of them may be large."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Columns(NamedTuple):
    """A stack of matrices (S, K, N), float32, or what it is made from.

    take(first, last) -> columns [first, last) of the matrices as they are stored. Without `factors` these are the
    stack. With factors float64 (n, 3), matrix s of the stack is the sum of three stored ones, 3 * (s // n) + k, each
    times factors[s % n, k]: half as many for Winograd's transform, whose second half is then done on the way.
    """

    shape: tuple[int, int, int]
    take: Callable[[int, int], np.ndarray]
    factors: np.ndarray | None = None

    def part(self, first: int, last: int) -> "Columns":
        """Columns [first, last) of them."""
        stack, depth, _ = self.shape
        return Columns(
            (stack, depth, last - first), lambda start, end: self.take(first + start, first + end), self.factors
        )

    def whole(self, first: int, last: int) -> np.ndarray:
        """Columns [first, last) of the stack."""
        stored = self.take(first, last)
        if self.factors is None:
            return stored
        stack, depth, _ = self.shape
        sums = np.einsum("pk,skdm->spdm", self.factors, stored.reshape(-1, 3, depth, last - first))
        return sums.reshape(stack, depth, last - first).astype(np.float32)


def columns_of(weights: np.ndarray) -> Columns:
    """Of weights float32 (S, K, N) as they are."""
    stack, depth, columns = weights.shape
    return Columns((stack, depth, columns), lambda first, last: weights[:, :, first:last])

"""The smallest value outside a rectangle of an image, for many rectangles at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


class LowestAround:
    """Of an image (C, H, W) and rectangles of one size: from running minima over rows, and over columns beside them."""

    def __init__(self, image: np.ndarray, patch: tuple[int, int]) -> None:
        self._patch = patch
        rows = image.min(axis=2)
        self._above, self._below = _running(rows)
        self._before, self._behind = _running(sliding_window_view(image, patch[0], axis=1).min(axis=-1))

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """(N, C) of N rectangles, by their origins; infinity where a rectangle is the whole image."""
        height, width = self._patch
        sides = (
            self._above[:, tops], self._below[:, tops + height],
            self._before[:, tops, lefts], self._behind[:, tops, lefts + width],
        )  # fmt: skip
        return np.minimum.reduce(sides).T


def _running(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., n) -> (..., n + 1), twice: the minimum of the values before each index, and of those from it on."""
    nothing = np.full((*values.shape[:-1], 1), np.inf, values.dtype)
    before = np.minimum.accumulate(np.concatenate([nothing, values], axis=-1), axis=-1)
    behind = np.minimum.accumulate(np.concatenate([nothing, values[..., ::-1]], axis=-1), axis=-1)
    return before, behind[..., ::-1]

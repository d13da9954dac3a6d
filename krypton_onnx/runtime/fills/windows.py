"""Many patches of an image at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(image: np.ndarray, tops: np.ndarray, lefts: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """What an image (C, H, W) shows at N positions: a copy, (N, C, h, w)."""
    return sliding_window_view(image, patch, axis=(1, 2))[:, tops, lefts].swapaxes(0, 1)

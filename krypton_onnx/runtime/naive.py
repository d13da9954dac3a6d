"""The occluded images themselves, for full inference (mode="naive") and for checking a rewritten model."""

from __future__ import annotations

import numpy as np


def occluded(
    image: np.ndarray, layout: str, tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray
) -> np.ndarray:
    """(N, ...) images in the model's layout, each with its patch laid on.

    image : float32 (1, ...); patches : float32 (N or 1, C, h, w).
    """
    count, (height, width) = len(tops), patches.shape[2:]
    images = np.repeat(image, count, axis=0)
    if layout == "NHWC":
        patches = patches.transpose(0, 2, 3, 1)
    for n, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        patch = patches[n if len(patches) > 1 else 0]
        if layout == "NCHW":
            images[n, :, top : top + height, left : left + width] = patch
        else:
            images[n, top : top + height, left : left + width] = patch
    return images


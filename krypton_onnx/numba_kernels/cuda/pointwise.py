"""1x1 convolution, stride 1: a matrix product on the patch's pixels, then the epilogue."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Pointer, Residual
from .epilogue import Epilogue
from .products import multiply, prepared


class PointwiseConvolution:
    """out = clamp(patch @ W + bias + residual)."""

    def __init__(self, weights: np.ndarray, epilogue: Epilogue) -> None:
        """weights float32 (M, C, 1, 1)."""
        outputs, channels = weights.shape[:2]
        self._weights = prepared(
            "columns of 1 groups", weights, lambda: weights.reshape(1, outputs, channels).transpose(0, 2, 1)
        )
        self._epilogue = epilogue

    def run(
        self, patch: Pointer, origin: Pointer, residual: Residual, out: Pointer, shape: tuple[int, ...], stream: Any
    ) -> None:
        """patch (N,h,w,C) into out, of shape (N,h,w,M); origin (N,2) places the patch where there is a residual."""
        n, height, width, outputs = shape
        multiply(patch, self._weights, out, n * height * width, outputs, outputs, stream)
        self._epilogue.finish(out, shape, residual, origin, stream)

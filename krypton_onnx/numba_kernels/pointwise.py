"""1x1 convolution, stride 1: a matrix product on the patch's pixels, finished a chunk at a time while in cache."""

import numpy as np

from .arguments import NO_ORIGIN, Residual
from .epilogue import Epilogue
from .products import FinishedProducts

# Floats of output (and of input) a chunk may take: it is read back at once by the epilogue.
_CHUNK = 256 * 1024
_MIN_PIXELS = 384


class PointwiseConvolution:
    """out = clamp(patch @ W + bias + residual)."""

    def __init__(self, weights: np.ndarray, epilogue: Epilogue) -> None:
        """weights float32 (M, C, 1, 1)."""
        self._products = FinishedProducts(weights.reshape(1, *weights.shape[:2]).transpose(0, 2, 1), epilogue)

    def run(self, patch: np.ndarray, origin: np.ndarray | None, residual: Residual, out: np.ndarray) -> None:
        """patch (N,h,w,C) into out (N,h,w,M); origin (N,2) places the patch where there is a residual."""
        n, height, width, channels = patch.shape
        outputs = out.shape[3]
        pixels, products = patch.reshape(1, -1, channels), out.reshape(1, -1, outputs)
        rows = out.reshape(n, height, width * outputs)
        where = NO_ORIGIN if origin is None else origin
        step = max(_MIN_PIXELS, _CHUNK // (channels + outputs)) // max(width, 1) + 1
        if self._products.at_once(residual):
            step = max(1, n * height)
        for first in range(0, n * height, step):
            last = min(first + step, n * height)
            chunk = slice(first * width, last * width)
            self._products.run(pixels[:, chunk], products[:, chunk], rows, first, last, residual, where)

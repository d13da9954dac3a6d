"""Any convolution as window-to-columns and a matrix product, a few rows at a time so that columns stay in cache.

Column k of an output pixel is one tap of one input channel, k = (tap_y * kw + tap_x) * C/group + channel, so that with
dilation 1 a tap row is one contiguous span of kw * C floats of the window.
"""

import numpy as np

from .arguments import Residual, Source, Spatial
from .compiled import inline, kernel
from .epilogue import Epilogue
from .products import FinishedProducts
from .rows import copy, gather
from .workspace import floats

# Floats of columns a chunk may take: half of a 2 MB second-level cache, less what BLAS packs.
_CHUNK = 192 * 1024
# A product with fewer rows than this wastes BLAS's packing of the weights.
_MIN_PIXELS = 192


@inline
def _tap_row(
    patch, patch_origin, view, origin, channels, n, i, tap_y, stride_y, stride_x, pad_y, pad_x, dilation_y, row
):  # fmt: skip
    """What tap row tap_y of the kernel reads for output row i of position n, into row (pixels*C,); 0 off the frame."""
    y = (origin[n, 0] + i) * stride_y - pad_y + tap_y * dilation_y
    x = origin[n, 1] * stride_x - pad_x
    gather(patch, n, patch_origin[n, 0], patch_origin[n, 1], view, y, x, channels, np.float32(0), row)


@kernel
def _fill_columns(
    patch, patch_origin, view, origin, channels, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y,
    height, width, first, last, row, columns,
):  # fmt: skip
    """Columns of output rows [first, last), counted over n*eh + i, into columns (pixels, kh*kw*C); no dilation along x.

    row: scratch for one row of the window.
    """
    length = kernel_x * channels
    for r in range(first, last):
        n, i = r // height, r % height
        pixel = (r - first) * width
        for tap_y in range(kernel_y):
            _tap_row(
                patch, patch_origin, view, origin, channels, n, i, tap_y, stride_y, stride_x, pad_y, pad_x, dilation_y,
                row,
            )  # fmt: skip
            k = tap_y * length
            for j in range(width):
                at = j * stride_x * channels
                copy(columns[pixel + j, k : k + length], row[at : at + length])


@kernel
def _fill_grouped(
    patch, patch_origin, view, origin, channels, groups,
    kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
    height, width, first, last, row, columns,
):  # fmt: skip
    """The same into columns (groups, pixels, kh*kw*C/groups), any dilation."""
    each = channels // groups
    for r in range(first, last):
        n, i = r // height, r % height
        pixel = (r - first) * width
        for tap_y in range(kernel_y):
            _tap_row(
                patch, patch_origin, view, origin, channels, n, i, tap_y, stride_y, stride_x, pad_y, pad_x, dilation_y,
                row,
            )  # fmt: skip
            for j in range(width):
                for tap_x in range(kernel_x):
                    k = (tap_y * kernel_x + tap_x) * each
                    at = (j * stride_x + tap_x * dilation_x) * channels
                    for g in range(groups):
                        copy(columns[g, pixel + j, k : k + each], row[at + g * each : at + (g + 1) * each])


class ColumnConvolution:
    """Convolution of any geometry and group."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, groups: int, epilogue: Epilogue) -> None:
        """weights float32 (M, C/group, kh, kw)."""
        outputs, each = weights.shape[:2]
        stacked = weights.reshape(groups, outputs // groups, each, -1)
        self._products = FinishedProducts(
            stacked.transpose(0, 3, 2, 1).reshape(groups, -1, outputs // groups), epilogue
        )
        self._geometry, self._groups = geometry, groups

    def run(self, window: Source, channels: int, origin: np.ndarray, residual: Residual, out: np.ndarray) -> None:
        """Regions at origin (N,2) into out (N, eh, ew, M)."""
        n, height, width, outputs = out.shape
        (kernel_y, kernel_x), (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = self._geometry
        groups, depth = self._groups, self._products.depth
        rows = out.reshape(n, height, width * outputs)
        # (G, pixels, M/G): the output as the stacked product writes it.
        products = out.reshape(-1, groups, outputs // groups).transpose(1, 0, 2)
        step = max(_MIN_PIXELS, _CHUNK // (groups * depth + outputs)) // width + 1
        row = floats("row", ((width - 1) * stride_x + (kernel_x - 1) * dilation_x + 1) * channels)
        buffer = floats("columns", groups * min(step, n * height) * width * depth)
        for first in range(0, n * height, step):
            last = min(first + step, n * height)
            pixels = (last - first) * width
            columns = buffer[: groups * pixels * depth].reshape(groups, pixels, depth)
            if groups == 1 and dilation_x == 1:
                _fill_columns(
                    *window, origin, channels, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y,
                    height, width, first, last, row, columns[0],
                )  # fmt: skip
            else:
                _fill_grouped(
                    *window, origin, channels, groups, kernel_y, kernel_x, stride_y, stride_x,
                    pad_y, pad_x, dilation_y, dilation_x, height, width, first, last, row, columns,
                )  # fmt: skip
            self._products.run(
                columns, products[:, first * width : last * width], rows, first, last, residual, origin
            )

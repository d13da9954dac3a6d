"""Max and average pooling, read directly from patch or view.

Both are separable: the kernel's rows are combined first, over whole rows of the window, then its columns.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import SPATIAL_ATTRIBUTES, Source, Spatial, canonical, pair, source, spatial
from .compiled import inline, kernel
from .registry import Allocate, Compute, Kernel
from .rows import LOWEST, combine, copy, fill, reduce
from .workspace import floats


@inline
def _divide(target, count):
    for k in range(target.size):
        target[k] /= count


@kernel
def _pool(
    patch, patch_origin, view, origin, channels, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x,
    dilation_y, dilation_x, largest, counts_y, counts_x, width, row, out,
):  # fmt: skip
    """out (N, eh, ew*C); row: scratch for one row of the window. Sums (largest == 0) are divided by the counts."""
    neutral = LOWEST if largest else np.float32(0)
    for n in range(out.shape[0]):
        x = origin[n, 1] * stride_x - pad_x
        for i in range(out.shape[1]):
            y = (origin[n, 0] + i) * stride_y - pad_y
            fill(row, neutral)
            for tap_y in range(kernel_y):
                reduce(
                    patch, n, patch_origin[n, 0], patch_origin[n, 1], view, y + tap_y * dilation_y, x,
                    channels, largest, row,
                )  # fmt: skip
            target = out[n, i]
            if stride_x == 1:
                copy(target, row[: target.size])
                for tap_x in range(1, kernel_x):
                    at = tap_x * dilation_x * channels
                    combine(target, row[at : at + target.size], largest)
            else:
                for j in range(width):
                    pixel = target[j * channels : (j + 1) * channels]
                    at = j * stride_x * channels
                    copy(pixel, row[at : at + channels])
                    for _tap_x in range(1, kernel_x):
                        at += dilation_x * channels
                        combine(pixel, row[at : at + channels], largest)
            if not largest:
                for j in range(width):
                    count = counts_y[origin[n, 0] + i] * counts_x[origin[n, 1] + j]
                    _divide(target[j * channels : (j + 1) * channels], count)


_NO_COUNTS = np.ones(1, np.float32)


def _run(
    geometry: Spatial, window: Source, channels: int, origin: np.ndarray, largest: int,
    counts: tuple[np.ndarray, np.ndarray], out: np.ndarray,
) -> None:  # fmt: skip
    n, height, width, _ = out.shape
    (kernel_y, kernel_x), (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = geometry
    row = floats("row", ((width - 1) * stride_x + (kernel_x - 1) * dilation_x + 1) * channels)
    _pool(
        *window, origin, channels, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x,
        largest, *counts, width, row, out.reshape(n, height, width * channels),
    )  # fmt: skip


def _make_max(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    geometry = spatial(attributes)

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, origin, extent = inputs
        assert patch is not None and patch_origin is not None and view is not None
        assert origin is not None and extent is not None
        window, channels = source(patch, patch_origin, view)
        out = allocate(0, (len(origin), *pair(extent), channels))
        _run(geometry, window, channels, canonical(origin), 1, (_NO_COUNTS, _NO_COUNTS), out)

    return compute


def _make_average(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    geometry = spatial(attributes)

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, counts_y, counts_x, origin, extent = inputs
        assert patch is not None and patch_origin is not None and view is not None
        assert counts_y is not None and counts_x is not None and origin is not None and extent is not None
        window, channels = source(patch, patch_origin, view)
        out = allocate(0, (len(origin), *pair(extent), channels))
        counts = canonical(counts_y), canonical(counts_x)
        _run(geometry, window, channels, canonical(origin), 0, counts, out)

    return compute


INCREMENTAL_MAX_POOL = Kernel(
    op_type="IncrementalMaxPool",
    inputs=("float", "int64", "float", "int64", "int64"),
    required=5,
    outputs=("float",),
    attributes=SPATIAL_ATTRIBUTES,
    make=_make_max,
)

INCREMENTAL_AVERAGE_POOL = Kernel(
    op_type="IncrementalAveragePool",
    inputs=("float", "int64", "float", "float", "float", "int64", "int64"),
    required=7,
    outputs=("float",),
    attributes=SPATIAL_ATTRIBUTES,
    make=_make_average,
)

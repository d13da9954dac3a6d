"""IncrementalGlobalAveragePool: the view's sum, corrected by what the patch changed. Exact: sums are float64."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import source
from .compiled import inline, kernel
from .registry import Allocate, Compute, Kernel
from .rows import copy, fill


@inline
def _accumulate(total, values):
    """total (C,) float64 += the pixels of values (width*C,)."""
    channels = total.size
    for x in range(values.size // channels):
        pixel = values[x * channels : (x + 1) * channels]
        for c in range(channels):
            total[c] += pixel[c]


@inline
def _accumulate_change(total, new, old):
    """total (C,) float64 += the pixels of new - old, both (width*C,)."""
    channels = total.size
    for x in range(new.size // channels):
        new_pixel = new[x * channels : (x + 1) * channels]
        old_pixel = old[x * channels : (x + 1) * channels]
        for c in range(channels):
            total[c] += np.float64(new_pixel[c]) - np.float64(old_pixel[c])


@kernel
def _global_average(patch, patch_origin, view, view_sum, total, out):
    """out (N, C); view_sum and total (C,) float64 are scratch."""
    channels = out.shape[1]
    cells = view.shape[0] * (view.shape[1] // channels)
    fill(view_sum, 0.0)
    for y in range(view.shape[0]):
        _accumulate(view_sum, view[y])
    for n in range(out.shape[0]):
        copy(total, view_sum)
        left = patch_origin[n, 1] * channels
        for i in range(patch.shape[1]):
            row = patch[n, i]
            _accumulate_change(total, row, view[patch_origin[n, 0] + i, left : left + row.size])
        for c in range(channels):
            out[n, c] = total[c] / cells


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view = inputs
        assert patch is not None and patch_origin is not None and view is not None
        rows, channels = source(patch, patch_origin, view)
        out = allocate(0, (len(patch), channels, 1, 1)).reshape(len(patch), channels)
        _global_average(*rows, np.empty(channels), np.empty(channels), out)

    return compute


INCREMENTAL_GLOBAL_AVERAGE_POOL = Kernel(
    op_type="IncrementalGlobalAveragePool",
    inputs=("float", "int64", "float"),
    required=3,
    outputs=("float",),
    attributes={},
    make=_make,
)

"""IncrementalConcat: branches joined on their channels, each read from its patch or view straight into its place."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import canonical, pair, source
from .compiled import inline, kernel
from .registry import Allocate, Compute, Kernel
from .rows import copy, spans

MOST_BRANCHES = 8


@inline
def _spread(target, values, first, last, channels, offset, total):
    """Pixels [first, last) of a row: values (pixels*C,) into channels offset.. of target (width*total,)."""
    for pixel in range(first, last):
        at = pixel * total + offset
        copy(target[at : at + channels], values[(pixel - first) * channels : (pixel - first + 1) * channels])


@kernel
def _place(patch, patch_origin, view, origin, channels, offset, total, width, out):
    """One branch into out (N, eh, ew*total). The region lies inside the frame."""
    for n in range(out.shape[0]):
        top, left, x = patch_origin[n, 0], patch_origin[n, 1], origin[n, 1]
        a, p, q, b = spans(x, width, view.shape[1] // channels, left, patch.shape[2] // channels)
        for i in range(out.shape[1]):
            y = origin[n, 0] + i
            row = out[n, i]
            if y < top or y >= top + patch.shape[1]:
                _spread(row, view[y, (x + a) * channels : (x + b) * channels], a, b, channels, offset, total)
            else:
                _spread(row, view[y, (x + a) * channels : (x + p) * channels], a, p, channels, offset, total)
                start = (x + p - left) * channels
                values = patch[n, y - top, start : start + (q - p) * channels]
                _spread(row, values, p, q, channels, offset, total)
                _spread(row, view[y, (x + q) * channels : (x + b) * channels], q, b, channels, offset, total)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        *operands, origin, extent = inputs
        assert origin is not None and extent is not None
        branches = []
        for first in range(0, len(operands), 3):
            patch, patch_origin, view = operands[first : first + 3]
            assert patch is not None and patch_origin is not None and view is not None
            branches.append(source(patch, patch_origin, view))
        total = sum(channels for _, channels in branches)
        n, (height, width) = len(origin), pair(extent)
        out = allocate(0, (n, height, width, total)).reshape(n, height, width * total)
        where = canonical(origin)
        offset = 0
        for rows, channels in branches:
            _place(*rows, where, channels, offset, total, width, out)
            offset += channels

    return compute


INCREMENTAL_CONCAT = tuple(
    Kernel(
        op_type=f"IncrementalConcat{branches}",
        inputs=("float", "int64", "float") * branches + ("int64", "int64"),
        required=3 * branches + 2,
        outputs=("float",),
        attributes={},
        make=_make,
    )
    for branches in range(2, MOST_BRANCHES + 1)
)

"""PlaceRegions: from the occlusions' origins to the region of every geometry in the model.

A geometry is the composed receptive-field growth from the image to one operator, per axis: jump J, reach before A,
reach after B, frame F. An occlusion at o of size s changes, of that frame, the cells [a, b)."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import canonical
from .compiled import kernel
from .registry import Allocate, Compute, Kernel


@kernel
def _place(occlusions, size, jump, before, after, frame, threshold, origins, extents):
    """occlusions (N,2), size (2,), the geometries (G,2), threshold (G,) -> origins (G,N,2), extents (G,2)."""
    positions = occlusions.shape[0]
    for g in range(jump.shape[0]):
        for axis in range(2):
            j, f = jump[g, axis], frame[g, axis]
            reach_before, reach_after, s = before[g, axis], after[g, axis], size[axis]
            cap = max(1, int(np.rint(threshold[g] * np.float32(f))))
            largest = 1
            for n in range(positions):
                o = occlusions[n, axis]
                a = min(max(-((reach_before - o) // j), 0), f - 1)
                b = max(min((o + s - 1 + reach_after) // j + 1, f), a + 1)
                largest = max(largest, b - a)
                origins[g, n, axis] = a
            extent = min(largest, cap)
            extents[g, axis] = extent
            for n in range(positions):
                o = occlusions[n, axis]
                a = origins[g, n, axis]
                b = max(min((o + s - 1 + reach_after) // j + 1, f), a + 1)
                if b - a > cap:
                    # Cropped: centred on the unclipped projection of the occlusion's centre, rounded down.
                    a = (2 * o + s - 1 + reach_after - reach_before - j * (extent - 1)) // (2 * j)
                origins[g, n, axis] = max(min(a, f - extent), 0)


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    jump, before, after, frame = (
        np.array(attributes[name], np.int64).reshape(-1, 2) for name in ("jump", "before", "after", "frame")
    )
    geometries = len(jump)

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        occlusions, occlusion_patch, threshold = inputs
        assert occlusions is not None and occlusion_patch is not None and threshold is not None
        size = np.array(occlusion_patch.shape[2:], np.int64)
        fractions = np.empty(geometries, np.float32)
        fractions[:] = threshold
        origins = allocate(0, (geometries, len(occlusions), 2))
        extents = allocate(1, (geometries, 2))
        _place(canonical(occlusions), size, jump, before, after, frame, fractions, origins, extents)

    return compute


PLACE_REGIONS = Kernel(
    op_type="PlaceRegions",
    inputs=("int64", "float", "float"),
    required=3,
    outputs=("int64", "int64"),
    attributes={"jump": "ints", "before": "ints", "after": "ints", "frame": "ints"},
    make=_make,
)

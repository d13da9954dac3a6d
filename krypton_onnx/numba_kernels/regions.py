"""PlaceRegions: from the occlusions' origins to the region of every geometry in the model.

A geometry is the composed receptive-field growth from the image to one operator, per axis: jump J, reach before A,
reach after B (all in 1 / scale of a pixel), frame F. An occlusion at o of size s changes, of that frame, the cells
[a, b)."""

from collections.abc import Mapping, Sequence

import numpy as np

from .registry import Allocate, Compute, Kernel


def _place(
    occlusions: np.ndarray, last: np.ndarray, jump: np.ndarray, before: np.ndarray, after: np.ndarray,
    frame: np.ndarray, threshold: np.ndarray, origins: np.ndarray, extents: np.ndarray,
) -> None:  # fmt: skip
    """occlusions (G,N,2), last (G,1,2), the geometries (G,1,2), threshold (G,1,1) -> origins (G,N,2), extents (G,2).

    occlusions : origins, last : the occlusion's extent less one, both times the scale.

    In NumPy: so few numbers that a compiled loop would not be faster, and it would have to be compiled.
    """
    first = -((before - occlusions) // jump)
    first = np.minimum(np.maximum(first, 0), frame - 1)
    end = np.maximum(np.minimum((occlusions + last + after) // jump + 1, frame), first + 1)
    cap = np.maximum(1, np.rint(threshold * frame.astype(np.float32)).astype(np.int64))
    largest = (end - first).max(axis=1, keepdims=True, initial=1)
    extent = np.minimum(largest, cap)
    # Cropped: centred on the unclipped projection of the occlusion's centre, rounded down.
    centred = (2 * occlusions + last + after - before - jump * (extent - 1)) // (2 * jump)
    first = np.where(end - first > cap, centred, first)
    origins[:] = np.maximum(np.minimum(first, frame - extent), 0)
    extents[:] = extent[:, 0]


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    jump, before, after, scale, frame = (
        np.array(attributes[name], np.int64).reshape(-1, 1, 2) for name in ("jump", "before", "after", "scale", "frame")
    )
    geometries = len(jump)

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        occlusions, occlusion_patch, threshold = inputs
        assert occlusions is not None and occlusion_patch is not None and threshold is not None
        last = scale * (np.array(occlusion_patch.shape[2:], np.int64) - 1)
        fractions = np.broadcast_to(threshold.astype(np.float32).reshape(-1, 1, 1), (geometries, 1, 1))
        origins = allocate(0, (geometries, len(occlusions), 2))
        extents = allocate(1, (geometries, 2))
        _place(occlusions * scale, last, jump, before, after, frame, fractions, origins, extents)

    return compute


PLACE_REGIONS = Kernel(
    op_type="PlaceRegions",
    inputs=("int64", "float", "float"),
    required=3,
    outputs=("int64", "int64"),
    attributes={"jump": "ints", "before": "ints", "after": "ints", "scale": "ints", "frame": "ints"},
    make=_make,
)

"""Window: the rectangle an operator will read, cut from the patch activation laid over the view."""

from collections.abc import Mapping, Sequence

import numpy as np

from .arguments import canonical, pair, source
from .compiled import kernel
from .registry import Allocate, Compute, Kernel
from .rows import gather


@kernel
def _window(patch, patch_origin, view, origin, channels, outside, out):
    """out (N, eh, ew*C)."""
    value = np.float32(outside)
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            gather(
                patch, n, patch_origin[n, 0], patch_origin[n, 1], view,
                origin[n, 0] + i, origin[n, 1], channels, value, out[n, i],
            )  # fmt: skip


def _make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Compute:
    outside = float(attributes.get("pad_value") or 0.0)  # type: ignore[arg-type]

    def compute(inputs: Sequence[np.ndarray | None], allocate: Allocate) -> None:
        patch, patch_origin, view, origin, extent = inputs
        assert patch is not None and patch_origin is not None and view is not None
        assert origin is not None and extent is not None
        rows, channels = source(patch, patch_origin, view)
        n, (height, width) = len(origin), pair(extent)
        out = allocate(0, (n, height, width, channels)).reshape(n, height, width * channels)
        _window(*rows, canonical(origin), channels, outside, out)

    return compute


WINDOW = Kernel(
    op_type="Window",
    inputs=("float", "int64", "float", "int64", "int64"),
    required=5,
    outputs=("float",),
    attributes={"pad_value": "float"},
    make=_make,
)

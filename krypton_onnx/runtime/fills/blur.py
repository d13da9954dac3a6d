"""fill="blur": the image itself, out of focus."""

from __future__ import annotations

import numpy as np

from krypton_onnx.runtime.fills.windows import windows

# Of the Gaussian, in sides of the patch, along each axis: waves as long as the patch keep 1 % of their height
# (exp(-2 (pi / 2)^2)), so what was in it is gone, and waves four times as long keep 73 %.
SIGMA = 0.5


class Blurred:
    """The image (C, H, W) blurred by a Gaussian, its sigma half the patch's height and width; mirrored at its edges."""

    def __init__(self, image: np.ndarray, patch: tuple[int, int]) -> None:
        # SciPy takes a while to import, and other fills need none.
        from scipy.ndimage import gaussian_filter

        self._patch = patch
        self._blurred = gaussian_filter(image, (0.0, SIGMA * patch[0], SIGMA * patch[1]), mode="reflect")

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """float32 (1, N, C, h, w)."""
        return windows(self._blurred, tops, lefts, self._patch)[None]

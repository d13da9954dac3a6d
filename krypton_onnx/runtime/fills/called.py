"""A fill that the caller's own function makes for every position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.constants import finite


class Called:
    """function(image, top, left, height, width) -> (C, h, w) or (K, C, h, w), called once a position."""

    def __init__(
        self, function: Callable[..., object], image: np.ndarray, patch: tuple[int, int], name: str, alone: bool
    ) -> None:
        """image : float32 (C, H, W), read-only. alone : else it must return one patch, to be averaged with others."""
        self._function, self._image, self._patch, self._name, self._alone = function, image, patch, name, alone

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """float32 (K, N, C, h, w). Raises ImageError where the function returned something else."""
        channels, (height, width) = self._image.shape[0], self._patch
        made = []
        for top, left in zip(tops, lefts, strict=True):
            where = f"what {self._name} returned at (top, left) = ({top}, {left})"
            patch = finite(self._function(self._image, int(top), int(left), height, width), where)
            if patch.shape[-3:] != (channels, height, width) or patch.ndim not in (3, 4) or not len(patch):
                raise ImageError(
                    f"{where} has shape {patch.shape}; "
                    f"expected {(channels, height, width)} or (K, ...) of it"
                )
            made.append(patch.reshape(-1, channels, height, width))
        counts = {len(patch) for patch in made}
        if len(counts) > 1:
            raise ImageError(f"{self._name} must return the same number of patches (K) at every position")
        if not self._alone and counts != {1}:
            raise ImageError(f"{self._name}: a function in a list of fills returns one patch: (C, h, w)")
        return np.ascontiguousarray(np.stack(made, axis=1))

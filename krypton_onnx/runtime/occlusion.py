"""What hides the image, and where: the part of a question that no image and no model is needed for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from krypton_onnx.runtime.fills.shapes import check_shape
from krypton_onnx.runtime.fills.words import Fill, check_fill


@dataclass(frozen=True, eq=False)
class Occlusion:
    """The arguments of OcclusionSession.explain that say what is hidden, where, and by what; see there.

    Raises ImageError where one of fill, fill_space, fill_samples and patch_shape cannot be right, whatever the image.
    """

    patch: int | tuple[int, int] = 16
    stride: int | tuple[int, int] = 4
    fill: Fill = 0.0
    fill_space: str = "model"
    fill_samples: int = 8
    patch_shape: str | np.ndarray = "rectangle"
    region: tuple[int, int, int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fill(self.fill, self.fill_space, self.fill_samples)
        check_shape(self.patch_shape)

    @property
    def where(self) -> tuple:
        """Patch, stride, region and shape: what a grid is made of (`make_grid`)."""
        return self.patch, self.stride, self.region, self.patch_shape

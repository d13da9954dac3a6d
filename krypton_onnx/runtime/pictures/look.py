"""What HeatMap.plot was asked for, as data, and whether it can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.pictures import words, worst

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

    from krypton_onnx.runtime.heat_map import HeatMap

SHOWN = ("drop", "score", "predicted")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hanning", "lanczos")
# Classes drawn unless they are named; and at most.
MOST_UNNAMED, MOST_PANELS = 24, 100


@dataclass(frozen=True)
class Look:
    """The arguments of HeatMap.plot, whose docstring says what each is."""

    target: int | Sequence[int] | None = None
    title: str | None = None
    score_name: str | None = None
    labels: words.Labels | None = None
    show: str = "drop"
    per_pixel: bool = False
    extremes: int = 0
    occluded: worst.Occluded | None = None
    opacity: float | None = None
    interpolation: str = "nearest"
    cmap: str | Colormap | None = None

    def check(self) -> None:
        """Raises ImageError where an argument is not one of those that HeatMap.plot lists."""
        if self.show not in SHOWN:
            raise ImageError(f"show must be drop, score or predicted, got {self.show!r}")
        if self.show == "predicted" and self.per_pixel:
            raise ImageError("per_pixel is a mean, which classes do not have: show drop or score")
        if self.interpolation not in INTERPOLATIONS:
            raise ImageError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}")
        if not isinstance(self.extremes, (int, np.integer)) or not 0 <= self.extremes <= worst.MOST:
            raise ImageError(f"extremes must be a whole number from 0 to {worst.MOST}, got {self.extremes!r}")
        number = isinstance(self.opacity, (int, float, np.number))
        if self.opacity is not None and not (number and 0 <= self.opacity <= 1):
            raise ImageError(f"opacity must be from 0 to 1, got {self.opacity!r}")

    def targets_of(self, heat_map: HeatMap) -> tuple[int, ...]:
        """The classes to show, each explained. Raises ImageError where one was not."""
        if self.target is None:
            named = heat_map.targets[: 1 if self.show == "predicted" else MOST_UNNAMED]
        else:
            named = (self.target,) if isinstance(self.target, (int, np.integer)) else tuple(self.target)
        if not named or len(named) > MOST_PANELS:
            raise ImageError(f"target: {len(named)} classes cannot be drawn: name 1 to {MOST_PANELS}")
        for one in named:
            heat_map.index_of(one)
        return tuple(int(one) for one in named)

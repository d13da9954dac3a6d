"""What an explanation returns: one score a target and position, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Scores of the occluded image, one a target class and position of the grid.

    Attributes
    ----------
    scores : float32 (T, rows, cols); NaN where not computed yet. The chosen score as it is, never normalized.
    baseline : float32 (T,); the same score for the unoccluded image.
    targets : the T class ids.
    tops, lefts : int64 (rows,) and (cols,); origins of the occlusions, in pixels.
    patch, stride : (height, width) in pixels.
    mode : "naive", "exact" or "approximate".
    computed : bool (rows, cols); the positions whose score was computed. Others are interpolated in approximate maps.
    expected_ssim, estimated_ssim : similarity to the exact map, as tuned and as estimated for this image;
        None where the map was not approximated, or not tuned or checked.
    complete : whether the map is all that was asked for, and not cut short by a time budget or Ctrl-C.
    note : what else to know about how it was made, in words; mostly empty.
    """

    scores: np.ndarray
    baseline: np.ndarray
    targets: tuple[int, ...]
    tops: np.ndarray
    lefts: np.ndarray
    patch: tuple[int, int]
    stride: tuple[int, int]
    mode: str
    computed: np.ndarray
    expected_ssim: float | None = None
    estimated_ssim: float | None = None
    complete: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.targets), len(self.tops), len(self.lefts))
        if self.scores.shape != shape or self.baseline.shape != shape[:1] or self.computed.shape != shape[1:]:
            raise ValueError(
                f"a heat map of (targets, rows, columns) = {shape} got scores {self.scores.shape}, "
                f"baseline {self.baseline.shape} and computed {self.computed.shape}"
            )

    @property
    def drop(self) -> np.ndarray:
        """float32 (T, rows, cols): how much the score falls when the patch is hidden.

        Positive where the pixels support the target, negative where hiding them raises its score.
        """
        return self.baseline[:, None, None] - self.scores

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name, as plain numbers and lists; what JSON cannot hold (NaN, infinity) is None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def plot(
        self,
        image: np.ndarray | None = None,
        target: int | None = None,
        *,
        title: str | None = None,
        score_name: str = "score",
    ) -> Figure:
        """A Matplotlib figure of the drop: red where hiding the patch lowers the score, blue where it raises.

        image : uint8 (H, W), (H, W, 1) or (H, W, 3), to lay the map over; None draws the map alone.
        target : the class id to show, one of `targets`; None shows the first.
        score_name : what the score is, for the label of the colour bar.

        Raises ImageError where `target` was not computed, or no position is computed yet.
        """
        # Matplotlib takes most of a second to import, and most explanations are never drawn.
        from krypton_onnx.runtime.picture import draw

        return draw(self, image, target, title, score_name)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            missing = ~np.isfinite(value)
            value = value.astype(object)
            value[missing] = None
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

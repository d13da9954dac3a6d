"""Heat maps made of given drops, and what belongs to them, for tests of pictures."""

from typing import Any

import numpy as np

from krypton_onnx.runtime.heat_map import HeatMap

DROP = np.array([[0.0, 0.1, 0.2], [-0.1, 0.3, 0.0]], np.float32)


def two_classes(drop: np.ndarray = DROP, **changes: Any) -> HeatMap:
    """Two targets on a 2 x 3 grid of 4 x 6 patches, 2 x 5 apart, of a 6 x 16 image; the second target never drops."""
    scores = np.stack([0.9 - drop, np.full_like(drop, 0.1)]).astype(np.float32)
    parts = {
        "scores": scores,
        "baseline": np.array([0.9, 0.1], np.float32),
        "targets": (7, 3),
        "tops": np.array([0, 2]),
        "lefts": np.array([0, 5, 10]),
        "patch": (4, 6),
        "stride": (2, 5),
        "mode": "exact",
        "computed": ~np.isnan(drop),
        "frame": (6, 16),
        "predicted": np.array([[7, 7, 3], [7, 12, 7]]),
        "score_name": "probability",
    }
    return HeatMap(**{**parts, **changes})


def one_class(drop: np.ndarray = DROP, **changes: Any) -> HeatMap:
    """The first target alone."""
    both = two_classes(drop)
    return two_classes(drop, scores=both.scores[:1], baseline=both.baseline[:1], targets=(7,), **changes)


def partial() -> HeatMap:
    """One class; the last position is not computed yet."""
    drop = DROP.copy()
    drop[1, 2] = np.nan
    return one_class(drop, complete=False, predicted=np.array([[7, 7, 3], [7, 12, -1]]))


def random_map(
    rows: int, cols: int, targets: int = 1, patch: tuple[int, int] = (4, 4), stride: tuple[int, int] = (2, 2),
    missing: float = 0.0, classes: int = 12, scale: float = 1.0, seed: int = 0,
) -> HeatMap:  # fmt: skip
    """Any size; a share of the positions is not computed."""
    numbers = np.random.default_rng(seed)
    scores = (scale * numbers.normal(size=(targets, rows, cols))).astype(np.float32)
    known = numbers.random((rows, cols)) >= missing
    known.flat[0] = True
    scores[:, ~known] = np.nan
    tops, lefts = np.arange(rows) * stride[0], np.arange(cols) * stride[1]
    return HeatMap(
        scores, np.full(targets, 0.5, np.float32), tuple(range(targets)), tops, lefts, patch, stride, "exact", known,
        complete=bool(known.all()), frame=(int(tops[-1]) + patch[0], int(lefts[-1]) + patch[1]),
        predicted=np.where(known, numbers.integers(0, classes, (rows, cols)), -1), score_name="log-odds",
    )  # fmt: skip


def image_for(heat_map: HeatMap, shade: int = 200) -> np.ndarray:
    """uint8 (H, W, 3) of one shade."""
    return np.full((*heat_map.frame, 3), shade, np.uint8)


def black(patch: tuple[int, int]) -> Any:
    """What hides the image, as Explanation.occluded: black."""
    return lambda tops, lefts: np.zeros((len(tops), *patch, 3), np.uint8)

"""What exact means: the tolerances, named once.

Probabilities (all values in [0, 1]) within 1e-5; other scores within 1e-4 x max(1, their range). That leaves room for
Winograd's convolution, whose rounding errors are some ten times those of a plain one: relative to the largest output
1e-5 a layer, and most of it averages out. Strict sessions do without it: what is left is that float32 sums are taken in
another order than ONNX Runtime's, so their tolerances are a fifth.
"""

from __future__ import annotations

import numpy as np

PROBABILITY_TOLERANCE = 1e-5
SCORE_TOLERANCE = 1e-4
STRICT_SHARE = 0.2


def exactness_tolerance(expected: np.ndarray, strict: bool = False) -> float:
    """The largest difference that still is exact, for these expected scores; of a strict session."""
    share = STRICT_SHARE if strict else 1.0
    if expected.size and expected.min() >= 0 and expected.max() <= 1:
        return share * PROBABILITY_TOLERANCE
    return share * SCORE_TOLERANCE * max(1.0, float(np.ptp(expected)) if expected.size else 0.0)


def is_noise(scores: np.ndarray) -> bool:
    """True where the range of a map is no more than rounding can make it."""
    return float(np.ptp(scores)) <= exactness_tolerance(np.asarray(scores))


def scores_differ(actual: np.ndarray, expected: np.ndarray) -> tuple[str, float]:
    """What is wrong with `actual` ("" where it is exact), and the largest difference."""
    if actual.shape != expected.shape:
        return f"has shape {actual.shape} instead of {expected.shape}", float("inf")
    if expected.dtype.kind != "f":
        unequal = int(np.count_nonzero(actual != expected))
        return (f"differs at {unequal} of {expected.size} values" if unequal else ""), float(unequal)
    same_nan = np.isnan(actual) == np.isnan(expected)
    difference = float(np.nanmax(np.abs(actual - expected), initial=0.0)) if same_nan.all() else float("inf")
    limit = exactness_tolerance(np.nan_to_num(expected))
    return (f"differs by {difference:.3g} (allowed: {limit:.3g})" if difference > limit else ""), difference

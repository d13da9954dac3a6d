"""What exact means: the tolerances, named once.

Probabilities (all values in [0, 1]) within 1e-5; other scores within 1e-4 x max(1, their range).
"""

from __future__ import annotations

import numpy as np

PROBABILITY_TOLERANCE = 1e-5
SCORE_TOLERANCE = 1e-4


def exactness_tolerance(expected: np.ndarray) -> float:
    """The largest difference that still is exact, for these expected scores."""
    if expected.size and expected.min() >= 0 and expected.max() <= 1:
        return PROBABILITY_TOLERANCE
    return SCORE_TOLERANCE * max(1.0, float(np.ptp(expected)) if expected.size else 0.0)


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

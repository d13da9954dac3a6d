"""What exact means: the tolerances, named once.

Probabilities (all values in [0, 1]) within 1e-5; other scores within 1e-4 x max(1, their range). That leaves room for
Winograd's convolution, whose rounding errors are some ten times those of a plain one: relative to the largest output
1e-5 a layer, and most of it averages out. Strict sessions do without it: what is left is that float32 sums are taken in
another order than ONNX Runtime's, so their tolerances are a fifth.

A quantized model rounds to one of 256 steps after every operator. Where a sum falls between two steps, its rounding
error decides which it becomes: ONNX Runtime's integer kernels, its own float kernels and ours then differ by a step,
at few values. So of its results at least half must be exact, and none further off than 2 % of their range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PROBABILITY_TOLERANCE = 1e-5
SCORE_TOLERANCE = 1e-4
STRICT_SHARE = 0.2
QUANTIZED_TOLERANCE = 0.02  # of the range
QUANTIZED_EXACT = 0.5  # share of the values


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
    comparison = compare_scores(actual, expected)
    return comparison.problem, comparison.difference


@dataclass(frozen=True)
class Comparison:
    """problem : what is wrong, "" where `actual` is exact. compared : values that are finite in both.

    difference, tolerance : the largest; of integers, how many values differ and how many may.
    """

    problem: str
    difference: float
    tolerance: float
    compared: int


def compare_scores(actual: np.ndarray, expected: np.ndarray, quantized: bool = False) -> Comparison:
    """Whether `actual` is exact. What is not finite must be the same in both; integers must be equal.

    quantized : the model rounds to a few steps in between, and so may differ by some.
    """
    if actual.shape != expected.shape:
        return Comparison(f"has shape {actual.shape} instead of {expected.shape}", float("inf"), 0.0, 0)
    if actual.dtype != expected.dtype:
        return Comparison(f"is {actual.dtype} instead of {expected.dtype}", float("inf"), 0.0, 0)
    if expected.dtype.kind != "f":
        unequal = int(np.count_nonzero(actual != expected))
        problem = f"differs at {unequal} of {expected.size} values" if unequal else ""
        return Comparison(problem, float(unequal), 0.0, expected.size)
    finite = np.isfinite(expected)
    have, want = actual.astype(np.float64), expected.astype(np.float64)
    limit = exactness_tolerance(want[finite])
    if expected.dtype == np.float16 and finite.any():  # which rounds more than the sums that it holds
        limit = max(limit, 2 * float(np.finfo(np.float16).eps) * float(np.abs(want[finite]).max()))
    compared = int(np.count_nonzero(finite))
    if not np.array_equal(have[~finite], want[~finite], equal_nan=True) or not np.isfinite(have[finite]).all():
        return Comparison("is NaN or infinite elsewhere", float("inf"), limit, compared)
    each = np.abs(have[finite] - want[finite])
    if quantized and compared and (each <= limit).mean() >= QUANTIZED_EXACT:
        limit = max(limit, QUANTIZED_TOLERANCE * float(np.ptp(want[finite])))
    difference = float(each.max(initial=0.0))
    problem = f"differs by {difference:.3g} (allowed: {limit:.3g})" if difference > limit else ""
    return Comparison(problem, difference, limit, compared)

"""What "exact" means, named once: the contract's tolerances."""

import numpy as np

PROBABILITY_TOLERANCE = 1e-5
"""Largest difference of probabilities."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of any other score, times max(1, range over the compared targets and positions)."""


STRICT_SHARE = 0.2
"""Of both, in strict sessions."""


def score_tolerance(expected: np.ndarray, probabilities: bool, strict: bool = False) -> float:
    """The largest difference allowed from these expected scores (any shape)."""
    share = STRICT_SHARE if strict else 1.0
    if probabilities:
        return share * PROBABILITY_TOLERANCE
    return share * SCORE_TOLERANCE * max(1.0, float(np.ptp(expected)))


def assert_scores_equal(
    actual: np.ndarray, expected: np.ndarray, probabilities: bool, strict: bool = False
) -> None:
    """Assert that two arrays of scores agree as the contract promises; the message names the worst cell."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"{np.size(actual) - np.isfinite(actual).sum()} scores are not finite"
    if not expected.size:
        return
    difference = np.abs(actual.astype(np.float64) - expected)
    allowed = score_tolerance(expected, probabilities, strict)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference[worst] <= allowed, (
        f"differs by {difference[worst]:.3g} (allowed {allowed:.3g}) at {tuple(map(int, worst))}: "
        f"{actual[worst]:.7g}, expected {expected[worst]:.7g}; "
        f"{int((difference > allowed).sum())} of {difference.size} are wrong"
    )

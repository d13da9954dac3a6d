"""From the errors at check cells to SSIM: a line between their logarithms, fitted in tuning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_LOSS = 1e-6  # below it, maps are as good as equal


@dataclass(frozen=True)
class Relation:
    """From the loss at check cells to SSIM: ln(1 - SSIM) = intercept + slope ln(loss), give or take `spread`."""

    intercept: float
    slope: float
    spread: float

    def estimate(self, loss: float, margin: float = 0.0) -> float:
        """SSIM of a map with this loss; `margin` spreads lower than expected."""
        line = self.intercept + self.slope * np.log(max(loss, LEAST_LOSS))
        return float(1.0 - min(1.0, np.exp(line + margin * self.spread)))


# What holds over models, images and settings where nothing was tuned (docs/quality.md), and how many observations of
# a model it counts for. The more cells are known, the less of a map the losses at unknown ones tell about.
GENERAL_INTERCEPT, GENERAL_SLOPE, GENERAL_SHARE, GENERAL_SPREAD = -0.5, 0.6, 1.5, 0.3
GENERAL_WEIGHT = 3.0


def general_relation(unknown: float) -> Relation:
    """What to expect of a map with this share of unknown cells before anything is known about the model."""
    return Relation(GENERAL_INTERCEPT + GENERAL_SHARE * float(np.log(unknown)), GENERAL_SLOPE, GENERAL_SPREAD)


def fit_relation(losses: np.ndarray, similarities: np.ndarray, general: Relation) -> Relation:
    """The relation that fits these maps best, drawn to the `general` one where they are few."""
    x = np.log(np.maximum(losses, LEAST_LOSS))
    y = np.log(np.maximum(1.0 - similarities, LEAST_LOSS))
    # The general relation as observations of its own, about the middle of the data and two spreads to either side.
    middle = x.mean() if len(x) else -3.0
    prior = middle + np.array([-1.5, 0.0, 1.5])
    weight = GENERAL_WEIGHT / len(prior)
    a = np.r_[x, prior]
    b = np.r_[y, general.intercept + general.slope * prior]
    weights = np.r_[np.ones(len(x)), np.full(len(prior), weight)]
    root = np.sqrt(weights)
    (intercept, slope), *_ = np.linalg.lstsq(np.stack([root, root * a], axis=1), root * b, rcond=None)
    if slope < 0.1:  # a larger error never means a better map
        slope = 0.1
        intercept = float(np.average(b - slope * a, weights=weights))
    residual = (y - intercept - slope * x) ** 2
    freedom = max(len(x) - 2, 0) + GENERAL_WEIGHT
    spread = np.sqrt((residual.sum() + GENERAL_WEIGHT * general.spread**2) / freedom)
    return Relation(float(intercept), float(slope), float(spread))

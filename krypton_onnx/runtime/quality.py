"""How alike two maps are (SSIM), and what exact scores at a few cells tell about it.

SSIM is scikit-image's, with the settings of its authors (Wang, Bovik, Sheikh and Simoncelli, 2004): Gaussian weights of
sigma 1.5, population covariances, on the scores as they are; the data range is the exact map's own.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.ndimage import gaussian_filter

from krypton_onnx.tolerance import exactness_tolerance, is_noise

SIGMA = 1.5
WINDOW = 11  # cells; maps that are smaller use the largest odd window that fits
CONTRAST = 0.03  # SSIM's K2


def ssim(exact: np.ndarray, approximate: np.ndarray) -> float:
    """Structural similarity of two maps (rows, cols), 1 for equal ones.

    Where the exact map's range is rounding noise (no more than the exactness tolerance), structure has no meaning:
    1 where the maps differ by no more than the tolerance, else 0.
    """
    # Only tuning needs it, and it takes long to import.
    from skimage.metrics import structural_similarity

    exact, approximate = np.asarray(exact, np.float64), np.asarray(approximate, np.float64)
    spread = float(np.ptp(exact))
    if is_noise(exact):
        return float(np.abs(exact - approximate).max() <= exactness_tolerance(exact))
    side = min(WINDOW, *exact.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single row or column: the window then is one cell
        return float(
            structural_similarity(
                exact, approximate, win_size=side - 1 + side % 2, gaussian_weights=True, sigma=SIGMA,
                use_sample_covariance=False, data_range=spread,
            )
        )  # fmt: skip


def losses(approximate: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """What the error at each cell costs in SSIM, to first order: error^2 / (2 variance + C2), (rows, columns).

    exact : (rows, columns), NaN where it is not known, which gives NaN. The variance is that of the approximate map in
    SSIM's own window around the cell, C2 SSIM's constant: errors hide where the map itself varies.
    """
    approximate = np.asarray(approximate, np.float64)
    mean = gaussian_filter(approximate, SIGMA)
    variance = np.maximum(gaussian_filter(approximate**2, SIGMA) - mean**2, 0.0)
    constant = max((CONTRAST * float(np.ptp(approximate))) ** 2, 1e-30)
    return (approximate - exact) ** 2 / (2.0 * variance + constant)

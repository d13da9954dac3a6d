"""SSIM with its stated meaning for small and flat maps, and what errors at a few cells tell about it."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from krypton_onnx.runtime.quality import losses, ssim
from krypton_onnx.runtime.relation import fit_relation, general_relation
from krypton_onnx.tolerance import is_noise


def surface(shape=(40, 37), seed=0) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(seed).standard_normal(shape)
    return 3 + np.sin(rows / 4) * np.cos(cols / 5) + 0.1 * noise


def test_it_is_scikit_images_with_the_authors_settings() -> None:
    exact = surface()
    other = exact + 0.1 * np.random.default_rng(1).standard_normal(exact.shape)
    expected = structural_similarity(
        exact, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=np.ptp(exact)
    )
    assert ssim(exact, other) == pytest.approx(expected, abs=1e-12)
    assert ssim(exact, exact) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 12), (10, 10), (11, 11)])
def test_small_maps_have_one_too(shape) -> None:
    exact = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) % 7
    assert ssim(exact, exact) == pytest.approx(1.0)
    assert ssim(exact, exact[::-1, ::-1] + 1) <= 1.0


def test_flat_maps_are_equal_within_the_tolerance_of_exactness() -> None:
    flat = np.full((20, 20), 0.999999)
    assert is_noise(flat) and not is_noise(surface())
    assert ssim(flat, flat + 5e-6) == 1.0
    assert ssim(flat, flat - 1e-3) == 0.0
    assert ssim(flat, surface((20, 20))) == 0.0


def test_losses_are_zero_where_equal_and_unknown_where_unknown() -> None:
    exact = surface()
    other = exact.copy()
    other[5, 6] += 0.5
    unknown = exact.copy()
    unknown[0, 0] = np.nan
    each = losses(other, unknown)
    assert each[5, 6] > 0 and np.isnan(each[0, 0]) and np.count_nonzero(np.nan_to_num(each)) == 1


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_mean_loss_is_what_independent_errors_cost(noise) -> None:
    exact = surface((80, 80))
    other = exact + noise * np.random.default_rng(2).standard_normal(exact.shape)
    assert losses(other, exact).mean() == pytest.approx(1 - ssim(exact, other), rel=0.5)


def test_a_relation_is_found_again() -> None:
    rng = np.random.default_rng(0)
    loss = np.exp(rng.uniform(-5, -1, 400))
    similarity = 1 - np.exp(-1.5 + 0.8 * np.log(loss) + 0.1 * rng.standard_normal(400))
    relation = fit_relation(loss, similarity, general_relation(0.5))
    assert relation.intercept == pytest.approx(-1.5, abs=0.1)
    assert relation.slope == pytest.approx(0.8, abs=0.05)
    assert relation.spread == pytest.approx(0.1, abs=0.03)
    assert relation.estimate(0.01) > relation.estimate(0.1)
    assert relation.estimate(0.01, margin=1) < relation.estimate(0.01)
    assert relation.estimate(1e9) == 0.0


def test_without_observations_the_general_relation_stays() -> None:
    general = general_relation(0.5)
    fitted = fit_relation(np.empty(0), np.empty(0), general)
    assert fitted.estimate(0.05) == pytest.approx(general.estimate(0.05))
    assert fitted.spread == pytest.approx(general.spread)


def test_a_relation_never_rises_with_the_loss() -> None:
    relation = fit_relation(np.array([0.01] * 9 + [0.1] * 9), np.array([0.5] * 9 + [0.99] * 9), general_relation(0.5))
    assert relation.estimate(0.001) > relation.estimate(0.1)

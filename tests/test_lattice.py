"""Nested lattices: what they hold, and what interpolation between them gets right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krypton_onnx.runtime.lattice import coarsest_level, interpolate, level_cells, predict, refinement

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
sweep = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@given(shapes)
@sweep
def test_levels_are_nested_and_end_with_one_cell(shape) -> None:
    assert level_cells(shape, 0).all()
    for level in range(coarsest_level(shape)):
        assert not (level_cells(shape, level + 1) & ~level_cells(shape, level)).any()
    assert level_cells(shape, coarsest_level(shape)).sum() == 1


def test_every_level_halves_the_cells() -> None:
    counts = [level_cells((65, 65), level).mean() for level in range(5)]
    np.testing.assert_allclose(counts, [2.0**-level for level in range(5)], rtol=0.1)
    corner = level_cells((4, 4), 1).astype(int)
    np.testing.assert_array_equal(corner, [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]])


@given(shapes, st.integers(0, 2**32 - 1), st.floats(0.02, 1))
@sweep
def test_known_cells_are_kept_and_constants_are_reproduced(shape, seed, share) -> None:
    rng = np.random.default_rng(seed)
    known = rng.random(shape) < share
    known.ravel()[rng.integers(known.size)] = True
    values = rng.standard_normal((2, *shape))
    filled = interpolate(np.where(known, values, np.nan), known)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[:, known], values[:, known])
    np.testing.assert_allclose(interpolate(np.full((1, *shape), 3.0), known), 3.0, rtol=1e-12)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_cubic_surfaces_are_reproduced_away_from_the_border(level) -> None:
    rows, cols = np.mgrid[:41, :41] / 10.0
    surface = 1 + rows - 2 * cols + rows * cols + rows**2 * cols - cols**3 + 0.5 * rows**3
    coarser = level_cells(surface.shape, level)
    predicted = predict(surface[None], level - 1, coarser)[0]
    new = level_cells(surface.shape, level - 1) & ~coarser
    new[:12] = new[-12:] = new[:, :12] = new[:, -12:] = False
    assert new.any()
    np.testing.assert_allclose(predicted[new], surface[new], rtol=1e-9)


def test_finer_levels_interpolate_better() -> None:
    rows, cols = np.mgrid[:53, :53]
    surface = np.sin(rows / 3) * np.cos(cols / 4)
    errors = [
        np.abs(interpolate(surface[None], level_cells(surface.shape, level))[0] - surface).mean()
        for level in (1, 2, 3, 4, 5)
    ]
    assert errors == sorted(errors) and errors[0] < 0.005


@given(shapes, st.sampled_from([0.5, 0.75, 1.0, 1.4, 2.0, 3.7]), st.integers(0, 9))
@sweep
def test_a_level_between_two_holds_the_coarser_and_a_share_of_the_finer(shape, level, seed) -> None:
    values = np.random.default_rng(seed).standard_normal((1, *shape))
    whole = level_cells(shape, int(np.ceil(level)))
    cells = refinement(values, whole, level)
    finer = level_cells(shape, int(np.ceil(level)) - 1) if level % 1 else whole
    assert not (whole & ~cells).any() and not (cells & ~finer).any()
    assert cells.sum() == whole.sum() + round((np.ceil(level) - level) * (finer.sum() - whole.sum()))


def test_refinement_goes_where_the_score_changes() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((1, 40, 40))
    values[0, 20:, 20:] = rng.standard_normal((20, 20))
    cells = refinement(values, level_cells((40, 40), 2), 1.8) & ~level_cells((40, 40), 2)
    assert cells[18:, 18:].sum() > 0.9 * cells.sum()


def test_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no cell is known"):
        interpolate(np.zeros((1, 3, 3)), np.zeros((3, 3), bool))

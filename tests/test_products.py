"""Products by fixed weights, by BLAS and by Intel AMX, against float64; and that prepared weights are shared."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krypton_onnx.numba_kernels import amx
from krypton_onnx.numba_kernels.blas import pieces
from krypton_onnx.numba_kernels.epilogue import Epilogue
from krypton_onnx.numba_kernels.products import FinishedProducts, Products, products
from krypton_onnx.numba_kernels.tile_products import TileProduct
from krypton_onnx.numba_kernels.weights import Columns, columns_of
from krypton_onnx.numba_kernels.winograd import _G, transformed

needs_amx = pytest.mark.skipif(not amx.available(), reason="this processor or system has no AMX")

sweep = settings(max_examples=40, deadline=None, derandomize=True, report_multiple_bugs=False)
FLOAT32 = 2.0**-23


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run(parts, a: np.ndarray, columns: int) -> np.ndarray:
    out = np.full((*a.shape[:2], columns), np.nan, np.float32)
    for part in parts:
        view = np.full((*a.shape[:2], part.last - part.first), np.nan, np.float32)
        part.multiply(a, view)
        out[:, :, part.first : part.last] = view
    return out


def assert_as_float32(got: np.ndarray, a: np.ndarray, weights: np.ndarray) -> None:
    """Within a few roundings of the sum of |products|, which is what any float32 sum promises."""
    a, weights = a.astype(np.float64), weights.astype(np.float64)
    np.testing.assert_array_less(np.abs(got - a @ weights), 8 * FLOAT32 * (np.abs(a) @ np.abs(weights)) + 1e-30)


shapes = st.tuples(st.sampled_from([1, 2, 36]), st.integers(1, 140), st.integers(1, 150), st.integers(1, 140))


@sweep
@given(shapes, st.integers(0, 9))
def test_blas_pieces(shape, seed):
    stack, rows, depth, columns = shape
    a, weights = random(stack, rows, depth, seed=seed), random(stack, depth, columns, seed=seed + 1)
    assert_as_float32(run(pieces(columns_of(weights)), a, columns), a, weights)


@needs_amx
@sweep
@given(shapes, st.integers(0, 9))
def test_tiles(shape, seed):
    stack, rows, depth, columns = shape
    a, weights = random(stack, rows, depth, seed=seed), random(stack, depth, columns, seed=seed + 1)
    assert_as_float32(run([TileProduct(columns_of(weights), 0, columns)], a, columns), a, weights)


@needs_amx
@sweep
@given(st.integers(1, 140), st.integers(1, 150), st.integers(1, 140), st.sampled_from([(0.0, np.inf), (-0.5, 0.5)]))
def test_tiles_with_bias_and_activation(rows, depth, columns, limits):
    a, weights, bias = random(1, rows, depth), random(1, depth, columns, seed=1), random(columns, seed=2)
    out = np.full((1, rows, columns), np.nan, np.float32)
    TileProduct(columns_of(weights), 0, columns, bias).finish(a, out, *limits)
    expected = np.clip(a.astype(np.float64) @ weights + bias, *limits)
    np.testing.assert_allclose(out, expected, atol=1e-5 * depth**0.5)


@needs_amx
def test_tiles_are_closer_than_float32_products():
    """Large and small values side by side, signs that cancel: what bfloat16 alone could not do."""
    a = random(1, 300, 500) * np.exp(random(1, 300, 500, seed=1) * 4)
    weights = random(1, 500, 64, seed=2)
    exact = a.astype(np.float64) @ weights
    tiles = run([TileProduct(columns_of(weights), 0, 64)], a, 64)
    assert np.abs(tiles - exact).mean() <= np.abs(a @ weights - exact).mean()


@needs_amx
def test_a_row_of_tiles_does_not_depend_on_the_others():
    weights = random(1, 96, 80)
    product = [TileProduct(columns_of(weights), 0, 80)]
    a = random(1, 333, 96, seed=1)
    whole = run(product, a, 80)
    for first, last in ((0, 1), (5, 70), (64, 333), (332, 333)):
        np.testing.assert_array_equal(run(product, np.ascontiguousarray(a[:, first:last]), 80), whole[:, first:last])


@needs_amx
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 5)])
def test_half_transformed_weights_are_the_whole_transform(kernel):
    weights = random(70, 33, *kernel)
    columns = transformed(weights)
    assert columns.factors is _G
    a = random(36, 50, columns.shape[1], seed=1)
    whole = columns.whole(0, 70)
    got = run([TileProduct(columns, 0, 70)], a, 70)
    scale = np.abs(a).astype(np.float64) @ np.abs(whole)
    assert (np.abs(got - a.astype(np.float64) @ whole) <= 16 * FLOAT32 * scale.max(axis=(1, 2), keepdims=True)).all()


def test_columns_are_made_a_few_at_a_time():
    weights = random(1, 40, 1000)
    asked = []

    def take(first, last):
        asked.append(last - first)
        return weights[:, :, first:last]

    Products(Columns(weights.shape, take), None)
    assert sum(asked) == 1000 and (not amx.available() or max(asked) <= 32)


def test_equal_weights_are_prepared_once_and_let_go():
    weights, bias = random(1, 40, 50), random(50, seed=1)
    one = FinishedProducts(weights, Epilogue(bias, 0.0, np.inf))
    two = FinishedProducts(weights.copy(), Epilogue(bias.copy(), -1.0, 1.0))
    assert one._products is two._products
    assert FinishedProducts(weights, Epilogue(bias + 1, 0.0, np.inf))._products is not one._products
    assert products("other", weights, columns_of(weights), bias) is not one._products
    from krypton_onnx.numba_kernels.products import _prepared

    before = len(_prepared)
    del one, two
    gc.collect()
    assert len(_prepared) < before


def test_the_switch_turns_tiles_off():
    text = "from krypton_onnx.numba_kernels import amx; print(amx.available())"
    environment = {**os.environ, amx.SWITCH: "0"}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

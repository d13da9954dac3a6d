"""Fidelities: thresholds as the kernel and the function bodies take them, rounded products, independence of batches."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from approximate_models import deep, scene
from families import FAMILIES, example_image
from rewritten_models import Rewritten

import krypton_onnx as kx
from krypton_onnx.numba_kernels import amx
from krypton_onnx.numba_kernels.precision import light_products
from krypton_onnx.numba_kernels.tile_products import TileProduct
from krypton_onnx.numba_kernels.weights import columns_of
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.runtime.approximate import observe
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.schedule import position_cost

PATCH = (8, 8)


@pytest.fixture(scope="module")
def session() -> kx.OcclusionSession:
    return kx.OcclusionSession(deep())


def question(session, **changes):
    return session.question(scene(0), Occlusion(**{"patch": 8, "stride": 2} | changes))


def test_thresholds_grow_with_the_reach_until_nothing_is_capped(session) -> None:
    plan = session.plan()
    rows = [Fidelity(reach).thresholds(plan, PATCH) for reach in (0.5, 1.0, 1.5, 2.5, 100.0)]
    assert all(row.shape == (len(plan.geometries),) and row.dtype == np.float32 for row in rows)
    assert all((earlier <= later).all() for earlier, later in pairwise(rows))
    assert (rows[0] < 1).any() and (rows[0] > 0).all() and (rows[-1][1:] == 1).all()  # the first is the patch itself
    assert EXACT.thresholds(plan, PATCH).tolist() == [1.0]


def test_batches_are_planned_for_the_extents_that_are_computed(session) -> None:
    plan, grid = session.plan(), question(session).grid
    free, capped = EXACT.table(plan, PATCH), Fidelity(1.0).table(plan, PATCH)
    frame = np.array([geometry.frame for geometry in plan.geometries])
    cap = np.maximum(1, np.rint(Fidelity(1.0).thresholds(plan, PATCH)[:, None] * frame))
    for axis, origins in enumerate((grid.tops, grid.lefts)):
        expected = np.minimum(free.extents(axis, origins, 8), cap[:, axis])
        np.testing.assert_array_equal(capped.extents(axis, origins, 8), expected)
    assert position_cost(plan, grid, Fidelity(1.0)) < position_cost(plan, grid, EXACT)
    assert position_cost(plan, grid, Fidelity(1.0, light=True)) < position_cost(plan, grid, Fidelity(1.0))


def test_a_reach_that_caps_nothing_is_exact(session) -> None:
    exact, _ = observe(question(session), EXACT)
    wide, _ = observe(question(session), Fidelity(100.0))
    np.testing.assert_allclose(wide, exact, atol=1e-5)
    short, _ = observe(question(session), Fidelity(0.8))
    assert np.abs(short - exact).max() > 1e-3


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("name", ["squeezenet", "mobilenet_v2", "resnet50_thin_nhwc"])
def test_scores_do_not_depend_on_which_positions_share_a_batch(name, light) -> None:
    """Where products are rounded, only as far as that: rounding passes on the last bit of a float as one of 8 bits."""
    model = FAMILIES[name]()
    session = kx.OcclusionSession(model)
    image = example_image(model)
    asked = session.question(image, Occlusion(8, 6))
    together, _ = observe(asked, Fidelity(0.9, light))
    apart, _ = observe(replace(asked, batch_size=1), Fidelity(0.9, light))
    np.testing.assert_allclose(apart, together, atol=0.02 * np.ptp(together) if light else 1e-6)


def test_stock_onnx_runtime_takes_a_threshold_a_geometry_too() -> None:
    model = deep()
    session = kx.OcclusionSession(model)
    plan = session.plan()
    asked = question(session, stride=11)
    tops, lefts = (axis.ravel() for axis in np.meshgrid(asked.grid.tops, asked.grid.lefts, indexing="ij"))
    thresholds = Fidelity(1.0).thresholds(plan, PATCH)
    stock = Rewritten(rewrite_model(model))
    bodies = stock.outputs(scene(0), np.stack([tops, lefts], 1), np.zeros((3, 8, 8), np.float32), thresholds)[0]
    ours, _ = observe(asked, Fidelity(1.0))
    target = int(session.run(None, {"image": scene(0)})[0].argmax())
    np.testing.assert_allclose(ours.ravel(), bodies[:, target], atol=1e-4)


@pytest.mark.skipif(not amx.available(), reason="no Intel AMX")
@pytest.mark.parametrize("stack, depth, bound", [(1, 64, 0.02), (1, 700, 0.02), (4, 64, 2e-4), (2, 300, 0.02)])
def test_light_products_are_rounded_as_far_as_promised(stack, depth, bound) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((stack, 70, depth), dtype=np.float32)
    weights = rng.standard_normal((stack, depth, 48), dtype=np.float32) / np.sqrt(depth)
    product = TileProduct(columns_of(weights), 0, 48)
    exact, light = np.empty((2, stack, 70, 48), np.float32)
    product.multiply(a, exact)
    with light_products():
        product.multiply(a, light)
        with light_products(False):
            again = np.empty_like(exact)
            product.multiply(a, again)
    np.testing.assert_array_equal(again, exact)
    expected = a.astype(np.float64) @ weights
    assert np.abs(exact - expected).max() < 1e-5
    assert 1e-6 < np.abs(light - expected).max() < bound
    assert abs((light - expected).mean()) < bound / 20  # rounded, not cut off

"""PlaceRegions, the rewriter's growth and the runtime's batch planning agree; a crop depends on its position alone."""

import numpy as np
import pytest
from families import FAMILIES, example_image
from graph_builder import Graph
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive_scores
from operator_models import ROUNDING
from rewritten_models import Rewritten

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.rewriter.geometry import AxisGrowth, Geometry
from krypton_onnx.runtime.batching import GeometryTable

KERNEL = next(kernel for kernel in CPU_KERNELS if kernel.op_type == "PlaceRegions")


def sweep(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def place(geometries: list[Geometry], origins: np.ndarray, size: tuple[int, int], tau: list[float]):
    """What the kernel computes: origins (G, N, 2) and extents (G, 2)."""
    axes = [(row.y, row.x) for row in geometries]
    attributes = {
        name: [getattr(axis, name) for pair in axes for axis in pair] for name in ("jump", "before", "after", "scale")
    }
    attributes["frame"] = [side for row in geometries for side in row.frame]
    results: dict[int, np.ndarray] = {}

    def allocate(index: int, shape: tuple[int, ...]) -> np.ndarray:
        return results.setdefault(index, np.full(shape, -99, np.int64))

    patch = np.zeros((1, 3, *size), np.float32)
    KERNEL.make(attributes, [None] * 3, False)([origins, patch, np.array(tau, np.float32)], allocate)
    return results[0], results[1]


def own(geometry: Geometry, origins: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last cells (N, 2) of every position by the rewriter's growth."""
    axes = (geometry.y, geometry.x)
    pairs = [axes[a].region(origins[:, a], size[a], geometry.frame[a]) for a in (0, 1)]
    return np.stack([pair[0] for pair in pairs], 1), np.stack([pair[1] for pair in pairs], 1)


def table_of(geometries: list[Geometry]) -> GeometryTable:
    def column(name: str) -> np.ndarray:
        return np.array([[getattr(row.y, name), getattr(row.x, name)] for row in geometries])

    frame = np.array([row.frame for row in geometries])
    cost = np.ones(len(geometries))
    return GeometryTable(column("jump"), column("before"), column("after"), frame, cost, scale=column("scale"))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Geometry], np.ndarray, tuple[int, int]]:
    """Geometries of one image, origins (N, 2) of occlusions in it, and their size."""
    image = draw(st.integers(6, 60)), draw(st.integers(6, 60))
    geometries = []
    for _ in range(draw(st.integers(1, 3))):
        axes, frame = [], []
        for side in image:
            jump = draw(st.integers(1, 8))
            axes.append(AxisGrowth(jump, draw(st.integers(-3, 25)), draw(st.integers(-3, 25))))
            frame.append(max(1, side // jump + draw(st.integers(-1, 2))))
        geometries.append(Geometry(*axes, (frame[0], frame[1])))
    size = tuple(draw(st.integers(1, side)) for side in image)
    origin = st.tuples(*(st.integers(0, side - length) for side, length in zip(image, size, strict=True)))
    return geometries, np.array(draw(st.lists(origin, min_size=1, max_size=6)), np.int64), size


@sweep(200)
@given(batches())
def test_exact_regions_hold_every_positions_own(batch) -> None:
    """The extent is the largest one; every region lies in the frame and contains its position's own."""
    geometries, origins, size = batch
    placed, extents = place(geometries, origins, size, [1.0])
    table = table_of(geometries)
    for g, geometry in enumerate(geometries):
        start, stop = own(geometry, origins, size)
        np.testing.assert_array_equal(extents[g], (stop - start).max(axis=0))
        for axis in (0, 1):
            np.testing.assert_array_equal(
                table.extents(axis, origins[:, axis], size[axis])[:, g], (stop - start)[:, axis]
            )
        assert (placed[g] >= 0).all() and (placed[g] + extents[g] <= geometry.frame).all()
        assert (placed[g] <= start).all() and (placed[g] + extents[g] >= stop).all()


@sweep(200)
@given(batches())
def test_alone_a_position_has_exactly_its_own_region(batch) -> None:
    geometries, origins, size = batch
    placed, extents = place(geometries, origins[:1], size, [1.0])
    for g, geometry in enumerate(geometries):
        start, stop = own(geometry, origins[:1], size)
        np.testing.assert_array_equal(placed[g], start)
        np.testing.assert_array_equal(extents[g], (stop - start)[0])


thresholds = st.sampled_from([1.0, 0.9, 0.6, 0.5, 0.3, 0.02])


@sweep(300)
@given(batches(), st.data())
def test_a_crop_does_not_depend_on_the_batch(batch, data) -> None:
    """A position's own region, where it fits the cap, is only ever widened; a crop is the same with any mates."""
    geometries, origins, size = batch
    tau = data.draw(st.lists(thresholds, min_size=1, max_size=1) | st.lists(
        thresholds, min_size=len(geometries), max_size=len(geometries)))  # fmt: skip
    placed, extents = place(geometries, origins, size, tau)
    for n in range(len(origins)):
        alone, alone_extents = place(geometries, origins[n : n + 1], size, tau)
        for g, geometry in enumerate(geometries):
            start, stop = own(geometry, origins[n : n + 1], size)
            for axis in (0, 1):
                frame, fraction = geometry.frame[axis], np.float32(tau[g % len(tau)])
                cap = max(1, round(float(fraction * np.float32(frame))))
                a, e = int(placed[g, n, axis]), int(extents[g, axis])
                a1, e1 = int(alone[g, 0, axis]), int(alone_extents[g, axis])
                assert e <= cap and a >= 0 and a + e <= frame
                if stop[0, axis] - start[0, axis] > cap:
                    assert (a, e) == (a1, e1) and e == cap
                else:
                    assert (a1, a1 + e1) == (start[0, axis], stop[0, axis])
                    assert a <= a1 and a + e >= a1 + e1


@sweep(200)
@given(batches(), st.sampled_from([0.6, 0.4, 0.1]))
def test_a_crop_is_centred_on_the_occlusion(batch, tau: float) -> None:
    """On its unclipped projection, rounded down, as far as the frame lets it."""
    geometries, origins, size = batch
    placed, extents = place(geometries, origins, size, [tau])
    for g, geometry in enumerate(geometries):
        start, stop = own(geometry, origins, size)
        for axis, growth in enumerate((geometry.y, geometry.x)):
            extent, frame = int(extents[g, axis]), geometry.frame[axis]
            first = (origins[:, axis] - growth.before) / growth.jump
            last = (origins[:, axis] + size[axis] - 1 + growth.after) / growth.jump
            ideal = np.clip(np.floor((first + last) / 2 - (extent - 1) / 2 + 1e-9), 0, frame - extent)
            cropped = (stop - start)[:, axis] > max(1, round(tau * frame))
            np.testing.assert_array_equal(placed[g, cropped, axis], ideal[cropped])


@pytest.mark.parametrize("name", ["vgg", "resnet18_legacy", "inception", "densenet", "pads", "resnet50_thin_nhwc"])
@pytest.mark.parametrize("tau", [0.7, 0.4])
def test_approximate_scores_do_not_depend_on_the_batch(name: str, tau: float) -> None:
    model = FAMILIES[name]()
    session, image = Rewritten(rewrite_model(model)), example_image(model)
    _, height, width = session.plan.image_shape
    patch = np.full((3, 14, 13), 1.5, np.float32)
    origins = np.array([(0, 0), (height - 14, width - 13), (11, 13), (3, 18), (17, 2)], np.int64)
    together = session.outputs(image, origins, patch, tau)[0]
    alone = [session.outputs(image, origins[n : n + 1], patch, tau)[0] for n in range(len(origins))]
    tolerance = 2 * ROUNDING * max(1.0, float(np.abs(together).max()))
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=tolerance)
    exact = session.outputs(image, origins, patch)[0]
    assert np.abs(exact - together).max() > 10 * tolerance, "nothing was cropped"


def first_layer(kernel: int):
    """One convolution of the image, of 16 x 14 pixels, whose activation is the output."""
    g = Graph(0, opset=18, ir=8)
    x = g.conv(g.input("x", ["N", 3, 16, 14]), 4, kernel, pads=kernel // 2)
    g.node("Relu", x, name="y")
    return g.model({"y": ["N", 4, 16, 14]})


@pytest.mark.parametrize("kernel", [1, 3])
def test_outside_a_crop_the_view_shows(kernel: int) -> None:
    """Every cell is either exact or that of the unoccluded image, also where the first operator is pointwise."""
    model, rng = first_layer(kernel), np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 16, 14)).astype(np.float32)
    patch = rng.standard_normal((3, 11, 10)).astype(np.float32)
    origins = np.array([(0, 0), (5, 4), (2, 3)], np.int64)
    exact, base = naive_scores(model, image, origins, patch)
    got = Rewritten(rewrite_model(model)).outputs(image, origins, patch, 0.5)[0]
    close = [np.isclose(got, other, rtol=0, atol=10 * ROUNDING).all(axis=1) for other in (exact, base[None])]
    assert (close[0] | close[1]).all(), "cells that are neither exact nor the view's"
    if kernel == 3:
        assert (~close[0]).any(axis=(1, 2)).all() and (~close[1]).any(axis=(1, 2)).all()


def test_a_threshold_for_every_depth() -> None:
    """One value a row of the plan: less than 1.0 in one row crops there, and only there."""
    model = FAMILIES["vgg"]()
    session, image = Rewritten(rewrite_model(model)), example_image(model)
    rows = len(session.plan.geometries)
    origins, patch = np.array([(4, 9), (20, 30)], np.int64), np.full((3, 8, 8), 1.5, np.float32)

    def scores(tau) -> np.ndarray:
        return session.outputs(image, origins, patch, tau)[0]

    exact, half = scores(1.0), scores(0.5)
    np.testing.assert_array_equal(scores([1.0] * rows), exact)
    np.testing.assert_array_equal(scores([0.5] * rows), half)
    deepest = scores([1.0] * (rows - 1) + [0.2])
    assert not np.allclose(deepest, exact, atol=1e-4) and not np.allclose(deepest, half, atol=1e-4)

"""Batches hold every position once, their regions cover every position's own, and little is recomputed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krypton_onnx.runtime.batching import Batch, GeometryTable, Plan, PositionBatch, plan_grid, plan_positions
from krypton_onnx.runtime.grouping import group_axes


@st.composite
def tables(draw: st.DrawFn) -> GeometryTable:
    count = draw(st.integers(1, 5))
    rows = st.lists(st.integers(1, 40), min_size=2 * count, max_size=2 * count)
    jump, before, after, frame = (np.array(draw(rows)).reshape(count, 2) for _ in range(4))
    cost = draw(st.lists(st.sampled_from([0.0, 1.0, 7.0, 1000.0]), min_size=count, max_size=count))
    return GeometryTable(np.minimum(jump, 16), before - 1, after - 1, frame, np.array(cost))


axes = st.builds(lambda count, stride: np.arange(count) * stride, st.integers(1, 14), st.integers(1, 9))
unhurried = settings(deadline=None)  # machines that run tests are often loaded
patches = st.tuples(st.integers(1, 12), st.integers(1, 12))


def own_region(table: GeometryTable, g: int, axis: int, origin: int, size: int) -> tuple[int, int]:
    """Notes for PlaceRegions, in plain Python."""
    jump, before, after, frame = (
        int(a[g, axis]) for a in (table.jump, table.before, table.after, table.frame)
    )
    a = min(max(math.ceil((origin - before) / jump), 0), frame - 1)
    return a, max(min(math.floor((origin + size - 1 + after) / jump) + 1, frame), a + 1)


def own_extents(table: GeometryTable, origin: tuple[int, int], patch: tuple[int, int]) -> np.ndarray:
    """(G, 2)."""
    count = len(table.cost)
    regions = [
        [own_region(table, g, axis, origin[axis], patch[axis]) for axis in (0, 1)] for g in range(count)
    ]
    return np.array([[b - a for a, b in pair] for pair in regions])


def multiply_adds(table: GeometryTable, extents: np.ndarray) -> float:
    return float((table.cost * extents.prod(axis=1)).sum())


def positions_of(plan: Plan, lefts: np.ndarray) -> list[np.ndarray]:
    """Indices into the grid, row by row, of every batch."""
    return [(batch.rows[:, None] * len(lefts) + batch.cols).ravel() for batch in plan.batches]


def check_plan(plan: Plan, batches: list[np.ndarray], origins: np.ndarray, patch: tuple[int, int],
               table: GeometryTable, max_batch: int) -> None:  # fmt: skip
    """What must hold of any plan; `batches` are indices into origins."""
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(origins)))
    assert [batch.size for batch in plan.batches] == [len(batch) for batch in batches]
    assert max(len(batch) for batch in batches) <= max_batch
    own = np.array([own_extents(table, tuple(origin), patch) for origin in origins.tolist()])
    work = [len(batch) * multiply_adds(table, own[batch].max(axis=0)) for batch in batches]
    assert work == sorted(work, reverse=True) or np.allclose(work, sorted(work, reverse=True))
    true = sum(multiply_adds(table, extents) for extents in own)
    assert plan.true == pytest.approx(true)
    assert plan.achieved == pytest.approx(sum(work))
    assert plan.achieved >= plan.true * (1 - 1e-12)
    assert plan.full == pytest.approx(len(origins) * multiply_adds(table, table.frame))


@unhurried
@given(tables(), axes, axes, patches, st.integers(1, 30), st.sampled_from([0.0, 100.0, 1e4, 1e12]))
def test_every_position_once_and_covered(table, tops, lefts, patch, max_batch, fixed_cost) -> None:
    plan = plan_grid(tops, lefts, patch, table, max_batch=max_batch, fixed_cost=fixed_cost)
    origins = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    batches = positions_of(plan, lefts)
    check_plan(plan, batches, origins, patch, table, max_batch)
    for batch, indices in zip(plan.batches, batches, strict=True):
        np.testing.assert_array_equal(batch.origins(tops, lefts), origins[indices])


@unhurried
@given(
    tables(),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60),
    patches,
    st.integers(1, 30),
    st.sampled_from([0.0, 100.0, 1e4, 1e12]),
)
def test_any_list_of_positions(table, origins, patch, max_batch, fixed_cost) -> None:
    origins = np.array(origins)  # in any order, some twice
    plan = plan_positions(origins, patch, table, max_batch=max_batch, fixed_cost=fixed_cost)
    check_plan(plan, [batch.positions for batch in plan.batches], origins, patch, table, max_batch)


@unhurried
@given(tables(), axes, axes, patches)
def test_without_a_fixed_cost_regions_are_truly_clipped(table, tops, lefts, patch) -> None:
    plan = plan_grid(tops, lefts, patch, table, max_batch=10_000, fixed_cost=0.0)
    assert plan.achieved == pytest.approx(plan.true)


@unhurried
@given(tables(), axes, axes, patches)
def test_with_a_huge_fixed_cost_there_is_one_batch(table, tops, lefts, patch) -> None:
    plan = plan_grid(tops, lefts, patch, table, max_batch=len(tops) * len(lefts), fixed_cost=1e30)
    assert [batch.size for batch in plan.batches] == [len(tops) * len(lefts)]


@unhurried
@given(tables(), axes, axes, patches, st.sampled_from([10.0, 1e3, 1e5]))
def test_merging_never_raises_the_total_cost(table, tops, lefts, patch, fixed_cost) -> None:
    split = plan_grid(tops, lefts, patch, table, max_batch=10_000, fixed_cost=0.0)
    merged = plan_grid(tops, lefts, patch, table, max_batch=10_000, fixed_cost=fixed_cost)
    before = split.achieved + fixed_cost * len(split.batches)
    assert merged.achieved + fixed_cost * len(merged.batches) <= before * (1 + 1e-12)


@unhurried
@given(tables(), axes, axes, patches, st.sampled_from([0.0, 1e3, 1e6]))
def test_the_whole_grid_as_a_list_costs_the_same(table, tops, lefts, patch, fixed_cost) -> None:
    origins = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = plan_grid(tops, lefts, patch, table, max_batch=10_000, fixed_cost=fixed_cost)
    listed = plan_positions(origins, patch, table, max_batch=10_000, fixed_cost=fixed_cost)
    assert len(listed.batches) == len(grid.batches)
    assert listed.achieved == pytest.approx(grid.achieved)


def greedy(extents, cost, counts, max_batch, fixed_cost) -> list[list[list[int]]]:
    """The search of grouping.py written out: the total of every possible merge, computed anew."""

    def total(groups) -> float:
        result = 0.0
        for rows in groups[0]:
            for cols in groups[1]:
                positions = counts[np.ix_(rows, cols)].sum()
                cells = extents[0][rows].max(axis=0) * extents[1][cols].max(axis=0)
                result += positions * (cost @ cells) + fixed_cost * math.ceil(positions / max_batch)
        return result

    groups = [[[index] for index in range(count)] for count in counts.shape]
    while True:
        candidates = []
        for axis, side in enumerate(groups):
            for i in range(len(side)):
                for j in range(i + 1, len(side)):
                    merged = [*side[:i], side[i] + side[j], *side[i + 1 : j], *side[j + 1 :]]
                    both = [merged, groups[1]] if axis == 0 else [groups[0], merged]
                    candidates.append((total(both), both))
        best = min(candidates, key=lambda item: item[0], default=(math.inf, groups))
        if best[0] >= total(groups):
            return groups
        groups = best[1]


@settings(unhurried, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.1, 1000))
def test_search_is_the_greedy_search_written_out(seed, max_batch, fixed_cost) -> None:
    rng = np.random.default_rng(seed)
    shape, geometries = rng.integers(1, 8, 2), rng.integers(1, 4)
    extents = tuple(rng.uniform(1, 20, (count, geometries)) for count in shape)  # no ties
    counts, cost = rng.integers(1, 4, shape), rng.uniform(0, 1, geometries)
    expected = greedy(extents, cost, counts, max_batch, fixed_cost)
    for found, groups in zip(group_axes(extents, cost, counts, max_batch, fixed_cost), expected, strict=True):
        assert sorted(sorted(group.tolist()) for group in found) == sorted(sorted(group) for group in groups)


@unhurried
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 100))
def test_equal_positions_are_split_evenly_and_into_few(rows, cols, max_batch) -> None:
    """No geometry costs anything, so only max_batch splits."""
    pairs = np.ones((1, 2), np.int64)
    table = GeometryTable(pairs, pairs, pairs, pairs * 50, np.zeros(1))
    plan = plan_grid(np.arange(rows), np.arange(cols), (3, 3), table, max_batch=max_batch, fixed_cost=1.0)
    fewest = min(
        rows_split * cols_split
        for rows_split in range(1, rows + 1)
        for cols_split in range(1, cols + 1)
        if -(-rows // rows_split) * -(-cols // cols_split) <= max_batch
    )
    assert len(plan.batches) == fewest
    for axis in ("rows", "cols"):
        lengths = {len(getattr(batch, axis)) for batch in plan.batches}
        assert max(lengths) - min(lengths) <= 1
    assert plan.true_ratio == plan.achieved_ratio == 1.0


def vgg16(size: int) -> GeometryTable:
    """The 13 convolutions 3x3 of VGG16, with its pools in between."""
    jump, before, after, frame, inner, rows = 1, 0, 0, size, 3, []
    for outer, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            before, after = before + jump, after + jump  # kernel 3, pad 1
            rows.append((jump, before, after, frame, 9 * inner * outer))
            inner = outer
        before, jump, frame = before + jump, 2 * jump, frame // 2  # kernel 2, stride 2
    table = np.array(rows)
    return GeometryTable(
        *(np.repeat(table[:, i : i + 1], 2, axis=1) for i in range(4)), table[:, 4].astype(float)
    )


def test_vgg16_redundancy() -> None:
    """Numbers of facts/rewriting and facts/algorithms: 11.01 truly clipped, 7.85 with one extent."""
    origins = np.arange(0, 240 - 16 + 1, 4)
    plans = {
        fixed: plan_grid(origins, origins, (16, 16), vgg16(240), max_batch=64, fixed_cost=fixed)
        for fixed in (0.0, 1e9, 1e10)
    }
    assert plans[0.0].true_ratio == pytest.approx(11.01, abs=0.01)
    assert plans[0.0].achieved_ratio == pytest.approx(plans[0.0].true_ratio)
    assert plans[1e9].achieved_ratio > 10.8 and len(plans[1e9].batches) < 160
    assert plans[1e10].achieved_ratio > 10.2 and len(plans[1e10].batches) < 70
    one = plan_grid(origins, origins, (16, 16), vgg16(240), max_batch=10_000, fixed_cost=1e30)
    assert one.achieved_ratio == pytest.approx(7.85, abs=0.01)
    at_224 = np.arange(0, 224 - 16 + 1, 4)
    plan = plan_grid(at_224, at_224, (16, 16), vgg16(224), max_batch=64, fixed_cost=0.0)
    assert plan.true_ratio == pytest.approx(9.78, abs=0.01)


@settings(unhurried, max_examples=5)
@given(st.integers(100, 300), st.integers(1, 2))
def test_more_signatures_than_the_search_takes(count, stride) -> None:
    """Neighbours are grouped first, and nearly nothing is lost."""
    table = vgg16(640)
    tops, lefts = np.arange(count) * stride, np.arange(20)
    plan = plan_grid(tops, lefts, (16, 16), table, max_batch=64, fixed_cost=0.0)
    assert sorted(np.concatenate(positions_of(plan, lefts)).tolist()) == list(range(count * 20))
    assert plan.true <= plan.achieved <= 1.05 * plan.true


def test_rows_and_columns_are_not_mixed_up() -> None:
    """A frame that is 4 rows high and 400 columns wide: only lefts differ."""
    table = GeometryTable(*(np.array([pair]) for pair in ((100, 1), (0, 20), (0, 20), (4, 400))), np.ones(1))
    plan = plan_grid(
        np.arange(0, 300, 100), np.arange(0, 380, 20), (10, 20), table, max_batch=99, fixed_cost=0
    )
    assert {len(batch.rows) for batch in plan.batches} == {3}
    assert sorted(len(batch.cols) for batch in plan.batches) == [1, 18]  # at the left border; all others
    assert plan.true == 3 * (40 + 18 * 60)


def test_no_positions() -> None:
    empty = np.array([], np.int64)
    for plan in (
        plan_grid(empty, np.arange(3), (4, 4), vgg16(32), max_batch=8, fixed_cost=1.0),
        plan_positions(np.empty((0, 2)), (4, 4), vgg16(32), max_batch=8, fixed_cost=1.0),
    ):
        assert plan.batches == () and plan.full == plan.true == plan.achieved == 0


def test_batches_cannot_be_changed() -> None:
    batch = plan_grid(np.arange(2), np.arange(2), (1, 1), vgg16(32), max_batch=8, fixed_cost=1e30).batches[0]
    assert isinstance(batch, Batch)
    with pytest.raises(ValueError, match="read-only"):
        batch.rows[0] = 1
    listed = plan_positions(np.zeros((2, 2)), (1, 1), vgg16(32), max_batch=8, fixed_cost=1.0).batches[0]
    assert isinstance(listed, PositionBatch)
    with pytest.raises(ValueError, match="read-only"):
        listed.positions[0] = 1


def test_max_batch_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_batch"):
        plan_grid(np.arange(2), np.arange(2), (1, 1), vgg16(32), max_batch=0, fixed_cost=1.0)

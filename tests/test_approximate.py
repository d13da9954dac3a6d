"""mode="approximate": the map, what it says of itself, and stopping early."""

import os
import signal
import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from approximate_models import deep, scene
from naive import naive_map
from onnx.numpy_helper import to_array
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.runtime import drill_down, policy
from krypton_onnx.runtime.assembly import assemble, check_cells
from krypton_onnx.runtime.drill_down import DrillDown, Goal, Work
from krypton_onnx.runtime.explain import Stop
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.lattice import level_cells
from krypton_onnx.runtime.quality import ssim
from krypton_onnx.runtime.relation import Relation
from krypton_onnx.runtime.setting import Setting, ladders

MODEL = deep().SerializeToString()
ASKED = {"patch": 8, "stride": 2}


@pytest.fixture(scope="module")
def session() -> kx.OcclusionSession:
    """Tuned on other images than the ones that are explained."""
    session = kx.OcclusionSession(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "RUNG_COST", 0.0)  # of so small a model, it is more than the whole map
        kx.tune(session, [scene(seed) for seed in range(10, 18)], min_ssim=0.9, **ASKED)
    assert session.tuning.setting.rungs
    return session


@pytest.fixture(scope="module")
def exact(session) -> kx.HeatMap:
    return session.explain(scene(0), **ASKED)


def untuned(**changes) -> kx.HeatMap:
    with pytest.warns(UserWarning, match="without a tuning"):
        return kx.OcclusionSession(MODEL).explain(scene(0), mode="approximate", **(ASKED | changes))


# -- the promise ---------------------------------------------------------------------------------------------


def test_maps_are_as_alike_as_promised_and_say_so(session) -> None:
    good = 0
    for seed in range(8):
        heat_map = session.explain(scene(seed), mode="approximate", **ASKED)
        truth = session.explain(scene(seed), targets=list(heat_map.targets), **ASKED)
        actual = ssim(truth.scores[0], heat_map.scores[0])
        good += actual >= 0.9
        assert actual >= 0.8
        assert abs(heat_map.estimated_ssim - actual) < 0.1
        assert heat_map.expected_ssim == session.tuning.expected_ssim
        assert heat_map.mode == "approximate" and heat_map.complete
        assert np.isfinite(heat_map.scores).all() and heat_map.scores.dtype == np.float32
    assert good >= 7


def test_it_computes_a_part_and_interpolates_the_rest(session, exact) -> None:
    heat_map = session.explain(scene(0), mode="approximate", min_ssim=0.6, **ASKED)
    assert 0.05 < heat_map.computed.mean() < 0.95
    assert heat_map.expected_ssim is None  # tuned for another target
    np.testing.assert_array_equal(heat_map.tops, exact.tops)
    better = session.explain(scene(0), mode="approximate", min_ssim=0.97, **ASKED)
    assert better.computed.sum() >= heat_map.computed.sum()
    assert ssim(exact.scores[0], better.scores[0]) >= ssim(exact.scores[0], heat_map.scores[0]) - 1e-9


def test_refined_everywhere_it_is_exact(session) -> None:
    heat_map = session.explain(scene(0), mode="approximate", min_ssim=1.0, **ASKED)
    scores, baseline = naive_map(MODEL, scene(0), heat_map.tops, heat_map.lefts, np.zeros((3, 8, 8), np.float32))
    target = heat_map.targets[0]
    assert_scores_equal(heat_map.scores.ravel(), scores[:, target], probabilities=False)
    assert_scores_equal(heat_map.baseline, baseline.ravel()[[target]], probabilities=False)
    assert heat_map.computed.all() and heat_map.complete
    assert "completed exactly" in heat_map.note and heat_map.estimated_ssim == 1.0


def test_below_the_target_it_is_left_so_only_where_asked(session) -> None:
    heat_map = session.explain(scene(0), mode="approximate", min_ssim=1.0, complete_exactly=False, **ASKED)
    assert not heat_map.computed.all()
    assert ": left so, as asked" in heat_map.note and heat_map.estimated_ssim < 1.0 and heat_map.complete


def test_several_targets_share_the_positions_and_the_worst_decides(session) -> None:
    heat_map = session.explain(scene(0), targets=[0, 1, 2], mode="approximate", **ASKED)
    truth = session.explain(scene(0), targets=[0, 1, 2], **ASKED)
    alike = [ssim(*pair) for pair in zip(truth.scores, heat_map.scores, strict=True)]
    assert min(alike) > 0.8 and heat_map.estimated_ssim < min(alike) + 0.1


def test_equal_seeds_give_equal_maps(session) -> None:
    first, second, other = (session.explain(scene(1), mode="approximate", seed=seed, **ASKED) for seed in (3, 3, 4))
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-6)
    np.testing.assert_array_equal(first.computed, second.computed)
    assert (first.computed != other.computed).any()


def test_without_a_tuning_it_says_so_and_tries_on_this_image(exact) -> None:
    heat_map = untuned()
    assert "not tuned" in heat_map.note and heat_map.expected_ssim is None
    assert 0 < heat_map.estimated_ssim <= 1
    assert ssim(exact.scores[0], heat_map.scores[0]) > 0.85


def test_a_tiny_map_is_exact(session) -> None:
    heat_map = untuned(stride=8)
    assert heat_map.computed.all() and "computed exactly" in heat_map.note
    truth = session.explain(scene(0), patch=8, stride=8)
    np.testing.assert_allclose(heat_map.scores, truth.scores, atol=1e-5)


def test_a_flat_map_is_flat_and_warned_of() -> None:
    model = deep(probabilities=True)
    for tensor in model.graph.initializer:  # saturate the softmax
        values = np.array(to_array(tensor))
        if values.shape == (5,):  # the bias of the last layer
            values[:] = [200, 0, 0, 0, 0]
            tensor.raw_data = values.astype(np.float32).tobytes()
    session = kx.OcclusionSession(model)
    with pytest.warns(UserWarning, match="without a tuning"), pytest.warns(UserWarning, match="score='logit' or"):
        heat_map = session.explain(scene(0), mode="approximate", **ASKED)
    assert np.ptp(heat_map.scores) < 1e-6
    with pytest.warns(UserWarning, match="hardly changes"):
        session.explain(scene(0), **ASKED)


# -- on the way ----------------------------------------------------------------------------------------------


def test_updates_improve_and_end_with_the_result(session, exact) -> None:
    updates: list[kx.HeatMap] = []
    result = session.explain(scene(0), mode="approximate", on_update=updates.append, **ASKED)
    assert len(updates) > 3
    computed = [update.computed.sum() for update in updates]
    assert computed == sorted(computed)
    assert all(np.isfinite(update.scores).all() for update in updates)
    assert not any(update.complete for update in updates[:-1])
    np.testing.assert_array_equal(updates[-1].scores, result.scores)
    early, late = (ssim(exact.scores[0], update.scores[0]) for update in (updates[1], updates[-1]))
    assert late > early


def test_a_deadline_gives_the_best_map_so_far(session) -> None:
    heat_map = session.explain(scene(0), mode="approximate", time_budget=0, **ASKED)
    assert not heat_map.complete and heat_map.computed.any() and not heat_map.computed.all()
    assert np.isfinite(heat_map.scores).all()
    assert "stopped early by the time budget" in heat_map.note and heat_map.estimated_ssim is None


@pytest.mark.parametrize("mode", ["approximate", "exact", "naive"])
def test_control_c_gives_the_best_map_so_far(session, mode) -> None:
    seen = threading.Event()

    def interrupt(done: int, total: int) -> None:
        if not seen.is_set():
            seen.set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    heat_map = session.explain(scene(0), mode=mode, min_ssim=None, batch_size=8, progress=interrupt, **ASKED)
    assert not heat_map.complete and heat_map.computed.any() and not heat_map.computed.all()
    assert "stopped early by Ctrl-C" in heat_map.note
    assert np.isfinite(heat_map.scores[:, heat_map.computed]).all()


def test_control_c_between_batches_too(session, monkeypatch) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(drill_down.DrillDown, "_measure", interrupt)
    heat_map = session.explain(scene(0), mode="approximate", **ASKED)
    assert not heat_map.complete and "stopped early by Ctrl-C" in heat_map.note


def test_watching_changes_nothing(session) -> None:
    alone = session.explain(scene(2), mode="approximate", min_ssim=0.8, **ASKED)
    watched = session.explain(scene(2), mode="approximate", min_ssim=0.8, on_update=lambda _: None, **ASKED)
    np.testing.assert_array_equal(alone.computed, watched.computed)
    np.testing.assert_allclose(alone.scores, watched.scores, atol=0.02 * np.ptp(alone.scores))


def test_scores_that_are_not_finite_are_refused(session) -> None:
    def score(outputs):
        values = outputs["logits"].copy()
        values[1:] = np.nan  # of positions; the unoccluded image comes alone
        return values

    with pytest.warns(UserWarning, match="without a tuning"), pytest.raises(kx.ImageError, match="not finite"):
        kx.OcclusionSession(MODEL).explain(scene(0), 0, mode="approximate", score=score, **ASKED)


def test_progress_ends_at_the_total(session) -> None:
    calls: list[tuple[int, int]] = []
    session.explain(scene(0), mode="approximate", progress=lambda *call: calls.append(call), **ASKED)
    assert calls[-1] == (841, 841) and [done for done, _ in calls] == sorted(done for done, _ in calls)


# -- settings ------------------------------------------------------------------------------------------------


def test_a_setting_ends_with_the_exact_fidelity() -> None:
    with pytest.raises(ValueError, match="exact one"):
        Setting((Fidelity(1.0),), ())
    with pytest.raises(ValueError, match="one lattice level a fidelity"):
        Setting((EXACT,), ((1.0, 2.0),))


@pytest.mark.parametrize("setting", [*ladders(EXACT), *ladders(Fidelity(1.4, light=True))])
def test_rungs_become_finer(setting) -> None:
    levels = [[np.inf if level is None else level for level in rung] for rung in setting.rungs]
    for earlier, later in pairwise(levels):
        assert all(a >= b for a, b in zip(earlier, later, strict=True)) and earlier != later


def test_a_better_fidelity_corrects_the_cheaper_one() -> None:
    rows, cols = np.mgrid[:41, :41]
    truth = np.sin(rows / 3.0) + np.cos(cols / 4.0) + np.random.default_rng(0).standard_normal((41, 41))
    cheap = truth + 2 + 0.05 * rows  # wrong, but smoothly so
    better = np.full((1, 41, 41), np.nan)
    better[:, ::4, ::4] = truth[::4, ::4]
    np.testing.assert_allclose(assemble([cheap[None], better])[0], truth, atol=0.1)
    np.testing.assert_array_equal(assemble([cheap[None]])[0], cheap)
    with pytest.raises(ValueError, match="no score"):
        assemble([np.full((1, 4, 4), np.nan)])


def test_a_rung_between_two_levels_is_refined_all_over_the_map(session, monkeypatch) -> None:
    setting = Setting((EXACT,), ((1.5,),))
    relation = Relation(-9.0, 0.6, 0.1)
    monkeypatch.setattr(session, "_tuning", replace(session.tuning, setting=setting, relations=(relation,)))
    heat_map = session.explain(scene(0), mode="approximate", **ASKED)
    rows = (heat_map.computed & ~level_cells(heat_map.computed.shape, 2)).sum(axis=1)
    assert rows[1:14:2].sum() > 20 and rows[15::2].sum() > 20


def test_checks_correct_nothing_but_themselves() -> None:
    grid = make_grid((64, 64), 8, 2)
    checks = check_cells(grid.shape, 0)

    def score(batch):
        number, cells = batch
        return np.where(np.isin(cells, checks) & (number == 1), 7.0, 0.0)[:, None]

    climbing = DrillDown(
        grid, (0,), np.zeros(1, np.float32), Setting((Fidelity(1.0), EXACT), ((1.0, None),)),
        Goal(0.9, (Relation(-9.0, 0.6, 0.1),), 0.0, None), Work(lambda _, cells: [cells], score, 1), Stop(),
    )  # fmt: skip
    heat_map = climbing.run()
    expected = np.zeros(grid.positions)
    expected[checks] = 7.0
    np.testing.assert_array_equal(heat_map.scores.ravel(), expected)


def test_check_cells_are_spread_and_on_the_finest_lattice_only() -> None:
    cells = check_cells((53, 53), 0)
    rows, cols = divmod(cells, 53)
    assert ((rows + cols) % 2 == 1).all() and len(set(cells.tolist())) == len(cells) == 56
    assert np.histogram(rows, 4)[0].min() > 8
    assert check_cells((53, 53), 1).tolist() != cells.tolist()

"""The frozen twin: equal to its definition, kept apart from exact maps, and chosen only where it pays."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from approximate_models import SIZE as SCENE
from approximate_models import scene
from frozen_models import MODELS, frozen_scores, residual_blocks, without_join
from rewritten_models import Rewritten
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.rewriter import Plan, plan_of, rewrite_model
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.runtime import policy
from krypton_onnx.runtime.approximate import _fitting
from krypton_onnx.runtime.explain import Stop
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.frozen_twin import frozen_twin
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.quality import ssim
from krypton_onnx.runtime.question import materialize
from krypton_onnx.runtime.scores import Scored, choose_targets
from krypton_onnx.runtime.setting import ladders

FROZEN = Fidelity(frozen=True)
ORIGINS = np.array([(0, 0), (3, 5), (12, 9), (17, 20), (25, 27)])
SIZE = (8, 7)


def an_image(model: onnx.ModelProto, seed: int = 0) -> np.ndarray:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = np.sin(rng.uniform(0.1, 0.5, (3, 1, 1)) * y + rng.uniform(0.1, 0.5, (3, 1, 1)) * x)
    return (waves + 0.4 * rng.standard_normal(shape))[None].astype(np.float32)


def a_patch() -> np.ndarray:
    return (3 * np.random.default_rng(1).standard_normal((3, *SIZE))).astype(np.float32)


def frozen_tensors(name: str, model: onnx.ModelProto, plan: Plan) -> dict[str, Geometry]:
    """Where each frozen tensor's region lies."""
    outputs = {node.name: node.output[0] for node in model.graph.node}
    tensors = {
        outputs[row.name]: plan.geometries[row.geometry]
        for row in plan.operators
        if row.kind == "frozen" and row.geometry is not None
    }
    if name == "reshaped_norm":  # frozen where the second convolution reads it, in the region of the first
        first = next(row for row in plan.operators if row.op_type == "Conv")
        tensors["back"] = plan.geometries[first.geometry]
    return tensors


# -- what it computes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_it_equals_its_definition(name) -> None:
    model = MODELS[name]()
    image, patch = an_image(model), a_patch()
    twin = frozen_twin(rewrite_model(model))
    onnx.checker.check_model(twin, full_check=True)
    plan = plan_of(twin)
    tensors = frozen_tensors(name, model, plan)
    assert tensors
    expected = frozen_scores(model, image, ORIGINS, patch, tensors)
    exact = frozen_scores(model, image, ORIGINS, patch, {})
    assert np.abs(expected - exact).max() > 1e-3  # or this would prove nothing
    for kernels in (False, True):
        session = Rewritten(twin, kernels)
        one_by_one = [session.outputs(image, origin[None], patch)[0] for origin in ORIGINS]
        assert_scores_equal(np.concatenate(one_by_one), expected, probabilities=False)


@pytest.mark.parametrize("name", MODELS)
def test_all_convolutions_are_incremental_again(name) -> None:
    model = MODELS[name]()
    exact, frozen = (plan_of(rewrite_model(model, frozen=frozen)) for frozen in (False, True))

    def whole(plan: Plan) -> int:  # less those of one cell, in a gate
        return sum(row.multiply_adds for row in plan.operators if row.geometry is None and row.elements > 100)

    assert exact.freezable and whole(exact) > 0
    assert whole(frozen) == 0 and not frozen.freezable
    assert {row.name for row in exact.operators} == {row.name for row in frozen.operators}


def test_squeeze_excite_stays_near_the_exact_scores() -> None:
    model = MODELS["squeeze_excite"]()
    image, patch = an_image(model), a_patch()
    exact = frozen_scores(model, image, ORIGINS, patch, {})
    got = Rewritten(frozen_twin(rewrite_model(model))).outputs(image, ORIGINS, patch)[0]
    base = frozen_scores(model, image, [(0, 0)], image[0, :, : SIZE[0], : SIZE[1]], {})
    assert np.abs(got - exact).max() < 0.5 * np.abs(exact - base).max()


def test_batches_matter_less_than_freezing_does() -> None:
    model = MODELS["squeeze_excite"]()
    image, patch = an_image(model), a_patch()
    session = Rewritten(frozen_twin(rewrite_model(model)))
    apart = np.concatenate([session.outputs(image, origin[None], patch)[0] for origin in ORIGINS])
    together = session.outputs(image, ORIGINS, patch)[0]
    exact = frozen_scores(model, image, ORIGINS, patch, {})
    assert 0 < np.abs(together - apart).max() < 0.5 * np.abs(apart - exact).max()


def test_nhwc_models_and_logits_make_the_round_trip() -> None:
    model = transposed(MODELS["squeeze_excite"]())
    rewritten = rewrite_model(model)
    twin = frozen_twin(rewritten)
    plan, first = plan_of(twin), plan_of(rewritten)
    assert plan.layout == first.layout == "NHWC" and plan.outputs == first.outputs == ("probabilities",)
    assert plan.image_shape == first.image_shape and set(plan.logits) == set(first.logits) == {"probabilities"}
    plain = MODELS["squeeze_excite"]()
    image, patch = an_image(plain), a_patch()
    expected = Rewritten(frozen_twin(rewrite_model(plain))).outputs(image, ORIGINS, patch)[0]
    got = Rewritten(twin).outputs(np.ascontiguousarray(image.transpose(0, 2, 3, 1)), ORIGINS, patch)[0]
    softmax = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    assert_scores_equal(got, softmax, probabilities=True)


def transposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with channels last, and a softmax."""
    graph, value = model.graph, model.graph.input[0]
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    for node in graph.node:
        node.input[:] = ["first" if name == value.name else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Transpose", [value.name], ["first"], "first", perm=[0, 3, 1, 2]))
    graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], "last", axis=1))
    graph.output[0].name = "probabilities"
    shape = ["batch", dims[2], dims[3], dims[1]]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    return model


# -- in a session --------------------------------------------------------------------------------------------


def asked(session: kx.OcclusionSession, model: onnx.ModelProto, **changes):
    return session.question(an_image(model), Occlusion(**{"patch": 8, "stride": 2} | changes))


def scores(ready, fidelity: Fidelity) -> np.ndarray:
    return ready.runs(fidelity)(ORIGINS[:, 0], ORIGINS[:, 1], np.zeros((1, 3, 8, 8), np.float32))


def test_exact_scores_stay_bit_for_bit_the_same() -> None:
    model = MODELS["squeeze_excite"]()
    before = scores(materialize(asked(kx.OcclusionSession(model), model)), EXACT)
    session = kx.OcclusionSession(model)
    ready = materialize(asked(session, model))
    frozen = scores(ready, FROZEN)
    np.testing.assert_array_equal(scores(ready, EXACT), before)
    assert np.abs(frozen - before).max() > 1e-4


def test_a_rewritten_file_is_enough(tmp_path) -> None:
    model = MODELS["squeeze_excite"]()
    kx.convert(model, tmp_path / "rewritten.onnx")
    first, second = kx.OcclusionSession(model), kx.OcclusionSession(tmp_path / "rewritten.onnx")
    one, other = (scores(materialize(asked(session, model)), FROZEN) for session in (first, second))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_logits_of_the_twin_are_found() -> None:
    model = transposed(MODELS["squeeze_excite"]())
    session = kx.OcclusionSession(model)
    plain = MODELS["squeeze_excite"]()
    image = np.ascontiguousarray(an_image(plain).transpose(0, 2, 3, 1))
    question = session.question(image, Occlusion(8, 2), Scored("logit"))
    expected = scores(materialize(asked(kx.OcclusionSession(plain), plain)), FROZEN)
    np.testing.assert_allclose(scores(materialize(question), FROZEN), expected, atol=1e-4)


def test_a_memory_budget_holds_for_both_twins() -> None:
    model = MODELS["squeeze_excite"]()
    ready = materialize(replace(asked(kx.OcclusionSession(model), model), memory_budget=4 << 30))
    most, workers = ready.within_memory((FROZEN, EXACT))
    assert most >= 1 and workers >= 1


# -- what is offered -----------------------------------------------------------------------------------------


def costs_of(model: onnx.ModelProto) -> dict[Fidelity, float]:
    session = kx.OcclusionSession(model)
    question = asked(session, model)
    return policy.worthwhile(question.plans, question.grid)


def test_only_a_model_with_something_to_freeze_has_frozen_candidates() -> None:
    plain = costs_of(without_join())
    assert EXACT in plain and not any(fidelity.frozen for fidelity in plain)
    gated = costs_of(residual_blocks("Sigmoid", (96, 100)))
    everywhere = Fidelity(light=True, frozen=True)
    assert everywhere in gated and gated[everywhere] < gated[EXACT]
    assert any(fidelity.frozen and fidelity.reach for fidelity in gated)
    assert not FROZEN.exact and not everywhere.exact and EXACT.exact and Fidelity() == EXACT


@pytest.mark.parametrize("setting", ladders(Fidelity(1.4, light=True, frozen=True)))
def test_rungs_become_finer_up_to_all_cells(setting) -> None:
    rungs = [tuple(np.inf if level is None else level for level in rung) for rung in setting.rungs]
    for (cheap, exact), (next_cheap, next_exact) in pairwise(rungs):
        assert cheap >= next_cheap and exact >= next_exact and (cheap, exact) != (next_cheap, next_exact)
    assert any(cheap == 0 for cheap, _ in rungs) and all(exact > 0 for _, exact in rungs)


ASKED = {"patch": 8, "stride": 2}


@pytest.fixture(scope="module")
def tuned() -> kx.OcclusionSession:
    """Tuned on other images than the ones that are explained."""
    session = kx.OcclusionSession(residual_blocks("Sigmoid", (SCENE, SCENE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "RUNG_COST", 0.0)  # of so small a model, it is more than the whole map
        kx.tune(session, [scene(seed) for seed in range(10, 16)], **ASKED)
    return session


def test_tuning_chooses_to_freeze_and_keeps_its_promise(tuned) -> None:
    assert tuned.tuning.setting.fidelities[0].frozen
    alike = []
    for seed in range(4):
        heat_map = tuned.explain(scene(seed), mode="approximate", **ASKED)
        truth = tuned.explain(scene(seed), targets=list(heat_map.targets), **ASKED)
        alike.append(ssim(truth.scores[0], heat_map.scores[0]))
        assert abs(heat_map.estimated_ssim - alike[-1]) < 0.1
    assert min(alike) > 0.85 and sum(one >= 0.9 for one in alike) >= 3


def test_refined_everywhere_it_is_exact(tuned) -> None:
    heat_map = tuned.explain(scene(0), mode="approximate", min_ssim=1.0, **ASKED)
    truth = tuned.explain(scene(0), mode="naive", targets=list(heat_map.targets), **ASKED)
    assert_scores_equal(heat_map.scores, truth.scores, probabilities=False)


def test_without_a_tuning_freezing_is_tried_on_the_image_at_hand() -> None:
    session = kx.OcclusionSession(residual_blocks("Sigmoid", (SCENE, SCENE)))
    question = session.question(scene(0), Occlusion(**ASKED))
    ready = materialize(question)
    assert _fitting(ready, choose_targets(None, ready.baseline), Stop()).frozen
    with pytest.warns(UserWarning, match="without a tuning"):
        heat_map = session.explain(scene(0), mode="approximate", **ASKED)
    truth = session.explain(scene(0), targets=list(heat_map.targets), **ASKED)
    assert ssim(truth.scores[0], heat_map.scores[0]) > 0.85


def test_a_frozen_tuning_survives_json_and_an_older_one_is_read(tuned) -> None:
    tuning = tuned.tuning
    again = kx.Tuning.from_json(tuning.to_json())
    assert again == tuning and again.setting.fidelities[0].frozen
    question = tuned.question(scene(0), Occlusion(**ASKED))
    for fidelity, row in zip(tuning.setting.fidelities, tuning.thresholds, strict=True):
        assert len(row) == (1 if fidelity.reach is None else len(question.plan(fidelity.frozen).geometries))
    older = tuning.to_json().replace(', "frozen": true', "").replace(', "frozen": false', "")
    assert "frozen" not in older
    assert not any(fidelity.frozen for fidelity in kx.Tuning.from_json(older).setting.fidelities)

"""kx.tune: reproducible, stored with the model, and refused for what it was not made for."""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from approximate_models import deep, scene

import krypton_onnx as kx
from krypton_onnx.runtime import policy
from krypton_onnx.runtime.tuning import METADATA_KEY, describe_fill

ASKED = {"patch": 8, "stride": 2}
IMAGES = [scene(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def tuned() -> tuple[kx.OcclusionSession, kx.Tuning]:
    session = kx.OcclusionSession(deep())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "RUNG_COST", 0.0)  # of so small a model, it is more than the whole map
        tuning = kx.tune(session, IMAGES, names=["a", "b", "c", "d"], **ASKED)
    return session, tuning


def timeless(tuning: kx.Tuning) -> kx.Tuning:
    return replace(tuning, evidence=replace(tuning.evidence, exact_seconds=0.0))


def test_it_is_attached_and_says_what_it_rests_on(tuned) -> None:
    session, tuning = tuned
    assert session.tuning is tuning
    assert tuning.min_ssim == 0.9 and tuning.evidence.images == ("a", "b", "c", "d")
    assert tuning.lowest_ssim >= 0.87 and tuning.expected_ssim >= 0.9
    assert tuning.evidence.speedup >= 1 and tuning.evidence.exact_seconds > 0
    assert tuning.specification.patch == (8, 8) and tuning.specification.frame == (64, 64)
    assert len(tuning.relations) == len(tuning.setting.rungs)
    assert len(tuning.thresholds) == len(tuning.setting.fidelities) and tuning.thresholds[-1] == (1.0,)


def test_equal_seeds_give_equal_tunings(tuned) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "RUNG_COST", 0.0)
        again = kx.tune(kx.OcclusionSession(deep()), IMAGES, names=["a", "b", "c", "d"], **ASKED)
    first, second = timeless(tuned[1]), timeless(again)
    assert (first.setting, first.margin, first.thresholds) == (second.setting, second.margin, second.thresholds)
    np.testing.assert_allclose(first.evidence.similarities, second.evidence.similarities, atol=1e-4)


def test_it_survives_json_and_a_file(tuned, tmp_path) -> None:
    _, tuning = tuned
    assert kx.Tuning.from_json(tuning.to_json()) == tuning
    onnx.save(deep(), tmp_path / "model.onnx")
    kx.convert(tmp_path / "model.onnx", tmp_path / "tuned.onnx", tuning=tuning)
    session = kx.OcclusionSession(tmp_path / "tuned.onnx")
    assert session.tuning == tuning
    heat_map = session.explain(scene(7), mode="approximate", **ASKED)
    assert heat_map.expected_ssim == tuning.expected_ssim
    # Tuned again, a rewritten model takes the new one in the place of the old.
    other = replace(tuning, margin=tuning.margin + 1)
    kx.convert(tmp_path / "tuned.onnx", tmp_path / "again.onnx", tuning=other)
    assert kx.OcclusionSession(tmp_path / "again.onnx").tuning == other
    stored = [entry.key for entry in onnx.load(tmp_path / "again.onnx").metadata_props]
    assert stored.count(METADATA_KEY) == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch": 6}, "holds for patch 8 x 8, not 6 x 6"),
        ({"stride": (2, 3)}, "holds for stride 2 x 2, not 2 x 3"),
        ({"fill": 0.5}, "holds for fill 0, not 0.5"),
        ({"fill": lambda *_: np.zeros((3, 8, 8), np.float32)}, "holds for fill 0, not "),
        ({"score": "margin"}, "holds for score output, not margin"),
    ],
)
def test_for_anything_else_it_is_refused(tuned, changes, message) -> None:
    with pytest.raises(kx.ImageError, match=message):
        tuned[0].explain(scene(0), mode="approximate", **(ASKED | changes))


def test_for_another_model_it_is_refused(tuned, tmp_path) -> None:
    other = deep()
    weights = next(tensor for tensor in other.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weights) * np.float32(1.01)
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    session = kx.OcclusionSession(other)
    session.tuning = tuned[1]
    with pytest.raises(kx.ModelError, match="another model"):
        session.explain(scene(0), mode="approximate", **ASKED)
    with pytest.raises(kx.ModelError, match="another model"):
        kx.convert(other, tmp_path / "x.onnx", tuning=tuned[1])
    assert not list(tmp_path.iterdir())


def test_a_broken_tuning_stops_only_what_needs_it(tuned, tmp_path) -> None:
    model = deep()
    model.metadata_props.add(key=METADATA_KEY, value='{"format": 1}')
    session = kx.OcclusionSession(model)
    session.explain(scene(0), **(ASKED | {"stride": 14}))
    with pytest.raises(kx.ModelError, match="cannot be read"):
        session.explain(scene(0), mode="approximate", **ASKED)


@pytest.mark.parametrize(
    "images, changes, message",
    [
        ([], {}, "at least one image"),
        ([scene(0)], {"min_ssim": 0}, "min_ssim must be a number above 0"),
        ([scene(0)], {"min_ssim": "high"}, "min_ssim must be a number above 0"),
        ([scene(0)], {"stride": 8}, "has nothing to tune"),
        ([scene(0)], {"patch": 0}, "patch must be at least 1"),
        ([scene(0)], {"seed": -1}, "seed must be an integer of at least 0"),
        ([scene(0)], {"min_ssim": True}, "min_ssim must be a number above 0"),
        ([scene(0)], {"names": ["a", "b"]}, "2 names for 1 images"),
        ({"image": scene(0)}, {}, "give a list of arrays"),
        (None, {}, "give a list of arrays"),
    ],
)
def test_what_cannot_be_tuned(images, changes, message) -> None:
    with pytest.raises(kx.ImageError, match=message):
        kx.tune(kx.OcclusionSession(deep()), images, **(ASKED | changes))


def test_noise_teaches_nothing() -> None:
    model = deep()
    for tensor in model.graph.initializer:
        if sorted(tensor.dims) == [5, 32]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    with (
        pytest.warns(UserWarning, match="image 0: its map is rounding noise"),
        pytest.raises(kx.ImageError, match="all images"),
    ):
        kx.tune(kx.OcclusionSession(model), [scene(0)], **ASKED)


def test_where_nothing_pays_maps_are_exact() -> None:
    session = kx.OcclusionSession(deep())
    tuning = kx.tune(session, IMAGES[:2], **ASKED)
    assert not tuning.setting.rungs and tuning.evidence.speedup == 1.0
    heat_map = session.explain(scene(9), mode="approximate", **ASKED)
    assert heat_map.computed.all() and heat_map.note == ""


def test_progress_counts_maps() -> None:
    calls: list[tuple[int, int]] = []
    kx.tune(kx.OcclusionSession(deep()), IMAGES[:2], progress=lambda *call: calls.append(call), **ASKED)
    assert calls[-1][0] == calls[-1][1] and [done for done, _ in calls] == list(range(1, len(calls) + 1))


def test_another_size_is_told_apart_from_another_model() -> None:
    model = deep()
    for value, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        value.Clear()
        value.dim_param = name
    session = kx.OcclusionSession(model)
    kx.tune(session, IMAGES[:2], **ASKED)
    with pytest.raises(kx.ImageError, match="holds for frame 64 x 64, not 64 x 60"):
        session.explain(scene(0)[..., :60], mode="approximate", **ASKED)
    with pytest.raises(kx.ImageError, match="images of different sizes"):
        kx.tune(session, [scene(0), scene(1)[..., :60]], **ASKED)


def test_what_is_no_tuning_is_not_taken() -> None:
    session = kx.OcclusionSession(deep())
    with pytest.raises(kx.ImageError, match="what tune returns"):
        session.tuning = "fast"
    session.tuning = None
    with pytest.raises(kx.ImageError, match="seed"):
        session.explain(scene(0), mode="approximate", seed=1.5, **ASKED)


def test_fills_are_told_apart() -> None:
    assert describe_fill([0, 0, 0]) == 0.0  # as the number
    assert describe_fill(partial(np.full, 1)) != describe_fill(partial(np.full, 2))
    patch = np.zeros((3, 8, 8), np.float32)
    assert describe_fill(0) == 0.0 and describe_fill([1, 2, 3]) == (1.0, 2.0, 3.0)
    assert describe_fill(patch) != describe_fill(patch + 1)
    assert "kernel" not in str(describe_fill(patch))

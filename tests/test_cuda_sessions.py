"""Sessions of a device, with the CPU as the device: what ONNX Runtime runs, what our kernels get, and what comes out.

Real models run with the CPU's kernels behind the device's calls, a tiny one with the CUDA kernels in Numba's simulator.
"""

from dataclasses import replace

import families
import numpy as np
import onnx
import pytest
from simulated_device import on_host, simulated_target
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.runtime import custom_ops, session
from krypton_onnx.runtime.costs import GPU, HOST, costs_of
from krypton_onnx.runtime.cuda import forms, sessions
from krypton_onnx.runtime.cuda.forms import FORMS, Form, Shape, asked_form, faster_forms
from krypton_onnx.runtime.cuda.target import Target
from krypton_onnx.runtime.engine import Engine
from krypton_onnx.runtime.fidelity import Fidelity
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.question import materialize

pytestmark = pytest.mark.skipif(custom_ops.shim_path() is None, reason="needs the native library")


@pytest.fixture
def simulator() -> Target:
    from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS

    return simulated_target(CUDA_KERNELS)


@pytest.fixture
def target(simulator: Target) -> Target:
    return on_host(simulator, CPU_KERNELS)


def device_session(
    monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto, target: Target, form: str = "fused"
) -> kx.OcclusionSession:
    monkeypatch.setenv(forms.VARIABLE, form)
    monkeypatch.setattr(session, "cuda_target", lambda chosen: target)
    made = kx.OcclusionSession(model)
    monkeypatch.undo()
    monkeypatch.setenv(forms.VARIABLE, form)
    return made


def incrementally(made: kx.OcclusionSession, image: np.ndarray, **asked: object) -> kx.HeatMap:
    """An exact map that is sure to be computed incrementally: its positions are too few to measure anything."""
    heat_map = made.explain(image, **asked)
    assert heat_map.note == "" and device_parts(made).forms
    return heat_map


def device_parts(made: kx.OcclusionSession) -> sessions.DeviceSessions:
    (engine,) = made._engines.values()
    assert isinstance(engine, Engine) and isinstance(engine._sessions, sessions.DeviceSessions)
    return engine._sessions


@pytest.mark.parametrize("form", FORMS)
def test_the_cuda_kernels_give_the_map_of_full_inference(monkeypatch, simulator: Target, form: str) -> None:
    image = image_of(3, 8, 8)
    made = device_session(monkeypatch, tiny(3, 8, 8), simulator, form)
    heat_map = incrementally(made, image, targets=range(4), patch=4, stride=4)
    naive = kx.OcclusionSession(tiny(3, 8, 8)).explain(image, targets=range(4), patch=4, stride=4, mode="naive")
    assert_scores_equal(heat_map.scores, naive.scores, probabilities=False)
    assert simulator.device.queued > 0 and set(device_parts(made).forms.values()) == {form}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_every_family_in_both_forms(monkeypatch, target: Target, name: str, form: str) -> None:
    model = families.FAMILIES[name]()
    image = families.example_image(model)
    made = device_session(monkeypatch, model, target, form)
    first = model.graph.output[0].name
    asked = {"patch": 9, "stride": 24, "output": first}
    heat_map = incrementally(made, image, **asked)
    naive = kx.OcclusionSession(model).explain(image, mode="naive", targets=heat_map.targets, **asked)
    assert_scores_equal(heat_map.scores, naive.scores, probabilities=name in families.PROBABILITIES)


def test_nothing_but_origins_and_patches_goes_to_the_device_and_scores_come_back(monkeypatch, target: Target) -> None:
    """Whatever an operator reads in device memory is a view, an upload made once, or made there; whatever decides a
    shape is in host memory before anything runs."""
    made = device_session(monkeypatch, families.FAMILIES["resnet18_legacy"](), target, "fused")
    image = families.example_image(families.FAMILIES["resnet18_legacy"]())
    incrementally(made, image, patch=9, stride=24)
    uploads = target.device.uploads
    assert target.device.waited == 1  # for the weights
    incrementally(made, image, patch=9, stride=24)
    assert target.device.uploads == uploads  # weights, when the session was made
    _, placed = device_parts(made)._incremental
    stays = set(placed.operators)
    assert "PlaceRegions" not in stays and "Gather" not in stays
    assert all("extent" in name or "shape" in name for name in placed.handed)
    assert all("extent" not in name for name in placed.uploaded)


def test_window_alone_is_ours_in_the_window_form(monkeypatch, target: Target) -> None:
    made = device_session(monkeypatch, families.FAMILIES["vgg"](), target, "window")
    incrementally(made, families.example_image(families.FAMILIES["vgg"]()), patch=9, stride=24)
    stays = device_parts(made)._incremental[1].operators
    assert "Conv" in stays and "Window" in stays
    assert not any(name.startswith("IncrementalConv") for name in stays)


def test_measured_forms_are_used_and_measured_once(monkeypatch, target: Target) -> None:
    """Of two nodes of one shape one is measured; another session of the same device measures nothing."""
    asked: list[Shape] = []

    def seconds(self, node: onnx.NodeProto, shape: Shape) -> dict[Form, float]:
        asked.append(shape)
        return {"window": 1.0, "fused": 2.0} if shape.weights[2:] == (3, 3) else {"window": 2.0, "fused": 1.0}

    monkeypatch.setattr("krypton_onnx.runtime.cuda.trials.Trials.seconds", seconds)
    model = families.FAMILIES["resnet18_legacy"]()
    image = families.example_image(model)
    for _ in range(2):
        monkeypatch.setattr("krypton_onnx.runtime.cuda.trials.Trials.seconds", seconds)
        made = device_session_keeping(monkeypatch, model, target)
        incrementally(made, image, patch=9, stride=24)
        chosen = device_parts(made).forms
        assert set(chosen.values()) == {"window", "fused"}
    assert len(asked) == len(set(asked)) > 1


def device_session_keeping(
    monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto, target: Target
) -> kx.OcclusionSession:
    """As device_session, its form as measured, other patches left in place."""
    with monkeypatch.context() as only:
        only.setattr(session, "cuda_target", lambda chosen: target)
        return kx.OcclusionSession(model)


def test_a_measurement_runs_both_forms_of_every_shape(monkeypatch, target: Target) -> None:
    model = families.FAMILIES["mobilenet_v2"]()
    made = device_session_keeping(monkeypatch, model, target)
    heat_map = incrementally(made, families.example_image(model), patch=9, stride=24)
    naive = kx.OcclusionSession(model).explain(
        families.example_image(model), mode="naive", targets=heat_map.targets, patch=9, stride=24
    )
    assert_scores_equal(heat_map.scores, naive.scores, probabilities=False)
    known = sessions._known[id(target.device), False]
    assert known and set(known.values()) <= set(FORMS)


def test_the_faster_form_is_chosen() -> None:
    shape = Shape("IncrementalConv", (8, 8, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, (6, 6), 64)
    other = Shape("IncrementalConv", (8, 8, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, (6, 6), 64)
    node = onnx.NodeProto()
    known: dict[Shape, Form] = {other: "window"}

    def measure(node: onnx.NodeProto, shape: Shape) -> dict[Form, float]:
        assert shape is not other, "it is known"
        return {"window": 2.0, "fused": 1.0}

    chosen = faster_forms({"a": (node, shape), "b": (node, other), "c": (node, shape)}, measure, known)
    assert chosen == {"a": "fused", "b": "window", "c": "fused"}
    assert known == {other: "window", shape: "fused"}


def test_the_form_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(forms.VARIABLE, raising=False)
    assert asked_form() is None
    monkeypatch.setenv(forms.VARIABLE, "window")
    assert asked_form() == "window"
    monkeypatch.setenv(forms.VARIABLE, "winograd")
    with pytest.raises(kx.ModelError, match="KRYPTON_CUDA_CONV must be auto, window or fused, got 'winograd'"):
        asked_form()


def test_incremental_and_full_inference_are_measured_against_each_other(monkeypatch, target: Target) -> None:
    """What pays on a device is not foretold."""
    model = families.FAMILIES["vgg"]()
    image = families.example_image(model)
    made = device_session(monkeypatch, model, target)
    heat_map = made.explain(image, patch=4, stride=2)
    (engine,) = made._engines.values()
    assert len(engine.verdicts) == 1
    naive = kx.OcclusionSession(model).explain(image, mode="naive", targets=heat_map.targets, patch=4, stride=2)
    assert_scores_equal(heat_map.scores, naive.scores, probabilities=False)


def test_batches_fit_the_free_memory(target: Target) -> None:
    assert costs_of(None) is HOST
    assert costs_of(target).batch_bytes == GPU.batch_bytes
    assert costs_of(replace(target, free=lambda: 16 << 20)).batch_bytes == 1 << 20


def test_propagation_thresholds_do_the_same_as_on_the_cpu(monkeypatch, target: Target) -> None:
    model = families.FAMILIES["vgg"]()
    image = families.example_image(model)
    maps = []
    for made in (device_session(monkeypatch, model, target), kx.OcclusionSession(model)):
        ready = materialize(made.question(image, Occlusion(patch=9, stride=24)))
        run = ready.runs(Fidelity(0.4))
        tops, lefts = np.array([0, 8, 16]), np.array([4, 4, 20])
        maps.append(run(tops, lefts, np.zeros((1, 3, 9, 9), np.float32)))
    assert_scores_equal(maps[0], maps[1], probabilities=True)


def test_a_first_batch_that_fails_may_be_tried_again(monkeypatch, target: Target) -> None:
    model = families.FAMILIES["vgg"]()
    image = families.example_image(model)
    made = device_session(monkeypatch, model, target)
    choose = sessions.DeviceSessions._choose_forms

    def interrupted(self, *given: object) -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr(sessions.DeviceSessions, "_choose_forms", interrupted)
    with pytest.raises(kx.ModelError, match="more memory than there is"):
        made.explain(image, patch=9, stride=24)
    monkeypatch.setattr(sessions.DeviceSessions, "_choose_forms", choose)
    incrementally(made, image, patch=9, stride=24)

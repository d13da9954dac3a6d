"""OcclusionSession stands where onnxruntime.InferenceSession stood: what code asks of that one, this one answers."""

import inspect
import threading

import numpy as np
import onnxruntime as ort
import pytest
from tiny_models import image_of, tiny

import krypton_onnx as kx

ASKED = ("get_inputs", "get_outputs", "get_overridable_initializers")


@pytest.fixture(params=["original", "rewritten"])
def pair(request, tmp_path):
    """An InferenceSession of the original model, and what stands in its place."""
    original = tiny().SerializeToString()
    given = original
    if request.param == "rewritten":
        kx.convert(tiny(), tmp_path / "rewritten.onnx")
        given = tmp_path / "rewritten.onnx"
    return ort.InferenceSession(original), kx.OcclusionSession(given)


def described(values) -> list[tuple]:
    return [(value.name, value.type, len(value.shape), value.shape[1:]) for value in values]


def test_inputs_outputs_and_providers(pair):
    session, ours = pair
    for name in ASKED:
        assert described(getattr(ours, name)()) == described(getattr(session, name)()), name
    assert ours.get_providers() == session.get_providers()
    assert set(ours.get_provider_options()) == set(session.get_provider_options())
    assert isinstance(ours.get_session_options(), ort.SessionOptions)
    assert isinstance(ours.get_modelmeta(), ort.ModelMetadata)


def test_every_way_to_run(pair):
    session, ours = pair
    image = image_of(2, 3, 20, 24)
    [expected] = session.run(None, {"image": image})
    ways = [
        ours.run(None, {"image": image})[0],
        ours.run(["logits"], {"image": image}, ort.RunOptions())[0],
        ours.run(output_names=["logits"], input_feed={"image": image})[0],
    ]
    binding = ours.io_binding()
    binding.bind_cpu_input("image", image)
    binding.bind_output("logits")
    ours.run_with_iobinding(binding)
    ways += binding.copy_outputs_to_cpu()
    done = threading.Event()
    ours.run_async(["logits"], {"image": image}, lambda outputs, data, error: (ways.extend(outputs), done.set()), None)
    assert done.wait(20) and len(ways) == 5
    for found in ways:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="the inputs once"):
        ours.run(None)


def test_nothing_that_inference_code_asks_for_is_missing():
    """Beside what belongs to training, tuning and devices of ONNX Runtime's own."""
    left_out = {
        "create_ortvalue_from_shape_and_type", "disable_fallback", "enable_fallback", "get_input_epdevices",
        "get_input_memory_infos", "get_output_memory_infos", "get_provider_graph_assignment_info",
        "get_tuning_results", "release_captured_graph", "run_with_ort_values", "run_with_ortvaluevector",
        "set_ep_dynamic_options", "set_providers", "set_tuning_results",
    }  # fmt: skip
    public = {name for name, _ in inspect.getmembers(ort.InferenceSession, callable) if not name.startswith("_")}
    assert {name for name in public if not hasattr(kx.OcclusionSession, name)} <= left_out

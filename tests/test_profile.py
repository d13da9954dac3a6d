"""Which kernels really run: ONNX Runtime's own profile of the incremental session, and of a session of the user's."""

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from families import FAMILIES, example_image, is_nhwc
from naive import naive_scores
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.runtime.custom_ops import library, registration, shim_path
from krypton_onnx.runtime.engine import Engine, SessionSettings

ORIGINS = np.array([(0, 0), (7, 9), (13, 20), (3, 21)])
PATCH = np.full((3, 6, 5), 0.2, np.float32)
OURS = {kernel.op_type for kernel in CPU_KERNELS}
needs_shim = pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")


def executed(profile: str | Path) -> Counter:
    """How often ONNX Runtime ran a node of each operator."""
    events = json.loads(Path(profile).read_text())
    return Counter(event["args"]["op_name"] for event in events if event.get("cat") == "Node")


def profiled(model: onnx.ModelProto, folder: Path, kernels: bool) -> tuple[Counter, np.ndarray]:
    """What one run of the incremental session executes, and the scores of ORIGINS."""
    settings = SessionSettings(kernels=kernels, profile_prefix=str(folder / "profile"))
    engine = Engine(lambda: rewrite_model(model), settings)
    views = engine.materialize(example_image(model), {})
    tops, lefts = ORIGINS.T.copy()
    threshold = np.ones(1, np.float32)
    scores = engine.run(views, tops, lefts, PATCH[None], engine.plan.outputs[:1], threshold)[0]
    assert engine.kernels == kernels
    return executed(engine.end_profiling()), scores


@needs_shim
@pytest.mark.parametrize(
    "name, expected",
    [
        ("vgg", {"PlaceRegions": 1, "IncrementalConv": 7, "IncrementalMaxPool": 3, "Window": 1}),
        (
            "squeezenet",
            {"IncrementalConv": 5, "PointwiseConv": 9, "IncrementalGlobalAveragePool": 1},
        ),
        (
            "resnet18_legacy",
            {"IncrementalConv": 9, "IncrementalMaxPool": 1, "IncrementalGlobalAveragePool": 1},
        ),
        ("inception", {"IncrementalConv": 9, "PointwiseConv": 10, "IncrementalAveragePool": 3}),
        ("mobilenet_v2", {"IncrementalConv": 6, "PointwiseConv": 10}),
        ("vgg_nhwc", {"IncrementalConv": 5, "IncrementalMaxPool": 3}),
    ],
)
def test_our_kernels_run_in_the_incremental_session(
    name: str, expected: dict[str, int], tmp_path: Path
) -> None:
    """At least so many of each; the name of a kernel may go on with what is fused into it."""
    model = FAMILIES[name]()
    ran, scores = profiled(model, tmp_path, kernels=True)

    def times(op_type: str) -> int:
        return sum(count for name, count in ran.items() if name.startswith(op_type) and name in OURS)

    for op_type, least in expected.items():
        assert times(op_type) >= least, ran
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert times("IncrementalConv") + times("PointwiseConv") == convolutions
    for op_type in ("Conv", "FusedConv", "MaxPool", "AveragePool", "GlobalAveragePool"):
        assert not ran[op_type], f"{op_type} ran in full, or by its function body: {ran}"
    oracle, _ = naive_scores(model, example_image(model), ORIGINS, PATCH)
    assert_scores_equal(scores, oracle, probabilities=False)


@pytest.mark.parametrize("name", ["vgg", "squeezenet", "inception"])
def test_without_kernels_the_function_bodies_run(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name]()
    ran, scores = profiled(model, tmp_path, kernels=False)
    assert not OURS.intersection(ran) and ran["Conv"] + ran["FusedConv"] > 0
    oracle, _ = naive_scores(model, example_image(model), ORIGINS, PATCH)
    assert_scores_equal(scores, oracle, probabilities=False)


# -- kernels in a session of the user's ----------------------------------------------------------------------


def users_session(
    model: onnx.ModelProto, folder: Path, register: int, threads: int = 1
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / f"registered-{register}")
    assert all([kx.register(options) for _ in range(register)])
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@needs_shim
@pytest.mark.parametrize("name", ["resnet18_legacy", "inception", "vgg_nhwc", "two_outputs"])
def test_register_runs_the_kernels_in_a_session_of_the_users(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name]()
    image = example_image(model)
    feeds = {
        model.graph.input[0].name: image,
        "occlusion_origin": ORIGINS,
        "occlusion_patch": PATCH[None],
        "propagation_threshold": np.ones(1, np.float32),
    }
    rewritten = rewrite_model(model)
    results = []
    for register in (0, 1, 2):  # the second time is harmless
        session = users_session(rewritten, tmp_path, register)
        results.append(session.run(None, feeds))
        ran = executed(session.end_profiling())
        assert bool(OURS.intersection(ran)) == (register > 0)
    for bodies, once, twice in zip(*results, strict=True):
        assert_scores_equal(once, bodies, probabilities=False)
        np.testing.assert_array_equal(once, twice)
    oracle, _ = naive_scores(model, image, ORIGINS, PATCH)
    assert_scores_equal(results[1][0], oracle, probabilities=False)
    assert is_nhwc(model) == (name == "vgg_nhwc")


@needs_shim
def test_register_serves_several_sessions_and_threads(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 3
    assert kx.register(options, ["CPUExecutionProvider"])
    image = image_of(1, 3, 20, 24)
    for model in (tiny(), tiny(layout="NHWC")):
        native = image if model.graph.node[0].op_type != "Transpose" else image.transpose(0, 2, 3, 1).copy()
        session = ort.InferenceSession(rewrite_model(model).SerializeToString(), options)
        feeds = {
            "image": native,
            "occlusion_origin": ORIGINS % 14,
            "occlusion_patch": PATCH[None],
            "propagation_threshold": np.ones(1, np.float32),
        }
        oracle, _ = naive_scores(model, native, ORIGINS % 14, PATCH)
        assert_scores_equal(session.run(["logits"], feeds)[0], oracle, probabilities=False)


def test_register_refuses_providers_without_kernels() -> None:
    with pytest.raises(kx.ModelError, match="no kernels for provider 'TensorrtExecutionProvider'"):
        kx.register(ort.SessionOptions(), ("CPUExecutionProvider", "TensorrtExecutionProvider"))


# -- where there was no C compiler ---------------------------------------------------------------------------


def test_without_the_native_library_everything_works_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "shim_path", lambda: None)
    monkeypatch.setattr(registration, "_warned", False)
    model = FAMILIES["inception"]()
    image = example_image(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        heat_maps = [
            kx.OcclusionSession(model).explain(image, range(5), patch=9, stride=13) for _ in range(2)
        ]
        assert kx.register(ort.SessionOptions()) is False
    said = [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]
    assert len(said) == 1 and "without a C compiler" in said[0] and "\n" not in said[0]
    origins = [(top, left) for top in heat_maps[0].tops for left in heat_maps[0].lefts]
    oracle, baseline = naive_scores(model, image, origins, np.zeros((3, 9, 9), np.float32))
    for heat_map in heat_maps:
        assert_scores_equal(heat_map.scores, oracle.T.reshape(heat_map.scores.shape), probabilities=True)
        assert_scores_equal(heat_map.baseline, baseline, probabilities=True)

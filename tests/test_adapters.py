"""The adapters give what Captum and MONAI give: by brute force always, by these libraries where they are installed."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import session_of
from peer_definitions import captum_occlusion, monai_occlusion, sigmoid, softmax
from tiny_models import image_of, sigmoid_of_one, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.adapters.captum import Occlusion
from krypton_onnx.adapters.monai import OcclusionSensitivity
from krypton_onnx.errors import NotRewritable
from krypton_onnx.runtime.engine import Engine

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "vgg": FAMILIES["vgg"],  # probabilities, 32 x 40
    "resnet18": FAMILIES["resnet18_legacy"],
    "nhwc": FAMILIES["vgg_nhwc"],
    "grey": lambda: tiny(channels=1),  # 20 x 24
    "one class": sigmoid_of_one,
}
PROBABILITIES = {"vgg", "nhwc", "one class"}


@cache
def session(name: str) -> kx.OcclusionSession:
    return kx.OcclusionSession(MODELS[name]())


@cache
def run_of(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Full inference by ONNX Runtime, which both the brute force and the libraries are given."""
    plain = session_of(MODELS[name]())
    return lambda images: plain.run(None, {plain.get_inputs()[0].name: np.ascontiguousarray(images, np.float32)})[0]


@cache
def images(name: str, count: int = 1) -> np.ndarray:
    """In the model's layout."""
    if name in ("grey", "one class"):
        return image_of(count, 1 if name == "grey" else 3, 20, 24)
    return example_image(MODELS[name](), count)


# -- Captum ------------------------------------------------------------------------------------------------------------

CAPTUM = [  # model, window, strides, baselines
    ("vgg", (3, 8, 8), (3, 4, 4), None),  # every window is whole
    ("vgg", (3, 9, 7), (3, 6, 5), 0.25),  # cut off at both edges
    ("vgg", (3, 32, 6), (3, 1, 6), 0.25),  # at one; and as high as the image
    ("vgg", (1, 12, 12), (1, 9, 12), -0.5),  # one channel after another
    ("vgg", (2, 12, 12), (2, 10, 10), "image"),  # channels cut off too, the baseline another image
    ("resnet18", (3, 16, 12), (1, 11, 12), "images"),
    ("nhwc", (9, 7, 3), (6, 5, 3), 0.25),
    ("nhwc", (12, 9, 2), (12, 9, 1), "image"),
    ("grey", (1, 5, 6), (1, 4, 4), None),
    ("one class", (3, 20, 24), (1, 1, 1), 1.5),  # the whole image
]
IDS = [f"{name} {window}" for name, window, _, _ in CAPTUM]


def baselines_of(kind: object, inputs: np.ndarray) -> Any:
    if kind == "images":
        return image_of(*inputs.shape, seed=7)
    return image_of(1, *inputs.shape[1:], seed=7) if kind == "image" else kind


@pytest.mark.parametrize(("name", "window", "strides", "kind"), CAPTUM, ids=IDS)
def test_attributions_are_captums(name: str, window: tuple, strides: tuple, kind: object) -> None:
    inputs = images(name, 2)
    baselines = baselines_of(kind, inputs)
    expected = captum_occlusion(run_of(name), inputs, window, strides, 0.0 if baselines is None else baselines)
    for target in (0, expected.shape[1] - 1):
        actual = Occlusion(session(name)).attribute(inputs, window, strides, baselines, target)
        assert actual.dtype == np.float32
        assert_scores_equal(actual, expected[:, target], name in PROBABILITIES)


@pytest.mark.parametrize(("name", "window", "strides", "kind"), CAPTUM, ids=IDS)
def test_the_brute_force_is_captum(name: str, window: tuple, strides: tuple, kind: object) -> None:
    torch, attr = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    inputs, run = images(name, 2), run_of(name)
    baselines = baselines_of(kind, inputs)
    expected = captum_occlusion(run, inputs, window, strides, 0.0 if baselines is None else baselines)

    def forward(tensor: Any) -> Any:
        return torch.from_numpy(run(tensor.numpy()))

    tensor = torch.from_numpy(inputs)
    asked = (tensor, window, strides, torch.from_numpy(baselines) if isinstance(baselines, np.ndarray) else baselines)
    for target in (0, [expected.shape[1] - 1, 0], None):
        theirs = attr.Occlusion(forward).attribute(*asked, target, perturbations_per_eval=8)
        ours = Occlusion(session(name)).attribute(*asked, target)
        assert isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert_scores_equal(ours.numpy(), theirs.numpy(), name in PROBABILITIES)
    assert_scores_equal(theirs.numpy(), expected.reshape(theirs.shape), name in PROBABILITIES)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_attributions_at_any_windows(data: st.DataObject) -> None:
    inputs = images("grey")
    height, width = data.draw(st.integers(4, 20), "height"), data.draw(st.integers(4, 24), "width")
    steps = data.draw(st.integers(3, height), "down"), data.draw(st.integers(3, width), "right")
    fill = data.draw(st.sampled_from([0.0, 0.7]))
    expected = captum_occlusion(run_of("grey"), inputs, (1, height, width), (1, *steps), fill)
    actual = Occlusion(session("grey")).attribute(inputs, (1, height, width), (1, *steps), fill)
    assert actual.shape == expected.shape[1:]  # one example and no target: all classes
    assert_scores_equal(actual, expected[0], probabilities=False)


def test_targets_strides_and_windows_as_captum_takes_them() -> None:
    inputs = images("vgg", 2)
    explainer = Occlusion(session("vgg"))
    every = explainer.attribute(inputs, (3, 16, 16), (1, 16, 16)).reshape(2, 5, *inputs.shape[1:])
    forms: list[tuple[Any, list[int]]] = [
        (3, [3, 3]), (np.int64(3), [3, 3]), ((3,), [3, 3]), ([3, 1], [3, 1]), ([(3,), (1,)], [3, 1]),
        (np.array(3), [3, 3]), (np.array([3]), [3, 3]), (np.array([3, 1]), [3, 1]),
    ]  # fmt: skip
    for target, meant in forms:
        actual = explainer.attribute(inputs, ((3, 16, 16),), ((1, 16, 16),), target=target)
        np.testing.assert_array_equal(actual, every[[0, 1], meant], err_msg=repr(target))
    for strides in (3, (3,), [3, 3, 3]):
        few = explainer.attribute(inputs[:1], (3, 30, 30), strides, target=1)
        np.testing.assert_array_equal(few, explainer.attribute(inputs[:1], (3, 30, 30), (1, 3, 3), target=1))
    fine = explainer.attribute(inputs[:1], (3, 30, 37), target=1)
    assert_scores_equal(fine, captum_occlusion(run_of("vgg"), inputs[:1], (3, 30, 37), (1, 1, 1))[:, 1], True)


def test_the_same_of_tensors_as_of_arrays() -> None:
    torch = pytest.importorskip("torch")
    inputs = images("vgg", 2)
    of_arrays = Occlusion(session("vgg")).attribute(inputs, (3, 16, 16), (1, 16, 16), inputs + 1, np.array([2, 0]))
    tensor = torch.from_numpy(inputs).requires_grad_()
    of_tensors = Occlusion(session("vgg")).attribute(
        tensor, (3, 16, 16), (1, 16, 16), tensor + 1, torch.tensor([2, 0])
    )
    assert isinstance(of_tensors, torch.Tensor) and not of_tensors.requires_grad
    np.testing.assert_array_equal(of_tensors.numpy(), of_arrays)


def test_other_scores_modes_and_models_on_disk(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(FAMILIES["two_outputs"](), path)
    inputs = image_of(1, 3, 40, 48)
    plain = session_of(path.read_bytes())
    asked = (inputs, (3, 15, 20), (1, 12, 20))
    with pytest.raises(kx.ImageError, match="several outputs"):
        Occlusion(path).attribute(*asked, target=1)
    softmax_of_logits = captum_occlusion(lambda x: softmax(plain.run(["logits"], {"image": x})[0]), *asked)
    for mode in ("exact", "naive"):
        actual = Occlusion(path, output="logits", activation="softmax").attribute(*asked, target=1, mode=mode)
        assert_scores_equal(actual, softmax_of_logits[:, 1], probabilities=True)

    def logits(images: np.ndarray) -> np.ndarray:
        probability = plain.run(["presence"], {"image": images})[0].astype(np.float64)
        return np.log(probability / (1 - probability))

    actual = Occlusion(path, output="presence", score="logit").attribute(*asked, target=2, memory_budget=10**10)
    assert_scores_equal(actual, captum_occlusion(logits, *asked)[:, 2], probabilities=False)


def test_approximate_attributions_are_those_of_the_approximate_map() -> None:
    inputs = images("vgg")
    with pytest.warns(UserWarning, match="without a tuning"):
        heat_map = session("vgg").explain(inputs, 1, patch=4, stride=2, mode="approximate", min_ssim=0.5)
    asked = {"target": 1, "mode": "approximate", "min_ssim": 0.5}
    with pytest.warns(UserWarning, match="without a tuning"):
        actual = Occlusion(session("vgg")).attribute(inputs, (3, 4, 4), (1, 2, 2), **asked)
    total, count = np.zeros((32, 40)), np.zeros((32, 40))
    for row, top in enumerate(heat_map.tops):
        for column, left in enumerate(heat_map.lefts):
            total[top : top + 4, left : left + 4] += heat_map.drop[0, row, column]
            count[top : top + 4, left : left + 4] += 1
    np.testing.assert_allclose(actual[0], np.repeat((total / count)[None], 3, axis=0), atol=1e-6)
    for window, baselines in (((3, 5, 5), None), ((1, 4, 4), None), ((3, 4, 4), inputs)):
        with pytest.raises(kx.ImageError, match="mode='approximate' wants baselines"):
            Occlusion(session("vgg")).attribute(inputs, window, (1, 2, 2), baselines, **asked)


def test_cut_off_windows_cost_no_further_run_of_the_unoccluded_image(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    materialize = Engine.materialize
    monkeypatch.setattr(
        Engine, "materialize", lambda self, *arguments: runs.append(1) or materialize(self, *arguments)
    )
    Occlusion(session("vgg")).attribute(images("vgg", 2), (3, 9, 7), (3, 6, 5), target=0)
    assert len(runs) == 2  # one for each example
    OcclusionSensitivity(session("vgg"), 9, verbose=False)(images("vgg"))
    assert len(runs) == 3


def test_a_model_that_is_not_rewritten_is_attributed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: object) -> None:
        raise NotRewritable("for this test")

    monkeypatch.setattr("krypton_onnx.rewriter.rewrite", refuses)
    with pytest.warns(UserWarning, match="every position is computed by full inference.*: for this test"):
        actual = Occlusion(MODELS["grey"]()).attribute(images("grey"), (1, 9, 9), (1, 6, 8), target=1)
    expected = captum_occlusion(run_of("grey"), images("grey"), (1, 9, 9), (1, 6, 8))
    assert_scores_equal(actual, expected[:, 1], probabilities=False)


def test_a_memory_budget_is_kept() -> None:
    with pytest.raises(kx.ImageError, match="memory_budget of 1 MB is too small"):
        Occlusion(session("vgg")).attribute(images("vgg"), (3, 9, 7), (3, 6, 5), target=0, memory_budget=10**6)
    with pytest.raises(kx.ImageError, match="memory_budget of 1 MB is too small"):
        OcclusionSensitivity(session("vgg"), verbose=False, memory_budget=10**6)(images("vgg"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"inputs": (np.zeros((1, 3, 32, 40)),)}, "^inputs must be one tensor or array"),
        ({"inputs": [[1.0]]}, "^inputs must be one"),
        ({"inputs": np.zeros((3, 32, 40), np.float32)}, "^inputs has shape .*the model wants .* 3 x 32 x 40"),
        ({"inputs": np.zeros((1, 32, 40, 3), np.float32)}, "^inputs has shape"),
        ({"inputs": np.zeros((0, 3, 32, 40), np.float32)}, "^inputs has shape"),
        ({"inputs": np.full((1, 3, 32, 40), "a")}, "^inputs has dtype"),
        ({"sliding_window_shapes": (8, 8)}, "^sliding_window_shapes must be three"),
        ({"sliding_window_shapes": 8}, "^sliding_window_shapes must be three"),
        ({"sliding_window_shapes": (3, 0, 8)}, "^sliding_window_shapes must be three"),
        ({"sliding_window_shapes": (3, 33, 8)}, "^sliding_window_shapes: the window has 33, the input 32"),
        ({"strides": (1, 9, 8)}, "^strides: a step of 9 is larger than the window of 8 along the height"),
        ({"strides": (1.5, 1, 1)}, "^strides must be one positive integer, or three"),
        ({"baselines": "black"}, "^baselines must be one"),
        ({"baselines": np.zeros((3, 32, 40), np.float32)}, "^baselines has shape"),
        ({"baselines": np.zeros((2, 3, 32, 40), np.float32)}, "^baselines has shape"),
        ({"target": 5}, "target 5 is out of range"),
        ({"target": [1, 2]}, "^target must be a class id"),
        ({"target": 1.5}, "^target must be a class id"),
        ({"target": True}, "^target must be a class id"),
        ({"target": (1, 2)}, "^target must be a class id"),
        ({"target": np.zeros((1, 2), int)}, "^target must be a class id"),
        ({"additional_forward_args": 1}, "^additional_forward_args is not supported"),
        ({"perturbations_per_eval": 0}, "^perturbations_per_eval must be"),
        ({"mode": "fast"}, "^mode must be one of"),
        ({"min_ssim": 0.9}, "^min_ssim has no meaning"),
        ({"memory_budget": -1}, "^memory_budget must be"),
    ],
)
def test_an_argument_of_captums_that_cannot_be(arguments: dict, told: str) -> None:
    asked = {"inputs": images("vgg"), "sliding_window_shapes": (3, 8, 8), "strides": (1, 8, 8), "target": 0}
    with pytest.raises(kx.ImageError, match=told):
        Occlusion(session("vgg")).attribute(**{**asked, **arguments})


# -- MONAI -------------------------------------------------------------------------------------------------------------

MONAI = [  # model, mask_size, mode, overlap, b_box, activate
    ("resnet18", 12, "gaussian", 0.6, None, True),
    ("vgg", (9, 12), "gaussian", 0.25, None, False),
    ("vgg", (8, 8), "mean_patch", 0.5, None, False),  # every mask in step
    ("vgg", (8, 11), "mean_img", 0.0, None, False),
    ("vgg", 9, 0.3, 0.6, (4, 20, 7, -1), False),
    ("resnet18", (9, 16), "gaussian", 0.6, [-1, 9, 20, 30], True),  # the box is smaller than a mask
    ("nhwc", (9, 12), "gaussian", 0.25, None, False),
    ("grey", 6, "gaussian", 0.6, None, True),  # sigmoid, of a model of four classes
    ("grey", 6, -0.2, 0.9, (3, 9, 2, 8), False),
    ("grey", 1, "gaussian", 0.6, (3, 6, 2, 5), False),
    ("one class", 7, "mean_patch", 0.6, None, False),
]
MONAI_IDS = [" ".join(map(str, row)) for row in MONAI]


def channels_first(name: str) -> np.ndarray:
    return images(name).transpose(0, 3, 1, 2) if name == "nhwc" else images(name)


def network(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Of images with the channels first."""
    run = run_of(name)
    return (lambda images: run(images.transpose(0, 2, 3, 1))) if name == "nhwc" else run


@pytest.mark.parametrize(("name", "mask", "mode", "overlap", "b_box", "activate"), MONAI, ids=MONAI_IDS)
def test_maps_are_monais(name: str, mask: Any, mode: Any, overlap: float, b_box: Any, activate: bool) -> None:
    x = channels_first(name)
    sides = mask if isinstance(mask, tuple) else (mask, mask)
    activation = (sigmoid if x.shape[1] == 1 else softmax) if activate else None
    expected = monai_occlusion(network(name), x, sides, mode, overlap, b_box, activation)
    actual, predicted = OcclusionSensitivity(session(name), mask, 16, False, mode, overlap, activate)(x, b_box)
    assert actual.dtype == np.float32 and predicted.dtype == np.int64
    assert_scores_equal(actual, expected, activate or name in PROBABILITIES)
    assert_class_of_the_largest(predicted, expected)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # MONAI's own indexing
@pytest.mark.parametrize(("name", "mask", "mode", "overlap", "b_box", "activate"), MONAI, ids=MONAI_IDS)
def test_the_brute_force_is_monai(
    name: str, mask: Any, mode: Any, overlap: float, b_box: Any, activate: bool
) -> None:
    torch, visualize = pytest.importorskip("torch"), pytest.importorskip("monai.visualize")

    class Network(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            return torch.from_numpy(network(name)(images.numpy()))

    x = torch.from_numpy(np.ascontiguousarray(channels_first(name)))
    asked = (mask, 16, False, mode, overlap, activate)
    theirs, their_class = visualize.OcclusionSensitivity(Network(), *asked)(x, b_box)
    ours, our_class = OcclusionSensitivity(session(name), *asked)(x, b_box)
    assert isinstance(ours, torch.Tensor) and (ours.dtype, our_class.dtype) == (theirs.dtype, their_class.dtype)
    assert ours.shape == theirs.shape and our_class.shape == their_class.shape
    assert_scores_equal(ours.numpy(), theirs.numpy(), activate or name in PROBABILITIES)
    sides = mask if isinstance(mask, tuple) else (mask, mask)
    activation = (sigmoid if x.shape[1] == 1 else softmax) if activate else None
    expected = monai_occlusion(network(name), x.numpy(), sides, mode, overlap, b_box, activation)
    assert_scores_equal(theirs.numpy(), expected, activate or name in PROBABILITIES)
    assert_class_of_the_largest(their_class.numpy(), expected)


def assert_class_of_the_largest(predicted: np.ndarray, scores: np.ndarray) -> None:
    """Rounding may decide between classes of nearly the same score."""
    assert predicted.shape == (1, 1, *scores.shape[2:])
    chosen = np.take_along_axis(scores, predicted, axis=1)
    assert (scores.max(axis=1, keepdims=True) - chosen).max() < 1e-4


def test_an_activation_by_name_or_of_ones_own() -> None:
    x, run = images("grey"), run_of("grey")
    kinds: list[tuple[Any, Callable[[np.ndarray], np.ndarray]]] = [
        ("softmax", softmax), ("sigmoid", sigmoid), (lambda scores: 2 * scores[:, :2], lambda s: 2 * s[:, :2]),
    ]  # fmt: skip
    for activate, meant in kinds:
        actual, _ = OcclusionSensitivity(session("grey"), 8, verbose=False, activate=activate)(x)
        assert_scores_equal(actual, monai_occlusion(run, x, (8, 8), "gaussian", 0.6, activate=meant), False)


def test_an_activation_gets_tensors_where_the_image_is_one() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(images("grey"))
    actual, _ = OcclusionSensitivity(session("grey"), 8, verbose=False, activate=torch.sigmoid)(x)
    named, _ = OcclusionSensitivity(session("grey"), 8, verbose=False, activate="sigmoid")(x)
    np.testing.assert_allclose(actual.numpy(), named.numpy(), atol=1e-6)


def test_one_of_several_outputs_is_named() -> None:
    model, x = FAMILIES["two_outputs"](), image_of(1, 3, 40, 48)
    with pytest.raises(kx.ImageError, match=r"several outputs .*choose one with output="):
        OcclusionSensitivity(model, verbose=False)(x)
    actual, _ = OcclusionSensitivity(model, verbose=False, output="logits")(x)
    plain = session_of(model)
    expected = monai_occlusion(
        lambda images: plain.run(["logits"], {"image": images})[0], x, (16, 16), "gaussian", 0.6, activate=softmax
    )
    assert_scores_equal(actual, expected, probabilities=True)


@pytest.mark.parametrize(
    ("made", "asked", "told"),
    [
        ({"mode": "blur"}, {}, "^mode must be one of gaussian, mean_patch, mean_img or a number"),
        ({"overlap": 1.0}, {}, "^overlap must be"),
        ({"mask_size": (8, 8, 8)}, {}, "^mask_size must be"),
        ({"mask_size": 0}, {}, "^mask_size must be"),
        ({"mask_size": 33}, {}, "^mask_size: a mask of 33 does not fit"),
        ({"activate": "relu"}, {}, "^activate must be"),
        ({"memory_budget": 0}, {}, "^memory_budget must be"),
        ({}, {"x": np.zeros((2, 3, 32, 40), np.float32)}, "^x has shape"),
        ({}, {"x": np.zeros((1, 3, 8, 32, 40), np.float32)}, "^x has shape"),
        ({}, {"x": np.zeros((1, 1, 32, 40), np.float32)}, "the model wants 3 channels"),
        ({}, {"b_box": (0, 8)}, "^b_box must be"),
        ({}, {"b_box": (8, 4, 0, -1)}, "^b_box .* does not lie inside the 32 x 40 image"),
        ({}, {"b_box": (0, 33, 0, -1)}, "^b_box .* does not lie inside"),
        ({}, {"age": 50}, "^age= is not supported"),
    ],
)
def test_an_argument_of_monais_that_cannot_be(made: dict, asked: dict, told: str) -> None:
    with pytest.raises(kx.ImageError, match=told):
        OcclusionSensitivity(session("vgg"), **{"verbose": False, **made})(**{"x": images("vgg"), **asked})


# -- both --------------------------------------------------------------------------------------------------------------


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    Occlusion(session("vgg")).attribute(images("vgg", 2), (1, 16, 20), (1, 16, 20), target=0, show_progress=True)
    shown = capsys.readouterr()
    assert "24/24" in shown.err and not shown.out  # four windows, three channels, two examples
    OcclusionSensitivity(session("vgg"), 16, overlap=0.0)(images("vgg"))
    assert "6/6" in capsys.readouterr().err
    Occlusion(session("vgg")).attribute(images("vgg"), (3, 16, 20), (1, 16, 20), target=0)
    OcclusionSensitivity(session("vgg"), 16, verbose=False)(images("vgg"))
    assert capsys.readouterr() == ("", "")


def test_the_adapters_import_neither_library() -> None:
    text = (
        "import sys\nimport krypton_onnx.adapters.captum, krypton_onnx.adapters.monai\n"
        "print(sorted({'torch', 'captum', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

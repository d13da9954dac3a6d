"""explain: what is scored (targets, score, output) and what stands in the patch's place (fill)."""

from functools import cache

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from graph_builder import Graph
from naive import naive_map, occluded, session_of
from tiny_models import CLASSES, image_of, sigmoid_of_one, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.rewriter import rewrite_model

PATCH, STRIDE = (5, 4), (6, 7)
IMAGE = image_of(1, 3, 20, 24)
MODES = ["exact", "naive"]


@cache
def session_for(name: str, rewritten: bool = False) -> kx.OcclusionSession:
    model = tiny() if name == "tiny" else FAMILIES[name]()
    return kx.OcclusionSession(rewrite_model(model) if rewritten else model)


def with_output(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The model, with a tensor inside it as its only output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return copy


def oracle(
    heat_map: kx.HeatMap, model: onnx.ModelProto, image: np.ndarray, patch, output: int = 0
) -> np.ndarray:
    """(classes, rows, cols) of one output."""
    scores, _ = naive_map(model, image, heat_map.tops, heat_map.lefts, patch, output)
    return scores.T.reshape(-1, len(heat_map.tops), len(heat_map.lefts))


def zeros(channels: int = 3) -> np.ndarray:
    return np.zeros((channels, *PATCH), np.float32)


# -- targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "targets, ids",
    [
        (2, (2,)),
        (np.int64(2), (2,)),
        ([3, 0], (3, 0)),
        (range(4), (0, 1, 2, 3)),
        (np.array([1, 2]), (1, 2)),
        (np.array(3), (3,)),
        ({2}, (2,)),
        (lambda: (target for target in (0, 2)), (0, 2)),  # made anew for every test
    ],
)
def test_targets(targets, ids, mode) -> None:
    targets = targets() if callable(targets) else targets
    heat_map = session_for("tiny").explain(IMAGE, targets=targets, patch=PATCH, stride=STRIDE, mode=mode)
    assert heat_map.targets == ids and heat_map.scores.dtype == heat_map.baseline.dtype == np.float32
    expected = oracle(heat_map, tiny(), IMAGE, zeros())[list(ids)]
    assert_scores_equal(heat_map.scores, expected, probabilities=False)
    baseline = session_of(tiny()).run(None, {"image": IMAGE})[0][0]
    assert_scores_equal(heat_map.baseline, baseline[list(ids)], probabilities=False)
    np.testing.assert_array_equal(heat_map.drop, heat_map.baseline[:, None, None] - heat_map.scores)


@pytest.mark.parametrize("score", ["output", "logit", "margin", lambda outputs: outputs["logits"]])
def test_without_targets_it_is_the_class_predicted_for_the_unoccluded_image(score) -> None:
    predicted = set()
    for seed in range(6):
        image = image_of(1, 3, 20, 24, seed=seed) * 2 + image_of(1, 3, 1, 1, seed=seed + 10) * 3
        best = int(session_of(tiny()).run(None, {"image": image})[0].argmax())
        predicted.add(best)
        for mode in MODES:
            heat_map = session_for("tiny").explain(image, patch=12, stride=12, score=score, mode=mode)
            assert heat_map.targets == (best,)
    assert len(predicted) > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "targets, message",
    [
        (4, "target 4 is out of range: the model has 4 classes, 0 to 3"),
        (-1, "target -1 is out of range"),
        ([0, 99], "target 99 is out of range"),
        ([], "targets is empty"),
        (1.5, "class id"),
        (True, "class id"),
        ("1", "class id"),
        ([None], "class id"),
        ([[0, 1]], "class id"),
        ([[0], [0, 1]], "class id"),
    ],
)
def test_wrong_targets(targets, message, mode) -> None:
    with pytest.raises(kx.ImageError, match=message) as raised:
        session_for("tiny").explain(IMAGE, targets=targets, patch=PATCH, mode=mode)
    assert "\n" not in str(raised.value)


# -- score ---------------------------------------------------------------------------------------------------


def margin(logits: np.ndarray) -> np.ndarray:
    """(N, classes), one number after another."""
    return np.array([[row[k] - max(np.delete(row, k)) for k in range(len(row))] for row in logits])


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name, output, last",
    [("vgg", "prob", "Softmax"), ("two_outputs", "presence", "Sigmoid"), ("tiny", "logits", "")],
)
def test_logit_and_margin_are_before_the_last_softmax_or_sigmoid(name, output, last, mode, rewritten) -> None:
    model = tiny() if name == "tiny" else FAMILIES[name]()
    image = IMAGE if name == "tiny" else example_image(model)
    producer = next(node for node in model.graph.node if output in node.output)
    before = with_output(model, producer.input[0]) if last else model
    assert not last or producer.op_type == last
    for score in ("logit", "margin"):
        heat_map = session_for(name, rewritten).explain(
            image, targets=range(4), patch=PATCH, stride=9, score=score, output=output, mode=mode
        )
        logits = oracle(heat_map, before, image, zeros())
        expected = (
            logits if score == "logit" else margin(logits.reshape(len(logits), -1).T).T.reshape(logits.shape)
        )
        assert_scores_equal(heat_map.scores, expected[:4], probabilities=False)
        base = session_of(before).run(None, {before.graph.input[0].name: image})[0]
        base = base if score == "logit" else margin(base)
        assert_scores_equal(heat_map.baseline, base[0, :4], probabilities=False)


@pytest.mark.parametrize("mode", MODES)
def test_a_callable_sees_every_output(mode) -> None:
    model = FAMILIES["two_outputs"]()
    image = example_image(model)
    heat_map = session_for("two_outputs").explain(
        image, targets=[0, 1], patch=PATCH, stride=9, mode=mode,
        score=lambda outputs: np.stack([outputs["presence"][:, 2], outputs["logits"].sum(axis=1)], axis=1),
    )  # fmt: skip
    presence, logits = (oracle(heat_map, model, image, zeros(), output) for output in (0, 1))
    assert_scores_equal(heat_map.scores, np.stack([presence[2], logits.sum(axis=0)]), probabilities=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("output", ["presence", "logits"])
def test_one_of_several_outputs(output, mode) -> None:
    model = FAMILIES["two_outputs"]()
    image = example_image(model)
    heat_map = session_for("two_outputs").explain(
        image, targets=range(3), patch=PATCH, stride=9, mode=mode, output=output
    )
    expected = oracle(heat_map, model, image, zeros(), ["presence", "logits"].index(output))[:3]
    assert_scores_equal(heat_map.scores, expected, probabilities=output == "presence")


def test_scores_that_cannot_be_had() -> None:
    image = example_image(FAMILIES["two_outputs"]())
    session = session_for("two_outputs")
    for arguments, message in [
        ({}, r"several outputs \(presence, logits\): choose one with output="),
        ({"output": "prob"}, "output 'prob': no such output; the model has: presence, logits"),
        ({"score": "logits"}, "score must be one of output, logit, margin, log-odds or a callable"),
        (
            {"score": lambda outputs: outputs["logits"][:, 0]},
            r"score returned shape \(\d+,\); expected \(N, classes\)",
        ),
        ({"score": lambda outputs: outputs["logits"][:1].sum()}, r"score returned shape \(\)"),
    ]:
        with pytest.raises(kx.ImageError, match=message) as raised:
            session.explain(image, patch=PATCH, **arguments)
        assert "\n" not in str(raised.value)
    with pytest.raises(kx.ImageError, match="at least two classes"):
        kx.OcclusionSession(sigmoid_of_one()).explain(IMAGE, patch=PATCH, score="margin")


def test_an_output_that_is_a_map_needs_a_callable() -> None:
    g = Graph(54, opset=17, ir=8)
    g.node("Relu", g.conv(g.input("image", ["batch", 3, 20, 24]), CLASSES, 3, pads=1), name="map")
    model = g.model({"map": ["batch", CLASSES, 20, 24]})
    session = kx.OcclusionSession(model)
    with pytest.raises(kx.ImageError, match=r"not \(N, classes\): pass score=callable"):
        session.explain(IMAGE, patch=PATCH)
    heat_map = session.explain(
        IMAGE, targets=2, patch=PATCH, stride=STRIDE, score=lambda outputs: outputs["map"].mean(axis=(2, 3))
    )
    images = [occluded(IMAGE, zeros(), top, left) for top in heat_map.tops for left in heat_map.lefts]
    expected = session_of(model).run(None, {"image": np.concatenate(images)})[0][:, 2].mean(axis=(1, 2))
    assert_scores_equal(heat_map.scores[0].ravel(), expected, probabilities=False)

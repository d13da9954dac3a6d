"""Which number of a class is mapped: activations, log-odds, the best classes, and what the image turns into."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from naive import naive_map
from tiny_models import image_of, sigmoid_of_one, tiny

import krypton_onnx as kx
from krypton_onnx.runtime.scores import _log_odds

PATCH, STRIDE = 6, 4


def with_activation(op_type: str) -> onnx.ModelProto:
    """tiny, whose logits go through an activation of the model's own."""
    model = tiny()
    model.graph.node.append(onnx.helper.make_node(op_type, ["logits"], ["probabilities"], name="activation"))
    model.graph.output[0].name = "probabilities"
    return model


def logits_by_hand(image: np.ndarray, heat_map: kx.HeatMap) -> tuple[np.ndarray, np.ndarray]:
    """float64 (rows, columns, classes) by full inference, and (classes,) of the unoccluded image."""
    scores, baseline = naive_map(tiny(), image, heat_map.tops, heat_map.lefts, np.zeros((3, PATCH, PATCH), np.float32))
    shape = len(heat_map.tops), len(heat_map.lefts), -1
    return scores.reshape(shape).astype(np.float64), baseline.astype(np.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize(("activation", "by_hand"), [("softmax", softmax), ("sigmoid", sigmoid)])
def test_an_activation_makes_probabilities_of_logits(activation, by_hand, mode):
    image = image_of(1, 3, 20, 24)
    heat_map = kx.OcclusionSession(tiny()).explain(
        image, targets=(0, 3), patch=PATCH, stride=STRIDE, activation=activation, mode=mode
    )
    logits, baseline = logits_by_hand(image, heat_map)
    np.testing.assert_allclose(heat_map.scores, np.moveaxis(by_hand(logits)[..., [0, 3]], -1, 0), atol=1e-5)
    np.testing.assert_allclose(heat_map.baseline, by_hand(baseline)[[0, 3]], atol=1e-5)
    assert heat_map.score_name == "probability"


@pytest.mark.parametrize(("op_type", "by_hand"), [("Softmax", softmax), ("Sigmoid", sigmoid)])
@pytest.mark.parametrize("own", [True, False])
def test_log_odds_are_those_of_the_probability(op_type, by_hand, own):
    """Whether the model makes the probability, or an activation is named for its logits."""
    image = image_of(1, 3, 20, 24)
    session = kx.OcclusionSession(with_activation(op_type) if own else tiny())
    heat_map = session.explain(
        image, targets=range(4), patch=PATCH, stride=STRIDE, score="log-odds",
        activation=None if own else op_type.lower(),
    )  # fmt: skip
    logits, _ = logits_by_hand(image, heat_map)
    p = np.moveaxis(by_hand(logits), -1, 0)
    np.testing.assert_allclose(heat_map.scores, np.log(p / (1 - p)), atol=1e-3)
    assert heat_map.score_name == "log-odds"


SOME_LOGITS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.floats(-30, 30, width=32)
)


@given(SOME_LOGITS)
def test_log_odds_of_a_softmax_lose_nothing_where_it_is_saturated(logits):
    exact = [
        [
            float(row[c]) - float(np.logaddexp.reduce(np.delete(row.astype(np.longdouble), c)))
            for c in range(logits.shape[1])
        ]
        for row in logits
    ]
    np.testing.assert_allclose(_log_odds(logits, "softmax"), exact, rtol=1e-5, atol=1e-5)


def test_log_odds_move_where_the_probability_is_saturated():
    image = 40 * image_of(1, 3, 20, 24)
    session = kx.OcclusionSession(with_activation("Softmax"))
    with pytest.warns(UserWarning, match="score='logit' or score='margin'"):
        flat = session.explain(image, patch=2, stride=STRIDE)
    moving = session.explain(image, patch=2, stride=STRIDE, score="log-odds")
    assert np.ptp(flat.scores) < 1e-5 and np.ptp(moving.scores) > 0.1


@pytest.mark.parametrize("model", [sigmoid_of_one, lambda: with_activation("Sigmoid")])
@pytest.mark.parametrize("scale", [1, 200])
def test_the_log_odds_of_sigmoids_are_their_logits(model, scale):
    """Also where all probabilities are rounded to 0 or 1, which then tell nothing."""
    image = scale * image_of(1, 3, 20, 24)
    session = kx.OcclusionSession(model())
    odds, logit = (session.explain(image, patch=PATCH, score=score).scores for score in ("log-odds", "logit"))
    np.testing.assert_array_equal(odds, logit)


@pytest.mark.parametrize(
    ("given_model", "arguments", "message"),
    [
        (tiny, {"score": "log-odds"}, "no probability of the model's own"),
        (lambda: with_activation("Softmax"), {"activation": "softmax"}, "a softmax or sigmoid already"),
        (tiny, {"score": "margin", "activation": "softmax"}, "no meaning with score='margin'"),
        (tiny, {"activation": "relu"}, "one of softmax, sigmoid"),
        (tiny, {"activation": 1}, "one of softmax, sigmoid"),
        (tiny, {"score": "odds"}, "log-odds or a callable"),
        (tiny, {"top": 0}, "top must be"),
        (tiny, {"top": True}, "top must be"),
        (tiny, {"top": 5}, "the model has 4 classes"),
        (tiny, {"top": 2, "targets": 1}, "top and targets"),
    ],
)
def test_what_makes_no_sense_is_refused(given_model, arguments, message):
    with pytest.raises(kx.ImageError, match=message):
        kx.OcclusionSession(given_model()).explain(image_of(1, 3, 20, 24), patch=PATCH, **arguments)


def test_a_model_of_an_earlier_version_has_no_log_odds(tmp_path):
    """Its plan does not say whether the probability is by softmax or by sigmoid; all else it does say."""
    kx.convert(with_activation("Softmax"), tmp_path / "rewritten.onnx")
    model = onnx.load(tmp_path / "rewritten.onnx")
    entry = next(one for one in model.metadata_props if one.value.startswith('{"format"'))
    plan = json.loads(entry.value)
    assert plan.pop("activations") == {"probabilities": "softmax"}
    entry.value = json.dumps(plan)
    session, image = kx.OcclusionSession(model), image_of(1, 3, 20, 24)
    with pytest.raises(kx.ModelError, match="convert it again"):
        session.explain(image, patch=PATCH, score="log-odds")
    assert np.isfinite(session.explain(image, patch=PATCH, score="logit").scores).all()
    assert session.plan().to_json() == entry.value


def test_a_class_of_no_score_is_not_the_predicted_one():
    def score(outputs):
        scores = outputs["logits"].copy()
        scores[:, 2] = np.nan
        return scores

    session, image = kx.OcclusionSession(tiny()), image_of(1, 3, 20, 24)
    predicted = session.explain(image, targets=0, patch=PATCH, stride=STRIDE, score=score).predicted
    assert set(np.unique(predicted)) <= {0, 1, 3}


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_the_best_classes_and_what_the_image_turns_into(mode):
    image = image_of(1, 3, 20, 24)
    session = kx.OcclusionSession(tiny())
    heat_map = session.explain(image, top=3, patch=PATCH, stride=STRIDE, mode=mode)
    logits, baseline = logits_by_hand(image, heat_map)
    assert heat_map.targets == tuple(np.argsort(-baseline)[:3])
    np.testing.assert_array_equal(heat_map.predicted, logits.argmax(axis=-1))
    assert heat_map.frame == (20, 24)


def test_classes_of_an_unfinished_map_are_known_where_it_is():
    session = kx.OcclusionSession(tiny())
    heat_map = session.explain(image_of(1, 3, 20, 24), patch=PATCH, stride=1, batch_size=4, time_budget=0.0)
    assert not heat_map.complete
    np.testing.assert_array_equal(heat_map.predicted >= 0, heat_map.computed)

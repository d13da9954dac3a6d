"""The small models and the oracle themselves: they load, they run, and their scores are worth comparing."""

import numpy as np
import onnx
import pytest
from families import FAMILIES, PROBABILITIES, example_image, fixed_batch, is_nhwc
from graph_builder import Graph
from naive import brute_force_changed, brute_force_region, naive_map, occluded, session_of
from tolerances import PROBABILITY_TOLERANCE, assert_scores_equal, score_tolerance


@pytest.mark.parametrize("name", FAMILIES)
def test_family_loads_and_is_the_same_at_every_call(name: str) -> None:
    model = FAMILIES[name]()
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 13 and model.opset_import[0].version <= 26
    assert model.SerializeToString() == FAMILIES[name]().SerializeToString()


@pytest.mark.parametrize("name", FAMILIES)
def test_batch_of_three_equals_three_runs(name: str) -> None:
    model = FAMILIES[name]()
    session, image = session_of(model), example_image(model, batch=3)
    key = session.get_inputs()[0].name
    singles = [session.run(None, {key: image[i : i + 1]}) for i in range(3)]
    assert not np.allclose(singles[0][0], singles[1][0], atol=1e-3)
    if fixed_batch(model):
        return
    for index, together in enumerate(session.run(None, {key: image})):
        expected = np.concatenate([single[index] for single in singles])
        assert_scores_equal(together, expected, probabilities=index == 0 and name in PROBABILITIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_output_depends_on_where_the_occlusion_is(name: str) -> None:
    """Differences far above the tolerances, so that a test of exactness can fail."""
    model = FAMILIES[name]()
    image = example_image(model)
    height, width = image.shape[1:3] if is_nhwc(model) else image.shape[2:4]
    patch = np.full((3, 8, 6), 1.5, np.float32)
    for output in range(len(model.graph.output)):
        probabilities = output == 0 and name in PROBABILITIES
        scores, baseline = naive_map(model, image, [0, 9, height - 8], [0, 11, width - 6], patch, output)
        assert scores.shape == (9, baseline.size) and scores.dtype == np.float32
        if probabilities:
            assert (scores.max(axis=1) < 0.99).all(), "saturated: small mistakes would not show"
        else:
            assert np.abs(scores).max() < 50, "activations grow"
        allowed = score_tolerance(scores, probabilities)
        others = np.abs(scores[:, None] - scores[None]).max(axis=2)[~np.eye(9, dtype=bool)]
        assert others.min() > 2 * allowed, "two positions give the same scores"
        assert np.median(others) > 20 * allowed
        assert np.median(np.abs(scores - baseline).max(axis=1)) > 20 * allowed


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_occluded_places_the_patch(layout: str) -> None:
    image = np.zeros((1, 3, 7, 9), np.float32)
    patch = np.arange(1, 13, dtype=np.float32).reshape(3, 2, 2)
    native = image if layout == "NCHW" else np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    result = occluded(native, patch, 5, 3)
    expected = image.copy()
    expected[0, :, 5:7, 3:5] = patch
    np.testing.assert_array_equal(result if layout == "NCHW" else result.transpose(0, 3, 1, 2), expected)
    assert not native.any()
    with pytest.raises(ValueError, match="leaves the image"):
        occluded(native, patch, 6, 3)


def test_naive_map_agrees_with_runs_written_out() -> None:
    model = FAMILIES["two_outputs"]()
    image = example_image(model)
    scores, baseline = naive_map(
        model, image, [0, 7, 31], [3, 40], lambda t, left: np.full((3, 9, 5), t - left, "f4"), 1
    )
    session = session_of(model)
    np.testing.assert_array_equal(baseline, session.run(["logits"], {"image": image})[0][0])
    changed = image.copy()
    changed[0, :, 31:40, 3:8] = 28
    assert_scores_equal(scores[4], session.run(["logits"], {"image": changed})[0][0], probabilities=False)


def test_brute_force_sees_the_cells_that_read_a_pixel() -> None:
    g = Graph(0, opset=17, ir=8)
    g.input("x", [1, 2, 9, 8], channels=2)
    g.node("Identity", g.conv("x", 3, (3, 1), stride=(2, 1), pads=[1, 0, 1, 0]), name="y")
    model = g.model({"y": [1, 3, 5, 8]})
    changed = brute_force_changed(model, (9, 8), (3, 4, 4, 6), channels=2)
    assert sorted(map(tuple, np.argwhere(changed).tolist())) == [(1, 4), (1, 5), (2, 4), (2, 5)]
    assert brute_force_region(model, (9, 8), (3, 4, 4, 6), channels=2) == (1, 4, 3, 6)


def test_brute_force_returns_none_where_nothing_reads() -> None:
    g = Graph(0, opset=17, ir=8)
    g.input("x", [1, 1, 7, 7], channels=1)
    g.node("Identity", g.pool("MaxPool", "x", 1, 2), name="y")
    model = g.model({"y": [1, 1, 4, 4]})
    assert brute_force_region(model, (7, 7), (1, 1, 2, 2)) is None
    assert brute_force_region(model, (7, 7), (2, 4, 3, 5)) == (1, 2, 2, 3)


def test_assert_scores_equal_fails_beyond_the_tolerance() -> None:
    expected = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert_scores_equal(expected + 0.5 * PROBABILITY_TOLERANCE, expected, probabilities=True)
    with pytest.raises(AssertionError, match=r"\(2, 1\)"):
        wrong = expected.copy()
        wrong[2, 1] += 3 * PROBABILITY_TOLERANCE
        assert_scores_equal(wrong, expected, probabilities=True)
    assert_scores_equal(wrong, expected, probabilities=False)
    with pytest.raises(AssertionError, match="not finite"):
        assert_scores_equal(np.full((3, 4), np.nan), expected, probabilities=False)

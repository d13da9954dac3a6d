"""Exact mode equals naive full inference, at every position of the grid, for every architecture family."""

from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from families import FAMILIES, PROBABILITIES, example_image, is_nhwc
from naive import naive_map
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.rewriter import plan_of, rewrite_model

PATCH, STRIDE, FILL = (6, 5), (5, 3), 0.1


@cache
def _case(name: str) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Model, image, tops, lefts, and the oracle's scores (rows, cols, classes) and baseline of the first output."""
    model = FAMILIES[name]()
    image = example_image(model)
    height, width, channels = image.shape[1:] if is_nhwc(model) else (*image.shape[2:], image.shape[1])
    tops = np.arange(0, height - PATCH[0] + 1, STRIDE[0])
    lefts = np.arange(0, width - PATCH[1] + 1, STRIDE[1])
    patch = np.full((channels, *PATCH), FILL, np.float32)
    scores, baseline = naive_map(model.SerializeToString(), image, tops, lefts, patch)
    return model.SerializeToString(), image, tops, lefts, scores.reshape(len(tops), len(lefts), -1), baseline


@pytest.mark.parametrize("strict", [False, True], ids=["winograd", "strict"])
@pytest.mark.parametrize("name", FAMILIES)
def test_exact_equals_naive_inference(name: str, strict: bool) -> None:
    model, image, tops, lefts, scores, baseline = _case(name)
    session = kx.OcclusionSession(model, strict=strict)
    output = onnx.load_model_from_string(model).graph.output[0].name
    classes = range(scores.shape[2])
    heat_map = session.explain(image, targets=classes, patch=PATCH, stride=STRIDE, fill=FILL, output=output)
    assert heat_map.complete and heat_map.computed.all() and heat_map.mode == "exact"
    np.testing.assert_array_equal(heat_map.tops, tops)
    np.testing.assert_array_equal(heat_map.lefts, lefts)
    assert_scores_equal(heat_map.scores, scores.transpose(2, 0, 1), name in PROBABILITIES, strict)
    assert_scores_equal(heat_map.baseline, baseline, name in PROBABILITIES, strict)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_rewritten_file_gives_the_same_scores_in_stock_onnx_runtime(name: str) -> None:
    model, image, tops, lefts, scores, baseline = _case(name)
    rewritten = rewrite_model(model, None, image.shape)
    plan = plan_of(rewritten)
    onnx.checker.check_model(rewritten, full_check=True)
    stock = ort.InferenceSession(rewritten.SerializeToString(), providers=["CPUExecutionProvider"])
    patch = np.full((1, plan.image_shape[0], *PATCH), FILL, np.float32)
    origins = np.array([(top, left) for top in tops for left in lefts], np.int64)
    got = stock.run(
        [plan.outputs[0], "unoccluded_" + plan.outputs[0]],
        {
            plan.image_input: image,
            "occlusion_origin": origins,
            "occlusion_patch": patch,
            "propagation_threshold": np.ones(1, np.float32),
        },
    )
    assert_scores_equal(got[0].reshape(*scores.shape), scores, probabilities=name in PROBABILITIES)
    assert_scores_equal(got[1][0].reshape(baseline.shape), baseline, probabilities=name in PROBABILITIES)


@pytest.mark.parametrize("name", ["resnet18_legacy", "squeezenet_fixed_batch", "vgg_nhwc"])
def test_naive_mode_equals_the_oracle(name: str) -> None:
    model, image, _, _, scores, _ = _case(name)
    heat_map = kx.OcclusionSession(model).explain(
        image, targets=range(scores.shape[2]), patch=PATCH, stride=STRIDE, fill=FILL, mode="naive", batch_size=7
    )
    assert heat_map.mode == "naive"
    assert_scores_equal(heat_map.scores, scores.transpose(2, 0, 1), probabilities=name in PROBABILITIES)

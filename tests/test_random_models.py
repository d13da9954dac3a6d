"""Random graphs of CNN operators with odd parameters: the rewritten model equals the original.

The same models in every run, as long as no step changes; `make fuzz` draws others, and many more. A failing model is
shrunk and printed, a line a node.
"""

import os

import numpy as np
import onnx
import random_channels  # noqa: F401  registers its steps
import random_local  # noqa: F401
import random_pointwise  # noqa: F401
from hypothesis import HealthCheck, assume, event, given, settings
from naive import occluded, session_of
from random_graphs import RandomModel, random_models
from rewritten_models import Rewritten
from tolerances import score_tolerance

from krypton_onnx.rewriter import Plan, plan_of, rewrite_model

EXAMPLES = 400
FUZZ = int(os.environ.get("KRYPTON_FUZZ", "0"))
"""Models to draw at random, instead of the fixed ones."""
HALF_TOLERANCE = 1e-2
"""Of float16 models, times max(1, range): a rounded result of the one batch size may differ in another."""


def full_inference(drawn: RandomModel, image: np.ndarray, origins: np.ndarray, patch: np.ndarray) -> list[np.ndarray]:
    """The outputs on the image without occlusion (first) and at every origin, one image a run, stacked."""
    session = session_of(drawn.model)
    images = [image, *(occluded(image, patch, int(top), int(left)) for top, left in origins)]
    runs = [session.run(None, {"x": one}) for one in images]
    return [np.stack([run[index] for run in runs]) for index in range(len(runs[0]))]


def inputs_of(drawn: RandomModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random image, origins (corners and others) and a patch that stands out."""
    rng = np.random.default_rng(drawn.seed)
    image = rng.standard_normal(drawn.image).astype(np.float32)
    _, channels, height, width = image.transpose(0, 3, 1, 2).shape if drawn.nhwc else image.shape
    patch = (2 * rng.standard_normal((channels, *drawn.patch))).astype(np.float32)
    lowest, rightmost = height - drawn.patch[0], width - drawn.patch[1]
    inside = np.stack([rng.integers(0, lowest + 1, 4), rng.integers(0, rightmost + 1, 4)], axis=1)
    return image, np.concatenate([[(0, 0), (lowest, rightmost)], inside]).astype(np.int64), patch


def allowed(expected: np.ndarray, half: bool) -> float:
    if half:
        return HALF_TOLERANCE * max(1.0, float(np.ptp(expected)))
    return score_tolerance(expected.astype(np.float64), probabilities=False)


class Pointless(Exception):
    """Why there is nothing to compare."""


def check(drawn: RandomModel) -> Plan:
    """Assert that rewritten and original agree; the plan. Raises Pointless where the original's answers are no test."""
    image, origins, patch = inputs_of(drawn)
    try:
        expected = full_inference(drawn, image, origins, patch)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise Pointless(f"ONNX Runtime refuses it: {str(error).split(' : ')[-1][:60]}") from error
    if not all(values.size and np.isfinite(values).all() and np.abs(values).max() < 1e4 for values in expected):
        raise Pointless("its answers are not finite, or huge")
    if np.abs(expected[0][1:] - expected[0][:1]).max() < 10 * allowed(expected[0], drawn.half):
        raise Pointless("no occlusion changes its answer")
    _, channels, height, width = image.transpose(0, 3, 1, 2).shape if drawn.nhwc else image.shape
    rewritten = rewrite_model(drawn.model, input_shape=drawn.image)
    onnx.checker.check_model(rewritten, full_check=True)
    plan = plan_of(rewritten)
    assert plan.layout == ("NHWC" if drawn.nhwc else "NCHW") and plan.image_shape == (channels, height, width)
    for kernels in (False, True):
        results = Rewritten(rewritten, kernels).outputs(image, origins, patch)
        for got, values in zip(results, expected, strict=True):
            wanted = values[1:].reshape(len(origins), *values.shape[2:])
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=0, atol=allowed(wanted, drawn.half),
                                       err_msg="with kernels" if kernels else "by the function bodies")  # fmt: skip
    return plan


@settings(
    max_examples=FUZZ or EXAMPLES, derandomize=not FUZZ, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
@given(random_models())
def test_a_random_model_is_exact(drawn: RandomModel) -> None:
    try:
        plan = check(drawn)
    except Pointless as reason:
        event(f"pointless: {reason}")
        assume(False)
    else:
        for operator in plan.operators:
            event(f"{operator.op_type} is {operator.kind}")

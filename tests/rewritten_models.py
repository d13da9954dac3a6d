"""Run a rewritten model, and compare it with the original run on occluded images."""

import numpy as np
import onnx
import onnxruntime as ort
from naive import naive_scores
from tolerances import score_tolerance

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter import Plan, plan_of, rewrite_model
from krypton_onnx.runtime import custom_ops

INPUTS = ("occlusion_origin", "occlusion_patch", "propagation_threshold")


class Rewritten:
    """A session of a rewritten model: stock ONNX Runtime, or with our kernels where there are any."""

    def __init__(self, model: onnx.ModelProto, kernels: bool = False) -> None:
        plan = plan_of(model)
        assert plan is not None
        self.plan: Plan = plan
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if kernels and custom_ops.shim_path() is not None:
            assert custom_ops.register(options, CPU_KERNELS)
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def outputs(self, image: np.ndarray, origins: np.ndarray, patch: np.ndarray, tau=1.0) -> list[np.ndarray]:
        """All original outputs of N occluded images; `patch` (C, h, w) or (N, C, h, w); tau: one value, or many."""
        patch = patch if patch.ndim == 4 else patch[None]
        values = (origins, patch, np.atleast_1d(np.asarray(tau, np.float32)))
        feeds = {self.plan.image_input: image, **dict(zip(INPUTS, values, strict=True))}
        return self.session.run(list(self.plan.outputs), feeds)


def conv_share(plan: Plan) -> float:
    """Share of the convolution multiply-adds that is incremental."""
    full = sum(operator.multiply_adds for operator in plan.operators)
    rest = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    return 1 - rest / full


def operators_of(model: onnx.ModelProto) -> list[str]:
    """Types of the ai.krypton nodes of a rewritten model."""
    return [node.op_type for node in model.graph.node if node.domain == "ai.krypton"]


def assert_exact(model: onnx.ModelProto, size: tuple[int, int] = (5, 4), seed: int = 0) -> Plan:
    """Assert that the rewritten model equals the original on random occlusions, corners included; its plan."""
    rewritten = rewrite_model(model)
    onnx.checker.check_model(rewritten, full_check=True)
    plan = plan_of(rewritten)
    rng = np.random.default_rng(seed)
    channels, height, width = plan.image_shape
    image = rng.standard_normal((1, channels, height, width)).astype(np.float32)
    if plan.layout == "NHWC":
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    patch = (3 * rng.standard_normal((channels, *size))).astype(np.float32)
    lowest, rightmost = height - size[0], width - size[1]
    corners = [(0, 0), (0, rightmost), (lowest, 0), (lowest, rightmost)]
    inside = np.stack([rng.integers(0, lowest + 1, 4), rng.integers(0, rightmost + 1, 4)], axis=1)
    origins = np.concatenate([np.array(corners, np.int64), inside])
    for kernels in (False, True):
        results = Rewritten(rewritten, kernels).outputs(image, origins, patch)
        for index, got in enumerate(results):
            expected, _ = naive_scores(model, image, origins, patch, index)
            assert got.dtype == expected.dtype and got.shape == expected.shape
            allowed = score_tolerance(expected.astype(np.float64), probabilities=False)
            np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)
    return plan

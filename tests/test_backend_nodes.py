"""The ONNX project's own node tests, as models of one operator: rewritten, they equal ONNX Runtime on occluded images.

Every case that can be an image model is run (backend_cases.py says which, and why others cannot), once with its other
inputs as constants and, where they are operands of any value, once more with them as inputs of the model.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backend_cases import Case, image_cases
from naive import occluded, session_of
from rewritten_models import INPUTS, Rewritten
from tolerances import score_tolerance

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter import Plan, plan_of, rewrite_model
from krypton_onnx.rewriter.operators import HANDLERS

# Models that run at least, and of them those that are incremental from the image to the end (a mean or a maximum of the
# frame counts, where it is updated and not computed again).
EXPECTED: Mapping[str, tuple[int, int]] = {
    "Abs": (1, 1), "Acos": (2, 2), "Acosh": (2, 2), "Add": (4, 3), "ArgMax": (16, 0), "ArgMin": (16, 0),
    "Asin": (2, 2), "Asinh": (2, 2), "Atan": (2, 2), "Atanh": (2, 2), "Attention": (45, 0), "AveragePool": (13, 13),
    "BatchNormalization": (2, 2), "Cast": (4, 2), "CastLike": (2, 1), "Ceil": (2, 2), "Celu": (1, 1), "Clip": (9, 9),
    "Concat": (12, 2), "Conv": (6, 6), "ConvTranspose": (9, 9), "Cos": (2, 2), "Cosh": (2, 2), "DFT": (10, 0),
    "DeformConv": (4, 0), "DepthToSpace": (2, 2), "Div": (6, 5), "Dropout": (6, 0), "Elu": (3, 3), "Erf": (1, 1),
    "Exp": (2, 2), "Expand": (1, 0), "Flatten": (3, 0), "Floor": (2, 2), "Gather": (3, 2), "GatherElements": (3, 0),
    "Gelu": (4, 4), "GlobalAveragePool": (2, 0), "GlobalMaxPool": (2, 0), "Greater": (4, 3), "GreaterOrEqual": (4, 3),
    "GridSample": (14, 0), "GroupNormalization": (2, 0), "HardSigmoid": (3, 3), "HardSwish": (1, 1),
    "Hardmax": (7, 1), "Identity": (2, 2), "InstanceNormalization": (2, 0), "IsInf": (3, 3), "IsNaN": (1, 1),
    "LRN": (2, 2), "LayerNormalization": (17, 0), "LeakyRelu": (3, 3), "Less": (4, 3), "LessOrEqual": (4, 3),
    "Log": (2, 2), "LogSoftmax": (7, 1), "LpNormalization": (6, 1), "LpPool": (6, 6), "MatMul": (3, 0), "Max": (7, 7),
    "MaxPool": (13, 11), "Mean": (5, 5), "Min": (7, 7), "Mish": (1, 1), "Mod": (2, 2), "Mul": (6, 5), "Neg": (2, 2),
    "PRelu": (4, 3), "Pad": (3, 3), "Pow": (11, 8), "QuantizeLinear": (4, 4), "RMSNormalization": (17, 0),
    "Reciprocal": (2, 2), "ReduceL1": (6, 0), "ReduceL2": (6, 0), "ReduceLogSum": (3, 0), "ReduceMax": (6, 0),
    "ReduceMean": (6, 0), "ReduceMin": (6, 0), "ReduceProd": (6, 0), "ReduceSum": (8, 0), "ReduceSumSquare": (6, 0),
    "Relu": (1, 1), "Reshape": (9, 0), "Resize": (39, 35), "Round": (1, 1), "ScatterElements": (7, 0), "Selu": (3, 3),
    "Shrink": (2, 2), "Sigmoid": (2, 2), "Sign": (1, 1), "Sin": (2, 2), "Sinh": (2, 2), "Slice": (6, 6),
    "Softmax": (7, 1), "Softplus": (2, 2), "Softsign": (2, 2), "SpaceToDepth": (2, 2), "Split": (14, 0),
    "Sqrt": (2, 2), "Squeeze": (1, 0), "Sub": (6, 5), "Sum": (5, 5), "Swish": (1, 1), "Tan": (2, 2), "Tanh": (2, 2),
    "ThresholdedRelu": (3, 3), "Tile": (1, 0), "TopK": (3, 0), "Transpose": (7, 2), "Unsqueeze": (7, 0),
    "Upsample": (1, 1), "Where": (2, 1),
}  # fmt: skip

# Cases that must be refused, and what the message says: they have no meaning for one image of several at once.
REFUSED: Mapping[str, tuple[str, ...]] = {
    "batch": (
        "batchnorm_*_training_mode", "compress_*", "dynamicquantizelinear*", "expand_dim_changed", "flatten_*",
        "layer_normalization_4d_axis0", "layer_normalization_4d_axis_negative_4", "maxunpool_*", "mvn",
        "reduce_*default*", "rms_normalization_4d_axis0", "rms_normalization_4d_axis_negative_4", "slice_default_axes",
        "squeeze", "tile", "training_dropout*",
    ),
    "no rewritten model can have": ("cast*FLOAT8*", "quantizelinear_e4m3fn"),
    "is the image too small": ("slice_start_out_of_bounds",),
}  # fmt: skip


@cache
def cases() -> Mapping[str, list[tuple[str, Case | str]]]:
    """By operator: the name of each case, and the image model or why there is none."""
    found: dict[str, list[tuple[str, Case | str]]] = {}
    for name, op_type, case in image_cases():
        found.setdefault(op_type, []).append((name, case))
    return found


def variants(case: Case) -> Iterator[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """The models of a case, each with the inputs that it has beside the image."""
    yield case.model, {}
    if case.open_model is not None:
        yield case.open_model, dict(case.others)


def occlusions(case: Case, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Origins (6, 2), the corners among them, and a patch (C, h, w) of the image's own values in another order."""
    rng = np.random.default_rng(0)
    shape = case.image.shape if layout == "NCHW" else [case.image.shape[axis] for axis in (0, 3, 1, 2)]
    _, channels, height, width = shape
    size = max(1, height // 2), max(1, width // 3)
    lowest, rightmost = height - size[0], width - size[1]
    inside = [(rng.integers(0, lowest + 1), rng.integers(0, rightmost + 1)) for _ in range(2)]
    origins = np.array([(0, 0), (0, rightmost), (lowest, 0), (lowest, rightmost), *inside], np.int64)
    return origins, np.resize(rng.permutation(case.image.ravel()), (channels, *size)).astype(np.float32)


def full_inference(session: ort.InferenceSession, feeds: Mapping, key: str, origins, patch) -> list[np.ndarray]:
    """Every output on each occluded image, one after the other; outputs without a batch axis are stacked."""
    runs = [session.run(None, {**feeds, key: occluded(feeds[key], patch, int(y), int(x))}) for y, x in origins]
    return [np.concatenate(values) if values[0].ndim else np.stack(values) for values in zip(*runs, strict=True)]


def assert_equal(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), what
    if expected.dtype.kind != "f":
        assert np.array_equal(got, expected), f"{what}: {np.count_nonzero(got != expected)} of {got.size} differ"
        return
    finite = expected[np.isfinite(expected)].astype(np.float64)
    allowed = score_tolerance(finite, probabilities=False) if finite.size else 0.0
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed, err_msg=what)


def is_incremental(plan: Plan) -> bool:
    """True where nothing is computed on the full frame (the running means and maxima of a frame are not)."""
    kinds = [operator.kind != "global" or "running" in (operator.reason or "") for operator in plan.operators]
    return bool(kinds) and all(kinds)


def assert_exact(name: str, case: Case, model: onnx.ModelProto, others: Mapping[str, np.ndarray]) -> str:
    """"incremental", "global", or "" where ONNX Runtime itself does not run the model."""
    feeds = {**others, case.image_input: case.image}
    try:
        session = session_of(model)
        outputs = session.run(None, feeds)
    except Exception:  # an operator or a type without a kernel; its exceptions share no base class
        return ""
    if case.op_type == "Attention" and any(np.ndim(value) and len(value) != 1 for value in outputs):
        return ""  # cut to one image, a mask still makes several of it
    try:
        rewritten = rewrite_model(model, case.image_input)
    except ModelError as error:
        known = [text for text, names in REFUSED.items() if any(fnmatch(name, pattern) for pattern in names)]
        assert known and known[0] in str(error), f"{name}: refused: {error}"
        return ""
    plan = plan_of(rewritten)
    origins, patch = occlusions(case, plan.layout)
    expected = full_inference(session, feeds, case.image_input, origins, patch)
    if case.op_type == "MaxPool" and len(expected) > 1:  # its indices count through the whole batch
        expected[1] += np.arange(len(origins)).reshape(-1, 1, 1, 1) * case.image.size
    incremental = is_incremental(plan)
    for kernels in (False, True) if incremental else (False,):
        values = (origins, patch[None], np.ones(1, np.float32))
        results = Rewritten(rewritten, kernels).session.run(
            list(plan.outputs), {**feeds, **dict(zip(INPUTS, values, strict=True))}
        )
        for got, wanted in zip(results, expected, strict=True):
            if got.ndim and len(got) == 1 and (wanted == wanted[:1]).all():  # it depends on no image
                wanted = wanted[:1]
            assert_equal(got, wanted, f"{name}, {'kernels' if kernels else 'function bodies'}")
    return "incremental" if incremental else "global"


@pytest.mark.parametrize("op_type", EXPECTED)
def test_the_cases_of_an_operator_are_exact(op_type: str) -> None:
    counts: Counter[str] = Counter()
    for name, case in cases()[op_type]:
        if isinstance(case, Case):
            counts.update(assert_exact(name, case, *variant) for variant in variants(case))
    del counts[""]
    least, incremental = EXPECTED[op_type]
    assert counts.total() >= least, f"only {counts.total()} models ran"
    assert counts["incremental"] >= incremental, f"only {counts['incremental']} are incremental"


def test_every_rule_has_cases_or_none_are_images() -> None:
    """Operators with a rule and a case that is an image model are in the table."""
    known = {op_type for op_type, found in cases().items() if any(isinstance(case, Case) for _, case in found)}
    assert set(HANDLERS) & known <= set(EXPECTED)
    assert sum(least for least, _ in EXPECTED.values()) > 500

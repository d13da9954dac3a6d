"""Convert: write the rewritten model to a file, after checking it against the original."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ModelError, one_line
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.inspection import Inspection, inspect_plan
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import graph_inputs, input_dims
from krypton_onnx.runtime.fingerprint import fingerprint
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.tuning import Tuning, store_tuning
from krypton_onnx.tolerance import scores_differ

_CHECKED_POSITIONS = 6


@dataclass(frozen=True)
class ConversionReport:
    """Result of `convert`. largest_difference: over the checked positions and all float outputs; None: not checked."""

    path: Path
    image_input: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    incremental_share: float
    redundancy_ratio: float
    end_reasons: tuple[str, ...]
    checked_positions: int
    largest_difference: float | None


def convert(
    model: Source,
    path: str | os.PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    image_input: str | None = None,
    check: bool = True,
    tuning: Tuning | None = None,
) -> ConversionReport:
    """Rewrite `model` and write it to `path`, atomically.

    input_shape : of the image input, where its height or width is unknown. image_input : where it is ambiguous.
    check : run the rewritten file in stock ONNX Runtime against the original on random occlusions first, and write
        nothing where they differ.
    tuning : what `tune` found for this model, stored with it. The model may then be a rewritten one already, which is
        written as it is, without a check.

    Raises ModelError where the model cannot be converted, the check fails or the tuning is another model's, and
    KryptonError where `path` cannot be written.
    """
    target = require_writable(path)
    original = load_model(model)
    already = plan_of(original) is not None
    if already and tuning is None:
        raise ModelError("the model is rewritten already: convert the original one")
    rewritten = original if already else rewrite_model(original, image_input, input_shape)
    plan = plan_of(rewritten)
    assert plan is not None  # rewrite_model stores it
    check = check and not already
    if tuning is not None:
        if tuning.model != fingerprint(rewritten, plan):
            raise ModelError("the tuning was made for another model: tune this one")
        store_tuning(rewritten, tuning)
    difference = check_rewritten(original, rewritten, plan) if check else None
    with atomic_write(target) as temporary:
        onnx.save(rewritten, str(temporary))
    inspection: Inspection = inspect_plan(plan, _patch_for(plan), 4)
    return ConversionReport(
        target, plan.image_input, inspection.input_shape, plan.outputs, inspection.incremental_share,
        inspection.redundancy_ratio, inspection.end_reasons, _CHECKED_POSITIONS if check else 0, difference,
    )  # fmt: skip


def check_rewritten(original: onnx.ModelProto, rewritten: onnx.ModelProto, plan: Plan, seed: int = 0) -> float:
    """Largest difference between the rewritten model in stock ONNX Runtime and the original, on random occlusions.

    Raises ModelError where it exceeds the exactness tolerance.
    """
    rng = np.random.default_rng(seed)
    channels, height, width = plan.image_shape
    size = _patch_for(plan)
    image = rng.standard_normal((1, channels, height, width), dtype=np.float32)
    patch = np.zeros((1, channels, size, size), np.float32)
    # The corners are where padding is subtle; the others are anywhere.
    tops = np.r_[0, height - size, 0, rng.integers(0, height - size + 1, _CHECKED_POSITIONS - 3)]
    lefts = np.r_[0, width - size, width - size, rng.integers(0, width - size + 1, _CHECKED_POSITIONS - 3)]
    if plan.layout == "NHWC":
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    session = _stock_session(rewritten)
    feeds = {
        plan.image_input: image,
        ORIGIN: np.stack([tops, lefts], axis=1).astype(np.int64),
        PATCH: patch,
        THRESHOLD: np.ones(1, np.float32),
    }
    others = {
        value.name: np.zeros(
            [dim if isinstance(dim, int) else 1 for dim in input_dims(value)],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in graph_inputs(rewritten)
        if value.name not in feeds
    }
    try:
        actual = session.run(list(plan.outputs), {**feeds, **others})
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = one_line(error)
        raise ModelError(f"the rewritten model does not run, nothing was written: {reason}") from error
    reference = _stock_session(original)
    images = occluded(image, plan.layout, tops, lefts, patch)
    # One by one: the original's batch may be fixed to 1.
    single = [
        reference.run(list(plan.outputs), {plan.image_input: images[n : n + 1], **others}) for n in range(len(tops))
    ]
    expected = [np.concatenate([outputs[index] for outputs in single]) for index in range(len(plan.outputs))]
    largest = 0.0
    for name, have, want in zip(plan.outputs, actual, expected, strict=True):
        problem, difference = scores_differ(have, want)
        if problem:
            raise ModelError(
                f"the rewritten model differs from the original: output '{name}' {problem}; nothing was written"
            )
        largest = max(largest, difference)
    return largest


def _patch_for(plan: Plan) -> int:
    return min(16, *plan.image_shape[1:])


def _stock_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error

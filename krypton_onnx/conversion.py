"""Convert: write the rewritten model to a file, after checking it against the original."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from krypton_onnx.checking import check_models
from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.files import require_writable
from krypton_onnx.images.preparation import Layout, Preparation, counted
from krypton_onnx.inspection import Inspection, inspect_plan
from krypton_onnx.labels import check_labels, read_labels
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.runtime.fingerprint import fingerprint
from krypton_onnx.runtime.preparing import (
    preparation_of,
    store_labels,
    store_preparation,
    stored_labels,
    stored_preparation,
)
from krypton_onnx.runtime.tuning import Tuning, store_tuning
from krypton_onnx.saving import write_model

CHECKED_POSITIONS = 12


@dataclass(frozen=True)
class ConversionReport:
    """Result of `convert`. largest_difference: over the checked positions and all float outputs; None: not checked.

    preparation, labels : stored in the written model; None where there are none.
    """

    path: Path
    image_input: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    incremental_share: float
    redundancy_ratio: float
    end_reasons: tuple[str, ...]
    checked_positions: int
    largest_difference: float | None
    preparation: Preparation | None = None
    labels: tuple[str, ...] | None = None


def convert(
    model: Source,
    path: str | os.PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    image_input: str | None = None,
    check: bool = True,
    tuning: Tuning | None = None,
    preparation: Preparation | str | None = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
) -> ConversionReport:
    """Rewrite `model` and write it to `path`, atomically.

    input_shape : of the image input, where its height or width is unknown. image_input : where it is ambiguous.
    check : run the rewritten file in stock ONNX Runtime against the original on random occlusions first, and write
        nothing where they differ (`check` tells more, at any time).
    tuning : what `tune` found for this model, stored with it.
    preparation : how pictures become the model's input, stored with it: a Preparation or the name of a preset, whose
        size yields to the model's own. labels : the names of its classes, stored with it, or the path of their file.

    With one of these three the model may be a rewritten one already: it is written as it is, without a check, to its
    own path if need be, and keeps what else is stored in it.

    Raises ModelError where the model cannot be converted, the check fails or the tuning is another model's, ImageError
    where the preparation or the labels cannot be this model's, and KryptonError where `path` cannot be written.
    """
    target = require_writable(path)
    wanted = preparation_of(preparation)
    names = read_labels(labels) if isinstance(labels, (str, os.PathLike)) else labels
    original = load_model(model)
    already = plan_of(original) is not None
    if not already and isinstance(model, (str, os.PathLike)):
        require_writable(path, inputs=[model])  # a rewritten one may get its tuning in place
    if already and tuning is None and wanted is None and names is None:
        raise ModelError("the model is rewritten already: convert the original one")
    rewritten = original if already else rewrite_model(original, image_input, input_shape)
    plan = plan_of(rewritten)
    assert plan is not None  # rewrite_model stores it
    check = check and not already
    if tuning is not None:
        if tuning.model != fingerprint(rewritten, plan):
            raise ModelError("the tuning was made for another model: tune this one")
        store_tuning(rewritten, tuning)
    if wanted is not None:
        store_preparation(rewritten, _fitted(wanted, plan))
    if names is not None:
        store_labels(rewritten, _fitting_labels(names, rewritten, plan))
    difference = _checked(original, rewritten, plan) if check else None
    write_model(rewritten, target)
    inspection: Inspection = inspect_plan(plan, _patch_for(plan), 4)
    return ConversionReport(
        target, plan.image_input, inspection.input_shape, plan.outputs, inspection.incremental_share,
        inspection.redundancy_ratio, inspection.end_reasons, CHECKED_POSITIONS if check else 0, difference,
        stored_preparation(rewritten), stored_labels(rewritten),
    )  # fmt: skip


def _checked(original: onnx.ModelProto, rewritten: onnx.ModelProto, plan: Plan) -> float:
    """The largest difference from the original. Raises ModelError where it is more than exactness allows."""
    report = check_models(original, rewritten, plan, CHECKED_POSITIONS, kernels=False)
    if report.problems:
        raise ModelError(
            f"the rewritten model differs from the original: {report.problems[0]}; nothing was written "
            "(krypton-onnx check tells more, --no-check writes it all the same)"
        )
    return report.largest_difference


def _fitted(preparation: Preparation, plan: Plan) -> Preparation:
    """Of the model's size, channels and layout. Raises ImageError where its channels are not the model's."""
    channels, height, width = plan.image_shape
    layout: Layout = "nhwc" if plan.layout == "NHWC" else "nchw"
    fitted = preparation.adapted(channels, (height, width), layout)
    if fitted.channels != channels:
        raise ImageError(
            f"the preparation makes {counted(fitted.channels)} ({fitted.channel_order}), but the model takes {channels}"
        )
    return fitted


def _fitting_labels(labels: Sequence[str], model: onnx.ModelProto, plan: Plan) -> tuple[str, ...]:
    """The names. Raises ImageError where an output is known to have another number of classes, and none has theirs."""
    names = check_labels(labels)
    shapes = [value.type.tensor_type.shape.dim for value in model.graph.output if value.name in plan.outputs]
    sizes = {shape[-1].dim_value for shape in shapes if len(shape) == 2 and shape[-1].HasField("dim_value")}
    if len(sizes) == len(shapes) and sizes and len(names) not in sizes:
        classes = " or ".join(map(str, sorted(sizes)))
        raise ImageError(f"there are {len(names)} labels, but the model has {classes} classes: give one name a class")
    return names


def _patch_for(plan: Plan) -> int:
    return min(16, *plan.image_shape[1:])

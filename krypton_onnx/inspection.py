"""What the rewriter makes of a model, for one patch and stride: the growth of the region, R, and where it ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from krypton_onnx.errors import ModelError, NotRewritable
from krypton_onnx.images.preparation import Preparation
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.normalize import find_image_input
from krypton_onnx.rewriter.unrewritten import unrewritten_plan
from krypton_onnx.runtime.advice import BatchAdvice, advise
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.preparing import stored_labels, stored_preparation
from krypton_onnx.runtime.schedule import exact_plan


@dataclass(frozen=True)
class OperatorRow:
    """One operator. Frames and regions are (height, width) in cells; the region is that of the central position."""

    name: str
    op_type: str
    kind: str  # "pointwise" | "local" | "global"
    frame: tuple[int, int] | None
    region: tuple[int, int] | None
    multiply_adds: int  # of one full inference: convolutions, and matrix products of many rows an image
    incremental_multiply_adds: int  # at the central position
    reason: str | None  # why it is global


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect`. Redundancy ratios count convolutions (and matrix products of many rows an image: MatMul of
    channels-last pictures, attention), as a mean over the grid."""

    operators: tuple[OperatorRow, ...]
    redundancy_ratio: float  # every region clipped truly
    achieved_redundancy_ratio: float  # as the batches of exact mode compute them
    incremental_share: float  # share of the convolution multiply-adds that is incremental, 0 to 1
    end_reasons: tuple[str, ...]
    input_shape: tuple[int, ...]
    patch: tuple[int, int]
    stride: tuple[int, int]
    positions: int
    batches: int
    preparation: Preparation | None = None  # stored with the model, as the labels
    labels: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name, as plain numbers, lists and dicts."""
        return asdict(self)


def inspect(
    model: Source,
    patch: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 4,
    input_shape: tuple[int, ...] | None = None,
    image_input: str | None = None,
) -> Inspection:
    """Growth of the region operator by operator, R, and where and why the incremental part ends. Runs nothing.

    A model that ONNX Runtime runs and that has no incremental form is inspected too: R is 1; `end_reasons` says why.
    patch, stride : pixels, int or (height, width). input_shape : of the image input, where height or width is unknown.
    Raises ModelError where the model cannot be read or understood, ImageError where the patch does not fit.
    """
    return _inspected(model, patch, stride, input_shape, image_input)[0]


def inspect_and_advise(
    model: Source,
    patch: int | tuple[int, int],
    stride: int | tuple[int, int],
    input_shape: tuple[int, ...] | None,
    image_input: str | None,
    batch_size: int | None,
) -> tuple[Inspection, BatchAdvice]:
    """As `inspect`, and which positions to send together where the rewritten model runs without this package.

    batch_size : most positions of a run; None chooses. Raises ModelError where the model cannot be rewritten, too.
    """
    found, plan = _inspected(model, patch, stride, input_shape, image_input)
    return found, advise(plan, make_grid(plan.image_shape[1:], patch, stride), batch_size)


def _inspected(
    model: Source,
    patch: int | tuple[int, int],
    stride: int | tuple[int, int],
    input_shape: tuple[int, ...] | None,
    image_input: str | None,
) -> tuple[Inspection, Plan]:
    loaded = load_model(model)
    try:
        plan = plan_of(rewrite_model(loaded, image_input, input_shape))
    except NotRewritable as refusal:
        plan = unrewritten_plan(loaded, find_image_input(loaded, image_input), str(refusal), input_shape)
    if plan is None:
        raise ModelError("the model has no plan: convert the original model again")
    found = inspect_plan(plan, patch, stride)
    return replace(found, preparation=stored_preparation(loaded), labels=stored_labels(loaded)), plan


def inspect_plan(plan: Plan, patch: int | tuple[int, int], stride: int | tuple[int, int]) -> Inspection:
    """As `inspect`, of a plan."""
    channels, height, width = plan.image_shape
    grid = make_grid((height, width), patch, stride)
    table = GeometryTable(**plan.table())
    batches = exact_plan(plan, grid)
    centre = [np.array([axis[len(axis) // 2]]) for axis in (grid.tops, grid.lefts)]
    extents = [table.extents(axis, centre[axis], grid.patch[axis])[0] for axis in (0, 1)]
    rows = []
    for operator in plan.operators:
        frame = region = None
        incremental = operator.multiply_adds
        if operator.geometry is not None:
            frame = plan.geometries[operator.geometry].frame
            region = int(extents[0][operator.geometry]), int(extents[1][operator.geometry])
            incremental = operator.multiply_adds * region[0] * region[1] // (frame[0] * frame[1])
        rows.append(
            OperatorRow(
                operator.name, operator.op_type, operator.kind, frame, region,
                operator.multiply_adds, incremental, operator.reason,
            )
        )  # fmt: skip
    full = sum(operator.multiply_adds for operator in plan.operators)
    remaining = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    rest = remaining * grid.positions
    total = full * grid.positions
    shape = (1, channels, height, width) if plan.layout == "NCHW" else (1, height, width, channels)
    return Inspection(
        operators=tuple(rows),
        redundancy_ratio=total / (batches.true + rest) if total else 1.0,
        achieved_redundancy_ratio=total / (batches.achieved + rest) if total else 1.0,
        incremental_share=1 - remaining / full if full else 0.0,
        end_reasons=_end_reasons(plan),
        input_shape=shape,
        patch=grid.patch,
        stride=grid.stride,
        positions=grid.positions,
        batches=len(batches.batches),
    )


def _end_reasons(plan: Plan) -> tuple[str, ...]:
    if plan.refusal is not None:
        return (f"nothing is incremental: {plan.refusal}",)
    return tuple(
        f"{operator.op_type} '{operator.name}': {operator.reason}" for operator in plan.operators if operator.frontier
    )

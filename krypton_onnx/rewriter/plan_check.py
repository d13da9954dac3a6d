"""Whether a plan that was read from a file can be one: the runtime and its kernels take it at its word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from krypton_onnx.rewriter.plan import OperatorRecord, Plan

_LIMIT = 2**40  # pixels; far from where int64 ends


def require_plan(plan: Plan) -> None:
    """Raises ValueError where a value is of the wrong type or impossible."""
    texts: list[Any] = [plan.image_input, *plan.outputs, *(name for pair in plan.logits.values() for name in pair)]
    _require(all(isinstance(text, str) for text in texts) and plan.layout in ("NCHW", "NHWC"))
    _require(all(len(pair) == 2 for pair in plan.logits.values()) and len(plan.image_shape) == 3)
    _require(plan.refusal is None or isinstance(plan.refusal, str))
    _require(set(plan.activations.values()) <= {"softmax", "sigmoid"})
    _require(all(_integer(size, 1) for size in plan.image_shape))
    for geometry in plan.geometries:
        _require(len(geometry.frame) == 2 and all(_integer(size, 1) for size in geometry.frame))
        for axis in (geometry.y, geometry.x):
            _require(_integer(axis.jump, 1) and _integer(axis.scale, 1))
            _require(_integer(axis.before, -_LIMIT) and _integer(axis.after, -_LIMIT))
    for operator in plan.operators:
        _require_operator(operator, len(plan.geometries))


def _require_operator(operator: OperatorRecord, geometries: int) -> None:
    _require(all(isinstance(text, str) for text in (operator.name, operator.op_type, operator.kind)))
    _require(operator.reason is None or isinstance(operator.reason, str))
    _require(operator.geometry is None or (_integer(operator.geometry, 0) and operator.geometry < geometries))
    # Multiply-adds have no such limit.
    counts = (operator.channels, operator.multiply_adds, operator.products, operator.elements)
    _require(all(isinstance(count, int) and count >= 0 for count in counts))


def _integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LIMIT


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("a value of the plan is of the wrong type, or impossible")

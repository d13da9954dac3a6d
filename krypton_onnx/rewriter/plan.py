"""What the rewriter decided, as data: stored in the rewritten model's metadata, read by the runtime and by inspect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import onnx

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter.geometry import AxisGrowth, Geometry
from krypton_onnx.rewriter.plan_check import require_plan

METADATA_KEY = "krypton.plan"
FORMAT = 3


@dataclass(frozen=True)
class OperatorRecord:
    """One operator of the normalized model: its kind, where its region comes from, and what it costs."""

    name: str
    op_type: str
    kind: str  # "pointwise" | "local" | "global"; in a frozen twin also "frozen" (operators/freezing.py)
    geometry: int | None  # row of Plan.geometries; None where it is global
    channels: int  # of its result in the incremental part; 0 where it is global
    multiply_adds: int  # of one full inference: convolutions, and matrix products of many rows an image; else 0
    reason: str | None = None  # why it is global
    frontier: bool = False  # global, and reads a patch activation: the incremental part ends here
    products: int = 0  # multiply-adds of one full inference of other matrix products: fully connected layers
    freezable: bool = False  # global, and a frozen twin goes on here
    elements: int = 0  # of its result for one image, where it is global; 0 where that is unknown


@dataclass(frozen=True)
class Plan:
    """The rewritten model in short."""

    image_input: str
    layout: str  # of the image input: NCHW or NHWC
    image_shape: tuple[int, int, int]  # channels, height, width
    outputs: tuple[str, ...]
    logits: Mapping[str, tuple[str, str]]  # output -> (incremental, base) tensor before its Softmax or Sigmoid
    geometries: tuple[Geometry, ...]
    operators: tuple[OperatorRecord, ...]
    refusal: str | None = None  # why the model is not rewritten and nothing incremental; None in a rewritten model
    activations: Mapping[str, str] = field(default_factory=dict)  # output -> "softmax", "sigmoid"

    @property
    def freezable(self) -> bool:
        """True where a frozen twin goes on, approximately, behind operators that end the incremental part here."""
        return any(operator.freezable for operator in self.operators)

    def table(self) -> dict[str, np.ndarray]:
        """jump, before, after, scale, frame: int64 (G, 2), a row a geometry, columns y and x; cost: float64 (G,)."""
        rows = self.geometries
        cost = np.zeros(len(rows))
        for operator in self.operators:
            if operator.geometry is not None:
                height, width = rows[operator.geometry].frame
                cost[operator.geometry] += operator.multiply_adds / (height * width)

        def column(read: Callable[[AxisGrowth], int]) -> np.ndarray:
            return np.array([[read(row.y), read(row.x)] for row in rows], np.int64).reshape(-1, 2)

        return {
            "jump": column(lambda axis: axis.jump),
            "before": column(lambda axis: axis.before),
            "after": column(lambda axis: axis.after),
            "scale": column(lambda axis: axis.scale),
            "frame": np.array([row.frame for row in rows], np.int64).reshape(-1, 2),
            "cost": cost,
        }

    def to_json(self) -> str:
        data = asdict(self)
        if not self.activations:  # as of earlier versions, whose tunings know the model by this text
            del data["activations"]
        return json.dumps({"format": FORMAT, **data})

    @staticmethod
    def from_json(text: str) -> Plan:
        """Raises ValueError where the text is not a plan of a known format."""
        data = json.loads(text)
        if data.pop("format", None) != FORMAT:
            raise ValueError("the rewritten model has a plan of another format: convert the original model again")
        data["geometries"] = tuple(
            Geometry(AxisGrowth(**row["y"]), AxisGrowth(**row["x"]), tuple(row["frame"])) for row in data["geometries"]
        )
        data["operators"] = tuple(OperatorRecord(**row) for row in data["operators"])
        data["image_shape"] = tuple(data["image_shape"])
        data["outputs"] = tuple(data["outputs"])
        data["logits"] = {name: tuple(pair) for name, pair in data["logits"].items()}
        plan = Plan(**data)
        require_plan(plan)
        return plan


def plan_of(model: onnx.ModelProto) -> Plan | None:
    """The plan stored in a rewritten model; None for any other model. Raises ModelError where it cannot be read."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            try:
                return Plan.from_json(entry.value)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # whatever JSON may hold instead
                raise ModelError(
                    f"the model's {METADATA_KEY} is not a plan of this version: convert the original model again"
                ) from None
    return None

"""What the page must know of its model, as one JSON file beside it; read off the rewritten model itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx import __version__
from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.explanation import file_digest
from krypton_onnx.images.preparation import Preparation
from krypton_onnx.rewriter import Plan, plan_of
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import graph_inputs
from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.preparing import stored_labels, stored_preparation
from krypton_onnx.runtime.scores import Scored, Scorer

FORMAT = 1
NAME = "manifest.json"
MODEL = "rewritten.onnx"
MOST_BYTES = 1 << 30
"""Of the model's file. WebAssembly has 4 GiB for all: the file, the weights made ready from it, the activations."""

IMAGE_TYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.UINT8: "uint8",
}

PageFill = float | tuple[float, ...] | Literal["mean", "black", "white", "gray"]
FILL_WORDS = ("mean", "black", "white", "gray")


@dataclass(frozen=True)
class Sample:
    """A picture for those who have none at hand: its file beside the manifest, what it shows, whose it is."""

    file: str
    caption: str
    credit: str


@dataclass(frozen=True)
class Defaults:
    """What the page proposes. patch, stride : (height, width), pixels. fill : in the model's own numbers, or a word."""

    patch: tuple[int, int]
    stride: tuple[int, int]
    fill: PageFill


@dataclass(frozen=True)
class Manifest:
    """Format 1. `model` and the sample's file lie in the manifest's own folder.

    image_shape : (channels, height, width), whatever the layout. output, unoccluded : names of outputs, float
    (N, classes). activation : what the page makes probabilities by; None where the output is to be shown as it is.
    """

    title: str
    model: str
    bytes: int
    sha256: str
    image_input: str
    image_shape: tuple[int, int, int]
    layout: str
    image_type: str
    output: str
    unoccluded: str
    activation: str | None
    score_name: str
    labels: tuple[str, ...] | None
    preparation: Preparation
    defaults: Defaults
    sample: Sample | None
    patch_input: str = PATCH
    origin_input: str = ORIGIN
    threshold_input: str = THRESHOLD
    version: str = __version__

    def to_json(self) -> str:
        data: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_model(
    path: Path,
    title: str,
    scored: Scored,
    defaults: Defaults,
    sample: Sample | None = None,
) -> Manifest:
    """The manifest of a rewritten model in a file, which holds its preparation. It is run once.

    Raises ModelError where a page cannot give the model what it takes, ImageError where an argument does not fit it.
    """
    model = onnx.load(str(path), load_external_data=False)
    plan = plan_of(model)
    preparation = stored_preparation(model)
    assert plan is not None and preparation is not None
    size = path.stat().st_size
    require_small(size)
    scorer = Scorer(plan, scored)
    labels = stored_labels(model)
    _require_classes(labels, _classes(path, model, plan, scorer.output))
    _require_inside(defaults, plan)
    return Manifest(
        title=title, model=path.name, bytes=size, sha256=file_digest(path), image_input=plan.image_input,
        image_shape=plan.image_shape, layout=plan.layout, image_type=_image_type(model, plan),
        output=scorer.output, unoccluded=UNOCCLUDED + scorer.output, activation=scored.activation,
        score_name=scorer.name, labels=labels, preparation=preparation, defaults=defaults, sample=sample,
    )  # fmt: skip


def require_small(size: int) -> None:
    """Raises ModelError where a model of so many bytes is too large for a page."""
    if size > MOST_BYTES:
        raise ModelError(
            f"the model has {size / 1e9:.1f} GB, and a browser's WebAssembly cannot take more than "
            f"{MOST_BYTES / 1e9:.1f} GB: explain it on a server (krypton-onnx explain)"
        )


def require_image_alone(model: onnx.ModelProto, plan: Plan) -> None:
    """Raises ModelError where a rewritten model takes more than an image."""
    own = (plan.image_input, ORIGIN, PATCH, THRESHOLD)
    others = [value.name for value in graph_inputs(model) if value.name not in own]
    if others:
        raise ModelError(
            f"the model has inputs beside its image '{plan.image_input}' ({', '.join(others)}), for which a page has "
            "no values: make them constants of the model, or explain it from Python"
        )


def _image_type(model: onnx.ModelProto, plan: Plan) -> str:
    [image] = [value for value in model.graph.input if value.name == plan.image_input]
    return IMAGE_TYPES[image.type.tensor_type.elem_type]


def _classes(path: Path, model: onnx.ModelProto, plan: Plan, output: str) -> int:
    """How many the output has, found by one run of the file in stock ONNX Runtime, as a page runs it.

    Raises ModelError where it is no list of numbers a class.
    """
    require_image_alone(model, plan)
    channels, height, width = plan.image_shape
    shape = (1, channels, height, width) if plan.layout == "NCHW" else (1, height, width, channels)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = open_session(str(path), options, whose="the rewritten model")
    feeds = {
        plan.image_input: np.zeros(shape, _image_type(model, plan)),
        ORIGIN: np.zeros((1, 2), np.int64),
        PATCH: np.zeros((1, channels, 1, 1), np.float32),
        THRESHOLD: np.ones(1, np.float32),
    }
    try:
        [scores] = session.run([output], feeds)
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot run the rewritten model: {error}") from None
    scores = np.asarray(scores)
    if scores.dtype.kind != "f" or scores.ndim < 2 or int(np.prod(scores.shape[2:])) != 1 or scores.shape[1] < 1:
        raise ModelError(
            f"output '{output}' has shape {scores.shape} ({scores.dtype}), not one number a class: a page shows "
            "classifications only (other models: kx.OcclusionSession with score=callable(outputs))"
        )
    return scores.shape[1]


def _require_classes(labels: Sequence[str] | None, classes: int) -> None:
    if labels is not None and len(labels) != classes:
        raise ImageError(f"there are {len(labels)} labels, but the model has {classes} classes: give one name a class")


def _require_inside(defaults: Defaults, plan: Plan) -> None:
    channels, *frame = plan.image_shape
    if any(side > whole for side, whole in zip(defaults.patch, frame, strict=True)):
        patch, whole = (" x ".join(map(str, sizes)) for sizes in (defaults.patch, frame))
        raise ImageError(f"the patch of {patch} is larger than the model's image of {whole}: give a smaller --patch")
    fill = defaults.fill
    if isinstance(fill, tuple) and len(fill) not in (1, channels):
        raise ImageError(f"the fill has {len(fill)} numbers, but the model's image {channels} channels: one a channel")

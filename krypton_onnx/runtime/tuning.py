"""The result of tuning: which setting keeps the promise, for what, and on which evidence. Plain data, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from krypton_onnx.errors import ModelError
from krypton_onnx.runtime.fidelity import Fidelity
from krypton_onnx.runtime.fills.words import Fill, OneFill, fills_of
from krypton_onnx.runtime.metadata import entry, set_entry
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.relation import Relation
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.runtime.setting import Setting

if TYPE_CHECKING:
    from krypton_onnx.runtime.question import Question

DescribedFill = float | str | tuple[float | str | tuple[float, ...], ...]

METADATA_KEY = "krypton.tuning"
FORMAT = 1


@dataclass(frozen=True)
class Specification:
    """What a tuning holds for. frame : (height, width) of the image; fill and score : as numbers or words, or functions
    by their name (what a lambda or an object of a class does is not looked at). fill_space, fill_samples : as by
    default where the fill does not depend on them."""

    frame: tuple[int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    fill: DescribedFill
    score: str
    output: str | None
    # What tunings did not know at first, and so held for:
    fill_space: str = Occlusion.fill_space
    fill_samples: int = Occlusion.fill_samples
    patch_shape: str = "rectangle"

    def differences(self, other: Specification) -> list[str]:
        """What `other` asks for that this is not, in words."""
        return [
            f"{one.name} {_words(getattr(self, one.name))}, not {_words(getattr(other, one.name))}"
            for one in fields(self)
            if getattr(self, one.name) != getattr(other, one.name)
        ]


@dataclass(frozen=True)
class Evidence:
    """What the choice rests on: every image tried with relations fitted without it.

    images : their names. similarities : SSIM, (images, draws of check cells). speedup : over exact maps, by
    the work, mean over the trials. exact_seconds : of an exact map where it was tuned, the median.
    """

    images: tuple[str, ...]
    similarities: tuple[tuple[float, ...], ...]
    speedup: float
    exact_seconds: float


@dataclass(frozen=True)
class Tuning:
    """A setting for one model and specification that keeps an SSIM of `min_ssim`.

    model : fingerprint of the model. relations, margin : see `Goal`. thresholds : per fidelity, what to feed as
    `propagation_threshold` where the rewritten model is run without this package.
    """

    specification: Specification
    model: str
    min_ssim: float
    setting: Setting
    relations: tuple[Relation, ...]
    margin: float
    thresholds: tuple[tuple[float, ...], ...]
    evidence: Evidence
    seed: int = 0
    format: int = field(default=FORMAT)

    @property
    def expected_ssim(self) -> float:
        """Mean SSIM over the calibration images."""
        return float(np.mean(self.evidence.similarities))

    @property
    def lowest_ssim(self) -> float:
        """The lowest of any calibration image and draw of check cells."""
        return float(np.min(self.evidence.similarities))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Tuning:
        """Raises ModelError where the text is no tuning of this format."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']}")
            given = data["specification"]
            setting = Setting(
                tuple(Fidelity(**one) for one in data["setting"]["fidelities"]),
                tuple(tuple(rung) for rung in data["setting"]["rungs"]),
            )
            evidence = {name: _tuples(value) for name, value in data["evidence"].items()}
            return Tuning(
                Specification(**{name: _tuples(value) for name, value in given.items()}), data["model"],
                data["min_ssim"], setting, tuple(Relation(**one) for one in data["relations"]), data["margin"],
                _tuples(data["thresholds"]), Evidence(**evidence), data["seed"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the tuning stored with the model cannot be read ({type(error).__name__}: {error}): tune it again"
            ) from None


def store_tuning(model: onnx.ModelProto, tuning: Tuning) -> None:
    """Put a tuning into a model's metadata, in place of any other."""
    set_entry(model, METADATA_KEY, tuning.to_json())


def stored_tuning(model: onnx.ModelProto) -> str | None:
    """The text of the tuning stored with a model; None where there is none."""
    return entry(model, METADATA_KEY)


def specification(question: Question, occlusion: Occlusion, scored: Scored) -> Specification:
    """What one call of `explain` asks for. question : made of the other two."""
    grid, fills = question.grid, fills_of(occlusion.fill)
    numbers = any(not isinstance(fill, str) for fill in fills)
    sampled = any(isinstance(fill, str) and fill == "surroundings" for fill in fills)
    return Specification(
        question.frame, grid.patch, grid.stride, describe_fill(occlusion.fill), describe_score(scored),
        question.scorer.output,
        fill_space=occlusion.fill_space if numbers else Occlusion.fill_space,
        fill_samples=int(occlusion.fill_samples) if sampled else Occlusion.fill_samples,
        patch_shape=describe_shape(occlusion.patch_shape),
    )  # fmt: skip


def describe_fill(fill: Fill) -> DescribedFill:
    """A fill as a tuning remembers it: its numbers or word, or what tells it from another; a tuple of words and of
    tuples of numbers where the scores of several are averaged."""
    fills = fills_of(fill)
    if len(fills) == 1:
        return _describe_one(fills[0])
    described = [_describe_one(one) for one in fills]
    return tuple(one if isinstance(one, (str, tuple)) else (one,) for one in described)


def describe_shape(shape: str | np.ndarray) -> str:
    """The shape of a patch as a tuning remembers it."""
    return shape if isinstance(shape, str) else f"mask {_digest(np.asarray(shape, np.float32))}"


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _describe_one(fill: OneFill) -> float | tuple[float, ...] | str:
    if isinstance(fill, str):
        return fill
    if callable(fill):
        return _name(fill)
    value = np.asarray(fill, np.float32)
    if value.ndim == 0:
        return float(value)
    if value.ndim == 1:
        return tuple(float(one) for one in value) if np.ptp(value) else float(value[0])
    return f"array {_digest(value)}"


def describe_score(scored: Scored) -> str:
    """A score as a tuning remembers it: its name."""
    if callable(scored.score):
        return _name(scored.score)
    return scored.score if scored.activation is None else f"{scored.activation} {scored.score}"


def _name(function: Callable) -> str:
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"{_name(function.func)}({', '.join(given)})"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return (" x " if all(isinstance(one, int) for one in value) else ", ").join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

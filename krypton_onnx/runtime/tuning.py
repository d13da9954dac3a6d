"""The result of tuning: which setting keeps the promise, for what, and on which evidence. Plain data, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import onnx

from krypton_onnx.errors import ModelError
from krypton_onnx.runtime.fidelity import Fidelity
from krypton_onnx.runtime.grid import Fill, Grid
from krypton_onnx.runtime.relation import Relation
from krypton_onnx.runtime.scores import Score
from krypton_onnx.runtime.setting import Setting

METADATA_KEY = "krypton.tuning"
FORMAT = 1


@dataclass(frozen=True)
class Specification:
    """What a tuning holds for. frame : (height, width) of the image; fill and score : as numbers, or functions by their
    name (what a lambda or an object of a class does is not looked at)."""

    frame: tuple[int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    fill: float | tuple[float, ...] | str
    score: str
    output: str | None

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
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key == METADATA_KEY:
            del model.metadata_props[index]
    model.metadata_props.add(key=METADATA_KEY, value=tuning.to_json())


def stored_tuning(model: onnx.ModelProto) -> str | None:
    """The text of the tuning stored with a model; None where there is none."""
    return next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)


def specification(frame: tuple[int, int], grid: Grid, fill: Fill, score: Score, output: str | None) -> Specification:
    """What one call of `explain` asks for."""
    return Specification(frame, grid.patch, grid.stride, describe_fill(fill), describe_score(score), output)


def describe_fill(fill: Fill) -> float | tuple[float, ...] | str:
    """A fill as a tuning remembers it: its numbers, or what tells it from another."""
    if callable(fill):
        return _name(fill)
    value = np.asarray(fill, np.float32)
    if value.ndim == 0:
        return float(value)
    if value.ndim == 1:
        return tuple(float(one) for one in value) if np.ptp(value) else float(value[0])
    return "array " + hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]


def describe_score(score: Score) -> str:
    """A score's name."""
    return score if isinstance(score, str) else _name(score)


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

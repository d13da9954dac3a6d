"""From a model's outputs to scores: (N, classes), the chosen score, the chosen targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter.plan import Plan
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.tolerance import is_noise

Score = str | Callable[[Mapping[str, np.ndarray]], np.ndarray]
SCORES = ("output", "logit", "margin")


class Scorer:
    """Reads (N, classes) scores from outputs by name.

    `tensors(incremental)` are the tensors it needs, by the names of the incremental or of the base part.
    """

    def __init__(self, plan: Plan, score: Score, output: str | None) -> None:
        """Raises ImageError where the score is unknown or the output ambiguous."""
        if not callable(score) and not (isinstance(score, str) and score in SCORES):
            raise ImageError(f"score must be one of {', '.join(SCORES)} or a callable, got {score!r}")
        if output is not None and output not in plan.outputs:
            raise ImageError(f"output '{output}': no such output; the model has: {', '.join(plan.outputs)}")
        if output is None and not callable(score) and len(plan.outputs) > 1:
            names = ", ".join(plan.outputs)
            raise ImageError(f"the model has several outputs ({names}): choose one with output= (--model-output NAME)")
        self._plan = plan
        self._score = score
        self._output = output or plan.outputs[0]

    def of_twin(self, plan: Plan) -> Scorer:
        """The same scores of the same model, rewritten in another way."""
        return Scorer(plan, self._score, self._output)

    def tensors(self, base: bool, unoccluded: str = "") -> tuple[str, ...]:
        """Names to fetch. base: of the base pass, whose outputs carry the prefix `unoccluded`."""
        if callable(self._score):
            return tuple((unoccluded if base else "") + name for name in self._plan.outputs)
        if self._score in ("logit", "margin") and self._output in self._plan.logits:
            name = self._plan.logits[self._output][1 if base else 0]
            if not name:
                raise ImageError(
                    f"score='{self._score}': output '{self._output}' comes from control flow, which hides its logits: "
                    "pass score='output' or a callable"
                )
            # A logit that is an output itself carries the prefix too, which the full model does not know.
            return (name if unoccluded else name.removeprefix(UNOCCLUDED),)
        return ((unoccluded if base else "") + self._output,)

    @property
    def output(self) -> str:
        """Name of the output that is scored."""
        return self._output

    @property
    def saturates(self) -> bool:
        """True where what is scored comes out of a Softmax or Sigmoid."""
        return self._score == "output" and self._output in self._plan.logits

    def of_one(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """As a call, of the tensors of one image, whose first axis need not be the batch: float32 (1, classes)."""
        if callable(self._score):
            return self._called(values, 1)
        value = np.asarray(values[0], np.float32)
        scores = self([value.reshape(1, -1) if value.ndim < 2 else value])
        if len(scores) != 1:
            raise ImageError(
                f"output '{self._output}' has shape {value.shape} for one image, not (1, classes): "
                "pass score=callable(outputs)"
            )
        return scores

    def _called(self, values: Sequence[np.ndarray], images: int) -> np.ndarray:
        assert callable(self._score)
        made = self._score(dict(zip(self._plan.outputs, values, strict=True)))
        try:
            scores = np.asarray(made, np.float32)
        except (TypeError, ValueError):
            kind = type(made).__name__
            raise ImageError(f"score returned {kind}, not numbers; expected (N, classes) with N = {images}") from None
        if scores.ndim != 2 or len(scores) != images:
            raise ImageError(f"score returned shape {scores.shape}; expected (N, classes) with N = {images}")
        return scores

    def __call__(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (N, classes) from the fetched tensors, in the order of `tensors`."""
        if callable(self._score):
            return self._called(values, len(values[0]))
        value = np.asarray(values[0], np.float32)
        if value.ndim == 1:
            value = value[:, None]
        if int(np.prod(value.shape[2:])) != 1:
            raise ImageError(
                f"output '{self._output}' has shape {value.shape}, not (N, classes): pass score=callable(outputs)"
            )
        scores = value.reshape(value.shape[0], value.shape[1])
        return _margin(scores) if self._score == "margin" else scores


def _margin(scores: np.ndarray) -> np.ndarray:
    """Each class minus the largest other one."""
    if scores.shape[1] < 2:
        raise ImageError("score='margin' needs at least two classes")
    order = np.argsort(scores, axis=1)
    best, second = order[:, -1], order[:, -2]
    rows = np.arange(len(scores))
    others = np.repeat(scores[rows, best][:, None], scores.shape[1], axis=1)
    others[rows, best] = scores[rows, second]
    return scores - others


def choose_targets(targets: int | Sequence[int] | None, baseline: np.ndarray) -> tuple[int, ...]:
    """Class ids; None is the class predicted for the unoccluded image. Raises ImageError where one is out of range."""
    classes = len(baseline)
    if not classes:
        raise ImageError("there are no classes: the output has no values")
    if targets is None:
        return _finite((int(np.argmax(baseline)),), baseline)
    several = isinstance(targets, Iterable) and not isinstance(targets, (str, np.ndarray))
    try:
        ids = np.atleast_1d(np.asarray(list(targets) if isinstance(targets, Iterable) and several else targets))
    except ValueError:  # of uneven nesting
        ids = np.empty((1, 1))
    if not ids.size:
        raise ImageError("targets is empty: give class ids, or None for the predicted class")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ImageError(f"targets must be a class id or several, got {' '.join(repr(targets).split())}")
    chosen = tuple(int(target) for target in ids)
    for target in chosen:
        if not 0 <= target < classes:
            raise ImageError(f"target {target} is out of range: the model has {classes} classes, 0 to {classes - 1}")
        if chosen.count(target) > 1:
            raise ImageError(f"target {target} is given twice: name each class once")
    return _finite(chosen, baseline)


def _finite(targets: tuple[int, ...], baseline: np.ndarray) -> tuple[int, ...]:
    """The targets. Raises ImageError where one has no finite score to start from: then nothing drops from it."""
    for target in targets:
        if not np.isfinite(baseline[target]):
            raise ImageError(
                f"the score of class {target} is {baseline[target]} for the unoccluded image: "
                "does the model take such values as this image has, and are its weights finite?"
            )
    return targets


def warn_of_noise(heat_map: HeatMap, scorer: Scorer) -> None:
    """Warn where a map of probabilities is flat up to rounding, as that of a saturated classifier."""
    known = heat_map.scores[0, heat_map.computed]
    if known.size > 1 and scorer.saturates and is_noise(known):
        warnings.warn(
            f"the probability hardly changes over the map (from {known.min():.6g} to {known.max():.6g}), no more than "
            "rounding does: score='logit' or score='margin' shows what moves before it is saturated",
            stacklevel=3,
        )

"""From a model's outputs to scores: (N, classes), the chosen score, the chosen targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.rewriter.plan import Plan
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.tolerance import is_noise

Score = str | Callable[[Mapping[str, np.ndarray]], np.ndarray]
SCORES = ("output", "logit", "margin", "log-odds")
ACTIVATIONS = ("softmax", "sigmoid")
ACTIVATED = ("output", "log-odds")  # the scores that an activation can be asked for with


@dataclass(frozen=True)
class Scored:
    """The arguments of OcclusionSession.explain that say which number of a class is mapped; see there."""

    score: Score = "output"
    activation: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        """Raises ImageError where the score or the activation is unknown, or one makes no sense with the other."""
        score, activation = self.score, self.activation
        if not callable(score) and not (isinstance(score, str) and score in SCORES):
            raise ImageError(f"score must be one of {', '.join(SCORES)} or a callable, got {score!r}")
        if activation is None:
            return
        if not (isinstance(activation, str) and activation in ACTIVATIONS):
            raise ImageError(f"activation must be one of {', '.join(ACTIVATIONS)} or None, got {activation!r}")
        if score not in ACTIVATED:
            raise ImageError(f"activation={activation!r} has no meaning with score={_name_of(score)!r}: leave it out")


class Scorer:
    """Reads (N, classes) scores from outputs by name.

    `tensors(incremental)` are the tensors it needs, by the names of the incremental or of the base part.
    """

    def __init__(self, plan: Plan, scored: Scored) -> None:
        """Raises ImageError where the output is ambiguous, or has an activation already, or none to undo."""
        score, output = scored.score, scored.output
        if output is not None and output not in plan.outputs:
            raise ImageError(f"output '{output}': no such output; the model has: {', '.join(plan.outputs)}")
        if output is None and not callable(score) and len(plan.outputs) > 1:
            names = ", ".join(plan.outputs)
            raise ImageError(f"the model has several outputs ({names}): choose one with output= (--model-output NAME)")
        self._plan = plan
        self._scored = scored
        self._score = score
        self._output = output or plan.outputs[0]
        self._activated = self._output in plan.logits
        if self._activated and scored.activation is not None:
            raise ImageError(
                f"output '{self._output}' comes out of a softmax or sigmoid already: "
                "leave activation= (--activation) out"
            )
        self._activation = scored.activation or plan.activations.get(self._output)
        if score == "log-odds" and self._activated and self._activation is None and all(plan.logits[self._output]):
            raise ModelError("the model was converted by an earlier version, which kept no log-odds: convert it again")
        if score == "log-odds" and not self._activated and scored.activation is None:
            raise ImageError(
                f"score='log-odds': output '{self._output}' is no probability of the model's own: say which one its "
                "values are made, by activation='softmax' or 'sigmoid' (--activation)"
            )

    def of_twin(self, plan: Plan) -> Scorer:
        """The same scores of the same model, rewritten in another way."""
        return Scorer(plan, replace(self._scored, output=self._output))

    def tensors(self, base: bool, unoccluded: str = "") -> tuple[str, ...]:
        """Names to fetch. base: of the base pass, whose outputs carry the prefix `unoccluded`."""
        if callable(self._score):
            return tuple((unoccluded if base else "") + name for name in self._plan.outputs)
        if self._score != "output" and self._activated:
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
        return self._score == "output" and (self._activated or self._scored.activation is not None)

    @property
    def name(self) -> str:
        """What the score is, for a picture."""
        return "probability" if self.saturates else _name_of(self._score)

    def of_one(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """As a call, of the tensors of one image, whose first axis need not be the batch: float32 (1, classes)."""
        if callable(self._score):
            return self._called(values, 1)
        arrays = [np.asarray(value, np.float32) for value in values]
        scores = self([value.reshape(1, -1) if value.ndim < 2 else value for value in arrays])
        if len(scores) != 1:
            raise ImageError(
                f"output '{self._output}' has shape {arrays[0].shape} for one image, not (1, classes): "
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
        table = self._table(values[0])
        if self._score == "margin":
            return _margin(table)
        if self._score == "log-odds":
            return _log_odds(table, self._activation)
        if self._scored.activation is not None:
            return _activated(self._scored.activation, table)
        return table

    def _table(self, value: np.ndarray) -> np.ndarray:
        """As float32 (N, classes)."""
        value = np.asarray(value, np.float32)
        if value.ndim == 1:
            value = value[:, None]
        if int(np.prod(value.shape[2:])) != 1:
            raise ImageError(
                f"output '{self._output}' has shape {value.shape}, not (N, classes): pass score=callable(outputs)"
            )
        return value.reshape(value.shape[0], value.shape[1])


def _name_of(score: Score) -> str:
    return score if isinstance(score, str) else getattr(score, "__name__", type(score).__name__)


def _activated(name: str, logits: np.ndarray) -> np.ndarray:
    """Probabilities, float32 (N, classes), of what a model gives without them."""
    # SciPy's functions take a while to import, and most scores need none.
    from scipy.special import expit, softmax

    wide = logits.astype(np.float64)
    return (softmax(wide, axis=1) if name == "softmax" else expit(wide)).astype(np.float32)


def _log_odds(logits: np.ndarray, activation: str | None) -> np.ndarray:
    """log p / (1 - p) of each class, from the logits, so that it stays a number where p is rounded to 1.

    Of a sigmoid they are the logits; of a softmax, a logit minus the log of the sum of exponentials of all others.
    """
    if activation == "sigmoid":
        return logits
    wide = logits.astype(np.float64)
    rows, best = np.arange(len(wide)), wide.argmax(axis=1)
    largest = wide[rows, best][:, None]
    exponentials = np.exp(wide - largest)
    with np.errstate(divide="ignore"):  # of a single class, whose odds are infinite
        # The best class is among the others of every other one, so nothing cancels; its own others are summed anew.
        others = largest + np.log(exponentials.sum(axis=1, keepdims=True) - exponentials)
        rest = wide.copy()
        rest[rows, best] = -np.inf
        second = np.maximum(rest.max(axis=1), np.finfo(np.float64).min)
        others[rows, best] = second + np.log(np.exp(rest - second[:, None]).sum(axis=1))
    return (wide - others).astype(np.float32)


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


def choose_targets(
    targets: int | Sequence[int] | None, baseline: np.ndarray, top: int | None = None
) -> tuple[int, ...]:
    """Class ids; None is the class predicted for the unoccluded image, or the `top` ones of the largest scores.

    Raises ImageError where one is out of range.
    """
    classes = len(baseline)
    if not classes:
        raise ImageError("there are no classes: the output has no values")
    if top is not None:
        if targets is not None:
            raise ImageError("top and targets are both given: name the classes, or ask for the best ones")
        if top > classes:
            raise ImageError(f"top={top}: the model has {classes} class{'es' if classes > 1 else ''}")
        return _finite(tuple(int(one) for one in np.argsort(-baseline, kind="stable")[:top]), baseline)
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

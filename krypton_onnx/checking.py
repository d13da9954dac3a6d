"""Check: a rewritten model against the original on random occlusions, output by output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.check_trials import Trial, patch_sizes, trials
from krypton_onnx.errors import ImageError, ModelError, one_line
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import graph_inputs, input_dims
from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.engine import Engine, SessionSettings
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.session import available_cores
from krypton_onnx.runtime.split import full_model
from krypton_onnx.tolerance import Comparison, compare_scores

POSITIONS = 36
BODIES, KERNELS, BASE = "function bodies", "kernels", "base pass"
Run = Callable[[Trial], list[np.ndarray]]  # outputs of N occlusions, each with batch N


@dataclass(frozen=True)
class OutputCheck:
    """One output, computed in one way, over all occlusions.

    way : "function bodies" (the file in stock ONNX Runtime), "kernels" (in two parts with our kernels, as `explain`
        runs it) or "base pass" (the output unoccluded_<name>, of the image without occlusion).
    largest_difference, tolerance : where they come closest to, or exceed most, what is allowed; of integers, how many
        values differ and how many may.
    change : the largest change that an occlusion made to this output; where it is not above the tolerance, the
        occlusions could hide a mistake.
    compared : finite values that were compared. problem : what is wrong; "" where nothing is.
    """

    output: str
    way: str
    largest_difference: float
    tolerance: float
    change: float
    compared: int
    problem: str

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class CheckReport:
    """Result of `check`. against : "the original model", or "its own base pass" where there was none."""

    against: str
    image_input: str
    input_shape: tuple[int, ...]
    positions: int
    patches: tuple[tuple[int, int], ...]
    seed: int
    outputs: tuple[OutputCheck, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.outputs)

    @property
    def largest_difference(self) -> float:
        """Over all outputs and ways."""
        return max(row.largest_difference for row in self.outputs)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line each."""
        return tuple(f"output '{row.output}' {row.problem} ({row.way})" for row in self.outputs if row.problem)

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name, as plain numbers, lists and dicts; what JSON cannot hold (infinity) is None."""
        data = {"passed": self.passed, **asdict(self)}
        for row, check in zip(data["outputs"], self.outputs, strict=True):
            row["passed"] = check.passed
            for name in ("largest_difference", "change"):
                row[name] = row[name] if np.isfinite(row[name]) else None
        return data


def check(
    model: Source,
    rewritten: Source | None = None,
    positions: int = POSITIONS,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
    image_input: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Compare exact incremental inference with full inference on random occlusions, on every output.

    model : the original. Where it is a rewritten one, and `rewritten` is None, its incremental part is compared with
        its own base pass. rewritten : what `convert` wrote; None makes it, in memory.
    positions : occlusions in all, dealt over two images (independent pixels, smooth waves) and three sizes of the
        patch, at corners, edges and inside. seed : of all that is random.
    input_shape : of the image input, where its height or width is unknown. image_input : where it is ambiguous.
    progress : callable(done, total), positions.

    The rewritten model runs by its function bodies in stock ONNX Runtime, and with our kernels where there are any.
    Inputs beside the image are normal numbers, or 0 and 1 where they are integers. The allowed difference is that of
    `krypton_onnx.tolerance`; integers must be equal. A mismatch is part of the report, not an exception.

    Raises ModelError where a model cannot be read or run, has no incremental form, or belongs to another, and
    ImageError where an argument is no sensible number.
    """
    for name, value, least in (("positions", positions, 1), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ImageError(f"{name} must be an integer of at least {least}, got {value!r}")
    original = load_model(model)
    own = plan_of(original)
    if own is not None:
        if rewritten is not None:
            raise ModelError("the first model is a rewritten one: name the original first, or the rewritten one alone")
        return check_models(None, original, own, positions, seed, progress=progress)
    made = rewrite_model(original, image_input, input_shape) if rewritten is None else load_model(rewritten)
    plan = plan_of(made)
    if plan is None:
        raise ModelError("the second model is no rewritten one: name the original first, then what convert wrote")
    _require_same(original, plan)
    return check_models(original, made, plan, positions, seed, progress=progress)


def check_models(
    original: onnx.ModelProto | None,
    rewritten: onnx.ModelProto,
    plan: Plan,
    positions: int,
    seed: int = 0,
    kernels: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """As `check`, of loaded models. original : None compares with the base pass. kernels : with them, too."""
    reference = _session(full_model(rewritten, plan) if original is None else original, "the original model")
    ways: dict[str, Run] = {BODIES: _bodies(rewritten, plan)}
    if kernels:
        engine = Engine(lambda: rewritten, SessionSettings(workers=available_cores()))
        if engine.kernels:
            ways[KERNELS] = _kernels(engine)
    quantized = any(node.op_type == "QuantizeLinear" for node in rewritten.graph.node)
    rows: dict[tuple[str, str], OutputCheck] = {}
    done = 0
    for trial in trials(rewritten, plan, positions, seed):
        whose = "the original model" if original is not None else "its base pass"
        truth = _Truth(reference, plan, trial, whose, quantized)
        for way, run in ways.items():
            actual = _attempt(run, trial, "the rewritten model")
            base, actual = actual[len(plan.outputs) :], actual[: len(plan.outputs)]
            for index, name in enumerate(plan.outputs):
                found = truth.compare(index, actual[index], run)
                change = truth.change(index)
                _add(rows, name, way, found, change)
                if base and original is not None:
                    _add(rows, name, BASE, compare_scores(base[index], truth.unoccluded[index], quantized), change)
        done += len(trial.tops)
        if progress is not None:
            progress(done, positions)
    channels, height, width = plan.image_shape
    shape = (1, channels, height, width) if plan.layout == "NCHW" else (1, height, width, channels)
    return CheckReport(
        "its own base pass" if original is None else "the original model", plan.image_input, shape, positions,
        patch_sizes(plan), seed, tuple(_judged(row) for row in rows.values()),
    )  # fmt: skip


class _Truth:
    """Full inference of a trial's occluded images one by one, since the original's batch may be fixed to 1."""

    def __init__(
        self, reference: ort.InferenceSession, plan: Plan, trial: Trial, whose: str, quantized: bool
    ) -> None:
        self.trial, self.quantized = trial, quantized
        names = list(plan.outputs)
        images = occluded(trial.image, plan.layout, trial.tops, trial.lefts, trial.patches)

        def run(image: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(value) for value in reference.run(names, {plan.image_input: image, **trial.others})]

        self.unoccluded = _attempt(run, trial.image, whose)
        self.single = [_attempt(run, images[n : n + 1], whose) for n in range(len(images))]

    def compare(self, index: int, actual: np.ndarray, run: Run) -> Comparison:
        """One output. Where it has no batch, or another shape for every image, the occlusions run one by one."""
        expected = [outputs[index] for outputs in self.single]
        shapes = {one.shape for one in expected}
        if len(shapes) == 1 and expected[0].ndim and len(expected[0]) == 1:
            alike = all(np.array_equal(one, expected[0], equal_nan=one.dtype.kind == "f") for one in expected)
            if alike and len(actual.shape) == expected[0].ndim and len(actual) == 1:  # it depends on no image
                return compare_scores(actual, expected[0], self.quantized)
            return compare_scores(actual, np.concatenate(expected), self.quantized)
        alone = [_attempt(run, self.trial.single(n), "the rewritten model")[index] for n in range(len(expected))]
        return _worst([compare_scores(have, want, self.quantized) for have, want in zip(alone, expected, strict=True)])

    def change(self, index: int) -> float:
        """How much the occlusions change one output: the largest change, of integers how many values."""
        before, largest = self.unoccluded[index], 0.0
        for outputs in self.single:
            after = outputs[index]
            if after.shape != before.shape:
                return float("inf")
            if after.dtype.kind == "f":
                with np.errstate(invalid="ignore"):
                    moved = np.abs(after.astype(np.float64) - before)
                largest = max(largest, float(np.nanmax(moved, initial=0.0)))
            else:
                largest = max(largest, float(np.count_nonzero(after != before)))
        return largest


def _bodies(rewritten: onnx.ModelProto, plan: Plan) -> Run:
    session = _session(rewritten, "the rewritten model", as_written=True)
    names = [*plan.outputs, *(UNOCCLUDED + name for name in plan.outputs)]

    def run(trial: Trial) -> list[np.ndarray]:
        feeds = {
            plan.image_input: trial.image,
            ORIGIN: np.stack([trial.tops, trial.lefts], axis=1),
            PATCH: trial.patches,
            THRESHOLD: np.ones(1, np.float32),
            **trial.others,
        }
        return [np.asarray(value) for value in session.run(names, feeds)]

    return run


def _kernels(engine: Engine) -> Run:
    def run(trial: Trial) -> list[np.ndarray]:
        views = engine.materialize(trial.image, trial.others)
        outputs = engine.plan.outputs
        return engine.run(views, trial.tops, trial.lefts, trial.patches, outputs, np.ones(1, np.float32))

    return run


def _session(model: onnx.ModelProto, whose: str, as_written: bool = False) -> ort.InferenceSession:
    """as_written : QDQ nodes run as they stand, as those of a rewritten model must (docs/rewritten-model.md)."""
    options = ort.SessionOptions()
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 4  # what is wrong is raised
    return open_session(model, options, whose=whose)


def _attempt(run: Callable[[Any], list[np.ndarray]], given: Any, whose: str) -> list[np.ndarray]:
    try:
        return run(given)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"{whose} does not run on random inputs: {one_line(error)}") from error


def _worst(found: Sequence[Comparison]) -> Comparison:
    worst = max(found, key=lambda one: (bool(one.problem), one.difference / max(one.tolerance, 1e-30)))
    return replace(worst, compared=sum(one.compared for one in found))


def _add(rows: dict[tuple[str, str], OutputCheck], output: str, way: str, found: Comparison, change: float) -> None:
    """Join what one trial found to what the ones before it did."""
    before = rows.get((output, way))
    if before is not None:
        seen = Comparison(before.problem, before.largest_difference, before.tolerance, before.compared)
        found, change = _worst([seen, found]), max(change, before.change)
    rows[output, way] = OutputCheck(
        output, way, found.difference, found.tolerance, change, found.compared, found.problem
    )


def _judged(row: OutputCheck) -> OutputCheck:
    if not row.compared and not row.problem:
        return replace(row, problem="is NaN, infinite or empty for every image, so nothing could be compared")
    return row


def _require_same(original: onnx.ModelProto, plan: Plan) -> None:
    """Raises ModelError where the plan cannot be that of this model."""
    outputs = tuple(value.name for value in original.graph.output)
    if set(outputs) != set(plan.outputs):
        raise ModelError(
            f"the rewritten model is another model's: its outputs are {', '.join(plan.outputs)}, "
            f"the original's {', '.join(outputs)}"
        )
    image = next((value for value in graph_inputs(original) if value.name == plan.image_input), None)
    if image is None:
        raise ModelError(f"the rewritten model is another model's: the original has no input '{plan.image_input}'")
    channels, height, width = plan.image_shape
    shape = (channels, height, width) if plan.layout == "NCHW" else (height, width, channels)
    dims = input_dims(image)
    if len(dims) != 4 or any(isinstance(dim, int) and dim != size for dim, size in zip(dims[1:], shape, strict=True)):
        raise ModelError(
            f"the rewritten model is another model's: its image input '{plan.image_input}' is "
            f"{' x '.join(map(str, shape))}, the original's {' x '.join(map(str, dims[1:]))}"
        )

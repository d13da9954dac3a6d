"""One call of `explain`, checked, and what stands ready to answer it: the views of its image, or full inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from krypton_onnx.errors import ImageError, NotRewritable
from krypton_onnx.rewriter import Plan
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.budget import fit_full_inference, fit_memory
from krypton_onnx.runtime.costs import HOST, Costs
from krypton_onnx.runtime.engine import Engine, Views
from krypton_onnx.runtime.explain import MapInProgress, Part, RunBatch, fill_parts
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.full_inference import FullInference, Unrewritten
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.memory import return_free_pages
from krypton_onnx.runtime.patches import Patches
from krypton_onnx.runtime.pool import Pool
from krypton_onnx.runtime.scores import Scorer, choose_targets


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, of which image."""

    engine: Engine | Unrewritten
    full: FullInference
    image: np.ndarray  # (1, ...) in the model's layout
    others: Mapping[str, np.ndarray]
    grid: Grid
    patches: Patches
    scorer: Scorer
    targets: int | Sequence[int] | None
    workers: int
    top: int | None = None
    batch_size: int | None = None
    time_budget: float | None = None
    memory_budget: int | None = None
    seed: int = 0
    progress: Callable[[int, int], None] | None = None
    on_update: Callable[[HeatMap], None] | None = None
    pool: Pool | None = None  # whose threads compute; None: new ones
    costs: Costs = HOST

    @property
    def incremental(self) -> Engine:
        """The engine, of a model that is rewritten."""
        assert isinstance(self.engine, Engine)
        return self.engine

    def plan(self, frozen: bool) -> Plan:
        """The rewriter's plan, or that of the frozen twin."""
        return self.incremental.twin(frozen=True).plan if frozen else self.engine.plan

    def full_runs(self) -> RunBatch:
        """How to infer positions in full; as many at once as asked for, else as is fastest."""
        full = self.full if self.batch_size is None else replace(self.full, size=None)
        return full.of_positions(self.image)

    @property
    def plans(self) -> Mapping[bool, Plan]:
        """By whether it is the frozen twin's; that one only where it goes on behind what ends the exact one."""
        plans = {False: self.engine.plan}
        if self.engine.plan.freezable:
            with suppress(NotRewritable):  # an approximation less, and nothing wrong
                plans[True] = self.plan(frozen=True)
        return plans

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the image."""
        height, width = self.image.shape[2:] if self.engine.plan.layout == "NCHW" else self.image.shape[1:3]
        return int(height), int(width)

    def chosen(self, baseline: np.ndarray) -> tuple[int, ...]:
        """The class ids to explain. baseline: float32 (classes,) of the unoccluded image."""
        return choose_targets(self.targets, baseline, self.top)

    def answer(self, mode: str, baseline: np.ndarray, parts: Iterable[Part]) -> HeatMap:
        """The map, by running every part. baseline: float32 (classes,) of the unoccluded image."""
        return fill_parts(
            MapInProgress(self.grid, self.chosen(baseline), baseline, mode, self.scorer.name), parts, self.patches,
            self.time_budget, self.progress, self.on_update, self.pool,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Materialized:
    """A question and the views of its image. baseline: float32 (classes,) of the unoccluded image."""

    question: Question
    views: Views
    baseline: np.ndarray

    @cached_property
    def _frozen_views(self) -> Views:
        return self.question.incremental.twin(frozen=True).materialize(self.question.image, self.question.others)

    def runs(self, fidelity: Fidelity = EXACT, last: bool = False) -> RunBatch:
        """How to infer positions at this fidelity; last: and give back what earlier runs left.

        The first frozen one runs the unoccluded image once more."""
        question = self.question
        engine = question.incremental.twin(fidelity.frozen)
        views = self._frozen_views if fidelity.frozen else self.views
        scorer = question.scorer.of_twin(engine.plan)
        names = scorer.tensors(base=False)
        thresholds = fidelity.thresholds(engine.plan, question.grid.patch)

        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            return scorer(engine.run(views, tops, lefts, patches, names, thresholds, fidelity.light, last))

        return run

    def within_memory(self, fidelities: Sequence[Fidelity] = (EXACT,)) -> tuple[int | None, int]:
        """(most positions of a batch, workers) as asked for and within the memory budget, at any of the fidelities."""
        question = self.question
        workers, most = question.workers, question.batch_size
        if question.memory_budget is not None:
            first = question.grid.tops[:1], question.grid.lefts[:1]
            twins = {fidelity.frozen: fidelity for fidelity in fidelities}
            for fidelity in twins.values():  # what kernels and sessions take at their first run is there then
                self.runs(fidelity, last=True)(*first, question.patches(*first)[0])
            return_free_pages()
            for frozen in twins:
                workers, fitting = fit_memory(question.plan(frozen), question.grid, question.memory_budget, workers)
                most = fitting if most is None else min(most, fitting)
        return most, workers


@dataclass(frozen=True, eq=False)
class FullyInferred:
    """In place of `Materialized`, by full inference. baseline: float32 (classes,) of the unoccluded image."""

    question: Question
    baseline: np.ndarray

    def runs(self, fidelity: Fidelity = EXACT) -> RunBatch:
        """How to infer positions: at any fidelity exactly."""
        return self.question.full_runs()

    def within_memory(self, fidelities: Sequence[Fidelity] = ()) -> tuple[int, int]:
        """(most positions of a batch, workers): the threads that share the work of a run are ONNX Runtime's own."""
        question = self.question
        most = question.batch_size or question.costs.full_batch
        if question.memory_budget is not None:
            most = fit_full_inference(question.engine.plan, question.image.nbytes, question.memory_budget, most)
        return most, 1


def check_limits(batch_size: object, time_budget: object, memory_budget: object) -> None:
    """Raises ImageError where one is neither None nor a number that makes sense."""
    for name, value in (("batch_size", batch_size), ("time_budget", time_budget), ("memory_budget", memory_budget)):
        if isinstance(value, bool):  # a number, to Python
            raise ImageError(f"{name} must be a number, got {value!r}")
    if batch_size is not None and not (isinstance(batch_size, (int, np.integer)) and batch_size >= 1):
        raise ImageError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
    if time_budget is not None and not (isinstance(time_budget, (int, float)) and time_budget >= 0):
        raise ImageError(f"time_budget must be a number of seconds, got {time_budget!r}")
    if memory_budget is not None and not (isinstance(memory_budget, (int, np.integer)) and memory_budget > 0):
        raise ImageError(f"memory_budget must be a number of bytes, got {memory_budget!r}")


def check_callbacks(**callbacks: object) -> None:
    """Raises ImageError where one is neither None nor callable."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise ImageError(f"{name} must be callable, got {callback!r}")


def check_min_ssim(min_ssim: object) -> None:
    """Raises ImageError where it is no number in (0, 1]."""
    number = isinstance(min_ssim, (int, float, np.floating)) and not isinstance(min_ssim, bool)
    if not (number and 0 < min_ssim <= 1):  # type: ignore[operator]
        raise ImageError(f"min_ssim must be a number above 0 and at most 1, got {min_ssim!r}")


def check_top(top: object) -> None:
    """Raises ImageError where it is neither None nor an integer of at least 1."""
    if top is not None and not (isinstance(top, (int, np.integer)) and not isinstance(top, bool) and top >= 1):
        raise ImageError(f"top must be an integer of at least 1 or None, got {top!r}")


def check_seed(seed: object) -> None:
    """Raises ImageError where it is no integer of at least 0."""
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise ImageError(f"seed must be an integer of at least 0, got {seed!r}")


def materialize(question: Question) -> Materialized:
    """Run the unoccluded image, once. Raises ImageError where the memory budget cannot hold its views."""
    scorer = question.scorer
    if question.memory_budget is not None:
        question.incremental.require_memory(question.grid, question.memory_budget)
    views = question.incremental.materialize(question.image, question.others)
    scores = scorer([views.unoccluded[name] for name in scorer.tensors(base=True, unoccluded=UNOCCLUDED)])
    if len(scores) != 1:  # then its rows are no images, for several either
        raise ImageError(
            f"output '{scorer.output}' has {len(scores)} rows for one image, not (1, classes): "
            "pass score=callable(outputs)"
        )
    return Materialized(question, views, scores[0])


def infer_fully(question: Question) -> FullyInferred:
    """Run the unoccluded image, by full inference. Raises ImageError where the memory budget cannot hold that."""
    if question.memory_budget is None:
        return FullyInferred(question, question.full(question.image)[0])
    fit_full_inference(question.engine.plan, question.image.nbytes, question.memory_budget, 1)
    baseline = question.full(question.image, last=True)[0]
    return_free_pages()
    return FullyInferred(question, baseline)

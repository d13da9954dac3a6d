"""One call of `explain`, checked, and its answer by full or by exact incremental inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.budget import fit_memory
from krypton_onnx.runtime.engine import Engine, Views
from krypton_onnx.runtime.explain import MapInProgress, RunBatch, fill_map
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.grid import Grid, Patches
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.schedule import NAIVE_BATCH, exact_plan, naive_batches
from krypton_onnx.runtime.scores import Scorer, choose_targets


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, of which image."""

    engine: Engine
    image: np.ndarray  # (1, ...) in the model's layout
    others: Mapping[str, np.ndarray]
    grid: Grid
    patches: Patches
    scorer: Scorer
    targets: int | Sequence[int] | None
    workers: int
    batch_size: int | None = None
    time_budget: float | None = None
    memory_budget: int | None = None
    seed: int = 0
    progress: Callable[[int, int], None] | None = None
    on_update: Callable[[HeatMap], None] | None = None

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the image."""
        height, width = self.image.shape[2:] if self.engine.plan.layout == "NCHW" else self.image.shape[1:3]
        return int(height), int(width)

    def answer(
        self, mode: str, baseline: np.ndarray, batches: Sequence[Batch], run: RunBatch, workers: int
    ) -> HeatMap:
        """The map, by running every batch. baseline: float32 (classes,) of the unoccluded image."""
        chosen = choose_targets(self.targets, baseline)
        return fill_map(
            MapInProgress(self.grid, chosen, baseline, mode), batches, self.patches, run, workers,
            self.time_budget, self.progress, self.on_update,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Materialized:
    """A question and the views of its image. baseline: float32 (classes,) of the unoccluded image."""

    question: Question
    views: Views
    baseline: np.ndarray

    def runs(self, fidelity: Fidelity = EXACT) -> RunBatch:
        """How to infer positions at this fidelity."""
        question = self.question
        engine, scorer = question.engine, question.scorer
        names = scorer.tensors(base=False)
        thresholds = fidelity.thresholds(engine.plan, question.grid.patch)

        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            return scorer(engine.run(self.views, tops, lefts, patches, names, thresholds, fidelity.light))

        return run

    def within_memory(self) -> tuple[int | None, int]:
        """(most positions of a batch, workers) as asked for and within the memory budget."""
        question = self.question
        workers, most = question.workers, question.batch_size
        if question.memory_budget is not None:
            first = question.grid.tops[:1], question.grid.lefts[:1]
            # What kernels and sessions take at their first run is there now.
            self.runs()(*first, question.patches(*first)[0])
            workers, fitting = fit_memory(question.engine.plan, question.grid, question.memory_budget, workers)
            most = fitting if most is None else min(most, fitting)
        return most, workers


def check_limits(batch_size: object, time_budget: object, memory_budget: object) -> None:
    """Raises ImageError where one is neither None nor a number that makes sense."""
    if batch_size is not None and not (isinstance(batch_size, (int, np.integer)) and batch_size >= 1):
        raise ImageError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
    if time_budget is not None and not (isinstance(time_budget, (int, float)) and time_budget >= 0):
        raise ImageError(f"time_budget must be a number of seconds, got {time_budget!r}")
    if memory_budget is not None and not (isinstance(memory_budget, (int, np.integer)) and memory_budget > 0):
        raise ImageError(f"memory_budget must be a number of bytes, got {memory_budget!r}")


def check_min_ssim(min_ssim: object) -> None:
    """Raises ImageError where it is no number in (0, 1]."""
    number = isinstance(min_ssim, (int, float, np.floating)) and not isinstance(min_ssim, bool)
    if not (number and 0 < min_ssim <= 1):  # type: ignore[operator]
        raise ImageError(f"min_ssim must be a number above 0 and at most 1, got {min_ssim!r}")


def check_seed(seed: object) -> None:
    """Raises ImageError where it is no integer of at least 0."""
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise ImageError(f"seed must be an integer of at least 0, got {seed!r}")


def materialize(question: Question) -> Materialized:
    """Run the unoccluded image, once."""
    scorer = question.scorer
    views = question.engine.materialize(question.image, question.others)
    baseline = scorer([views.unoccluded[name] for name in scorer.tensors(base=True, unoccluded=UNOCCLUDED)])[0]
    return Materialized(question, views, baseline)


def answer_exactly(question: Question) -> HeatMap:
    """mode="exact": by incremental inference."""
    ready = materialize(question)
    most, workers = ready.within_memory()
    batches = exact_plan(question.engine.plan, question.grid, most, workers).batches
    return question.answer("exact", ready.baseline, batches, ready.runs(), workers)


def answer_naively(
    question: Question, image_input: str, original: Callable[[], ort.InferenceSession] | None
) -> HeatMap:
    """mode="naive": by full inference of the original model where it takes a batch (else None) and has what is scored,
    else of its twin of a dynamic batch."""
    scorer = question.scorer
    names = scorer.tensors(base=True)
    lacking = not set(question.engine.plan.outputs).issuperset(names)
    session = question.engine.full(logits=lacking) if original is None or lacking else original()

    def infer(images: np.ndarray) -> np.ndarray:
        # The other inputs belong to one image, and only the model knows which of their axes is the batch.
        size = 1 if question.others else len(images)
        parts = [
            session.run(list(names), {image_input: images[n : n + size], **question.others})
            for n in range(0, len(images), size)
        ]
        return scorer([np.concatenate(outputs) for outputs in zip(*parts, strict=True)])

    def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
        return infer(occluded(question.image, question.engine.plan.layout, tops, lefts, patches))

    batches = naive_batches(question.grid, question.batch_size or NAIVE_BATCH)
    # One worker: ONNX Runtime's own threads share the work of a full inference.
    return question.answer("naive", infer(question.image)[0], batches, run, 1)

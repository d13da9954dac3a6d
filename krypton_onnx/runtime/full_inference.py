"""Full inference of occluded images: for mode="naive", where nothing is incremental, and where it is the faster way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.forking import abandon, forget_in_children, native
from krypton_onnx.rewriter import Plan
from krypton_onnx.rewriter.unrewritten import with_outputs
from krypton_onnx.runtime.explain import RunBatch
from krypton_onnx.runtime.failures import model_runs
from krypton_onnx.runtime.fingerprint import fingerprint
from krypton_onnx.runtime.memory import CPU_ARENA, shrinking
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.run_size import RunSize
from krypton_onnx.runtime.scores import Scorer

Open = Callable[[onnx.ModelProto], ort.InferenceSession]


class Unrewritten:
    """A model that has no incremental form: what stands in an Engine's place. Thread-safe."""

    def __init__(
        self, plan: Plan, model: Callable[[], onnx.ModelProto], open_session: Open,
        original: Callable[[], ort.InferenceSession],
    ) -> None:  # fmt: skip
        """plan : with the refusal. model : reads the original model. original : its session, made where it is needed;
        open_session : makes one of the same options for a changed copy."""
        self.plan = plan
        self._model, self._open, self._original = model, open_session, original
        self._with_logits: ort.InferenceSession | None = None
        self._lock = threading.Lock()
        forget_in_children(self)

    def after_fork(self) -> None:
        """As an engine's."""
        abandon(self._with_logits)
        self._with_logits, self._lock = None, threading.Lock()

    @property
    def plans(self) -> Mapping[bool, Plan]:
        """As an engine's."""
        return {False: self.plan}

    def twin(self, frozen: bool) -> Unrewritten:
        """As an engine's: there is none but this."""
        return self

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model from another."""
        return fingerprint(self._model(), self.plan)

    def full(self, logits: bool) -> ort.InferenceSession:
        """The model itself, or a copy of it whose outputs are the logits of the plan too."""
        if not logits:
            return self._original()
        with self._lock:
            if self._with_logits is None:
                names = tuple(name for name, _ in self.plan.logits.values() if name)
                self._with_logits = self._open(with_outputs(self._model(), names))
            return self._with_logits


@dataclass(frozen=True, eq=False)
class FullInference:
    """How images are inferred in full.

    session : made when it is first needed. scorer : reads what is scored. alone : one image a run, because images of a
    batch influence each other, or more inputs belong to one image. copies : how many images the model takes, no
    more and no fewer: as many copies of one. size : finds how many images to run at once; None: all that are given.
    arena : of the memory in which it runs.
    """

    session: Callable[[], ort.InferenceSession]
    scorer: Scorer
    image_input: str
    layout: str
    others: Mapping[str, np.ndarray]
    alone: bool = False
    copies: int = 1
    size: RunSize | None = None
    arena: str = CPU_ARENA

    def __call__(self, images: np.ndarray, last: bool = False) -> np.ndarray:
        """float32 (N, classes) of images (N, ...) in the model's layout; last: what earlier runs left is given back.

        Raises ModelError where ONNX Runtime fails at them, ImageError where they cannot be scored.
        """
        if not self.alone:
            return np.concatenate(list(self._in_runs(images, last)))
        return np.concatenate([self.scorer.of_one(self._outputs(images[n : n + 1])) for n in range(len(images))])

    def _in_runs(self, images: np.ndarray, last: bool) -> Iterator[np.ndarray]:
        start = 0
        while start < len(images):
            stop = len(images) if self.size is None else min(start + self.size.next(), len(images))
            began = time.perf_counter()
            outputs = self._outputs(images[start:stop], last)
            if self.size is not None:
                self.size.told(stop - start, time.perf_counter() - began)
            yield self.scorer(outputs)
            start = stop

    def _outputs(self, images: np.ndarray, last: bool = False) -> list[np.ndarray]:
        # What is scored behind the same names is asked of the base pass: the original model knows no other.
        names = list(self.scorer.tensors(base=True))
        with model_runs():
            if self.copies > 1:  # any number, as the model says
                images = np.repeat(images, self.copies, axis=0)
        session = self.session()
        kept = self.arena != CPU_ARENA or session.get_session_options().enable_cpu_mem_arena
        options = shrinking(self.arena) if last and kept else None
        with model_runs(), native():
            outputs = session.run(names, {self.image_input: images, **self.others}, options)
        if self.copies == 1:
            return outputs
        return [value[:1] if np.ndim(value) and len(value) == self.copies else value for value in outputs]

    def of_positions(self, image: np.ndarray) -> RunBatch:
        """How to infer positions of one image (1, ...)."""

        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            return self(occluded(image, self.layout, tops, lefts, patches))

        return run

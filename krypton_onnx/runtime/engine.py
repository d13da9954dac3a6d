"""One rewritten model, ready to run: the materialize and the incremental session, views shared without a copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ModelError
from krypton_onnx.forking import abandon, forget_in_children
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter.plan import Plan, plan_of
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.rewriter.weights import weight_bytes
from krypton_onnx.runtime.budget import require_memory
from krypton_onnx.runtime.choice import Verdict
from krypton_onnx.runtime.failures import model_runs
from krypton_onnx.runtime.fingerprint import fingerprint
from krypton_onnx.runtime.frozen_twin import frozen_twin
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.host_sessions import HostSessions
from krypton_onnx.runtime.memory import release_freed_memory, return_free_pages
from krypton_onnx.runtime.settings import SessionSettings, open_part, session_options
from krypton_onnx.runtime.split import full_model, view_bytes

__all__ = ["Engine", "SessionSettings", "Views"]


@dataclass(frozen=True)
class Views:
    """What the materialize session computed for one image: OrtValues by name, and the unoccluded outputs."""

    values: Mapping[str, ort.OrtValue]
    unoccluded: Mapping[str, np.ndarray]


class Sessions(Protocol):
    """The two sessions of a rewritten model, on the CPU (host_sessions.py) or on a device (cuda/sessions.py)."""

    kernels: bool

    @property
    def views(self) -> tuple[str, ...]: ...

    def materialize(self, feeds: Mapping[str, np.ndarray]) -> dict[str, ort.OrtValue]: ...

    def run(
        self, views: Mapping[str, ort.OrtValue], origins: np.ndarray, patches: np.ndarray, threshold: np.ndarray,
        outputs: tuple[str, ...], light: bool, last: bool,
    ) -> list[np.ndarray]: ...  # fmt: skip

    def end_profiling(self) -> str: ...


class Engine:
    """Sessions of one rewritten model. Thread-safe: every run has its own binding."""

    def __init__(self, rewritten: Callable[[], onnx.ModelProto], settings: SessionSettings) -> None:
        """rewritten: makes the rewritten model. It is called again when it is needed again: weights are held once."""
        self.settings = settings
        self._rewritten = rewritten
        self._sessions: Sessions | None = None
        self._full: dict[bool, ort.InferenceSession] = {}
        self._frozen: Engine | None = None
        self.verdicts: dict[tuple, Verdict] = {}  # by patch and stride: is incremental inference the faster?
        self._lock = threading.Lock()
        self._model: onnx.ModelProto | None = rewritten()
        forget_in_children(self)
        plan = plan_of(self._model)
        if plan is None:
            raise ModelError("the model has no plan: it was not rewritten")
        self.plan: Plan = plan
        self.fingerprint = fingerprint(self._model, plan)
        self._weight_bytes, self._view_bytes = weight_bytes(self._model), view_bytes(self._model)

    def require_memory(self, grid: Grid, memory_budget: int) -> None:
        """Raises ImageError where the budget cannot hold the views and one position, before it makes any of them."""
        if self._sessions is None:  # the weights are sure to stay, more is not yet
            require_memory(self.plan, grid, memory_budget, self._view_bytes, there=self._weight_bytes)
            self._parts()
        require_memory(self.plan, grid, memory_budget, self._view_bytes)

    def after_fork(self) -> None:
        """New sessions are made when they are needed: those of the parent wait for threads that are no more."""
        abandon(self._sessions)
        abandon(self._full)
        self._sessions, self._full, self._lock = None, {}, threading.Lock()

    @property
    def kernels(self) -> bool:
        """Whether our kernels run the ai.krypton nodes; their function bodies do otherwise."""
        return self._parts().kernels

    def twin(self, frozen: bool) -> Engine:
        """This engine, or the one of the frozen twin: sessions and views of its own, made when they are first used."""
        if not frozen:
            return self
        with self._lock:
            if self._frozen is None:
                settings = replace(self.settings, profile_prefix=None)
                self._frozen = Engine(lambda: frozen_twin(self._rewritten()), settings)
            return self._frozen

    def _take_model(self) -> onnx.ModelProto:
        model, self._model = self._model, None
        if model is None:
            model = self._rewritten()
        release_freed_memory()  # rewriting leaves cyclic graphs behind, which hold every weight
        return model

    def _parts(self) -> Sessions:
        """The two sessions, made when the first is needed."""
        with self._lock:
            if self._sessions is None:
                self._sessions = self._sessions_of(self._take_model())
                release_freed_memory()
            return self._sessions

    def _sessions_of(self, model: onnx.ModelProto) -> Sessions:
        target = self.settings.target
        if target is not None:
            from krypton_onnx.runtime.cuda.sessions import DeviceSessions

            return DeviceSessions(model, self.plan, self.settings, target)
        return HostSessions(model, self.plan, self.settings, CPU_KERNELS)

    def materialize(self, image: np.ndarray, others: Mapping[str, np.ndarray]) -> Views:
        """Views and unoccluded outputs of one image (1, ...) in the model's layout."""
        with model_runs():
            views = self._materialize(image, others)
        return_free_pages()  # of the activations between: as much as the views
        return views

    def _materialize(self, image: np.ndarray, others: Mapping[str, np.ndarray]) -> Views:
        parts = self._parts()
        values = parts.materialize({self.plan.image_input: image, **others})
        wanted = {UNOCCLUDED + name for name in self.plan.outputs} | {pair[1] for pair in self.plan.logits.values()}
        return Views(
            {name: values[name] for name in parts.views},
            {name: value.numpy() for name, value in values.items() if name in wanted},
        )

    def run(
        self, views: Views, tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray, outputs: tuple[str, ...],
        threshold: np.ndarray, light: bool = False, last: bool = False,
    ) -> list[np.ndarray]:  # fmt: skip
        """Outputs of N occluded images. patches: float32 (N or 1, C, h, w); threshold: float32 (1,) or one value a
        geometry; light: products need not be exact; last: memory that runs left for the next ones is given back."""
        parts = self._parts()
        with model_runs():
            origins = np.stack([tops, lefts], axis=1)
            return parts.run(views.values, origins, patches, threshold, outputs, light, last)

    def full(self, logits: bool) -> ort.InferenceSession:
        """The original model (dynamic batch) as a session of its own, made when it is first needed."""
        with self._lock:
            if logits not in self._full:
                model = full_model(self._take_model(), self.plan, logits)
                self._full[logits] = open_part(model, session_options(self.settings.workers), self.settings)
                release_freed_memory()
            return self._full[logits]

    def end_profiling(self) -> str:
        """Path of ONNX Runtime's profile of the incremental session (settings.profile_prefix must be set)."""
        return self._parts().end_profiling()

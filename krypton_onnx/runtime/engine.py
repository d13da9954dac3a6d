"""One rewritten model, ready to run: the materialize and the incremental session, views shared without a copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ModelError
from krypton_onnx.forking import abandon, forget_in_children, native
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.numba_kernels.precision import light_products
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.rewriter.plan import Plan, plan_of
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.rewriter.weights import weight_bytes
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.budget import require_memory
from krypton_onnx.runtime.choice import Verdict
from krypton_onnx.runtime.custom_ops.detached import detach, provided
from krypton_onnx.runtime.failures import model_runs
from krypton_onnx.runtime.fingerprint import fingerprint
from krypton_onnx.runtime.frozen_twin import frozen_twin
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.memory import release_freed_memory, return_free_pages, shrinking
from krypton_onnx.runtime.split import (
    Crossing,
    find_crossing,
    full_model,
    incremental_model,
    materialize_model,
    view_bytes,
)


@dataclass(frozen=True)
class SessionSettings:
    """How sessions are made. workers: batches that run at once, one thread each."""

    providers: tuple = ("CPUExecutionProvider",)
    provider_options: tuple | None = None
    workers: int = 1
    strict: bool = False
    kernels: bool = True
    profile_prefix: str | None = None  # ONNX Runtime's own profile of the incremental session goes here


@dataclass(frozen=True)
class Views:
    """What the materialize session computed for one image: OrtValues by name, and the unoccluded outputs."""

    values: Mapping[str, ort.OrtValue]
    unoccluded: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Sessions:
    materialize: ort.InferenceSession
    incremental: ort.InferenceSession
    crossing: Crossing
    kernels: bool


class Engine:
    """Sessions of one rewritten model. Thread-safe: every run has its own binding."""

    def __init__(self, rewritten: Callable[[], onnx.ModelProto], settings: SessionSettings) -> None:
        """rewritten: makes the rewritten model. It is called again when it is needed again: weights are held once."""
        self.settings = settings
        self._rewritten = rewritten
        self._sessions: _Sessions | None = None
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

    def _parts(self) -> _Sessions:
        """The two sessions, made when the first is needed."""
        with self._lock:
            if self._sessions is None:
                self._sessions = self._split_in_sessions(self._take_model())
                release_freed_memory()
            return self._sessions

    def _split_in_sessions(self, model: onnx.ModelProto) -> _Sessions:
        settings = self.settings
        crossing = find_crossing(model)
        options = _options(1)
        if settings.profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = settings.profile_prefix
        first = settings.providers[0]
        on_cpu = (first if isinstance(first, str) else first[0]) == "CPUExecutionProvider"
        kernels = settings.kernels and on_cpu and custom_ops.register(options, CPU_KERNELS, settings.strict)
        # Each part is a copy with its weights: one at a time, and what kernels make of the weights last.
        part = materialize_model(model, self.plan, crossing)
        materialize = _session(part, _options(settings.workers), settings)
        del part
        part = incremental_model(model, self.plan, crossing)
        del model
        detached = detach(part, CPU_KERNELS, DOMAIN) if kernels else {}
        release_freed_memory()
        with provided(detached):
            incremental = _session(part, options, settings)
        return _Sessions(materialize, incremental, crossing, bool(kernels))

    def materialize(self, image: np.ndarray, others: Mapping[str, np.ndarray]) -> Views:
        """Views and unoccluded outputs of one image (1, ...) in the model's layout."""
        with model_runs():
            views = self._materialize(image, others)
        return_free_pages()  # of the activations between: as much as the views
        return views

    def _materialize(self, image: np.ndarray, others: Mapping[str, np.ndarray]) -> Views:
        parts = self._parts()
        feeds = {self.plan.image_input: image, **others}
        binding = parts.materialize.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        outputs = parts.materialize.get_outputs()
        ours: dict[str, ort.OrtValue] = {}  # these keep the memory alive; a binding's own list does not
        for output in outputs:
            # In memory of our own where the shape is known, so that all of the session's can be given back.
            shape = [1 if index == 0 and not isinstance(size, int) else size for index, size in enumerate(output.shape)]
            known = output.type == "tensor(float)" and all(isinstance(size, int) for size in shape)
            if known and output.name in parts.crossing.views:
                ours[output.name] = ort.OrtValue.ortvalue_from_numpy(np.empty(shape, np.float32))
                binding.bind_ortvalue_output(output.name, ours[output.name])
            else:
                binding.bind_output(output.name, "cpu")
        with native():
            parts.materialize.run_with_iobinding(binding, shrinking())
        names = [output.name for output in outputs]
        values = {**dict(zip(names, binding.get_outputs(), strict=True)), **ours}
        views = {name: values[name] for name in parts.crossing.views}
        for name in parts.crossing.passed:
            views[name] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feeds[name]))
        wanted = {UNOCCLUDED + name for name in self.plan.outputs} | {pair[1] for pair in self.plan.logits.values()}
        return Views(views, {name: values[name].numpy() for name in names if name in wanted})

    def run(
        self, views: Views, tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray, outputs: tuple[str, ...],
        threshold: np.ndarray, light: bool = False, last: bool = False,
    ) -> list[np.ndarray]:  # fmt: skip
        """Outputs of N occluded images. patches: float32 (N or 1, C, h, w); threshold: float32 (1,) or one value a
        geometry; light: products need not be exact; last: memory that runs left for the next ones is given back."""
        incremental = self._parts().incremental
        binding = incremental.io_binding()
        for name, value in views.values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_cpu_input(ORIGIN, np.stack([tops, lefts], axis=1))
        binding.bind_cpu_input(PATCH, np.ascontiguousarray(patches))
        binding.bind_cpu_input(THRESHOLD, threshold)
        for name in outputs:
            binding.bind_output(name, "cpu")
        with model_runs(), light_products(light), native():  # kernels run in this thread
            incremental.run_with_iobinding(binding, shrinking() if last else None)
        return binding.copy_outputs_to_cpu()

    def full(self, logits: bool) -> ort.InferenceSession:
        """The original model (dynamic batch) as a session of its own, made when it is first needed."""
        with self._lock:
            if logits not in self._full:
                model = full_model(self._take_model(), self.plan, logits)
                self._full[logits] = _session(model, _options(self.settings.workers), self.settings)
                release_freed_memory()
            return self._full[logits]

    def end_profiling(self) -> str:
        """Path of ONNX Runtime's profile of the incremental session (settings.profile_prefix must be set)."""
        return str(self._parts().incremental.end_profiling())


def _options(threads: int) -> ort.SessionOptions:
    """Spinning off: threads that wait for work must not take the cores of those that have some."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Of a quantized model (QDQ) ONNX Runtime would quantize weights again that are dequantized here: other values.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _session(model: onnx.ModelProto, options: ort.SessionOptions, settings: SessionSettings) -> ort.InferenceSession:
    return open_session(model, options, settings.providers, settings.provider_options, "the rewritten model")

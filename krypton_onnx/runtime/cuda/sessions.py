"""The materialize and the incremental session on a device: views stay there, and scores come back."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.forking import native, reset_in_children
from krypton_onnx.numba_kernels.precision import light_products
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.plan import Plan
from krypton_onnx.runtime.cuda.forms import Form, Shape, asked_form, convolutions, faster_forms, in_forms
from krypton_onnx.runtime.cuda.placed_session import PlacedSession, Placing
from krypton_onnx.runtime.cuda.target import Target
from krypton_onnx.runtime.cuda.trials import Trials
from krypton_onnx.runtime.settings import SessionSettings, open_part, session_options
from krypton_onnx.runtime.split import find_crossing, incremental_model, materialize_model

_known: dict[tuple[int, bool], dict[Shape, Form]] = {}  # what was measured, by device and strictness
_lock = threading.Lock()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


reset_in_children(_new_lock)


class DeviceSessions:
    """As HostSessions, on a device. Runs come one after the other: they share the device and kernels' scratch.

    The incremental session is made at the first run: which form a convolution takes depends on its region.
    """

    kernels = True

    def __init__(self, model: onnx.ModelProto, plan: Plan, settings: SessionSettings, target: Target) -> None:
        self._settings, self._target = settings, target
        self._crossing = find_crossing(model)
        self._materialize = open_part(
            materialize_model(model, plan, self._crossing), session_options(settings.workers), settings
        )
        self._model: onnx.ModelProto | None = incremental_model(model, plan, self._crossing)
        self._incremental: tuple[Placing, PlacedSession] | None = None
        self._lock = threading.Lock()
        self.forms: dict[str, Form] = {}

    def materialize(self, feeds: Mapping[str, np.ndarray]) -> dict[str, ort.OrtValue]:
        """Views in the device's memory and unoccluded outputs in the host's, by name."""
        target, crossing = self._target, self._crossing
        binding = self._materialize.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        names = [output.name for output in self._materialize.get_outputs()]
        for name in names:
            binding.bind_output(name, *((target.memory, target.number) if name in crossing.views else ("cpu",)))
        with native():
            self._materialize.run_with_iobinding(binding)
        passed = {name: target.value(feeds[name]) for name in crossing.passed}
        return {**dict(zip(names, binding.get_outputs(), strict=True)), **passed}

    @property
    def views(self) -> tuple[str, ...]:
        """Which of what is materialized the incremental session reads."""
        return (*self._crossing.views, *self._crossing.passed)

    def run(
        self, views: Mapping[str, ort.OrtValue], origins: np.ndarray, patches: np.ndarray, threshold: np.ndarray,
        outputs: tuple[str, ...], light: bool, last: bool,
    ) -> list[np.ndarray]:  # fmt: skip
        """As HostSessions.run; light: products may be TF32. last has no meaning here."""
        feeds = {ORIGIN: origins, PATCH: np.ascontiguousarray(patches), THRESHOLD: threshold}
        with self._lock:
            placing, session = self._incremental or self._make_incremental(feeds, views)
            with light_products(light), native():
                return session.run(placing(feeds), views, feeds, outputs)

    def _make_incremental(
        self, feeds: Mapping[str, np.ndarray], views: Mapping[str, ort.OrtValue]
    ) -> tuple[Placing, PlacedSession]:
        model = self._model
        assert model is not None
        forms = self._choose_forms(model, feeds, views)
        self._incremental = self._placed(in_forms(model, forms, self._target.kernels))
        self.forms, self._model = forms, None  # kept until it has worked: the next batch may try again
        return self._incremental

    def _placed(self, model: onnx.ModelProto) -> tuple[Placing, PlacedSession]:
        options = session_options(self._settings.workers)
        if self._settings.profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = self._settings.profile_prefix
        placing = Placing(model, (ORIGIN, THRESHOLD), (PATCH,), session_options)
        return placing, PlacedSession(model, placing, self._target, options, self._settings.strict)

    def _choose_forms(
        self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], views: Mapping[str, ort.OrtValue]
    ) -> dict[str, Form]:
        """The form of every convolution, by the name of its output: as asked for, else as measured on this batch."""
        asked = asked_form()
        if asked is not None:
            return {node.output[0]: asked for node in convolutions(model)}
        placing = Placing(model, (ORIGIN, THRESHOLD), (PATCH,), session_options)
        shapes = {name: tuple(value.shape()) for name, value in views.items()}
        trials = Trials(model, placing(feeds), shapes, len(feeds[ORIGIN]), self._target, self._settings.strict)
        with _lock:  # one measurement at a time
            known = _known.setdefault((id(self._target.device), self._settings.strict), {})
            forms = faster_forms(trials.convolutions, trials.seconds, known)
        self._target.forget()  # scratch memory of the trials' streams
        return forms

    def end_profiling(self) -> str:
        """Path of ONNX Runtime's profile of the incremental session, which must have run."""
        assert self._incremental is not None
        return str(self._incremental[1].session.end_profiling())

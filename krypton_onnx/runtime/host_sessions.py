"""The materialize and the incremental session on the CPU: views shared without a copy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.forking import native
from krypton_onnx.numba_kernels.precision import light_products
from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.rewriter.plan import Plan
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.custom_ops.detached import detach, provided
from krypton_onnx.runtime.memory import release_freed_memory, shrinking
from krypton_onnx.runtime.settings import SessionSettings, open_part, session_options
from krypton_onnx.runtime.split import find_crossing, incremental_model, materialize_model


class HostSessions:
    """Sessions of a rewritten model on its first provider, views in host memory. Thread-safe: every run has its own
    binding. kernels: whether ours run the ai.krypton nodes; their function bodies do otherwise."""

    def __init__(
        self, model: onnx.ModelProto, plan: Plan, settings: SessionSettings, kernels: tuple[Kernel, ...]
    ) -> None:
        """kernels : to run the nodes, where the provider is the CPU's. Weights of `model` are taken from it."""
        crossing = find_crossing(model)
        options = session_options(1)
        if settings.profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = settings.profile_prefix
        registered = settings.kernels and settings.on_cpu and custom_ops.register(options, kernels, settings.strict)
        # Each part is a copy with its weights: one at a time, and what kernels make of the weights last.
        part = materialize_model(model, plan, crossing)
        self._materialize = open_part(part, session_options(settings.workers), settings)
        del part
        part = incremental_model(model, plan, crossing)
        del model
        detached = detach(part, kernels, DOMAIN) if registered else {}
        release_freed_memory()
        with provided(detached):
            self._incremental = open_part(part, options, settings)
        self._crossing = crossing
        self.kernels = bool(registered)

    def materialize(self, feeds: Mapping[str, np.ndarray]) -> dict[str, ort.OrtValue]:
        """Views and unoccluded outputs, by name. feeds : the model's own inputs."""
        crossing = self._crossing
        binding = self._materialize.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        outputs = self._materialize.get_outputs()
        ours: dict[str, ort.OrtValue] = {}  # these keep the memory alive; a binding's own list does not
        for output in outputs:
            # In memory of our own where the shape is known, so that all of the session's can be given back.
            shape = [1 if index == 0 and not isinstance(size, int) else size for index, size in enumerate(output.shape)]
            known = output.type == "tensor(float)" and all(isinstance(size, int) for size in shape)
            if known and output.name in crossing.views:
                ours[output.name] = ort.OrtValue.ortvalue_from_numpy(np.empty(shape, np.float32))
                binding.bind_ortvalue_output(output.name, ours[output.name])
            else:
                binding.bind_output(output.name, "cpu")
        with native():
            self._materialize.run_with_iobinding(binding, shrinking())
        names = [output.name for output in outputs]
        passed = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feeds[name])) for name in crossing.passed}
        return {**dict(zip(names, binding.get_outputs(), strict=True)), **ours, **passed}

    @property
    def views(self) -> tuple[str, ...]:
        """Which of what is materialized the incremental session reads."""
        return (*self._crossing.views, *self._crossing.passed)

    def run(
        self, views: Mapping[str, ort.OrtValue], origins: np.ndarray, patches: np.ndarray, threshold: np.ndarray,
        outputs: tuple[str, ...], light: bool, last: bool,
    ) -> list[np.ndarray]:  # fmt: skip
        """As Engine.run. origins : int64 (N, 2)."""
        binding = self._incremental.io_binding()
        for name, value in views.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_cpu_input(ORIGIN, origins)
        binding.bind_cpu_input(PATCH, np.ascontiguousarray(patches))
        binding.bind_cpu_input(THRESHOLD, threshold)
        for name in outputs:
            binding.bind_output(name, "cpu")
        with light_products(light), native():  # kernels run in this thread
            self._incremental.run_with_iobinding(binding, shrinking() if last else None)
        return binding.copy_outputs_to_cpu()

    def end_profiling(self) -> str:
        """Path of ONNX Runtime's profile of the incremental session."""
        return str(self._incremental.end_profiling())

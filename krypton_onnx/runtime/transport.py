"""Session options on their way to another process: ONNX Runtime's own cannot be pickled."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

_NUMBERS = (
    "enable_cpu_mem_arena", "enable_mem_pattern", "enable_mem_reuse", "inter_op_num_threads", "intra_op_num_threads",
    "log_severity_level", "log_verbosity_level", "logid", "use_deterministic_compute",
)  # fmt: skip
_CHOICES = {
    "execution_mode": ort.ExecutionMode,
    "execution_order": ort.ExecutionOrder,
    "graph_optimization_level": ort.GraphOptimizationLevel,
}


def packed(options: ort.SessionOptions | None) -> dict[str, Any] | None:
    """The options that have a value to read; what was added by a method (entries, dimensions, libraries) has none."""
    if options is None:
        return None
    return {name: getattr(options, name) for name in _NUMBERS} | {
        name: getattr(options, name).name for name in _CHOICES
    }


def unpacked(values: dict[str, Any] | None) -> ort.SessionOptions | None:
    """Session options with these values."""
    if values is None:
        return None
    options = ort.SessionOptions()
    for name, value in values.items():
        if name in _CHOICES:
            value = getattr(_CHOICES[name], value)
        setattr(options, name, value)
    return options

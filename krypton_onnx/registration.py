"""Our kernels in sessions that other code owns."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime as ort

from krypton_onnx.errors import ModelError
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.runtime import custom_ops


def register(session_options: ort.SessionOptions, providers: Sequence[str] = ("CPUExecutionProvider",)) -> bool:
    """Register the kernels of `providers` for every session made with `session_options`.

    Such a session runs the ai.krypton nodes of a rewritten model by our kernels instead of their function bodies.
    Registering twice is harmless. False (and one warning) where the package has no native library.

    Raises ModelError where there are no kernels for a provider.
    """
    for provider in providers:
        if provider != "CPUExecutionProvider":
            raise ModelError(f"no kernels for provider '{provider}' in this version: register CPUExecutionProvider")
    return custom_ops.register(session_options, CPU_KERNELS)

"""Our kernels in sessions that other code owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime as ort

from krypton_onnx.errors import ModelError
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.numba_kernels.regions import PLACE_REGIONS
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.providers import CPU, CUDA, Providers, cuda_target, provider_name


def register(
    session_options: ort.SessionOptions, providers: Sequence[str | tuple[str, Mapping]] = ("CPUExecutionProvider",)
) -> bool:
    """Register the kernels of `providers` for every session made with `session_options`.

    providers : as for the session, best first; the kernels are those of the first. A session on CUDA gets the CUDA
    kernels alone: a kernel for the CPU would hold its operator there. Where regions lie is computed on the CPU.

    Such a session runs the ai.krypton nodes of a rewritten model by our kernels instead of their function bodies.
    Registering twice is harmless. False (and one warning) where the package has no native library.

    Raises ModelError where there are no kernels for a provider, or its device cannot be used.
    """
    for provider in providers:
        if provider_name(provider) not in (CPU, CUDA):
            raise ModelError(f"no kernels for provider '{provider_name(provider)}': register {CPU} or {CUDA}")
    target = cuda_target(Providers(tuple(providers))) if providers else None
    if target is None:
        return custom_ops.register(session_options, CPU_KERNELS)
    return custom_ops.register(session_options, [PLACE_REGIONS, *target.kernels], device=target.device)

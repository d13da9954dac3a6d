"""Which execution providers sessions run on: as asked for, or chosen, and never another one without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from krypton_onnx.errors import ModelError

if TYPE_CHECKING:
    from krypton_onnx.runtime.cuda.target import Target

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
AUTO = "auto"
PRECISE = {"use_tf32": "0"}
"""What CUDA sessions get unless the caller says otherwise: TF32 keeps 10 bits of a product's operands, and exact maps
are promised to 1e-4."""


@dataclass(frozen=True)
class Providers:
    """Execution providers, best first, and their options. note: what was chosen and why, where the choice was ours."""

    names: tuple
    options: tuple[dict, ...] | None = None
    note: str = ""

    @property
    def first(self) -> str:
        """Name of the best."""
        return provider_name(self.names[0])


def provider_name(provider: str | tuple[str, Mapping]) -> str:
    """The name in an entry of `providers`, which may come with its options."""
    return provider if isinstance(provider, str) else provider[0]


def choose_providers(providers: Sequence | str | None, options: Sequence[dict] | None) -> Providers:
    """What `providers` asks for. "auto" is CUDA where it can be used, else the CPU; None is the CPU.

    Raises ModelError, in one line, where a provider that is asked for is not there.
    """
    asked = [providers] if isinstance(providers, str) else list(providers) if providers is not None else [CPU]
    if asked == [AUTO]:
        return _automatic(options)
    _check_available([provider_name(provider) for provider in asked])
    return _precise(Providers(tuple(asked), None if options is None else tuple(options)))


def cuda_target(chosen: Providers) -> Target | None:
    """The GPU where CUDA is the best provider, else None. Raises ModelError where it cannot be used."""
    if chosen.first != CUDA:
        return None
    from krypton_onnx.runtime.cuda.device import cuda_device
    from krypton_onnx.runtime.cuda.target import Target

    number = str(_options_of_first(chosen).get("device_id", 0))
    if not number.isdecimal():
        raise ModelError(f"{CUDA}: device_id must be the number of a GPU, counted from 0, got {number!r}")
    device = cuda_device(int(number))
    from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS  # imports numba.cuda, which there is from here on
    from krypton_onnx.numba_kernels.cuda.workspace import forget

    return Target(device, CUDA_KERNELS, chosen.names, chosen.options, "cuda", device.number, device.free_bytes, forget)


def _automatic(options: Sequence[dict] | None) -> Providers:
    if options is not None:
        raise ModelError("provider_options belong to providers that are named, not to 'auto'")
    if CUDA not in ort.get_available_providers():
        return Providers((CPU,), note=f"providers: the CPU, since this onnxruntime has no {CUDA}")
    found = _precise(Providers((CUDA, CPU), note=f"providers: {CUDA}"))
    try:
        cuda_target(found)
    except ModelError as error:
        return Providers((CPU,), note=f"providers: the CPU, since {error}")
    return found


def with_defaults(
    providers: Sequence, options: Sequence[dict] | None, defaults: Mapping[str, str]
) -> tuple[tuple, tuple[dict, ...] | None]:
    """Providers and their options, where CUDA's have `defaults` unless they speak of them."""
    names: list[Any] = list(providers)
    apart = None if options is None else [dict(each) for each in options]
    for index, provider in enumerate(names):
        if provider_name(provider) != CUDA:
            continue
        if apart is not None and index < len(apart):
            apart[index] = {**defaults, **apart[index]}
        else:
            names[index] = (CUDA, {**defaults, **({} if isinstance(provider, str) else provider[1])})
    return tuple(names), None if apart is None else tuple(apart)


def _precise(chosen: Providers) -> Providers:
    """CUDA without TF32, unless its options speak of it."""
    return Providers(*with_defaults(chosen.names, chosen.options, PRECISE), chosen.note)


def _options_of_first(chosen: Providers) -> Mapping[str, Any]:
    if chosen.options:
        return chosen.options[0]
    first = chosen.names[0]
    return {} if isinstance(first, str) else first[1]


def _check_available(names: list[str]) -> None:
    available = ort.get_available_providers()
    if not names:
        raise ModelError(f"providers is empty: name one of {', '.join(available)}, or 'auto'")
    for name in names:
        if name not in available:
            raise ModelError(
                f"provider '{name}' is not available here; this onnxruntime has: {', '.join(available)}"
            )

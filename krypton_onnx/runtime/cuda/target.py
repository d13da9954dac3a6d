"""Where sessions of a device run: its provider, its kernels and its memory, in ONNX Runtime's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.device import Device
from krypton_onnx.runtime.providers import with_defaults

BY_RULE = {"cudnn_conv_algo_search": "HEURISTIC"}


@dataclass(frozen=True, eq=False)
class Target:
    """One device as sessions are made for it.

    device : its seam. kernels : those of its provider. providers, provider_options : as for InferenceSession.
    memory : ONNX Runtime's name of its memory ("cuda"), number : which of several. free : bytes that can be taken now.
    forget : gives back the scratch memory of kernels, while none runs.
    """

    device: Device
    kernels: tuple[Kernel, ...]
    providers: tuple
    provider_options: tuple | None
    memory: str
    number: int
    free: Callable[[], int]
    forget: Callable[[], None] = lambda: None

    def search(self) -> tuple[tuple, tuple | None]:
        """Providers and options of incremental sessions: cuDNN chooses an algorithm by rule, unless told how to.

        It would else try all for every new shape, and regions have many: a second or so for each.
        """
        return with_defaults(self.providers, self.provider_options, BY_RULE)

    def value(self, array: np.ndarray) -> ort.OrtValue:
        """A copy in the device's memory."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.memory, self.number)

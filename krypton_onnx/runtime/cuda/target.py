"""Where sessions of a device run: its provider, its kernels and its memory, in ONNX Runtime's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.device import Device


@dataclass(frozen=True, eq=False)
class Target:
    """One device as sessions are made for it.

    device : its seam. kernels : those of its provider. providers, provider_options : as for InferenceSession.
    memory : ONNX Runtime's name of its memory ("cuda"), number : which of several. free : bytes that can be taken now.
    """

    device: Device
    kernels: tuple[Kernel, ...]
    providers: tuple
    provider_options: tuple | None
    memory: str
    number: int
    free: Callable[[], int]

    def value(self, array: np.ndarray) -> ort.OrtValue:
        """A copy in the device's memory."""
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.memory, self.number)

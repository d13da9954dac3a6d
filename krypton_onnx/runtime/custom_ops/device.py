"""What kernels need of a processor beside the CPU: the seam between ONNX Runtime's pointers and kernels' arrays."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from krypton_onnx.runtime.custom_ops.ort_api import OrtApi


class Device(Protocol):
    """Memory and queues of one device. What it gives is what kernels of its provider take.

    provider : ONNX Runtime's name of the execution provider whose kernels run here.
    """

    provider: str

    def stream(self, api: OrtApi, context: int) -> Any:
        """The queue on which ONNX Runtime runs the node of this OrtKernelContext."""

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """The device's memory from `address` on, C-contiguous, without a copy; valid as long as that memory."""

    def upload(self, values: np.ndarray) -> Any:
        """An array of its own on the device with these values."""

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A copy, in host memory, of what lies at `address`, be that host or device memory."""

    def wait(self) -> None:
        """Until what was uploaded is there: other queues do not wait for it."""

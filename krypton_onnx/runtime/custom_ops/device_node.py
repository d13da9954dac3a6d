"""As node.py, for a kernel that runs on a device: its inputs and outputs are the device's own memory.

Inputs that the kernel names as `host` come as NumPy views: they decide shapes, and must be known before anything runs.
Nothing here waits for the device.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.device import Device
from krypton_onnx.runtime.custom_ops.node_info import attributes_of, constant_input, detached_inputs, input_count
from krypton_onnx.runtime.custom_ops.ort_api import ELEMENT_TYPES, OrtApi
from krypton_onnx.runtime.custom_ops.tensors import TensorAccess


class DeviceNode:
    """A compute callable of a device with its constant inputs uploaded and its others wrapped at each run."""

    def __init__(
        self, kernel: Kernel, strict: bool, api: OrtApi, tensors: TensorAccess, info: int, device: Device
    ) -> None:
        """info: address of the OrtKernelInfo, valid only during this call."""
        self._api, self._tensors, self._device = api, tensors, device
        self._output_dtypes = tuple(ELEMENT_TYPES[name][1] for name in kernel.outputs)
        self._inputs: list[Any] = [None] * len(kernel.inputs)
        self._fetched: list[tuple[int, np.dtype, bool]] = []  # index, element type, whether in host memory
        constants: dict[int, np.ndarray] = {}
        for index, name in enumerate(kernel.inputs[: input_count(api, info)]):
            dtype = ELEMENT_TYPES[name][1]
            value = constant_input(api, info, index)
            if value is None:
                self._fetched.append((index, dtype, index in kernel.host))
            else:  # ONNX Runtime may have moved it to the device already
                constants[index] = device.download(tensors.address(value), tuple(tensors.shape(value)), dtype)
        constants |= detached_inputs(api, info)
        self._fetched = [entry for entry in self._fetched if entry[0] not in constants]
        given = tuple(constants.get(index) for index in range(len(kernel.inputs)))
        self._compute: Any = kernel.make(attributes_of(kernel, api, info), given, strict)
        for index, constant in constants.items():
            if index in kernel.consumed:  # only its shape is needed from now on
                self._inputs[index] = np.broadcast_to(np.zeros((), constant.dtype), constant.shape)
            else:
                self._inputs[index] = constant if index in kernel.host else device.upload(constant)

    def run(self, context: int) -> None:
        """Queue one run. context: address of the OrtKernelContext of this run."""
        inputs, tensors = self._inputs.copy(), self._tensors
        for index, dtype, on_host in self._fetched:
            if on_host:
                inputs[index] = tensors.input(context, index, dtype)
            else:
                value = tensors.input_value(context, index)
                inputs[index] = None if value is None else self._wrap(value, tuple(tensors.shape(value)), dtype)
        self._compute(inputs, partial(self._allocate, context), self._device.stream(self._api, context))

    def _allocate(self, context: int, index: int, shape: tuple[int, ...]) -> Any:
        return self._wrap(self._tensors.output_value(context, index, shape), shape, self._output_dtypes[index])

    def _wrap(self, value: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return self._device.array(self._tensors.address(value), shape, dtype)

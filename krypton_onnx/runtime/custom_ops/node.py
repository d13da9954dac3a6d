"""One node of a session that a kernel runs: made from what ONNX Runtime knows of the node, then called."""

from functools import partial
from typing import Any

import numpy as np

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops.node_info import attributes_of, constant_input, detached_inputs, input_count
from krypton_onnx.runtime.custom_ops.ort_api import ELEMENT_TYPES, OrtApi
from krypton_onnx.runtime.custom_ops.tensors import TensorAccess


class Node:
    """A compute callable with its constant inputs at hand and its other inputs fetched at each run."""

    def __init__(self, kernel: Kernel, strict: bool, api: OrtApi, tensors: TensorAccess, info: int) -> None:
        """info: address of the OrtKernelInfo, valid only during this call."""
        self._tensors = tensors
        self._output_dtypes = tuple(ELEMENT_TYPES[name][1] for name in kernel.outputs)
        # One entry an input, also for those that the node does not have, so that kernels can unpack it.
        self._inputs: list[np.ndarray | None] = [None] * len(kernel.inputs)
        self._fetched: list[tuple[int, np.dtype]] = []
        for index, name in enumerate(kernel.inputs[: input_count(api, info)]):
            dtype = ELEMENT_TYPES[name][1]
            value = constant_input(api, info, index)
            if value is None:
                self._fetched.append((index, dtype))
            else:
                self._inputs[index] = tensors.view(value, dtype)
        detached = detached_inputs(api, info)
        for index, constant in detached.items():
            self._inputs[index] = constant
        self._compute: Any = kernel.make(attributes_of(kernel, api, info), tuple(self._inputs), strict)
        for index, constant in detached.items():  # only its shape is needed from now on
            self._inputs[index] = np.broadcast_to(np.zeros((), constant.dtype), constant.shape)

    def run(self, context: int) -> None:
        """context: address of the OrtKernelContext of this run."""
        inputs = self._inputs.copy()
        fetch = self._tensors.input
        for index, dtype in self._fetched:
            inputs[index] = fetch(context, index, dtype)
        self._compute(inputs, partial(self._tensors.output, context, self._output_dtypes))

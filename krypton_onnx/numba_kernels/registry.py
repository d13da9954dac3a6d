"""What a kernel declares about itself, so that the runtime can register it without knowing any operator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Allocate = Callable[[int, tuple[int, ...]], np.ndarray]
"""allocate(i, shape) returns output i, uninitialized, to write into."""

Compute = Callable[[Sequence[np.ndarray | None], Allocate], None]
"""compute(inputs, allocate): inputs are zero-copy views, None where an optional input is absent."""

DeviceAllocate = Callable[[int, tuple[int, ...]], Any]
"""The same in device memory."""

DeviceCompute = Callable[[Sequence[Any], DeviceAllocate, Any], None]
"""compute(inputs, allocate, stream) of a kernel of the CUDA provider.

Inputs are C-contiguous arrays in device memory (anything with `shape` and `__cuda_array_interface__`, see
cuda/arrays.py), those in `host` NumPy arrays. Everything is put on `stream`, a stream of numba.cuda around ONNX
Runtime's own (0 in the simulator), and compute returns at once: results are there when the stream has come so far.
Nothing synchronizes.
"""


@dataclass(frozen=True)
class Kernel:
    """One operator of the domain ai.krypton.

    op_type     name of the operator
    inputs      element type of each input, "float" | "int64"
    required    the first `required` inputs must be present, the others are optional
    outputs     element type of each output
    attributes  name -> "int" | "ints" | "float" | "string"
    make        make(attributes, constants, strict) -> compute, called once a node when a session is created:
                weights are transformed here. constants[i] is input i where it is a constant initializer, else
                None. strict: no algorithm that trades accuracy for speed.
    consumed    inputs of whose values compute() needs only the shape once make() had them as constants
    provider    the execution provider of ONNX Runtime that it runs in; it decides what compute is.
                CPUExecutionProvider: a Compute. CUDAExecutionProvider: a DeviceCompute; its constants are host
                arrays too, and make() copies to the device what it prepares
    host        inputs that a kernel of a device reads in host memory, as NumPy arrays: they decide shapes
    """

    op_type: str
    inputs: tuple[str, ...]
    required: int
    outputs: tuple[str, ...]
    attributes: Mapping[str, str]
    make: Callable[[Mapping[str, object], Sequence[np.ndarray | None], bool], Compute | DeviceCompute]
    consumed: tuple[int, ...] = ()
    provider: str = "CPUExecutionProvider"
    host: tuple[int, ...] = ()

"""A device that is the CPU: ONNX Runtime's CPU provider runs the nodes, and their memory is handed to kernels as a
device's would be. What sessions of a device do is tested with it wherever there is no GPU."""

import ctypes
from dataclasses import replace

import numpy as np

from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.cuda.target import Target

CPU = "CPUExecutionProvider"


class SimulatedDevice:
    """As `custom_ops.device.Device`; arrays are those of Numba's simulator."""

    provider = CPU

    def __init__(self) -> None:
        self.queued = 0
        self.uploads = 0
        self.waited = 0

    def stream(self, api: object, context: int) -> int:
        self.queued += 1
        return 0

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> object:
        return simulated(_view(address, shape, dtype))

    def upload(self, values: np.ndarray) -> object:
        self.uploads += 1
        return simulated(np.array(values))

    def wait(self) -> None:
        self.waited += 1

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return _view(address, shape, dtype).copy()


def simulated(array: np.ndarray) -> object:
    """An array of Numba's simulator over the same memory."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    return FakeCUDAArray(array)


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def simulated_target(kernels: tuple[Kernel, ...]) -> Target:
    """`kernels` of a device on the CPU provider."""
    here = tuple(replace(kernel, provider=CPU) for kernel in kernels)
    return Target(SimulatedDevice(), here, (CPU,), None, "cpu", 0, lambda: 1 << 33)


def on_host(target: Target, kernels: tuple[Kernel, ...]) -> Target:
    """The same with the CPU's kernels in place of the device's, for models that the simulator is too slow for."""
    twins = {kernel.op_type: kernel for kernel in kernels}
    slow = [kernel for kernel in target.kernels if kernel.op_type in twins]
    return replace(
        target, device=_HostArrays(), kernels=tuple(replace(_queued(twins[k.op_type]), host=k.host) for k in slow)
    )


class _HostArrays(SimulatedDevice):
    """Arrays are NumPy's."""

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype) -> object:
        return _view(address, shape, dtype)

    def upload(self, values: np.ndarray) -> object:
        self.uploads += 1
        return np.array(values)


def _queued(kernel: Kernel) -> Kernel:
    """A CPU kernel that is called as a device's."""

    def make(attributes, constants, strict):  # type: ignore[no-untyped-def]
        compute = kernel.make(attributes, constants, strict)
        return lambda inputs, allocate, stream: compute(inputs, allocate)

    return replace(kernel, make=make)

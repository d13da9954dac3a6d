"""What it costs to queue work from Python: an empty launch, and a node of ours inside an ONNX Runtime session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from krypton_onnx.numba_kernels import Kernel
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.runtime import custom_ops

OP_TYPE = "ChannelAffine"
NODES, ROUNDS = 64, 30
LAUNCHES = 2000
CHANNELS = 4


def measure() -> Iterator[dict[str, float]]:
    """Microseconds of a launch and of a node, on the host; on CUDA. One result after the other."""
    from gpu_place import CUDA, preload

    from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS
    from krypton_onnx.runtime.cuda.device import cuda_device

    preload()
    yield launches()
    yield {"product_host_us": product()}
    kernel = next(kernel for kernel in CUDA_KERNELS if kernel.op_type == OP_TYPE)
    if CUDA in ort.get_available_providers():
        device = cuda_device()
        where: dict[str, Any] = {"providers": [CUDA], "device": device, "memory": "cuda"}
        yield {"stock_node_us": node(None, **where)}
        yield {"empty_node_us": node(empty(kernel), **where)}
        yield {"node_us": node(kernel, **where)}


def _nothing(out: Any, count: int) -> None:
    pass


def launches() -> dict[str, float]:
    """Of a kernel that does nothing, through the same code as all of ours."""
    from gpu_timing import DeviceClock

    from krypton_onnx.numba_kernels.cuda.arrays import pointer
    from krypton_onnx.numba_kernels.cuda.compiled import FLOATS, DeviceKernel
    from krypton_onnx.numba_kernels.cuda.compiled import INT as COUNT
    from krypton_onnx.numba_kernels.cuda.target import cuda

    kernel = DeviceKernel(_nothing, (FLOATS, COUNT))
    clock = DeviceClock()
    out = pointer(cuda.device_array(1, np.float32))
    timed = clock.timed(lambda: kernel(1, clock.stream, out), calls=100)
    kernel(1, clock.stream, out)
    began = time.perf_counter()
    for _ in range(LAUNCHES):
        kernel(1, clock.stream, out)
    many = 1e6 * (time.perf_counter() - began) / LAUNCHES
    clock.stream.synchronize()
    return {"launch_host_us": timed.host, "launch_device_us": timed.device, "launch_host_us_of_many": many}


def product() -> float:
    """Microseconds on the host of a small product through cuBLAS, as our convolutions call it."""
    from gpu_timing import DeviceClock

    from krypton_onnx.numba_kernels.cuda.arrays import pointer
    from krypton_onnx.numba_kernels.cuda.products import Weights, multiply
    from krypton_onnx.numba_kernels.cuda.target import cuda

    clock = DeviceClock()
    weights = Weights(np.ones((1, 16, 16), np.float32))
    arrays = [cuda.device_array((16, 16), np.float32) for _ in range(2)]
    a, out = (pointer(array) for array in arrays)
    multiply(a, weights, out, 16, 16, 0, clock.stream)
    return clock.timed(lambda: multiply(a, weights, out, 16, 16, 0, clock.stream), calls=100).host


def empty(kernel: Kernel) -> Kernel:
    """The same operator, which gives memory for its output and leaves it as it is."""

    def make(attributes: Mapping[str, object], constants: Sequence[np.ndarray | None], strict: bool) -> Any:
        def compute(inputs: Sequence[Any], allocate: Callable[[int, tuple[int, ...]], Any], *stream: Any) -> None:
            allocate(0, tuple(inputs[0].shape))

        return compute

    return replace(kernel, make=make)


def node(kernel: Kernel | None, providers: Sequence[str], device: Any, memory: str) -> float:
    """Microseconds a node in a chain of them, on a tensor of a few numbers; None: of ONNX Runtime's own Neg."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if kernel is not None:
        custom_ops.register(options, [kernel], False, device)
    session = ort.InferenceSession(chain(kernel is not None), options, providers=list(providers))
    binding = session.io_binding()
    value = np.ones((1, 1, 1, CHANNELS), np.float32)
    binding.bind_ortvalue_input("x0", ort.OrtValue.ortvalue_from_numpy(value, memory, 0))
    binding.bind_output(f"x{NODES}", "cpu")
    times = []
    for _ in range(ROUNDS + 3):
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - began)
    return 1e6 * median(times[3:]) / NODES


def chain(ours: bool) -> bytes:
    """A model of so many nodes, each on the result of the one before."""
    more, domain = (["scale", "shift"], DOMAIN) if ours else ([], "")
    attributes: dict[str, Any] = {"activation": "", "clip_min": 0.0, "clip_max": 0.0} if ours else {}
    nodes = [
        helper.make_node(OP_TYPE if ours else "Neg", [f"x{n}", *more], [f"x{n + 1}"], domain=domain, **attributes)
        for n in range(NODES)
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, CHANNELS]) for name in ("x0", f"x{NODES}")
    ]
    weights = [numpy_helper.from_array(np.full(CHANNELS, number, np.float32), name)
               for name, number in (("scale", 1), ("shift", 0))]  # fmt: skip
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], weights if ours else [])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()

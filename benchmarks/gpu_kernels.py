"""The CUDA kernels one by one, on the shapes of a model: checked against their CPU twins, then timed beside cuDNN."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from math import prod
from typing import Any

import numpy as np
import onnx
from gpu_cases import SAMPLED, Case, cases_of

from krypton_onnx.errors import one_line
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter import Plan, plan_of, rewrite_model
from krypton_onnx.runtime.session import available_cores

TOLERANCE = 1e-4  # of the largest value
TINY = "tiny"  # the model made here
SIMULATED_SAMPLES = 2


def job(
    model: str, path: str | None, patch: tuple[int, int], stride: tuple[int, int], skip: Collection[str] = (),
    timed: bool = True, image: str | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Every kind of node of a model, one result each: {"node", "op_type", ...}; the first one tells how many there are.

    path: of the original model; None: the tiny one. skip: nodes that were done, or broke, before. timed=False: only
    checked, as in the simulator. image: of an array (1, ...); None: random numbers.
    """
    from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS

    pixels = None if image is None else np.load(image)
    rewritten = rewrite_model(_tiny() if path is None else path, None, None if pixels is None else pixels.shape)
    plan = plan_of(rewritten)
    assert plan is not None
    if pixels is None:
        pixels = random_image(plan)
    cases = cases_of(
        rewritten, pixels, (patch[0], patch[1]), (stride[0], stride[1]), {kernel.op_type for kernel in CUDA_KERNELS},
        available_cores(), SAMPLED if timed else SIMULATED_SAMPLES,
    )  # fmt: skip
    yield {"cases": len(cases), "model": model}
    bench = _bench() if timed else None
    if bench is not None and not skip:
        yield {"model": model, **bench.facts()}
    for case in cases:
        if case.node in skip:
            continue
        yield {"model": model, "began": case.node}
        row: dict[str, Any] = {"model": model, "node": case.node, "op_type": case.op_type, "count": case.count,
                               "positions": case.positions, "shapes": in_words(case)}  # fmt: skip
        try:
            row |= check(case)
            if bench is not None and row["difference"] <= row["allowed"]:
                row |= bench.times(case)
        except Exception as error:  # the others are still worth measuring
            row["failed"] = one_line(error) or type(error).__name__
        yield row


def _tiny() -> onnx.ModelProto:
    from gpu_made import tiny

    return tiny()


def _bench() -> Any:
    from gpu_kernel_times import KernelBench

    return KernelBench()


def random_image(plan: Plan) -> np.ndarray:
    """float32 (1, ...) in the model's layout."""
    channels, height, width = plan.image_shape
    shape = (1, channels, height, width) if plan.layout == "NCHW" else (1, height, width, channels)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def in_words(case: Case) -> str:
    """What decides a kernel's time: where it reads, where it writes."""
    data = [value for index, value in enumerate(case.inputs) if value is not None and value.ndim == 4]
    words = ["x".join(map(str, value.shape[1:])) for value in data[:1]]
    weights = next((case.inputs[index] for index in sorted(case.constant) if _is_weights(case.inputs[index])), None)
    if weights is not None:
        words.append("weights " + "x".join(map(str, weights.shape)))
    strides = tuple(case.attributes.get("strides") or (1, 1))
    if strides != (1, 1):
        words.append("stride " + "x".join(map(str, strides)))
    extent = next((value for value in case.inputs if value is not None and value.shape == (2,)), None)
    if extent is not None and extent.dtype == np.int64:
        words.append("region " + "x".join(map(str, extent.tolist())))
    return ", ".join(words)


def _is_weights(value: np.ndarray | None) -> bool:
    return value is not None and value.ndim == 4


def check(case: Case) -> dict[str, float]:
    """The largest difference between the CUDA kernel and its CPU twin on the sampled positions, and what is allowed."""
    expected = on_cpu(case)
    actual = on_device(case)()
    if actual.shape != expected.shape:
        raise ValueError(f"the CUDA kernel gives shape {actual.shape}, the CPU's {expected.shape}")
    same = np.isfinite(expected) == np.isfinite(actual)
    finite = np.isfinite(expected) & np.isfinite(actual)
    largest = float(np.abs(actual - expected)[finite].max(initial=0.0)) if same.all() else float("inf")
    return {"difference": largest, "allowed": TOLERANCE * max(1e-30, float(np.abs(expected[finite]).max(initial=0.0)))}


def on_cpu(case: Case) -> np.ndarray:
    """The result of the CPU kernel."""
    kernel = next(kernel for kernel in CPU_KERNELS if kernel.op_type == case.op_type)
    results: list[np.ndarray] = []

    def allocate(index: int, shape: tuple[int, ...]) -> np.ndarray:
        results.append(np.zeros(shape, np.float32))
        return results[-1]

    kernel.make(case.attributes, case.constants, False)(list(case.inputs), allocate)  # type: ignore[call-arg]
    return results[0]


def on_device(case: Case, positions: int | None = None, stream: Any = 0) -> Callable[[], np.ndarray]:
    """A call that runs the CUDA kernel and returns its result; `.queue` only queues it, `.shape` is the result's.

    positions: as many as that, in place of the sampled ones.
    """
    return DeviceCall(case, positions, stream)


class DeviceCall:
    """A node on the device: inputs uploaded once, outputs in memory that is kept."""

    def __init__(self, case: Case, positions: int | None, stream: Any) -> None:
        from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS
        from krypton_onnx.numba_kernels.cuda.target import cuda

        kernel = next(kernel for kernel in CUDA_KERNELS if kernel.op_type == case.op_type)
        inputs = list(case.inputs) if positions is None else case.repeated(positions)
        self._compute: Any = kernel.make(case.attributes, case.constants, False)
        self._inputs = [
            value if value is None or index in kernel.host else cuda.to_device(np.ascontiguousarray(value))
            for index, value in enumerate(inputs)
        ]
        self._outputs: dict[tuple[int, ...], Any] = {}
        self._cuda, self._stream = cuda, stream
        self.moved = sum(value.nbytes for value in inputs if value is not None)

    def _allocate(self, index: int, shape: tuple[int, ...]) -> Any:
        if shape not in self._outputs:
            self._outputs[shape] = self._cuda.to_device(np.zeros(shape, np.float32))
        return self._outputs[shape]

    def queue(self) -> None:
        """Put it on the stream."""
        self._compute(self._inputs, self._allocate, self._stream)

    @property
    def cells(self) -> int:
        """Elements of the result, once it ran."""
        return prod(next(iter(self._outputs)))

    def __call__(self) -> np.ndarray:
        self.queue()
        if self._stream:
            self._stream.synchronize()
        (out,) = self._outputs.values()
        return np.asarray(out.copy_to_host())

"""The same convolutions by cuDNN through PyTorch, without TF32: on the windows that ours read, and on full frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gpu_cases import Case
from gpu_timing import DeviceClock

FULL_BYTES = 1 << 30  # of the input on full frames, at most: images are as many as fit
PEAK_SIDE = 8192


@dataclass(frozen=True)
class Convolution:
    """What cuDNN computes. reads: (height, width) of the input, pads included; images: how many of them."""

    images: int
    reads: tuple[int, int]
    weights: tuple[int, ...]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    group: int

    @property
    def multiply_adds(self) -> float:
        """Of all images, by the plain definition."""
        outputs, each, *kernel = self.weights
        cells = 1
        for axis in (0, 1):
            covered = (kernel[axis] - 1) * self.dilations[axis] + 1
            cells *= (self.reads[axis] - covered) // self.strides[axis] + 1
        return float(self.images * cells) * outputs * each * kernel[0] * kernel[1]


def windows_of(case: Case, positions: int) -> Convolution | None:
    """A convolution on ready-made windows of as many positions; None where the case is none."""
    if case.op_type.startswith("PointwiseConv"):
        patch, weights = case.inputs[:2]
        assert patch is not None and weights is not None
        return Convolution(positions, patch.shape[1:3], weights.shape, (1, 1), (1, 1), 1)
    if not case.op_type.startswith("IncrementalConv"):
        return None
    weights, extent = case.inputs[3], case.inputs[6]
    assert weights is not None and extent is not None
    strides, dilations, group = _geometry(case)
    reads = [
        int((extent[axis] - 1) * strides[axis] + (weights.shape[2 + axis] - 1) * dilations[axis] + 1) for axis in (0, 1)
    ]
    return Convolution(positions, (reads[0], reads[1]), weights.shape, strides, dilations, group)


def frames_of(case: Case, positions: int) -> Convolution | None:
    """The same on whole frames of a few images, as full inference does it; None where the frame is not known."""
    if not case.op_type.startswith("IncrementalConv"):
        return None
    view, weights = case.inputs[2:4]
    assert view is not None and weights is not None
    strides, dilations, group = _geometry(case)
    pads = tuple(case.attributes.get("pads") or (0, 0, 0, 0))
    reads = tuple(int(view.shape[1 + axis] + pads[axis] + pads[2 + axis]) for axis in (0, 1))
    images = max(1, min(positions, FULL_BYTES // (4 * reads[0] * reads[1] * view.shape[3])))
    return Convolution(images, (reads[0], reads[1]), weights.shape, strides, dilations, group)


def _geometry(case: Case) -> tuple[tuple[int, int], tuple[int, int], int]:
    strides = tuple(case.attributes.get("strides") or (1, 1))
    dilations = tuple(case.attributes.get("dilations") or (1, 1))
    return (strides[0], strides[1]), (dilations[0], dilations[1]), int(case.attributes.get("group") or 1)


class Torch:
    """PyTorch on the clock's stream. Raises ImportError or RuntimeError where it cannot use the GPU."""

    def __init__(self, clock: DeviceClock) -> None:
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # the fastest algorithm for every shape, as ONNX Runtime looks for
        self._torch, self._clock = torch, clock
        self._stream = torch.cuda.ExternalStream(clock.address)

    def _timed(self, work: Callable[[], Any]) -> float:
        """Microseconds on the device."""
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            work()
            return self._clock.timed(work).device

    def convolution(self, asked: Convolution) -> float:
        """Microseconds, of the faster memory layout: bias included, no activation and no residual."""
        torch = self._torch
        outputs, each = asked.weights[:2]
        best = float("inf")
        for layout in (torch.contiguous_format, torch.channels_last):
            with torch.cuda.stream(self._stream):
                x = torch.randn(asked.images, each * asked.group, *asked.reads, device="cuda")
                weights = torch.randn(asked.weights, device="cuda").contiguous(memory_format=layout)
                bias = torch.randn(outputs, device="cuda")
                x = x.contiguous(memory_format=layout)
            work = partial(torch.nn.functional.conv2d, x, weights, bias, asked.strides, 0, asked.dilations, asked.group)
            best = min(best, self._timed(work))
        return best

    def peak(self) -> dict[str, float]:
        """Billions of multiply-adds a second of one large product: float32, and with TF32."""
        torch, rates = self._torch, {}
        with torch.cuda.stream(self._stream):
            a, b = (torch.ones(PEAK_SIDE, PEAK_SIDE, device="cuda") for _ in range(2))
        for name, light in (("float32", False), ("tf32", True)):
            torch.backends.cuda.matmul.allow_tf32 = light
            rates[name] = PEAK_SIDE**3 / self._timed(lambda: a @ b) / 1e3
        torch.backends.cuda.matmul.allow_tf32 = False
        return rates

    def give_back(self) -> None:
        """Memory that PyTorch keeps for later."""
        self._torch.cuda.empty_cache()


def reading_window(case: Case) -> Case | None:
    """The Window in front of a convolution in the window form."""
    asked = windows_of(case, case.positions)
    if asked is None or not case.op_type.startswith("IncrementalConv"):
        return None
    patch, patch_origin, view, _, _, origin = case.inputs[:6]
    assert origin is not None
    pads = np.array(tuple(case.attributes.get("pads") or (0, 0, 0, 0))[:2], np.int64)
    where = origin * np.array(asked.strides, np.int64) - pads
    inputs = (patch, patch_origin, view, where, np.array(asked.reads, np.int64))
    return Case(f"{case.node} window", "Window", {"pad_value": 0.0}, inputs, frozenset(), 1, case.sampled,
                case.positions)  # fmt: skip

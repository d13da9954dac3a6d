"""What a node takes on a GPU: our kernel, its parts, and the same work by cuDNN."""

from __future__ import annotations

from typing import Any

import gpu_torch
from gpu_cases import Case
from gpu_counts import Launches
from gpu_kernels import DeviceCall
from gpu_place import preload
from gpu_timing import DeviceClock

from krypton_onnx.errors import one_line


class KernelBench:
    """The clock, and PyTorch where it can use the GPU. without: why it cannot."""

    def __init__(self) -> None:
        preload()
        self.clock = DeviceClock()
        self.torch: gpu_torch.Torch | None = None
        self.without = ""
        try:
            self.torch = gpu_torch.Torch(self.clock)
        except Exception as error:  # not there, or for another CUDA
            self.without = one_line(error) or type(error).__name__

    def facts(self) -> dict[str, Any]:
        """What products reach at best; why cuDNN is not measured, where it is not."""
        if self.torch is None:
            return {"without_torch": self.without}
        peak = self.torch.peak()
        self.torch.give_back()
        return {"peak": peak}

    def times(self, case: Case) -> dict[str, Any]:
        """Microseconds of the whole batch, and cuDNN's."""
        ours = self._ours(case)
        row: dict[str, Any] = {"ours": ours}
        asked = gpu_torch.windows_of(case, case.positions)
        if asked is None:
            return row
        row["multiply_adds"] = asked.multiply_adds
        window = gpu_torch.reading_window(case)
        if window is not None:
            row["window_kernel"] = self._ours(window)["device"]
        if self.torch is None:
            return row
        row["cudnn_windows"] = self.torch.convolution(asked)
        frames = gpu_torch.frames_of(case, case.positions)
        if frames is not None:  # scaled to as many images as there are positions
            row["cudnn_frames"] = self.torch.convolution(frames) * case.positions / frames.images
        self.torch.give_back()
        return row

    def _ours(self, case: Case) -> dict[str, Any]:
        call = DeviceCall(case, case.positions, self.clock.stream)
        call()  # compiles, and makes scratch memory
        timed = self.clock.timed(call.queue)
        with Launches(self.clock.stream) as launches:
            call.queue()
            parts = launches.device()
        return {
            "device": timed.device, "host": timed.host, "alone": timed.alone, "launches": sum(launches.counts.values()),
            "parts": parts, "bytes": call.moved + 4 * call.cells,
        }  # fmt: skip

"""Where it is measured, and who else works there meanwhile."""

from __future__ import annotations

import datetime
import os
import platform
import time
from pathlib import Path

import onnxruntime as ort
from report import Environment
from stages import gemm_peak

from krypton_onnx.numba_kernels import CPU_KERNELS, amx
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.session import available_cores

CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")


def environment() -> Environment:
    """This machine and what is installed on it."""
    return Environment(
        onnxruntime=ort.__version__,
        cores=available_cores(),
        cpu=cpu_model(),
        kernels=bool(custom_ops.register(ort.SessionOptions(), CPU_KERNELS, False)),
        date=datetime.date.today().isoformat(),
        gemm_peak=gemm_peak(),
        amx=amx.available(),
    )


def cpu_model() -> str:
    """The processor's name, as far as it tells."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class OtherWork:
    """How much of the machine's time went to other processes (or was stolen by the host) since this was made."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds: of all processes, of this one, and by the clock. None where the system does not tell."""
        if not STAT.exists():
            return None
        user, nice, system, _, _, interrupts, soft, stolen = map(int, STAT.read_text().split()[1:9])
        busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
        return busy, time.process_time(), time.monotonic()

    def share(self) -> float | None:
        """0 (alone) to 1; None where the system does not tell."""
        now = self._now()
        if now is None or self._start is None or now[0] == self._start[0]:
            return None
        busy, own, elapsed = (end - begin for end, begin in zip(now, self._start, strict=True))
        return min(1.0, max(0.0, (busy - own) / (elapsed * (os.cpu_count() or 1))))

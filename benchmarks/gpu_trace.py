"""Everything that a GPU did meanwhile: every launch and copy of the process, ONNX Runtime's too, as CUPTI traces them.

PyTorch brings CUPTI along; its profiler writes a Chrome trace, which is read here.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = (
    ("krypton_onnx", "our kernels"), ("numba", "our kernels"), ("cudnn", "cuDNN"), ("implicit", "cuDNN"),
    ("conv", "cuDNN"), ("winograd", "cuDNN"), ("nchw", "cuDNN"), ("nhwc", "cuDNN"), ("gemm", "matrix products"),
    ("cutlass", "matrix products"), ("cublas", "matrix products"),
)  # fmt: skip
OTHER = "other of ONNX Runtime"
LARGEST = 12  # kernels that are named


def kind_of(name: str) -> str:
    """Whose kernel it is, by its name."""
    lower = name.lower()
    return next((kind for part, kind in KINDS if part in lower), OTHER)


def summary(trace: dict[str, Any]) -> dict[str, Any]:
    """Of a Chrome trace: launches, microseconds on the device by whose kernel it is, bytes over the bus.

    busy_us : time in which at least one kernel or copy ran. span_us : from the first to the end of the last.
    """
    kernels = [event for event in trace["traceEvents"] if event.get("cat") == "kernel"]
    copies = [event for event in trace["traceEvents"] if event.get("cat") == "gpu_memcpy"]
    share: defaultdict[str, float] = defaultdict(float)
    named: defaultdict[str, list[float]] = defaultdict(list)
    for event in kernels:
        share[kind_of(event["name"])] += event["dur"]
        named[event["name"]].append(event["dur"])
    moved: defaultdict[str, list[int]] = defaultdict(list)
    for event in copies:
        moved[_direction(event["name"])].append(int(event.get("args", {}).get("bytes", 0)))
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in (*kernels, *copies))
    busy, end = 0.0, float("-inf")
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    longest = sorted(named, key=lambda name: -sum(named[name]))[:LARGEST]
    return {
        "launches": len(kernels),
        "device_us": dict(sorted(share.items(), key=lambda item: -item[1])),
        "copies": {name: {"count": len(sizes), "bytes": sum(sizes)} for name, sizes in sorted(moved.items())},
        "busy_us": busy,
        "span_us": spans[-1][1] - spans[0][0] if spans else 0.0,
        "kernels": [{"name": name[:120], "launches": len(named[name]), "us": sum(named[name])} for name in longest],
    }


def _direction(name: str) -> str:
    for mark, direction in (("HtoD", "to the device"), ("DtoH", "from the device"), ("DtoD", "on the device")):
        if mark in name:
            return direction
    return "other"


def traced(work: Callable[[], Any]) -> dict[str, Any]:
    """The summary of one call of `work`. Raises ImportError or RuntimeError where PyTorch cannot trace the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU, and so traces none")
    torch.cuda.init()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profile.export_chrome_trace(str(file))
        found = summary(json.loads(file.read_text()))
    if not found["launches"]:
        raise RuntimeError("the trace holds no launch: CUPTI is missing, or may not be used here")
    return found

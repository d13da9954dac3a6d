"""Peak memory of one way to compute a map, in a process of its own.

    python benchmarks/memory.py '{"mode": "exact", "path": ..., "image": ..., ...}'

Both ways import the same modules, so what differs is what they do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

import krypton_onnx as kx
from krypton_onnx.runtime import session as _session  # noqa: F401 (Numba, ONNX and the rest: in both processes)

NAIVE_BATCH = 16
MEGABYTE = 1e6


@dataclass(frozen=True)
class Peak:
    """peak_mb: of the whole process; imports_mb: of which it had before the model was read.

    first_progress_s: from the start of the process to the first positions done.
    """

    peak_mb: float
    imports_mb: float
    first_progress_s: float


def measure_peak(
    mode: str, path: Path, image: Path, patch: tuple[int, int], stride: tuple[int, int], threads: int, seconds: float,
    kernel_cache: Path | None = None,
) -> Peak:  # fmt: skip
    """mode: "naive" (batches of 16 images) or "exact" (as users run it); `seconds` of work after the first batch.

    kernel_cache: a folder for compiled kernels, in the place of the usual one; empty for a cold start.
    Exact mode runs its largest batches first, so a part of the grid has the peak of the whole.
    Raises RuntimeError where the process fails.
    """
    question = {
        "mode": mode, "path": str(path), "image": str(image), "patch": patch, "stride": stride, "threads": threads,
        "seconds": seconds, "started": time.time(),
    }  # fmt: skip
    environment = dict(os.environ)
    if kernel_cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(kernel_cache)
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(question)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"peak memory of {mode} mode: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def peak_mb() -> float:
    """Most memory this process ever had.

    From /proc where there is one: ru_maxrss of a process starts at the memory of the one that launched it, as Linux
    keeps it across exec.
    """
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / MEGABYTE
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def run_naive(path: str, image: np.ndarray, threads: int, seconds: float) -> float:
    """Full inference of 16 images at a time; the time of the first answer."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    value = session.get_inputs()[0]
    batch = value.shape[0] if isinstance(value.shape[0], int) else NAIVE_BATCH
    images = np.repeat(image, batch, axis=0)
    session.run(None, {value.name: images})
    first = time.time()
    while time.time() - first < seconds:
        session.run(None, {value.name: images})
    return first


def run_exact(
    path: str, image: np.ndarray, patch: tuple[int, int], stride: tuple[int, int], threads: int, seconds: float
) -> float:
    """A part of the map, as long as it takes; the time of the first progress callback."""
    progress: list[float] = []
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = kx.OcclusionSession(path, options)
    session.explain(
        image, patch=patch, stride=stride, time_budget=seconds, output=session.plan(image).outputs[0],
        progress=lambda done, total: progress.append(time.time()),
    )  # fmt: skip
    return progress[0]


def main() -> None:
    question = json.loads(sys.argv[1])
    image = np.load(question["image"])
    imports_mb = peak_mb()
    path, threads, seconds = question["path"], question["threads"], question["seconds"]
    if question["mode"] == "naive":
        first = run_naive(path, image, threads, seconds)
    else:
        first = run_exact(path, image, tuple(question["patch"]), tuple(question["stride"]), threads, seconds)
    print(json.dumps(vars(Peak(peak_mb(), imports_mb, first - question["started"]))))


if __name__ == "__main__":
    main()

"""Most device memory that one way to compute a map takes, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gpu_models import open_way
from gpu_naive import GpuNaive
from gpu_place import CUDA, preload

from krypton_onnx.runtime.grid import make_grid

RUNS = 4  # of full inference, at its batch size


def job(
    path: str, image: str, layout: str, output: str, patch: list[int], stride: list[int], way: str, batch: int = 0
) -> dict[str, Any]:
    """Bytes in use at most, less what was in use before the model was read (context and libraries of CUDA among it).

    way : "naive", at this batch, or a form of convolution: the whole map. image : file of an array (1, ...).
    """
    from gpu_timing import MemoryPeak

    preload()
    import cupy

    array = np.load(image)
    cupy.cuda.device.get_cublas_handle()  # all that every process has

    def used() -> int:
        free, total = cupy.cuda.runtime.memGetInfo()
        return int(total - free)

    sides = array.shape[2:] if layout == "NCHW" else array.shape[1:3]
    grid = make_grid((int(sides[0]), int(sides[1])), (patch[0], patch[1]), (stride[0], stride[1]))
    with MemoryPeak(used) as peak:
        if way == "naive":
            run = GpuNaive(Path(path), array, layout, grid, output, [(CUDA, {"use_tf32": "0"})]).ready(batch)
            for _ in range(RUNS):
                run()
        else:
            session, _ = open_way(way, Path(path), [CUDA], array, grid)
            session.explain(array, targets=0, patch=grid.patch, stride=grid.stride, output=output)
    return {"peak_bytes": peak.most - peak.first, "before_bytes": peak.first}

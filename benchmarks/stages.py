"""Where the time of an exact map goes: each call into a kernel's parts is timed, on every worker.

The parts are functions of the package, wrapped while `Stages` is active; the package itself has no timers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from krypton_onnx.numba_kernels import (
    affine,
    blas,
    columns,
    concat,
    depthwise,
    epilogue,
    global_pool,
    pooling,
    regions,
    tile_products,
    window,
    winograd,
)
from krypton_onnx.runtime.custom_ops import node
from krypton_onnx.runtime.engine import Engine

STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "transforms": ((winograd, "transform_input"), (winograd, "transform_output")),
    "products": ((blas.Piece, "multiply"), (tile_products.TileProduct, "_run")),
    "windows": (
        (columns, "_fill_columns"), (columns, "_fill_grouped"), (window, "_window"), (concat, "_place"),
        (regions, "_place"),
    ),
    "direct": (
        (depthwise, "_depthwise"), (pooling, "_pool"), (affine, "_affine"), (global_pool, "_global_average"),
        (epilogue, "finish_rows"),
    ),
}  # fmt: skip
"""Stage -> the functions that are it, as (owner, name)."""

class Stages:
    """Context in which explanations are timed part by part.

    stock: ONNX Runtime's own operators, and its calls of ours; overhead: Python around kernels and batches, waiting
    for one another included.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)  # appending is atomic
        self._wrapped: list[tuple[Any, str, Any]] = []
        self._start = 0.0
        self.elapsed = 0.0

    def _wrap(self, owner: Any, name: str, stage: str) -> None:
        function = getattr(owner, name)
        seconds = self._seconds[stage]

        def timed(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds.append(time.perf_counter() - start)

        self._wrapped.append((owner, name, function))
        setattr(owner, name, timed)

    def __enter__(self) -> Stages:
        for stage, functions in STAGES.items():
            for owner, name in functions:
                self._wrap(owner, name, stage)
        self._wrap(node.Node, "run", "nodes")
        self._wrap(Engine, "run", "runs")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed = time.perf_counter() - self._start
        for owner, name, function in reversed(self._wrapped):
            setattr(owner, name, function)

    def shares(self, workers: int) -> dict[str, float]:
        """Stage -> its share of the workers' time; they sum to 1."""
        total = {stage: sum(values) for stage, values in self._seconds.items()}
        whole = workers * self.elapsed
        parts = {stage: total[stage] / whole for stage in STAGES}
        parts["stock"] = (total["runs"] - total["nodes"]) / whole
        parts["overhead"] = 1.0 - sum(parts.values())
        return parts


def gemm_peak() -> float:
    """Billions of multiply-adds a second of the best large float32 product by BLAS, on all cores."""
    side = 1536
    a, b, out = (np.ones((side, side), np.float32) for _ in range(3))
    best = np.inf
    for _ in range(12):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return side**3 / best / 1e9


def measure(explain: Callable[[], object], workers: int) -> dict[str, float]:
    """Shares of the stages in one call of `explain`."""
    with Stages() as stages:
        explain()
    return stages.shares(workers)

"""Batches and workers that fit a memory budget."""

from __future__ import annotations

from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.memory import resident_bytes
from krypton_onnx.runtime.schedule import default_batch, patch_bytes

# What a worker takes beside its batch: the transformed inputs and products of the widest convolution.
SCRATCH_BYTES = 40 << 20
SCRATCH_BYTES_A_CHANNEL = 160 << 10
LIVE_ACTIVATIONS = 5  # as many of the largest patch activation, at most: those in use, and what the arena loses


def fit_memory(plan: Plan, grid: Grid, memory_budget: int, workers: int) -> tuple[int, int]:
    """(workers, most positions of a batch), so that the process takes at most `memory_budget` bytes.

    Called when sessions and kernels have run once: what is there now stays. Fewer workers only where a single position
    each does not fit. Raises ImageError where not even one does.
    """
    taken = resident_bytes()
    table = GeometryTable(**plan.table())
    channels = max((operator.channels for operator in plan.operators if operator.geometry is not None), default=1)
    scratch = min(SCRATCH_BYTES, SCRATCH_BYTES_A_CHANNEL * channels)
    position = LIVE_ACTIVATIONS * patch_bytes(plan, grid, table)
    for count in range(workers, 0, -1):
        most = ((memory_budget - taken) // count - scratch) // position
        if most >= 1:
            return count, int(min(most, default_batch(plan, grid, table, count)))
    raise ImageError(
        f"memory_budget of {memory_budget / 1e6:.0f} MB is too small for this model and patch: "
        f"give at least {(taken + scratch + position) / 1e6:.0f} MB"
    )

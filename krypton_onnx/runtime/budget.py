"""Batches and workers that fit a memory budget, and whether anything does: asked before memory is taken."""

from __future__ import annotations

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.memory import resident_bytes
from krypton_onnx.runtime.schedule import default_batch, patch_bytes

# What a worker takes beside its batch: the transformed inputs and products of the widest convolution.
SCRATCH_BYTES = 40 << 20
SCRATCH_BYTES_A_CHANNEL = 160 << 10
CHANNEL_BLOCK = 16  # ONNX Runtime's convolutions fill up channels to so many, by the width of the processor's vectors
LIVE_ACTIVATIONS = 5  # as many of the largest patch activation, at most: those in use, and what the arena loses


def require_memory(plan: Plan, grid: Grid, memory_budget: int, views: int, there: int | None = None) -> None:
    """Raises ImageError where not even one position fits, before the views are there. All in bytes.

    views : what they will take. there : of what the process has now as much as is sure to stay; None: all of it.
    """
    present = resident_bytes()
    needed = views + sum(_least(plan, grid))
    if (present if there is None else there) + needed > memory_budget:
        raise _too_small(memory_budget, present + needed)


def fit_full_inference(plan: Plan, image: int, memory_budget: int, most: int) -> int:
    """Images of a run of full inference, at most `most`, so that the process takes at most `memory_budget` bytes.

    image : bytes of one. A model that is not rewritten gets one at a time: nothing is known of its activations. Raises
    ImageError where not even one image fits.
    """
    taken = resident_bytes()
    channels = ((op.geometry, -(-op.channels // CHANNEL_BLOCK) * CHANNEL_BLOCK) for op in plan.operators)
    largest = max(
        (4 * count * int(np.prod(plan.geometries[row].frame)) for row, count in channels if row is not None), default=0
    )
    each = 2 * image + LIVE_ACTIVATIONS * largest
    fitting = (memory_budget - taken) // each
    if fitting < 1:
        raise _too_small(memory_budget, taken + each)
    return int(min(fitting, most)) if largest else 1


def _least(plan: Plan, grid: Grid) -> tuple[int, int]:
    """Bytes that a worker takes beside its batch, and for every position of it."""
    channels = max((operator.channels for operator in plan.operators if operator.geometry is not None), default=1)
    scratch = min(SCRATCH_BYTES, SCRATCH_BYTES_A_CHANNEL * channels)
    return scratch, LIVE_ACTIVATIONS * patch_bytes(plan, grid, GeometryTable(**plan.table()))


def _too_small(memory_budget: int, needed: int) -> ImageError:
    return ImageError(
        f"memory_budget of {memory_budget / 1e6:.0f} MB is too small for this model and patch: "
        f"give at least {needed / 1e6:.0f} MB"
    )


def fit_memory(plan: Plan, grid: Grid, memory_budget: int, workers: int) -> tuple[int, int]:
    """(workers, most positions of a batch), so that the process takes at most `memory_budget` bytes.

    Called when sessions and kernels have run once: what is there now stays. Fewer workers only where a single position
    each does not fit. Raises ImageError where not even one does.
    """
    taken = resident_bytes()
    table = GeometryTable(**plan.table())
    scratch, position = _least(plan, grid)
    for count in range(workers, 0, -1):
        most = ((memory_budget - taken) // count - scratch) // position
        if most >= 1:
            return count, int(min(most, default_batch(plan, grid, table, count)))
    raise _too_small(memory_budget, taken + scratch + position)

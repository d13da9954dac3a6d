"""What runs cost beside their multiply-adds, and how large they may be, on the CPU and on a GPU.

The CPU's figures are fitted to measurements (docs/performance.md). The GPU's are estimates from what such devices are
specified to do, about 5e12 multiply-adds and 2e12 bytes a second, 20 microseconds for a launch out of Python: no GPU
has been measured with them. They decide which positions share a run, never a score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from krypton_onnx.runtime.cuda.target import Target


@dataclass(frozen=True)
class Costs:
    """Of one kind of processor. All but sizes are in multiply-adds.

    a_node, a_weight : of one more run, for every operator (calls and small arrays) and every weight (it is read once
    more). an_element : of a patch activation, which is gathered, transformed, written and read.
    most : positions of a batch; most_listed : of a list of positions, whose regions a threshold may keep small.
    batch_bytes : the largest patch activation of a batch. full_sizes : images of a run of full inference that are
    tried, the largest first; full_batch : positions handed to it at once.
    foretold : whether the plan foretells how incremental inference compares with full; else it is always measured.
    """

    a_node: float
    a_weight: float
    an_element: float
    most: int
    most_listed: int
    batch_bytes: int
    full_sizes: tuple[int, ...]
    full_batch: int
    foretold: bool


HOST = Costs(
    a_node=2e6, a_weight=32, an_element=48, most=64, most_listed=128,
    batch_bytes=24 << 20,  # it should stay in a cache, and memory low
    full_sizes=(8, 4), full_batch=16, foretold=True,
)  # fmt: skip

GPU = Costs(
    a_node=1e8, a_weight=10, an_element=40, most=1024, most_listed=1024,
    batch_bytes=256 << 20,  # more positions than that add no speed, only memory
    full_sizes=(128, 64, 16), full_batch=128, foretold=False,
)  # fmt: skip
FREE_SHARE = 16
"""A batch's largest patch activation takes at most this part of the free memory: some are alive at once, beside
windows, columns and what cuDNN asks for."""


def costs_of(target: Target | None) -> Costs:
    """Of the CPU, or of a device, by the memory that is free on it now."""
    if target is None:
        return HOST
    return replace(GPU, batch_bytes=max(1, min(GPU.batch_bytes, target.free() // FREE_SHARE)))

"""How faithfully a position's score is computed: propagation thresholds, one a geometry.

A network's effective receptive field is much smaller than its theoretical one: what an occlusion changes falls off like
a Gaussian whose width grows as the square root of the depth (Luo, Li, Urtasun and Zemel, "Understanding the effective
receptive field in deep convolutional neural networks", 2016), while regions grow in proportion to it. A fidelity of
reach r therefore caps a geometry's extent at

    ceil(s + r * sqrt(growth / jump)) cells,   s = ceil(patch / jump)

with `growth` the pixels by which receptive-field growth has widened the region so far and `jump` the pixels a cell.
One fraction of the frame for all layers (Krypton's tau) keeps less of a map at equal work (docs/quality.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime.batching import GeometryTable


@dataclass(frozen=True)
class Fidelity:
    """reach: how far changes are followed, as above; None: everywhere. light: products may be rounded (to bfloat16 on
    Intel AMX, which takes a third of the time; elsewhere they are not). frozen: what operators that mix the whole frame
    (squeeze-excite) change outside a region is left out (rewriter/operators/freezing.py); plans, thresholds and views
    are then those of the frozen twin."""

    reach: float | None = None
    light: bool = False
    frozen: bool = False

    @property
    def exact(self) -> bool:
        return self == EXACT

    def thresholds(self, plan: Plan, patch: tuple[int, int]) -> np.ndarray:
        """float32 (G,) or (1,): the rewritten model's input `propagation_threshold`."""
        if self.reach is None or not plan.geometries:
            return np.ones(1, np.float32)
        table = plan.table()
        jump, frame = table["jump"] / table["scale"], table["frame"]
        growth = np.maximum((table["before"] + table["after"]) / table["scale"], 0)
        start = np.ceil(np.array(patch) / jump)
        cells = np.ceil(start + self.reach * np.sqrt(growth / jump))
        # One threshold serves both axes: the one that asks for more.
        return np.minimum((cells / frame).max(axis=1), 1.0).astype(np.float32)

    def table(self, plan: Plan, patch: tuple[int, int]) -> GeometryTable:
        """Where regions lie at this fidelity."""
        table = GeometryTable(**plan.table())
        if self.reach is None:
            return table
        thresholds = self.thresholds(plan, patch)[:, None]
        return replace(table, cap=np.maximum(1, np.rint(thresholds * table.frame.astype(np.float32))).astype(np.int64))


EXACT = Fidelity()

"""An approximate map: climb the rungs of a setting until exact scores at check cells say that it is good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.assembly import assemble, check_cells, wanted_cells
from krypton_onnx.runtime.explain import Stop, run_batches
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.pool import Pool
from krypton_onnx.runtime.quality import losses
from krypton_onnx.runtime.relation import Relation
from krypton_onnx.runtime.setting import Rung, Setting

FIRST_LEVEL = 6  # of a map that is watched: every 8th row and column
Batch = tuple[int, np.ndarray]  # a fidelity's number, and cells


@dataclass(frozen=True)
class Goal:
    """What is promised. relations: one a rung; margin: how many of their spreads the estimate must lie above."""

    min_ssim: float
    relations: tuple[Relation, ...]
    margin: float
    expected_ssim: float | None
    complete_exactly: bool = True


@dataclass(frozen=True)
class Work:
    """How scores are computed. plan: (fidelity, cells) -> batches of cells; score: (fidelity, cells) -> (n, T).

    predicted : per fidelity, int64 (rows, columns), the class of the largest score where it was computed, else -1.
    """

    plan: Callable[[int, np.ndarray], list[np.ndarray]]
    score: Callable[[Batch], np.ndarray]
    workers: int
    pool: Pool | None = None  # whose threads; None: new ones
    predicted: tuple[np.ndarray, ...] = ()
    score_name: str = "score"


class DrillDown:
    """One approximate map in the making."""

    def __init__(
        self,
        grid: Grid,
        targets: tuple[int, ...],
        baseline: np.ndarray,
        setting: Setting,
        goal: Goal,
        work: Work,
        stop: Stop,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        on_update: Callable[[HeatMap], None] | None = None,
    ) -> None:
        """baseline : float32 (T,)."""
        self._grid, self._targets, self._baseline = grid, targets, baseline
        self._setting, self._goal, self._work, self._stop = setting, goal, work, stop
        self._progress, self._on_update = progress, on_update
        shape = (len(targets), *grid.shape)
        self._values = [np.full(shape, np.nan) for _ in setting.fidelities]
        self._checked = np.full(shape, np.nan)  # exact scores that the map does not use until it is judged
        self._exact = len(self._values) - 1
        self._checks = check_cells(grid.shape, seed)
        self._estimate: float | None = None
        self._expected: float | None = None

    def run(self, note: str = "") -> HeatMap:
        """The map. note : what the caller has to say about it; more may be added."""
        try:
            return self._run(note)
        except KeyboardInterrupt:
            if not self._computed().any():
                raise
            self._stop.interrupted = True
            return self._stopped(note)

    def _run(self, note: str) -> HeatMap:
        for number, (rung, relation) in enumerate(zip(self._setting.rungs, self._goal.relations, strict=True)):
            if not (number or self._approach(rung)) or not self._climb(rung):
                return self._stopped(note)
            lower = self._measure(relation)
            if lower >= self._goal.min_ssim:
                self._expected = self._goal.expected_ssim
                return self._result(note)
        below = f"estimated SSIM {self._estimate or 0.0:.2f}, too low to be sure of {self._goal.min_ssim:g}"
        if self._setting.rungs and not self._goal.complete_exactly:
            return self._result(note, f"{below}: left so, as asked")
        if not self._climb((*[None] * self._exact, 0.0)):
            return self._stopped(note)
        self._estimate = 1.0
        return self._result(note, f"{below}: completed exactly" if self._setting.rungs else "")

    # -- climbing ----------------------------------------------------------------------------------------------------

    def _approach(self, rung: Rung) -> bool:
        """Coarser lattices on the way to the first rung, where somebody looks or time may run out. As _climb."""
        if self._on_update is None and not self._stop.limited:
            return True
        return all(
            self._climb(tuple(None if finest is None else max(finest, float(level)) for finest in rung))
            for level in range(FIRST_LEVEL, 1, -1)
        )

    def _climb(self, rung: Rung) -> bool:
        """Compute what the rung samples. Returns False where it was stopped."""
        # Which cells of a level to refine first, whole levels tell.
        whole = tuple(None if level is None else float(ceil(level)) for level in rung)
        return (whole == rung or self._sample(whole)) and self._sample(rung)

    def _sample(self, rung: Rung) -> bool:
        """Compute what the rung samples, and the checks with the first. Returns False where it was stopped."""
        missing = []
        for fidelity, wanted in enumerate(wanted_cells(rung, self._values)):
            value = self._values[fidelity]
            if fidelity == self._exact:  # what was computed as a check is used now
                known = wanted & ~np.isnan(self._checked[0]) & np.isnan(value[0])
                value[:, known] = self._checked[:, known]
            missing.append(np.flatnonzero(wanted & np.isnan(value[0])))
        checks = self._checks
        if np.isnan(self._checked).all():
            missing[self._exact] = np.union1d(missing[self._exact], checks)
        else:
            checks = checks[:0]
        # The costly ones first, so that the workers end together.
        batches = [
            (fidelity, some)
            for fidelity in reversed(range(len(missing)))
            for some in self._work.plan(fidelity, missing[fidelity])
        ]

        def add(batch: Batch, scores: np.ndarray) -> None:
            fidelity, cells = batch
            if not np.isfinite(scores).all():
                raise ImageError(
                    "the score is not finite (NaN or infinity) at some positions: use mode='exact', which leaves it so"
                )
            new = np.ones(len(cells), bool)
            if fidelity == self._exact:
                checked = np.isin(cells, checks)
                self._checked.reshape(len(self._targets), -1)[:, cells[checked]] = scores[checked].T
                new = ~checked
            self._values[fidelity].reshape(len(self._targets), -1)[:, cells[new]] = scores[new].T
            self._tell()

        return run_batches(
            batches, self._work.score, self._work.workers, self._stop, add, bool(self._computed().any()),
            self._work.pool,
        )  # fmt: skip

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(int(self._computed().sum()), self._grid.positions)
        if self._on_update is not None:
            self._on_update(self._heat_map("", complete=False))

    def _measure(self, relation: Relation) -> float:
        """Estimates the map so far, of its worst target; returns what it surely is."""
        so_far = assemble(self._values)
        unused = ~np.isnan(self._checked[0]) & np.isnan(self._values[self._exact][0])
        loss = max(float(losses(*pair)[unused].mean()) for pair in zip(so_far, self._checked, strict=True))
        self._estimate = relation.estimate(loss)
        return relation.estimate(loss, self._goal.margin)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _computed(self) -> np.ndarray:
        return np.any([~np.isnan(value[0]) for value in (*self._values, self._checked)], axis=0)

    def _known(self) -> float:
        return float(self._computed().mean())

    def _stopped(self, note: str) -> HeatMap:
        self._estimate = None  # of an earlier rung
        return self._result(note, f"stopped early {self._stop.reason}, {self._known():.0%} computed", complete=False)

    def _result(self, *notes: str, complete: bool = True) -> HeatMap:
        if self._progress is not None and complete:
            self._progress(self._grid.positions, self._grid.positions)
        heat_map = self._heat_map("; ".join(filter(None, notes)), complete)
        if self._on_update is not None:
            self._on_update(heat_map)
        return heat_map

    def _predicted(self) -> np.ndarray:
        """int64 (rows, columns): by the best fidelity that was computed, -1 where none was."""
        best = np.full(self._grid.shape, -1, np.int64)
        for classes in self._work.predicted:
            best = np.where(classes < 0, best, classes)
        return np.where(self._computed(), best, -1)

    def _heat_map(self, note: str, complete: bool) -> HeatMap:
        grid = self._grid
        checked = ~np.isnan(self._checked[0])
        sampled = any(not np.isnan(value).all() for value in self._values)
        # Checks correct nothing but themselves: what was judged stays as it is.
        scores = assemble(self._values if sampled else [self._checked])
        scores[:, checked] = self._checked[:, checked]
        known = scores[:, self._computed()]
        if known.min() >= 0 and known.max() <= 1:  # probabilities, which interpolation must not leave
            scores = np.clip(scores, 0.0, 1.0)
        return HeatMap(
            scores=scores.astype(np.float32), baseline=self._baseline, targets=self._targets,
            tops=grid.tops, lefts=grid.lefts, patch=grid.patch, stride=grid.stride, mode="approximate",
            computed=self._computed(), expected_ssim=self._expected, estimated_ssim=self._estimate,
            complete=complete, note=note, frame=grid.frame, predicted=self._predicted(),
            score_name=self._work.score_name, mask=grid.mask,
        )  # fmt: skip

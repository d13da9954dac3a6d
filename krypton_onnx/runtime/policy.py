"""Which setting to use for a model: every candidate tried on maps that are known exactly.

The maps of the calibration images are computed once a fidelity, whole; every ladder is then climbed on paper. Where the
climb ends on a new image is up to its own check cells, so what is chosen is a policy: a ladder, the relation from check
losses to SSIM on each of its rungs, and the margin that the estimate must keep. Relations are fitted without the image
that they are tried on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from krypton_onnx.rewriter import Plan
from krypton_onnx.runtime.assembly import assemble, check_cells, wanted_cells
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.quality import losses, ssim
from krypton_onnx.runtime.relation import Relation, fit_relation, general_relation
from krypton_onnx.runtime.schedule import position_cost
from krypton_onnx.runtime.setting import Setting, ladders

CANDIDATES = (EXACT, *(Fidelity(reach, light=True) for reach in (2.0, 1.7, 1.4)))
FROZEN_CANDIDATES = tuple(Fidelity(fidelity.reach, light=True, frozen=True) for fidelity in CANDIDATES)
GAIN = 0.97  # a fidelity that costs more than this share of the one before is left out
DRAWS = 3  # sets of check cells that every image is tried with
MARGINS = tuple(np.arange(1.0, 3.01, 0.25))  # at least what an estimate errs by: few images may look easier than most
FROZEN_MARGIN = 2.0  # the least of settings that freeze: what that errs by differs more from image to image
KEPT = 0.95  # share of the trials that must reach the target, for 90 % of new images to do
LARGEST_MISS = 0.03  # below the target
RUNG_COST = 1.5e9  # multiply-adds that one more rung costs: batches that end unevenly, interpolation, the estimate


def worthwhile(plans: Mapping[bool, Plan], grid: Grid) -> dict[Fidelity, float]:
    """What a position costs at the exact fidelity, and at those that cost less than the ones before.

    By a model, not by the clock: equal seeds give equal tunings. plans : Question.plans; where there is a frozen twin,
    of its fidelities those that cost less than the same without freezing, too.
    """
    kept: dict[Fidelity, float] = {}
    for fidelity in CANDIDATES:
        cost = position_cost(plans[False], grid, fidelity)
        if not kept or cost < GAIN * min(kept.values()):
            kept[fidelity] = cost
    frozen: dict[Fidelity, float] = {}
    for fidelity in FROZEN_CANDIDATES if True in plans else ():
        cost = position_cost(plans[True], grid, fidelity)
        unfrozen = position_cost(plans[False], grid, replace(fidelity, frozen=False))
        if cost < GAIN * min((unfrozen, *frozen.values())):
            frozen[fidelity] = cost
    return kept | frozen


@dataclass(frozen=True, eq=False)
class Observation:
    """One calibration image. maps : per fidelity, float (rows, columns)."""

    name: str
    maps: Mapping[Fidelity, np.ndarray]


@dataclass(frozen=True, eq=False)
class Trials:
    """A ladder climbed to its end on every image, with several draws of check cells.

    losses, similarities : float (images, draws, rungs), at the check cells and of the map. costs : the same, up to
    and with the rung; to_the_end : (images, draws), of the whole ladder and the exact completion; whole : of an
    exact map.
    """

    setting: Setting
    losses: np.ndarray
    similarities: np.ndarray
    costs: np.ndarray
    to_the_end: np.ndarray
    whole: np.ndarray
    general: tuple[Relation, ...]

    def without(self, image: int) -> Trials:
        """The same on all images but one."""
        kept = np.arange(len(self.losses)) != image
        return replace(
            self, losses=self.losses[kept], similarities=self.similarities[kept], costs=self.costs[kept],
            to_the_end=self.to_the_end[kept], whole=self.whole[kept],
        )  # fmt: skip

    def relations(self, left_out: int | None = None) -> tuple[Relation, ...]:
        """One a rung, fitted on all images but one."""
        kept = np.arange(len(self.losses)) != (-1 if left_out is None else left_out)
        return tuple(
            fit_relation(self.losses[kept, :, rung].ravel(), self.similarities[kept, :, rung].ravel(), general)
            for rung, general in enumerate(self.general)
        )

    def outcomes(
        self, relations: Sequence[Sequence[Relation]], min_ssim: float, margin: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where climbs end: rung (the last + 1 is exact), SSIM and cost, each (images, draws).

        relations : per image, one a rung.
        """
        images, draws, rungs = self.losses.shape
        ends = np.full((images, draws), rungs)
        for image, fitted in enumerate(relations):
            for rung in range(rungs - 1, -1, -1):
                for draw in range(draws):
                    if fitted[rung].estimate(self.losses[image, draw, rung], margin) >= min_ssim:
                        ends[image, draw] = rung
        index = np.minimum(ends, rungs - 1)[..., None]
        done = ends < rungs
        reached = np.where(done, np.take_along_axis(self.similarities, index, 2)[..., 0], 1.0)
        spent = np.where(done, np.take_along_axis(self.costs, index, 2)[..., 0], self.to_the_end)
        return ends, reached, spent


@dataclass(frozen=True, eq=False)
class Choice:
    """The fastest policy that keeps the promise on the images it was tried on."""

    trials: Trials
    margin: float
    similarities: np.ndarray  # (images, draws), each with relations fitted without the image
    costs: np.ndarray

    @property
    def relations(self) -> tuple[Relation, ...]:
        return self.trials.relations()


def climb(observation: Observation, setting: Setting, cost: Mapping[Fidelity, float], seed: int) -> tuple:
    """One ladder on one image: losses (draws, rungs), similarities and costs (rungs,), and the exact end's cost."""
    maps = [observation.maps[fidelity][None].astype(np.float64) for fidelity in setting.fidelities]
    values = [np.full(one.shape, np.nan) for one in maps]
    exact = maps[-1][0]
    checks = [check_cells(exact.shape, seed + draw) for draw in range(DRAWS)]
    spent = len(checks[0]) * cost[EXACT]
    losses_, similarities, costs = [], [], []
    for rung in setting.rungs:
        for number, wanted in enumerate(wanted_cells(rung, values)):
            new = wanted & np.isnan(values[number][0])
            values[number][:, new] = maps[number][:, new]
            spent += int(new.sum()) * cost[setting.fidelities[number]]
        spent += RUNG_COST
        so_far = assemble(values)[0]
        each = losses(so_far, exact).ravel()
        unused = np.isnan(values[-1][0]).ravel()
        losses_.append([float(each[cells[unused[cells]]].mean()) for cells in checks])
        similarities.append(ssim(exact, so_far))
        costs.append(spent)
    spent += (int(np.isnan(values[-1]).sum()) - len(checks[0])) * cost[EXACT]
    return np.transpose(losses_), similarities, costs, spent, exact.size * cost[EXACT]


def trials(
    observations: Sequence[Observation], setting: Setting, cost: Mapping[Fidelity, float], seed: int
) -> Trials:
    """cost : of a position, per fidelity, as multiply-adds (schedule.position_cost)."""
    table = [climb(one, setting, cost, seed) for one in observations]
    shape = observations[0].maps[EXACT].shape

    def every_draw(part: int) -> np.ndarray:
        return np.repeat(np.array([row[part] for row in table], np.float64)[:, None], DRAWS, axis=1)

    return Trials(
        setting, np.array([row[0] for row in table]), every_draw(1), every_draw(2), every_draw(3), every_draw(4),
        general_relations(setting, shape),
    )  # fmt: skip


def general_relations(setting: Setting, shape: tuple[int, int]) -> tuple[Relation, ...]:
    """What to expect of every rung where nothing is known about the model, for a map of this shape."""
    nothing = [np.full((1, *shape), np.nan) for _ in setting.fidelities]
    relations = []
    for rung in setting.rungs:
        # Refined cells count, wherever they will lie.
        known = np.max([cells.mean() for cells in wanted_cells(rung, nothing)])
        relations.append(general_relation(max(1.0 - float(known), 0.02)))
    return tuple(relations)


def every_trial(
    observations: Sequence[Observation], cost: Mapping[Fidelity, float], seed: int
) -> list[Trials]:
    """The ladders of every fidelity that was observed, tried on all images."""
    settings = [setting for fidelity in observations[0].maps for setting in ladders(fidelity)]
    return [trials(observations, setting, cost, seed) for setting in settings]


def choose(tried: Sequence[Trials], min_ssim: float) -> Choice:
    """The policy of the least mean cost among those that keep the promise; exact maps always do."""
    best: Choice | None = None
    for one in tried:
        policy = _with_margin(one, min_ssim)
        if policy is not None and (best is None or policy.costs.mean() < best.costs.mean()):
            best = policy
    whole = tried[0].whole
    if best is None or best.costs.mean() >= whole.mean():
        images, draws = whole.shape
        empty = np.empty((images, draws, 0))
        nothing = Trials(Setting((EXACT,), ()), empty, empty, empty, whole, whole, ())
        return Choice(nothing, 0.0, np.ones((images, draws)), whole)
    return _without_idle_rungs(best, min_ssim)


def _with_margin(tried: Trials, min_ssim: float) -> Choice | None:
    """The smallest margin with which the promise is kept, and what it gives."""
    relations = [tried.relations(left_out=image) for image in range(len(tried.losses))]
    least = FROZEN_MARGIN if tried.setting.fidelities[0].frozen else MARGINS[0]
    for margin in (one for one in MARGINS if one >= least):
        _, reached, spent = tried.outcomes(relations, min_ssim, margin)
        if (reached >= min_ssim).mean() >= KEPT and reached.min() >= min_ssim - LARGEST_MISS:
            return Choice(tried, float(margin), reached, spent)
    return None


def _without_idle_rungs(choice: Choice, min_ssim: float) -> Choice:
    """A rung that no climb ended on costs time and ends nothing, unless it lies beyond them: then it may still spare an
    image that is harder than all of these the exact map."""
    tried = choice.trials
    relations = [tried.relations(left_out=image) for image in range(len(tried.losses))]
    ends, _, _ = tried.outcomes(relations, min_ssim, choice.margin)
    used = np.unique(ends[ends < len(tried.setting.rungs)])
    if not len(used):
        return choice
    used = np.r_[used, used[-1] + 1 : len(tried.setting.rungs)]
    # Of every trial, what the rungs before it that are left out would have cost.
    every = np.arange(len(tried.setting.rungs))
    costs = tried.costs - RUNG_COST * (every - np.searchsorted(used, every))
    setting = Setting(tried.setting.fidelities, tuple(tried.setting.rungs[rung] for rung in used))
    kept = replace(
        tried, setting=setting, losses=tried.losses[..., used], similarities=tried.similarities[..., used],
        costs=costs[..., used], general=tuple(tried.general[rung] for rung in used),
    )  # fmt: skip
    _, reached, spent = kept.outcomes([[one[rung] for rung in used] for one in relations], min_ssim, choice.margin)
    return Choice(kept, choice.margin, reached, spent)

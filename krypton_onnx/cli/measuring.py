"""Exact against naive maps on this machine, round after round: what `demo` and `bench` print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from krypton_onnx import HeatMap, OcclusionSession

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """One way to compute a map. sample, whole : seconds of every round, for the sample and for the whole grid (none
    where that takes too long)."""

    sample: tuple[float, ...]
    whole: tuple[float, ...]

    def seconds(self, positions: int, sampled: int) -> float:
        """Of the whole grid: the median of the rounds, from the sample where there is no more."""
        return median(self.whole) if self.whole else median(self.sample) * positions / sampled


@dataclass(frozen=True)
class Measurement:
    """Ways by their mode. heat_map : the exact one. positions : of the whole grid; sampled : of the sample.

    largest_difference : between exact and naive scores, at the positions of the sample.
    """

    heat_map: HeatMap
    positions: int
    sampled: int
    ways: Mapping[str, Measured]
    largest_difference: float

    def seconds(self, mode: str) -> float:
        """Of a whole map."""
        return self.ways[mode].seconds(self.positions, self.sampled)

    def speedup(self, mode: str) -> float:
        """How many times as fast as naive maps of the whole grid."""
        return self.seconds("naive") / self.seconds(mode)


@dataclass(frozen=True)
class Plan:
    """What is measured. explain : the other keyword arguments of OcclusionSession.explain.

    every : the sample is every so many rows and columns of the grid: full inference of all of it is a long wait.
    rounds : in each of which every way is timed once. whole : the ways that are timed on the whole grid too.
    """

    patch: tuple[int, int]
    stride: tuple[int, int]
    every: int
    rounds: int
    whole: tuple[str, ...] = ("exact",)
    explain: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self, session: OcclusionSession, image: np.ndarray, mode: str, every: int = 1, progress: Progress | None = None
    ) -> tuple[float, HeatMap]:
        """Seconds, and the map of every so many rows and columns."""
        stride = self.stride[0] * every, self.stride[1] * every
        started = perf_counter()
        heat_map = session.explain(
            image, mode=mode, patch=self.patch, stride=stride, progress=progress, **self.explain
        )
        return perf_counter() - started, heat_map


def measure(session: OcclusionSession, image: np.ndarray, plan: Plan, progress: Progress | None = None) -> Measurement:
    """Time every way in turns, so that what else the machine does weighs on all of them. progress : (done, total) runs.

    The first run of each way compiles and allocates; it is not counted. Exact and naive are timed on the sample; what
    `plan.whole` names on the whole grid as well, in between.
    """
    import numpy as np

    from krypton_onnx.runtime.grid import make_grid

    timed: dict[str, tuple[list[float], list[float]]] = {mode: ([], []) for mode in ("exact", "naive", *plan.whole)}
    runs, done = 2 + plan.rounds * (2 + len(plan.whole)), 0
    whole: dict[str, HeatMap] = {}
    sample: dict[str, HeatMap] = {}

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, runs)

    _, first = plan.run(session, image, "exact", plan.every)
    step()
    plan = replace(plan, explain={**plan.explain, "targets": first.targets})  # of both, should two be equally probable
    plan.run(session, image, "naive", plan.every * 2)
    step()
    for number in range(plan.rounds):
        # What is timed first in a round alternates.
        for mode in ("exact", "naive") if number % 2 == 0 else ("naive", "exact"):
            seconds, sample[mode] = plan.run(session, image, mode, plan.every)
            timed[mode][0].append(seconds)
            step()
        for mode in plan.whole:
            seconds, whole[mode] = plan.run(session, image, mode)
            timed[mode][1].append(seconds)
            step()
    every = plan.every
    exact = whole.get("exact")
    compared = sample["exact"].scores if exact is None else exact.scores[:, ::every, ::every]
    difference = float(np.abs(compared - sample["naive"].scores).max())
    frame = first.frame
    assert frame is not None  # explain fills it in
    return Measurement(
        exact or sample["exact"], make_grid(frame, plan.patch, plan.stride).positions, sample["naive"].computed.size,
        {mode: Measured(tuple(short), tuple(long)) for mode, (short, long) in timed.items()}, difference,
    )  # fmt: skip

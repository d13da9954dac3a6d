"""What each idea of approximate maps is worth, on the maps that quality.py left in --cache.

    python benchmarks/ablation.py --models DIR --only squeezenet --cache maps

Every variant is put together from whole maps, so its SSIM is exact and its work is counted, not timed: positions times
what a position costs (`schedule.position_cost`), in exact maps. Means over the images, and the lowest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
from models import find_models
from quality import PATCH, PICTURES, STRIDE, Laboratory

from krypton_onnx.runtime.assembly import assemble
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.lattice import interpolate, level_cells, refinement
from krypton_onnx.runtime.policy import CANDIDATES, Observation
from krypton_onnx.runtime.quality import ssim
from krypton_onnx.runtime.schedule import position_cost

LARGER = 24  # pixels: the patch of a coarse stage like Krypton's


def sampled(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(1, rows, columns), NaN where not sampled."""
    return np.where(cells, values, np.nan)[None]


def at_level(values: np.ndarray, level: float) -> np.ndarray:
    """A map sampled at a level, as drill-down does."""
    return sampled(values, refinement(values[None], level_cells(values.shape, ceil(level)), level))


def chosen_by(values: np.ndarray, level: int, share: float, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A level and a share of the next finer one's cells, those of the highest score of the interpolated map."""
    cells = level_cells(values.shape, level)
    candidates = level_cells(values.shape, level - 1) & ~cells
    rank = np.where(candidates, score(interpolate(values[None], cells)[0]), -np.inf)
    best = np.argsort(-rank, axis=None, kind="stable")[: round(share * candidates.sum())]
    cells.ravel()[best] = True
    return sampled(values, cells)


def work(parts: list[tuple[np.ndarray, float]]) -> float:
    """Of (sampled map, cost of a position) pairs, in exact maps."""
    return sum(float((~np.isnan(values)).mean()) * cost for values, cost in parts)


def variants(observation: Observation, larger: np.ndarray, cost: dict[Fidelity, float]) -> dict[str, tuple]:
    """name -> (map, work)."""
    exact = observation.maps[EXACT].astype(np.float64)
    rng = np.random.default_rng(0)
    table: dict[str, tuple] = {}

    def add(name: str, *parts: tuple[np.ndarray, float]) -> None:
        table[name] = assemble([values for values, _ in parts])[0], work(list(parts))

    for level in (4.0, 3.0, 2.0, 1.0):
        add(f"exact scores, level {level:g}, interpolated", (at_level(exact, level), 1.0))
    add("level 2 and half of level 1 at random", (chosen_by(exact, 2, 0.5, lambda v: rng.random(v.shape)), 1.0))
    add("... where the score is lowest (Krypton)", (chosen_by(exact, 2, 0.5, lambda v: -v), 1.0))
    add("... where the score changed last (ours)", (at_level(exact, 1.5), 1.0))
    coarse = sampled(larger, level_cells(larger.shape, 2))
    add(f"coarse stage of patch {LARGER} on level 2", (coarse, 1.0))
    add("... corrected by exact scores on level 4", (coarse, 1.0), (at_level(exact, 4), 1.0))
    for fidelity in list(observation.maps)[1:]:
        name = f"light, reach {fidelity.reach:g}"
        cheap = observation.maps[fidelity].astype(np.float64)
        add(f"{name}, everywhere", (sampled(cheap, np.ones(cheap.shape, bool)), cost[fidelity]))
        add(f"{name}, level 1", (at_level(cheap, 1), cost[fidelity]))
        for level in (6.0, 5.0, 4.0, 3.0):
            add(
                f"{name}, level 1, corrected on level {level:g}",
                (at_level(cheap, 1), cost[fidelity]), (at_level(exact, level), 1.0),
            )  # fmt: skip
    return table


def with_larger_patch(laboratory: Laboratory, name: str, like: np.ndarray) -> np.ndarray:
    """The map of a larger patch about the same centres."""
    heat_map = laboratory.session.explain(
        laboratory.array(name), patch=LARGER, stride=STRIDE, score=laboratory.score
    )
    shift = (LARGER - PATCH) // 2 // STRIDE
    rows, columns = (
        np.clip(np.arange(size) - shift, 0, limit - 1)
        for size, limit in zip(like.shape, heat_map.scores.shape[1:], strict=True)
    )
    return heat_map.scores[0][np.ix_(rows, columns)].astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="squeezenet", metavar="NAME,...", help="these models (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=len(PICTURES), metavar="N", help="only the first N")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of quality.py's maps")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, _ = find_models(chosen.models, chosen.only.split(","), Path(folder))
        for model in models:
            laboratory = Laboratory(model, chosen.cache)
            rows: dict[str, list[tuple[float, float]]] = {}
            for name in PICTURES[: chosen.pictures]:
                observation = laboratory.observation(name, list(CANDIDATES))
                question = laboratory.question(name)
                plan, grid = question.plan(frozen=False), question.grid
                whole = position_cost(plan, grid, EXACT)
                cost = {fidelity: position_cost(plan, grid, fidelity) / whole for fidelity in observation.maps}
                exact = observation.maps[EXACT]
                larger = with_larger_patch(laboratory, name, exact)
                for variant, (values, spent) in variants(observation, larger, cost).items():
                    rows.setdefault(variant, []).append((ssim(exact, values), spent))
            print(f"\n| {model.name}: variant | work, in exact maps | mean SSIM | lowest |\n|---|---|---|---|")
            for variant, found in rows.items():
                alike, spent = np.array(found).T
                print(f"| {variant} | {spent.mean():.3f} | {alike.mean():.3f} | {alike.min():.3f} |")


if __name__ == "__main__":
    main()

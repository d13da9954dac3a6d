"""What the rewritten file gains alone: in stock ONNX Runtime, by its function bodies, with nothing of ours at run time.

    python benchmarks/bodies.py [--models DIR ...] [--only NAME,...] [--groupings advised,tiles,order] [--json FILE]

Whole maps, in the runs that `krypton-onnx inspect --batches` advises, beside full inference of the original model at
its best batch size, in turn; it measures what docs/deploy.md advises. Exit code 1: a model was not exact.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from bench import TARGETS, worst_difference
from machine import OtherWork, cpu_model
from measuring import Naive, batch_work, plain_session
from models import Model, find_models, image_for
from report import Difference, table

import krypton_onnx as kx
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.rewriter import Plan, load_model, plan_of
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.advice import MOST_POSITIONS, advise
from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.grid import Grid, make_grid
from krypton_onnx.runtime.schedule import naive_batches
from krypton_onnx.runtime.session import available_cores

GROUPINGS = {
    "advised": "as inspect --batches advises",
    "tiles": "squares of neighbours",
    "order": "in the grid's own order",
}


@dataclass(frozen=True)
class Runs:
    """One way to group the positions of a map. origins: a run each, int64 (n, 2). r: of all multiply-adds that these
    runs do, the unoccluded pass of each among them."""

    grouping: str
    origins: tuple[np.ndarray, ...]
    r: float


@dataclass(frozen=True)
class Row:
    """One model and grouping. Times: milliseconds a position, one a round."""

    model: str
    sides: tuple[int, int]
    grouping: str
    positions: int
    runs: int
    r: float
    naive_batch: int
    naive: tuple[float, ...]
    bodies: tuple[float, ...]
    load_s: float
    difference: Difference
    other_work: float | None

    @property
    def speedup(self) -> float:
        return float(np.median(self.naive) / np.median(self.bodies))

    def cells(self) -> list[str]:
        each = sorted(naive / bodies for naive, bodies in zip(self.naive, self.bodies, strict=True))
        return [
            self.model, str(self.sides[0]), GROUPINGS[self.grouping], str(self.runs),
            f"{self.positions / self.runs:.0f}", f"{self.r:.2f}",
            f"{np.median(self.naive):.2f} ({self.naive_batch})", f"{np.median(self.bodies):.2f}",
            f"**{self.speedup:.2f}**", f"{each[0]:.2f}-{each[-1]:.2f}", f"{self.load_s:.1f}",
            f"{self.difference.largest:.1e}", f"{self.difference.allowed:.1e}",
            "?" if self.other_work is None else f"{self.other_work:.0%}",
        ]  # fmt: skip


HEADER = (
    "model", "px", "positions grouped", "runs", "positions a run", "R, unoccluded passes counted", "naive ms (batch)",
    "bodies ms", "speedup", "range", "load s", "largest difference", "allowed", "other work",
)  # fmt: skip


def grouped(plan: Plan, grid: Grid, grouping: str, most: int | None) -> Runs:
    """The grid's positions in runs of at most `most`."""
    if grouping == "advised":
        advice = advise(plan, grid, most)
        pairs = [np.meshgrid(run.tops, run.lefts, indexing="ij") for run in advice.batches]
        return Runs(
            grouping, tuple(np.stack(pair, axis=-1).reshape(-1, 2) for pair in pairs), advice.redundancy_ratio
        )
    most = most or MOST_POSITIONS
    if grouping == "order":
        batches = naive_batches(grid, most)
    else:
        side = int(most**0.5)
        rows, columns = (np.array_split(np.arange(count), -(-count // side)) for count in grid.shape)
        batches = [Batch(some, others) for some in rows for others in columns]
    full = sum(operator.multiply_adds for operator in plan.operators)
    work = sum(batch_work(plan, grid, batches)) + full * len(batches)
    return Runs(
        grouping, tuple(batch.origins(grid.tops, grid.lefts) for batch in batches), full * grid.positions / work
    )


class Alone:
    """The rewritten file in ONNX Runtime as it comes."""

    def __init__(self, path: Path, plan: Plan, image: np.ndarray, grid: Grid, threads: int) -> None:
        start = time.perf_counter()
        self._session = plain_session(path, threads)
        self.load_s = time.perf_counter() - start
        self._grid = grid
        self._outputs = [plan.outputs[0], UNOCCLUDED + plan.outputs[0]]
        self._feeds = {
            plan.image_input: image,
            "occlusion_patch": np.zeros((1, plan.image_shape[0], *grid.patch), np.float32),
            "propagation_threshold": np.ones(1, np.float32),
        }

    def map(self, runs: Runs, targets: list[int]) -> tuple[float, np.ndarray]:
        """Milliseconds a position, and the scores (T, rows, columns)."""
        scores = np.full((len(targets), *self._grid.shape), np.nan, np.float32)
        start = time.perf_counter()
        for origins in runs.origins:
            found, _ = self._session.run(self._outputs, {**self._feeds, "occlusion_origin": origins})
            rows, columns = origins[:, 0] // self._grid.stride[0], origins[:, 1] // self._grid.stride[1]
            scores[:, rows, columns] = found.reshape(len(origins), -1)[:, targets].T
        return 1e3 * (time.perf_counter() - start) / self._grid.positions, scores

    def warm_up(self, runs: Runs) -> None:
        """The largest runs: memory is taken."""
        for origins in sorted(runs.origins, key=len)[-2:]:
            self._session.run(self._outputs, {**self._feeds, "occlusion_origin": origins})


@dataclass(frozen=True)
class Settings:
    """How much is measured. naive_seconds: of a slice, one before and one after every map's round."""

    groupings: tuple[str, ...] = ("advised",)
    patch: int = 16
    stride: int = 4
    rounds: int = 3
    naive_seconds: float = 3.0
    batch_size: int | None = None


def measure(model: Model, settings: Settings, scratch: Path, threads: int) -> list[Row]:
    """Every grouping of one model, beside full inference."""
    image = image_for(model, kx.OcclusionSession(str(model.path)))
    rewritten = scratch / f"{model.name}.rewritten.onnx"
    kx.convert(model.path, rewritten, input_shape=image.shape, check=False)
    plan = plan_of(load_model(rewritten))
    if plan is None:
        raise kx.ModelError(f"{model.path}: has no plan")
    sides = plan.image_shape[1], plan.image_shape[2]
    grid = make_grid(sides, settings.patch, settings.stride)
    runs = [grouped(plan, grid, grouping, settings.batch_size) for grouping in settings.groupings]
    alone = Alone(rewritten, plan, image, grid, threads)
    naive = Naive(model.path, image, plan.layout, grid, threads)
    targets = np.argsort(-naive.baseline)[:TARGETS].tolist()
    for one in runs:
        alone.warm_up(one)
    times: dict[str, list[float]] = {one.grouping: [] for one in runs}
    maps: dict[str, list[np.ndarray]] = {one.grouping: [] for one in runs}
    full: list[float] = []
    others = OtherWork()
    for index in range(settings.rounds):
        # Full inference before and after the maps, and these backwards every other time: what drifts hits all alike.
        before = naive.slice(settings.naive_seconds)
        for one in runs[:: -1 if index % 2 else 1]:
            milliseconds, scores = alone.map(one, targets)
            times[one.grouping].append(milliseconds)
            maps[one.grouping].append(scores)
        full.append((before + naive.slice(settings.naive_seconds)) / 2)
    other_work = others.share()
    return [
        Row(
            model.name, sides, one.grouping, grid.positions, len(one.origins), one.r, naive.batch, tuple(full),
            tuple(times[one.grouping]), alone.load_s, worst_difference(naive, maps[one.grouping], targets), other_work,
        )
        for one in runs
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog="The models: docs/benchmarks.md")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument(
        "--groupings", default="advised", metavar="WORD,...", help=f"of {', '.join(GROUPINGS)} (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="most positions of a run (default: by memory, 128)")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="(default %(default)s)")
    parser.add_argument("--patch", type=int, default=Settings.patch, help="pixels (default %(default)s)")
    parser.add_argument("--stride", type=int, default=Settings.stride, help="pixels (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--quick", action="store_true", help="one short round, stride 16: to see that it works")
    chosen = parser.parse_args(arguments)
    groupings = tuple(filter(None, chosen.groupings.split(",")))
    if not groupings or set(groupings) - set(GROUPINGS):
        parser.error(f"--groupings {chosen.groupings}: words of {', '.join(GROUPINGS)}")
    settings = Settings(groupings, chosen.patch, chosen.stride, chosen.rounds, batch_size=chosen.batch_size)
    if chosen.quick:
        settings = Settings(groupings, chosen.patch, 16, 1, 0.2, chosen.batch_size)
    threads = available_cores()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            if chosen.json is not None:
                require_writable(chosen.json)
            models, missing = find_models(chosen.models, filter(None, chosen.only.split(",")), Path(folder))
        except (ValueError, kx.KryptonError) as error:
            parser.error(str(error))
        for one in missing:
            print(f"skipped {one.name}: {one.how}", file=sys.stderr)
        for model in models:
            print(model.name, file=sys.stderr, flush=True)
            rows += measure(model, settings, Path(folder), threads)
    if not rows:
        parser.error("none of these models is here")
    print(
        f"Patch {settings.patch}, stride {settings.stride}; {threads} cores, {cpu_model()}; "
        f"ONNX Runtime {ort.__version__}; medians of {settings.rounds}.\n"
    )
    print("\n".join(table(HEADER, [row.cells() for row in rows])))
    if chosen.json is not None:
        with atomic_write(chosen.json) as temporary:
            temporary.write_text(json.dumps([asdict(row) | {"speedup": row.speedup} for row in rows], indent=1) + "\n")
    return 0 if all(row.difference.within for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

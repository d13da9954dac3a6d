"""Common classifiers: R, the incremental share, and exact maps against full inference, one row a model.

    python benchmarks/zoo.py DIR [--only NAME,...] [--json FILE [--resume]] [--markdown FILE] [--seconds S]

DIR is what export_zoo.py wrote. Each model is measured on a whole map whose stride is chosen so that it takes at most
some seconds, interleaved with full inference at its best batch: the speedup is the median of the paired ratios of the
rounds. Exit code 1: a model failed, was not exact, or was slower than full inference. The report is written after
every model, and --resume leaves out those that are in it.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from bench import TARGETS, worst_difference
from coverage_tables import ends
from machine import OtherWork, environment
from measuring import Naive
from models import UNKNOWN, Model, image_for
from zoo_report import ZooReport, ZooRow

import krypton_onnx as kx
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.inspection import inspect_plan
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.session import available_cores

PATCH = 16
STRIDES = (4, 6, 10, 14, 20)  # finest first; from fewer positions what a map costs beside them would show
ROUNDS = 3
BATCHES = (1, 4, 8, 16)
SEARCH_SECONDS = 3.0  # for the best batch of full inference
SECONDS = 12.0  # of the rounds of one model; to load and to compile comes on top


class SampledNaive(Naive):
    """Full inference in slices as short as one batch, its batch size found in few runs."""

    def _best_batch(self) -> tuple[int, dict[int, float]]:
        sizes = self.batch_sizes if len(self.batch_sizes) == 1 else BATCHES
        measured: dict[int, float] = {}
        start = time.perf_counter()
        for size in sizes:
            self._run(size)  # memory for this size is allocated now
            measured[size] = 1e3 * min(self._run(size), self._run(size)) / size
            if time.perf_counter() - start > SEARCH_SECONDS:
                break
        return min(measured, key=lambda size: measured[size]), measured

    def slice(self, seconds: float) -> float:
        """Milliseconds a position, over at least this many seconds and one batch."""
        total, positions = 0.0, 0
        while total < seconds:
            total += self._run(self.batch)
            positions += self.batch
        return 1e3 * total / positions


def measure(model: Model, seconds: float, threads: int, rounds: int = ROUNDS, patch: int = PATCH) -> ZooRow:
    """One model, on `threads` threads; `seconds`: about what the rounds take."""
    start = time.monotonic()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = kx.OcclusionSession(str(model.path), options)
    image = image_for(model, session)
    plan = session.plan(image)
    sides = plan.image_shape[1], plan.image_shape[2]
    share = seconds / rounds / 2  # of one slice, and of one map
    stride = chosen_stride(session, image, {"targets": 0, "patch": patch, "output": plan.outputs[0]}, sides, share)
    grid = make_grid(sides, patch, stride)
    naive = SampledNaive(model.path, image, plan.layout, grid, threads)
    targets = np.argsort(-naive.baseline)[:TARGETS].tolist()
    question = {"targets": targets, "patch": patch, "stride": stride, "output": plan.outputs[0]}
    session.explain(image, **question, time_budget=0)  # the largest batches: memory
    times: dict[str, list[float]] = {"naive": [], "exact": []}
    maps: list[kx.HeatMap] = []

    def naive_slice() -> None:
        times["naive"].append(naive.slice(share))

    def exact_map() -> None:
        begin = time.perf_counter()
        maps.append(session.explain(image, **question))
        times["exact"].append(1e3 * (time.perf_counter() - begin) / grid.positions)

    others = OtherWork()
    for index in range(rounds):  # every other round backwards: what drifts hits both alike
        for part in (exact_map, naive_slice) if index % 2 else (naive_slice, exact_map):
            part()
    inspection = inspect_plan(plan, patch, stride)
    return ZooRow(
        model=model.name, origin=origin_of(model.path), sides=sides, patch=patch, stride=stride,
        positions=grid.positions, multiply_adds=sum(row.multiply_adds for row in inspection.operators),
        true_r=inspection.redundancy_ratio, achieved_r=inspection.achieved_redundancy_ratio,
        incremental_share=inspection.incremental_share, ends=ends(inspection), naive_batch=naive.batch,
        naive=tuple(times["naive"]), exact=tuple(times["exact"]), note=maps[-1].note,
        difference=worst_difference(naive, [heat_map.scores for heat_map in maps], targets),
        other_work=others.share(), seconds=time.monotonic() - start,
    )  # fmt: skip


def chosen_stride(
    session: kx.OcclusionSession, image: np.ndarray, question: dict, sides: tuple[int, int], seconds: float
) -> int:
    """The finest stride whose map takes at most `seconds`, tried from the coarsest on; kernels compile meanwhile."""
    strides = [stride for stride in STRIDES[::-1] if stride <= min(sides) // 3] or [STRIDES[0]]
    session.explain(image, **question, stride=strides[0])
    chosen = strides[0]
    for coarser, stride in pairwise([strides[0], *strides]):
        begin = time.perf_counter()
        session.explain(image, **question, stride=stride)
        taken = time.perf_counter() - begin
        if taken > seconds:
            return coarser
        chosen = stride
        more = make_grid(sides, question["patch"], stride).positions
        finer = next((other for other in STRIDES[::-1] if other < stride), stride)
        if taken * make_grid(sides, question["patch"], finer).positions / more > 4 * seconds:
            return chosen  # a map takes less than in proportion, but not that much less
    return chosen


def origin_of(path: Path) -> str:
    """What export_zoo.py noted in the file, else its producer."""
    model = onnx.load(str(path), load_external_data=False)
    return model.doc_string or f"{model.producer_name} {model.producer_version}".strip()


def in_folder(folder: Path, only: set[str]) -> list[Model]:
    """The folder's models by name. Raises ValueError where it holds none, or a name is unknown."""
    models = [Model(path.stem, path, UNKNOWN) for path in sorted(folder.glob("*.onnx"))]
    if not models:
        raise ValueError(f"{folder}: no .onnx file there; benchmarks/export_zoo.py writes them")
    unknown = only - {model.name for model in models}
    if unknown:
        raise ValueError(f"--only {', '.join(sorted(unknown))}: no such model in {folder}")
    return [model for model in models if not only or model.name in only]


def run(models: list[Model], seconds: float, threads: int, report: ZooReport, file: Path | None) -> ZooReport:
    """Measure every model, added to `report`; `file` is written anew after each, so that nothing measured is lost."""
    for index, model in enumerate(models):
        print(f"[{index + 1}/{len(models)}] {model.name}", file=sys.stderr, flush=True)
        try:
            row = measure(model, seconds, threads)
            report = report.with_row(row)
            print(f"    {row.speedup:.2f}x, R {row.achieved_r:.2f}, {100 * row.incremental_share:.1f} % incremental, "
                  f"stride {row.stride}; {row.seconds:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        except Exception as error:  # the other models are still worth measuring
            traceback.print_exc()
            report = report.with_failure(model.name, " ".join(str(error).split()) or type(error).__name__)
        if file is not None:
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
        gc.collect()
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--resume", action="store_true", help="go on with the models that --json does not hold yet")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, not to stdout")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one model's rounds (default %(default)s)")
    chosen = parser.parse_args(arguments)
    if chosen.resume and chosen.json is None:
        parser.error("--resume needs --json FILE")
    try:
        for file in (chosen.json, chosen.markdown):
            if file is not None:
                require_writable(file)
        models = in_folder(chosen.directory, set(filter(None, chosen.only.split(","))))
    except (ValueError, kx.KryptonError) as error:
        parser.error(str(error))
    report = ZooReport(environment())
    if chosen.resume and chosen.json.exists():
        report = ZooReport.from_dict(json.loads(chosen.json.read_text()))
    models = [model for model in models if model.name not in report.names]
    report = run(models, chosen.seconds, available_cores(), report, chosen.json)
    if chosen.markdown is not None:
        with atomic_write(chosen.markdown) as temporary:
            temporary.write_text(report.to_markdown())
    else:
        print(report.to_markdown(), end="")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())

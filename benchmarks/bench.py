"""Exact occlusion maps against full inference by ONNX Runtime, model by model (docs/benchmarks.md).

    python benchmarks/bench.py [--models DIR ...] [--only NAME,...] [--json FILE] [--quick]

Prints Markdown to stdout and progress to stderr. Exit code 1: a model failed, or was not exact.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import stages
from machine import OtherWork, environment
from measuring import Bodies, Naive, plain_session, with_logits
from memory import measure_peak
from models import Model, find_models, image_for
from report import Difference, Measurement, Report

import krypton_onnx as kx
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.inspection import inspect_plan
from krypton_onnx.runtime.grid import Grid, make_grid
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.session import available_cores
from krypton_onnx.tolerance import exactness_tolerance

TARGETS = 5  # the classes compared: those of the highest scores
BODIES_OVER_EXACT = 2.0  # a first guess of how much longer the bodies take, to size their slices
STAGES_SECONDS = 15.0  # an exact map that takes longer is timed part by part on every second row and column
LOGIT_PLACES = ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.3, 0.8))  # of the grid's height and width


@dataclass(frozen=True)
class Settings:
    """How much is measured. minutes: of the whole run; the seconds are of one slice, one round."""

    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] = (4, 4)
    rounds: int = 3
    minutes: float = 14.0
    naive_seconds: float = 2.0
    bodies_seconds: float = 4.0
    memory_seconds: float = 3.0
    threads: int = 2


QUICK = {"rounds": 1, "naive_seconds": 0.5, "bodies_seconds": 2.0, "memory_seconds": 1.0, "stride": (8, 8)}


def measure(
    model: Model, settings: Settings, scratch: Path, allowance: float, deadline: float, cold: bool = False
) -> Measurement:
    """One model. allowance: seconds it may take; a second round is allowed to exceed it, up to the deadline.

    cold: also measure a start without compiled kernels.
    """
    start = time.monotonic()
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    session = kx.OcclusionSession(str(model.path), options)
    image = image_for(model, session)
    plan = session.plan(image)
    inspection = inspect_plan(plan, settings.patch, settings.stride)
    sides = plan.image_shape[1], plan.image_shape[2]
    grid = make_grid(sides, settings.patch, settings.stride)

    np.save(scratch / "image.npy", image)
    peaks = {
        mode: measure_peak(
            mode, model.path, scratch / "image.npy", grid.patch, grid.stride, settings.threads, settings.memory_seconds
        )
        for mode in ("naive", "exact")
    }
    cold_start_s = None
    if cold:
        (scratch / "kernels").mkdir()
        cold_start_s = measure_peak(
            "exact", model.path, scratch / "image.npy", grid.patch, grid.stride, settings.threads, 0.0,
            scratch / "kernels",
        ).first_progress_s  # fmt: skip
    naive = Naive(model.path, image, plan.layout, grid, settings.threads)
    targets = np.argsort(-naive.baseline)[:TARGETS].tolist()
    bodies = Bodies(model.path, image, grid, settings.threads)
    question = {"targets": targets, "patch": grid.patch, "stride": grid.stride, "output": plan.outputs[0]}
    session.explain(image, **question, time_budget=0)  # the largest batches: compiles, allocates
    bodies.warm_up(targets)

    times: dict[str, list[float]] = {"naive": [], "exact": [], "bodies": []}
    maps: dict[str, list[np.ndarray]] = {"exact": [], "bodies": []}
    step = 1

    def naive_slice() -> None:
        times["naive"].append(naive.slice(settings.naive_seconds))

    def exact_map() -> None:
        begin = time.perf_counter()
        heat_map = session.explain(image, **question)
        times["exact"].append(1e3 * (time.perf_counter() - begin) / grid.positions)
        maps["exact"].append(heat_map.scores)

    def bodies_slice() -> None:
        milliseconds, scores = bodies.slice(len(times["bodies"]), step, targets)
        times["bodies"].append(milliseconds)
        maps["bodies"].append(scores)

    others = OtherWork()
    for index in range(settings.rounds):
        begin = time.monotonic()
        if index == 0:
            naive_slice()
            exact_map()
            step = bodies_step(times["exact"][0] * grid.positions / 1e3, bodies.batches, settings)
            bodies_slice()
        else:  # every other round backwards: what drifts over the run hits each alike
            slices = (naive_slice, exact_map, bodies_slice)
            for part in reversed(slices) if index % 2 else slices:
                part()
        now = time.monotonic()
        if now - start + (now - begin) > allowance and (index >= 1 or now + (now - begin) > deadline):
            break
    other_work = others.share()
    # On a coarser grid where the map takes long: the shares are much the same.
    seconds = times["exact"][0] * grid.positions / 1e3
    coarse = [side * (1 if seconds < STAGES_SECONDS else 2) for side in grid.stride]
    shares = stages.measure(
        lambda: session.explain(image, **{**question, "stride": tuple(coarse)}), settings.threads
    )

    differences = {"output": worst_difference(naive, maps["exact"], targets)}
    differences["bodies output"] = worst_difference(naive, maps["bodies"], targets)
    logits = logits_difference(model.path, session, image, grid, targets, settings.threads)
    if logits is not None:
        differences["logit"] = logits
    return Measurement(
        model=model.name, file=model.path.name, sides=sides, patch=grid.patch, stride=grid.stride,
        positions=grid.positions, batches=inspection.batches, true_r=inspection.redundancy_ratio,
        achieved_r=inspection.achieved_redundancy_ratio, incremental_share=inspection.incremental_share,
        naive_batch=naive.batch, naive_probe=naive.probed, naive=tuple(times["naive"]), exact=tuple(times["exact"]),
        bodies=tuple(times["bodies"]), other_work=other_work, naive_positions=len(naive.scores),
        bodies_share=float(np.isfinite(maps["bodies"]).any(axis=(0, 1)).mean()), differences=differences,
        peak_mb={mode: peak.peak_mb for mode, peak in peaks.items()}, imports_mb=peaks["naive"].imports_mb,
        first_progress_s=peaks["exact"].first_progress_s,
        bodies_load_s=bodies.load_s, seconds=time.monotonic() - start, cold_start_s=cold_start_s,
        multiply_adds=sum(row.multiply_adds for row in inspection.operators) / inspection.achieved_redundancy_ratio,
        stages=shares,
    )  # fmt: skip


def bodies_step(exact_seconds: float, batches: int, settings: Settings) -> int:
    """Every how-many-th batch of the bodies is run in a round; never so few that the workers end apart."""
    wanted = round(BODIES_OVER_EXACT * exact_seconds / settings.bodies_seconds)
    return max(1, min(wanted, batches // (4 * settings.threads)))


def worst_difference(naive: Naive, maps: list[np.ndarray], targets: list[int]) -> Difference:
    """Between maps (T, rows, columns), NaN where not computed, and full inference at every position it was run."""
    cells, expected = naive.sample(targets)
    worst, compared = 0.0, 0
    for scores in maps:
        actual = scores[:, cells[:, 0], cells[:, 1]].T
        done = ~np.isnan(actual).any(axis=1)
        compared = max(compared, int(done.sum()))
        worst = max(worst, float(np.abs(actual[done] - expected[done]).max(initial=0.0)))
    return Difference(worst, exactness_tolerance(expected), compared)


def logits_difference(
    path: Path, session: kx.OcclusionSession, image: np.ndarray, grid: Grid, targets: list[int], threads: int
) -> Difference | None:
    """The same before the last Softmax or Sigmoid, in four neighbourhoods; None where the model ends without one.

    A saturated probability hides any difference. Logits do not.
    """
    model = with_logits(path)
    if model is None:
        return None
    plain = plain_session(model, threads)
    output = session.plan(image).outputs[0]
    value = plain.get_inputs()[0]
    channels = image.shape[1] if session.layout == "NCHW" else image.shape[3]
    fill = np.zeros((1, channels, *grid.patch), np.float32)
    expected, actual = [], []
    for place in LOGIT_PLACES:
        near = [
            origins[round(share * max(0, len(origins) - 3)) :][:3]
            for share, origins in zip(place, (grid.tops, grid.lefts), strict=True)
        ]
        region = (near[0][0], near[1][0], near[0][-1] + grid.patch[0], near[1][-1] + grid.patch[1])
        heat_map = session.explain(image, targets, grid.patch, grid.stride, region=region, score="logit", output=output)
        actual.append(heat_map.scores.reshape(len(targets), -1).T)
        tops, lefts = (axis.reshape(-1) for axis in np.meshgrid(*near, indexing="ij"))
        images = occluded(image, session.layout, tops, lefts, fill)
        step = value.shape[0] if isinstance(value.shape[0], int) else len(images)
        for first in range(0, len(images), step):
            scores = plain.run(None, {value.name: images[first : first + step]})[0]
            expected.append(scores.reshape(scores.shape[0], -1)[:, targets])
    reference, ours = np.concatenate(expected), np.concatenate(actual)
    return Difference(float(np.abs(reference - ours).max()), exactness_tolerance(reference), len(reference))


def run(
    models: list[Model], skipped: list[tuple[str, str]], settings: Settings, scratch: Path, file: Path | None
) -> Report:
    """Measure every model; `file` is written anew after each, so that nothing measured is lost."""
    deadline = time.monotonic() + 60 * settings.minutes
    place = environment()
    measured: list[Measurement] = []
    failed: list[tuple[str, str]] = []
    for index, model in enumerate(models):
        now = time.monotonic()
        allowance = max(0.0, deadline - now) / (len(models) - index)
        print(f"[{index + 1}/{len(models)}] {model.name} (about {allowance:.0f} s)", file=sys.stderr, flush=True)
        try:
            measured.append(measure(model, settings, scratch, allowance, deadline, cold=index == 0))
            row = measured[-1]
            summary = f"{row.speedup:.2f}x naive, bodies {row.bodies_speedup:.2f}x, R {row.true_r:.2f}"
            print(f"    {summary}; {row.seconds:.0f} s", file=sys.stderr, flush=True)
        except Exception as error:  # the other models are still worth measuring
            traceback.print_exc()
            failed.append((model.name, " ".join(str(error).split()) or type(error).__name__))
        if file is not None:
            with atomic_write(file) as temporary:
                report = Report(place, measured, skipped, failed)
                temporary.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    return Report(place, measured, skipped, failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="How to get the models: docs/benchmarks.md"
    )
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--quick", action="store_true", help="one short round, stride 8: to see that it works")
    parser.add_argument(
        "--minutes", type=float, default=Settings.minutes, help="of the whole run (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, help=f"at most (default {Settings.rounds})")
    parser.add_argument("--patch", type=int, help=f"pixels (default {Settings.patch[0]})")
    parser.add_argument("--stride", type=int, help=f"pixels (default {Settings.stride[0]})")
    chosen = parser.parse_args(arguments)
    values = {"minutes": chosen.minutes, "threads": available_cores(), **(QUICK if chosen.quick else {})}
    values |= {name: (side, side) for name in ("patch", "stride") if (side := getattr(chosen, name)) is not None}
    if chosen.rounds is not None:
        values["rounds"] = chosen.rounds
    with tempfile.TemporaryDirectory() as folder:
        try:
            if chosen.json is not None:
                require_writable(chosen.json)
            models, missing = find_models(chosen.models, filter(None, chosen.only.split(",")), Path(folder))
        except (ValueError, kx.KryptonError) as error:
            parser.error(str(error))
        skipped = [(entry.name, entry.how) for entry in missing]
        report = run(models, skipped, Settings(**values), Path(folder), chosen.json)
    print(report.to_markdown(), end="")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a second worker gains: whole exact maps on Ray by one worker and by several, each of one thread, in turn.

    python benchmarks/ray_scaling.py [--model FILE] [--images 24] [--workers 1,2] [--rounds 5] [--json FILE]

Two figures of each run: images a second from the moment at which every worker has finished its first image until one of
them has none left, which is what a long run goes at; and over the whole run, the start of the workers included (Ray
itself is started once). Exit code 1: a map was not exact.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import ray
from machine import cpu_model
from PIL import Image
from pyarrow import parquet

import krypton_onnx as kx
from krypton_onnx.demo import squeezenet
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.runtime.session import available_cores
from krypton_onnx.tolerance import scores_differ


@dataclass(frozen=True)
class Run:
    """One run. steady, whole : images a second; steady is NaN where there were too few. start : seconds until every
    worker had finished its first image."""

    workers: int
    images: int
    steady: float
    whole: float
    start: float
    seconds_an_image: float


def photographs(folder: Path, count: int, side: int) -> None:
    """Pictures of blobs on waves: what is in them does not matter to an exact map's time."""
    y, x = np.mgrid[:side, :side] / side
    for seed in range(count):
        rng = np.random.default_rng(seed)
        pixels = np.full((side, side, 3), 120.0)
        for _ in range(6):
            centre, spread = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)
            blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))
            pixels += rng.normal(0, 90, 3) * blob[..., None]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{seed:03}.png")


def run(workers: int, images: Path, output: Path, spec: kx.ExplanationSpec) -> Run:
    """Explain the folder anew by so many workers, one image a file."""
    began = time.time()
    made = kx.ray.explain(images, spec=spec, output=output, workers=workers, num_cpus=1, images_per_file=1)
    if made.failed:
        raise SystemExit(f"images failed: {made.failed}")
    rows = parquet.read_table(output / "maps", columns=["worker", "made", "seconds"]).to_pylist()
    ends: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        ends[row["worker"]].append(datetime.fromisoformat(row["made"]).timestamp())
    if len(ends) != workers:
        raise SystemExit(f"{len(ends)} of {workers} workers explained an image: give more images")
    return Run(
        workers, len(rows), steady_rate(list(ends.values())), len(rows) / made.seconds,
        max(min(times) for times in ends.values()) - began, float(np.median([row["seconds"] for row in rows])),
    )  # fmt: skip


def steady_rate(ends: Sequence[Sequence[float]]) -> float:
    """Images a second while all workers work. ends : seconds at which each worker finished its images.

    From the last of their first images to the first of their last ones, each worker at its own rate: the sum of what
    it finished in between, over the time from the one before to its last one there.
    """
    first, last = max(min(times) for times in ends), min(max(times) for times in ends)
    rates = []
    for times in ends:
        inside = sorted(one for one in times if first <= one <= last)
        if len(inside) < 2:
            return float("nan")
        rates.append((len(inside) - 1) / (inside[-1] - inside[0]))
    return float(sum(rates))


def difference(output: Path, spec: kx.ExplanationSpec) -> tuple[str, float]:
    """What is wrong with one of the maps ("" where it is exact), beside the same computed in this process."""
    maps = dict(kx.ray.read(output))
    key = min(maps)
    return scores_differ(maps[key].scores, spec.explain(key).scores)


def told(runs: Sequence[Run]) -> dict[str, object]:
    """Medians by the number of workers, and the gain over the fewest, round by round."""
    counts = sorted({one.workers for one in runs})
    by_count = {count: [one for one in runs if one.workers == count] for count in counts}
    found: dict[str, object] = {}
    for count in counts:
        medians = {
            name: float(np.median([getattr(one, name) for one in by_count[count]]))
            for name in ("steady", "whole", "start", "seconds_an_image")
        }
        pairs = list(zip(by_count[counts[0]], by_count[count], strict=True))
        gains = {
            f"{name}_gain": sorted(getattr(many, name) / getattr(one, name) for one, many in pairs)
            for name in ("steady", "whole")
        }
        found[str(count)] = medians | {name: float(np.median(values)) for name, values in gains.items()} | {
            f"{name}s": values for name, values in gains.items()
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX model; default: the demo's SqueezeNet")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--side", type=int, default=256, help="pixels of the pictures, before they are prepared")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    if given.json is not None:
        require_writable(given.json)
    counts = [int(one) for one in given.workers.split(",")]
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local", num_cpus=max(*counts, available_cores()), include_dashboard=False, log_to_driver=False,
        logging_level="ERROR", object_store_memory=1 << 30,
    )  # fmt: skip
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "images").mkdir()
        photographs(here / "images", given.images, given.side)
        # Rewritten once, as for any long run: else every worker does it.
        kx.convert(given.model or squeezenet(), here / "rewritten.onnx", check=False)
        session = kx.OcclusionSession(here / "rewritten.onnx", preparation=given.preset)
        spec = kx.ExplanationSpec(
            str(here / "rewritten.onnx"), patch=given.patch, stride=given.stride, preparation=session.preparation
        )
        for number in range(given.rounds):
            for count in counts if number % 2 == 0 else counts[::-1]:
                runs.append(run(count, here / "images", here / f"{number}-{count}", spec))
                print(f"round {number + 1}: {runs[-1]}", file=sys.stderr, flush=True)
        wrong, worst = difference(here / f"0-{counts[0]}", spec)
    ray.shutdown()
    found = told(runs)
    for count, one in found.items():
        assert isinstance(one, dict)
        print(
            f"{count} workers: {one['steady']:.3f} images/s ({one['steady_gain']:.2f}x), with their start "
            f"{one['whole']:.3f} ({one['whole_gain']:.2f}x); the start takes {one['start']:.1f} s"
        )
    print(f"largest difference to a map computed without Ray: {worst:.2g}{wrong and ': ' + wrong}")
    if given.json is not None:
        content = {
            "model": "squeezenet" if given.model is None else given.model.stem, "images": given.images,
            "patch": given.patch, "stride": given.stride, "cores": available_cores(), "cpu": cpu_model(),
            "ray": ray.__version__, "difference": worst, "medians": found, "runs": [asdict(one) for one in runs],
        }  # fmt: skip
        with atomic_write(given.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

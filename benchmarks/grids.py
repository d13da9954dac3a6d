"""How the cost of exact maps grows: with the number of positions, the patch, the size of the image and the batch.

    python benchmarks/grids.py [--models DIR ...] [--only NAME] [--plot FILE] [--json FILE]

Every figure is a whole map, timed once after a warm-up, and the sweep is run twice, backwards the second time; the
smaller time counts. Exit code 1: somewhere a finer grid costs more a position than a coarser one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from models import find_models, image_for
from report import table

import krypton_onnx as kx
from krypton_onnx.files import atomic_write
from krypton_onnx.inspection import inspect_plan
from krypton_onnx.runtime.session import available_cores

PATCHES = (8, 16, 32, 64)
STRIDES = (16, 8, 4, 2, 1)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (128, 192, 256, 320)
NOISE = 1.05  # what a finer grid may cost more and still count as equal


@dataclass(frozen=True)
class Cost:
    """One map. multiply_adds: a position, mean over the map, as its batches compute them, convolutions only."""

    side: int
    patch: int
    stride: int
    batch: int | None
    positions: int
    milliseconds: float
    multiply_adds: float


def sweep(path: Path | bytes, image: np.ndarray, grids: list[tuple[int, int, int | None]]) -> list[Cost]:
    """grids: (patch, stride, batch size or None)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = kx.OcclusionSession(path if isinstance(path, bytes) else str(path), options)
    plan = session.plan(image)
    output = plan.outputs[0]
    best: dict[tuple[int, int, int | None], tuple[float, int]] = {}
    for patch, _, _ in grids[:1]:
        session.explain(image, targets=0, patch=patch, stride=patch, output=output)
    for order in (grids, grids[::-1]):
        for patch, stride, batch in order:
            start = time.perf_counter()
            heat_map = session.explain(image, targets=0, patch=patch, stride=stride, batch_size=batch, output=output)
            positions = heat_map.scores[0].size
            milliseconds = 1e3 * (time.perf_counter() - start) / positions
            best[patch, stride, batch] = min(best.get((patch, stride, batch), (np.inf, 0)), (milliseconds, positions))
            print(f"patch {patch} stride {stride} batch {batch}: {milliseconds:.3f} ms", file=sys.stderr, flush=True)
    full = sum(operator.multiply_adds for operator in plan.operators)
    found = []
    for (patch, stride, batch), (milliseconds, positions) in best.items():
        ratio = inspect_plan(plan, patch, stride).achieved_redundancy_ratio
        found.append(Cost(plan.image_shape[1], patch, stride, batch, positions, milliseconds, full / ratio))
    return found


def of_any_size(path: Path) -> bytes:
    """The model with height and width left open; it must have no dense layer that fixes them."""
    model = onnx.load(str(path))
    known = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in known)
    for axis, name in ((2, "height"), (3, "width")):
        image.type.tensor_type.shape.dim[axis].Clear()
        image.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model.SerializeToString()


def finer_is_not_dearer(costs: list[Cost]) -> list[str]:
    """Where a finer grid costs more a position than the next coarser one."""
    wrong = []
    for patch in dict.fromkeys(cost.patch for cost in costs):
        line = sorted((cost for cost in costs if cost.patch == patch), key=lambda cost: -cost.stride)
        for coarse, fine in pairwise(line):
            if fine.milliseconds > NOISE * coarse.milliseconds:
                wrong.append(
                    f"patch {patch}: {fine.milliseconds:.3f} ms at stride {fine.stride}, "
                    f"{coarse.milliseconds:.3f} ms at stride {coarse.stride}"
                )
    return wrong


def draw(file: Path, name: str, costs: dict[str, list[Cost]]) -> None:
    """Three panels: positions, size of the image, batch; lines are what the multiply-adds predict."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(costs), figsize=(4.6 * len(costs), 4), layout="constrained")
    for axis, (kind, rows) in zip(np.atleast_1d(axes), costs.items(), strict=True):
        if kind == "grid":
            for patch in dict.fromkeys(row.patch for row in rows):
                line = sorted((row for row in rows if row.patch == patch), key=lambda row: row.positions)
                places = [row.positions for row in line]
                seconds = [row.milliseconds * row.positions / 1e3 for row in line]
                points = axis.plot(places, seconds, "o", label=f"{patch} px")
                last = line[-1]
                rate = last.milliseconds / last.multiply_adds
                axis.plot(places, [rate * row.multiply_adds * row.positions / 1e3 for row in line], "-",
                          color=points[0].get_color(), linewidth=1)  # fmt: skip
            axis.set(xscale="log", yscale="log", xlabel="positions", ylabel="seconds a map")
            axis.legend(title="patch")
        elif kind == "size":
            line = sorted(rows, key=lambda row: row.side)
            rate = line[-1].milliseconds / line[-1].multiply_adds
            axis.plot([row.side for row in line], [row.milliseconds for row in line], "o")
            axis.plot([row.side for row in line], [rate * row.multiply_adds for row in line], "-", linewidth=1)
            axis.set(xlabel="image side, px", ylabel="milliseconds a position", ylim=(0, None))
        else:
            axis.plot([row.batch for row in rows], [row.milliseconds for row in rows], "o-")
            axis.set(xscale="log", xlabel="most positions of a batch", ylabel="milliseconds a position", ylim=(0, None))
    figure.suptitle(f"{name}: dots measured, lines predicted by multiply-adds from the rightmost dot")
    figure.savefig(file, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="squeezenet", metavar="NAME", help="the model (default %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--quick", action="store_true", help="the two coarsest strides only: to see that it works")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        models, missing = find_models(chosen.models, [chosen.only], Path(folder))
        if not models:
            parser.error(f"{missing[0].name} is not here: {missing[0].how}")
        model = models[0]
        image = image_for(model, kx.OcclusionSession(str(model.path)))
        strides = STRIDES[:2] if chosen.quick else STRIDES
        costs = {"grid": sweep(model.path, image, [(p, s, None) for p in PATCHES for s in strides])}
        flexible = of_any_size(model.path)
        rng = np.random.default_rng(0)
        costs["size"] = [
            cost
            for side in (SIDES[:2] if chosen.quick else SIDES)
            for cost in sweep(flexible, rng.standard_normal((1, 3, side, side), dtype=np.float32), [(16, 8, None)])
        ]
        costs["batch"] = sweep(model.path, image, [(16, 8, batch) for batch in BATCHES])
    header = ("patch", *(f"stride {stride}" for stride in strides))
    by_grid = {(cost.patch, cost.stride): cost for cost in costs["grid"]}
    print(f"{model.name}, {costs['grid'][0].side} px, exact ms a position:\n")
    print("\n".join(table(header, [
        [f"{patch} px", *(f"{by_grid[patch, stride].milliseconds:.2f}" for stride in strides)] for patch in PATCHES
    ])))  # fmt: skip
    for kind, name in (("size", "side"), ("batch", "batch")):
        print()
        print("\n".join(table((name, *(str(getattr(cost, name)) for cost in costs[kind])), [
            ["ms a position", *(f"{cost.milliseconds:.2f}" for cost in costs[kind])],
            ["multiply-adds a position, M", *(f"{cost.multiply_adds / 1e6:.0f}" for cost in costs[kind])],
        ])))  # fmt: skip
    if chosen.json is not None:
        with atomic_write(chosen.json) as temporary:
            rows = {kind: [asdict(cost) for cost in found] for kind, found in costs.items()}
            temporary.write_text(json.dumps(rows, indent=1) + "\n")
    if chosen.plot is not None:
        draw(chosen.plot, model.name, costs)
    wrong = finer_is_not_dearer(costs["grid"])
    for line in wrong:
        print(f"a finer grid costs more: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

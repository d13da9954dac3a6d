"""Ways to run a part of an occlusion map and time it: full inference, and the function bodies alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.rewriter import Plan, rewrite_model
from krypton_onnx.rewriter.rewrite import UNOCCLUDED
from krypton_onnx.runtime.batching import Batch, GeometryTable
from krypton_onnx.runtime.engine import Engine, SessionSettings
from krypton_onnx.runtime.explain import MapInProgress, fill_map
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.patches import Patches
from krypton_onnx.runtime.schedule import exact_plan

BATCH_SIZES = (1, 4, 8, 16, 32)
PROBE_SECONDS = 0.7  # a batch size is timed for this long, and at least twice
CLEARLY_SLOWER = 1.1  # two batch sizes in a row that are this much slower than the best end the search
MIN_NAIVE_POSITIONS = 32  # in every round
PROVIDERS = ["CPUExecutionProvider"]


def plain_session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """ONNX Runtime as it comes, on `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, options, providers=PROVIDERS)


def spread_positions(shape: tuple[int, int]) -> np.ndarray:
    """int64 (positions, 2): every (row, column) of the grid once, such that any first few are spread over it.

    First the corners and the centre, where regions are clipped most and least; then a Kronecker sequence (the
    plastic number's powers: Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    rows, columns = shape
    corners = [(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2), (0, columns - 1), (rows - 1, 0)]
    steps = np.arange(1, 4 * rows * columns)[:, None] * [0.7548776662466927, 0.5698402909980532]
    sequence = np.floor((steps % 1) * shape).astype(int).tolist()
    every = itertools.product(range(rows), range(columns))
    return np.array(list(dict.fromkeys([*corners, *map(tuple, sequence), *every])), np.int64)


class Naive:
    """Full inference on the original model, at its best batch size. Only `session.run` is timed."""

    def __init__(self, path: Path, image: np.ndarray, layout: str, grid: Grid, threads: int) -> None:
        self._image, self._layout, self._grid = image, layout, grid
        channels = image.shape[1] if layout == "NCHW" else image.shape[3]
        self._fill = np.zeros((1, channels, *grid.patch), np.float32)
        self._session = plain_session(path, threads)
        self._input = self._session.get_inputs()[0].name
        fixed = self._session.get_inputs()[0].shape[0]
        self.batch_sizes = (fixed,) if isinstance(fixed, int) else BATCH_SIZES
        self._positions: Iterator[tuple[int, int]] = itertools.cycle(map(tuple, spread_positions(grid.shape).tolist()))
        self.scores: dict[tuple[int, int], np.ndarray] = {}  # (row, column) -> float32 (classes,)
        self.baseline = self._infer(np.repeat(image, self.batch_sizes[0], axis=0))[0]
        self.batch, self.probed = self._best_batch()

    def _infer(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0].reshape(len(images), -1)

    def _run(self, batch: int) -> float:
        """Seconds of one batch at the next positions; its scores are kept."""
        cells = [next(self._positions) for _ in range(batch)]
        rows, columns = zip(*cells, strict=True)
        images = occluded(
            self._image, self._layout, self._grid.tops[list(rows)], self._grid.lefts[list(columns)], self._fill
        )
        start = time.perf_counter()
        scores = self._infer(images)
        seconds = time.perf_counter() - start
        self.scores.update(zip(cells, scores, strict=True))
        return seconds

    def _best_batch(self) -> tuple[int, dict[int, float]]:
        """The batch size of the least time a position, and what was measured: milliseconds by size."""
        measured: dict[int, float] = {}
        worse = 0
        for batch in self.batch_sizes:
            self._run(batch)  # memory for this size is allocated now
            times: list[float] = []
            while len(times) < 2 or sum(times) < PROBE_SECONDS:
                times.append(self._run(batch))
            measured[batch] = 1e3 * float(np.median(times)) / batch
            worse = worse + 1 if measured[batch] > CLEARLY_SLOWER * min(measured.values()) else 0
            if worse == 2:
                break
        return min(measured, key=lambda size: measured[size]), measured

    def sample(self, targets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Every position so far, int64 (n, 2) of (row, column), and its scores, float32 (n, T)."""
        return np.array(list(self.scores), np.int64), np.stack(list(self.scores.values()))[:, list(targets)]

    def slice(self, seconds: float) -> float:
        """Milliseconds a position, over at least this many seconds and MIN_NAIVE_POSITIONS positions."""
        total, positions = 0.0, 0
        while total < seconds or positions < MIN_NAIVE_POSITIONS:
            total += self._run(self.batch)
            positions += self.batch
        return 1e3 * total / positions


class Bodies:
    """The rewritten model in stock ONNX Runtime, without our kernels: the same batches as exact mode runs."""

    def __init__(self, path: Path, image: np.ndarray, grid: Grid, workers: int) -> None:
        start = time.perf_counter()
        settings = SessionSettings(workers=workers, kernels=False)
        self._engine = Engine(lambda: rewrite_model(str(path), None, image.shape), settings)
        assert not self._engine.kernels  # asking makes the sessions, which takes ONNX Runtime long for many functions
        self.load_s = time.perf_counter() - start
        plan = self._engine.plan
        self._image, self._grid, self._workers = image, grid, workers
        self._output = plan.outputs[0]
        channels = plan.image_shape[0]
        self._patches = Patches(Occlusion(), np.zeros((channels, *plan.image_shape[1:]), np.float32), grid)
        self._batches = exact_plan(plan, grid).batches
        self._work = batch_work(plan, grid, self._batches)

    @property
    def batches(self) -> int:
        return len(self._batches)

    def warm_up(self, targets: Sequence[int]) -> None:
        """Run the largest batches, so that memory is allocated."""
        self._run(range(min(self._workers, len(self._batches))), targets)

    def slice(self, offset: int, step: int, targets: Sequence[int]) -> tuple[float, np.ndarray]:
        """Milliseconds a position of batches[offset::step], and their scores (T, rows, columns), NaN elsewhere.

        The batches are sorted by their work, so every `step`th is a fair sample; what still is uneven is corrected
        by the share of the work that was run. One materialize run belongs to every map.
        """
        return self._run(range(offset % step, len(self._batches), step), targets)

    def _run(self, indices: Sequence[int], targets: Sequence[int]) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        views = self._engine.materialize(self._image, {})
        materialize = time.perf_counter() - start
        baseline = views.unoccluded[UNOCCLUDED + self._output].reshape(-1)
        no_cap = np.ones(1, np.float32)

        def run(tops: np.ndarray, lefts: np.ndarray, fill: np.ndarray) -> np.ndarray:
            return self._engine.run(views, tops, lefts, fill, (self._output,), no_cap)[0].reshape(len(tops), -1)

        start = time.perf_counter()
        heat_map = fill_map(
            MapInProgress(self._grid, targets, baseline, "exact"), [self._batches[index] for index in indices],
            self._patches, run, self._workers, None, None, None,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        share = sum(self._work[index] for index in indices) / sum(self._work)
        return 1e3 * (seconds / share + materialize) / self._grid.positions, heat_map.scores


def batch_work(plan: Plan, grid: Grid, batches: Sequence[Batch]) -> list[float]:
    """Convolution multiply-adds of every batch, as it computes them: all its positions at its largest extents."""
    table = GeometryTable(**plan.table())
    rows = table.extents(0, grid.tops, grid.patch[0])
    columns = table.extents(1, grid.lefts, grid.patch[1])
    whole = sum(operator.multiply_adds for operator in plan.operators if operator.geometry is None)
    return [
        batch.size * (whole + float((rows[batch.rows].max(0) * columns[batch.cols].max(0) * table.cost).sum()))
        for batch in batches
    ]


def with_logits(path: Path) -> bytes | None:
    """The original model with what enters its last Softmax or Sigmoid as its only output; None where there is none."""
    model = onnx.load(str(path))
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Identity", "Cast"):
        node = makers.get(node.input[0])
    if node is None or node.op_type not in ("Softmax", "Sigmoid"):
        return None
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
    return model.SerializeToString()

"""One model on the GPU: is it exact, and then how fast, in every form of convolution, beside full inference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gpu_counts import Launches, Traffic
from gpu_naive import GpuNaive, plain_session
from gpu_place import CUDA, preload
from gpu_trace import traced
from measuring import spread_positions, with_logits

import krypton_onnx as kx
from krypton_onnx.errors import one_line
from krypton_onnx.inspection import inspect_plan
from krypton_onnx.runtime.choice import Verdict
from krypton_onnx.runtime.cuda.forms import VARIABLE
from krypton_onnx.runtime.engine import Engine
from krypton_onnx.runtime.grid import Grid, make_grid
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.quality import ssim
from krypton_onnx.tolerance import exactness_tolerance

WAYS = ("window", "fused", "auto")
"""The forms of convolution; "auto" is what users get: measured forms, and full inference where that is faster."""
TARGETS = 5  # the classes compared: those of the highest scores
COMPARED = 64  # positions whose scores are compared with full inference
TOLERANCE = 1e-4  # x max(1, the range of the scores)
LEAST_ROUNDS, MOST_ROUNDS = 3, 9
NAIVE_SECONDS = 0.4  # of a slice
SSIM = 0.9
SCORE = "margin"  # of approximate maps: a probability may be saturated, and then tells nothing


def job(
    name: str, path: str, image: str, layout: str, output: str, patch: list[int], stride: list[int], seconds: float,
    approximate: list[str],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Results as they come, to be merged: facts, exactness of every way, times, overhead, approximate maps.

    image : file of an array (1, ...). seconds : after which no more rounds begin. approximate : files of images to tune
    on; none: no approximate maps.
    """
    preload()
    from gpu_timing import DeviceClock

    bench = ModelBench(
        name, Path(path), np.load(image), layout, output, (patch[0], patch[1]), (stride[0], stride[1]), DeviceClock()
    )
    yield bench.facts()
    yield {"ways": {way: bench.try_way(way) for way in WAYS}}
    yield from bench.rounds(seconds)
    yield {"overhead": bench.overhead()}
    if approximate:
        try:
            yield {"approximate": bench.approximate([np.load(file) for file in approximate])}
        except Exception as error:  # a map less, and the rest stands
            yield {"approximate": {"failed": one_line(error) or type(error).__name__}}


def open_way(
    way: str, path: Path, providers: Sequence[Any], image: np.ndarray, grid: Grid
) -> tuple[kx.OcclusionSession, Any]:
    """A session of this form of convolution, and its engine; of all ways but "auto" maps are incremental in any case.

    The form is read from the environment at the first run.
    """
    os.environ[VARIABLE] = way
    session = kx.OcclusionSession(str(path), providers=list(providers))
    engine = session.question(image, Occlusion(grid.patch, grid.stride)).engine
    if way != "auto" and isinstance(engine, Engine):
        engine.verdicts[(grid.patch, grid.stride)] = Verdict(0.0, float("inf"))
    return session, engine


class Clock(Protocol):
    """gpu_timing.DeviceClock."""

    address: int

    def between(self, work: Callable[[], Any], calls: int = 1) -> tuple[float, float]: ...


class ModelBench:
    """One model and its image, all on one stream of its own."""

    def __init__(
        self, name: str, path: Path, image: np.ndarray, layout: str, output: str, patch: tuple[int, int],
        stride: tuple[int, int], clock: Clock, provider: str = CUDA, memory: str = "cuda",
    ) -> None:  # fmt: skip
        """image : (1, ...) in the model's layout. memory : ONNX Runtime's name of the provider's."""
        self.name, self.path, self.image, self.layout = name, path, image, layout
        sides = image.shape[2:] if layout == "NCHW" else image.shape[1:3]
        self.grid: Grid = make_grid((int(sides[0]), int(sides[1])), patch, stride)
        self.clock = clock
        self.providers: list[Any] = [provider]
        if provider == CUDA:  # on the stream whose events are the clock
            self.providers = [(CUDA, {"use_tf32": "0", "user_compute_stream": str(clock.address)})]
        self.naive = GpuNaive(path, image, layout, self.grid, output, self.providers, memory)
        self.targets = np.argsort(-self.naive.baseline())[:TARGETS].tolist()
        self.cells = spread_positions(self.grid.shape)[:COMPARED]
        self.expected = self.naive.scores(self.cells)[:, self.targets]
        self.question = {"targets": self.targets, "patch": patch, "stride": stride, "output": output}
        self.logits = self._naive_logits()
        self.sessions: dict[str, kx.OcclusionSession] = {}

    def facts(self) -> dict[str, Any]:
        """What is asked; nothing is timed yet but the batch sizes of full inference."""
        self.naive.find_batch(self.clock.between)
        return {
            "model": self.name, "sides": list(self.image.shape[2:] if self.layout == "NCHW" else self.image.shape[1:3]),
            "patch": list(self.grid.patch), "stride": list(self.grid.stride), "positions": self.grid.positions,
            "naive_batch": self.naive.batch, "naive_probe": {str(k): v for k, v in self.naive.probed.items()},
            "naive_failed": {str(k): v for k, v in self.naive.failed.items()},
        }  # fmt: skip

    # -- exactness -------------------------------------------------------------------------------------------------

    def try_way(self, way: str) -> dict[str, Any]:
        """Make the session, compute the map twice, compare. {"failed": reason} where it breaks or is not exact."""
        try:
            return self._try(way)
        except Exception as error:  # the other ways are still worth measuring
            self.sessions.pop(way, None)
            return {"failed": one_line(error) or type(error).__name__}

    def _try(self, way: str) -> dict[str, Any]:
        began = time.perf_counter()
        session, engine = open_way(way, self.path, self.providers, self.image, self.grid)
        maps = [session.explain(self.image, **self.question)]
        first = time.perf_counter() - began
        maps.append(session.explain(self.image, **self.question))
        compared = [_compare(heat_map.scores, self.cells, self.expected) for heat_map in maps]
        found: dict[str, Any] = {"first_map_s": first, "note": maps[-1].note, "difference": max(compared),
                                 "allowed": _allowed(self.expected),
                                 "contract": exactness_tolerance(self.expected)}  # fmt: skip
        if isinstance(engine, Engine):
            found["true_r"] = inspect_plan(engine.plan, self.grid.patch, self.grid.stride).redundancy_ratio
            forms = list(getattr(engine._sessions, "forms", {}).values())
            found["forms"] = {form: forms.count(form) for form in set(forms)}
        if self.logits is not None:
            heat_map = session.explain(self.image, **self.question, score="logit")
            found["logit_difference"] = _compare(heat_map.scores, self.cells[: len(self.logits)], self.logits)
            found["logit_allowed"] = _allowed(self.logits)
        wrong = found["difference"] > found["allowed"]
        if wrong or found.get("logit_difference", 0.0) > found.get("logit_allowed", 0.0):
            largest = found["difference"] if wrong else found["logit_difference"]
            found["failed"] = f"not exact: it differs by {largest:.2e} from full inference, and is not timed"
            return found
        self.sessions[way] = session
        return found

    def _naive_logits(self) -> np.ndarray | None:
        """float32 (n, T) before the last Softmax or Sigmoid at the first cells; None where the model has none."""
        model = with_logits(self.path)
        if model is None:
            return None
        session = plain_session(model, self.providers)
        value = session.get_inputs()[0]
        size = value.shape[0] if isinstance(value.shape[0], int) else len(self.cells)
        cells = self.cells[: max(size, len(self.cells) // size * size)]
        channels = self.image.shape[1] if self.layout == "NCHW" else self.image.shape[3]
        fill = np.zeros((1, channels, *self.grid.patch), np.float32)
        found = []
        for first in range(0, len(cells), size):
            some = cells[first : first + size]
            images = occluded(self.image, self.layout, self.grid.tops[some[:, 0]], self.grid.lefts[some[:, 1]], fill)
            found.append(session.run(None, {value.name: images})[0].reshape(len(some), -1)[:, self.targets])
        return np.concatenate(found)

    # -- time ------------------------------------------------------------------------------------------------------

    def rounds(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Milliseconds a position, one a round: {"times": {"naive": {"wall": [...], "device": [...]}, ...}}."""
        times: dict[str, dict[str, list[float]]] = {
            name: {"wall": [], "device": []} for name in ("naive", *self.sessions)
        }
        run = self.naive.ready(self.naive.batch)
        calls = max(2, round(1e3 * NAIVE_SECONDS / (self.naive.probed[self.naive.batch] * self.naive.batch)))
        began = time.monotonic()
        for index in count():
            order = list(times) if index % 2 == 0 else list(times)[::-1]  # what drifts hits all alike
            for name in order:
                if name == "naive":
                    device, wall = self.clock.between(run, calls)
                    positions = calls * self.naive.batch
                else:
                    device, wall = self.clock.between(partial(self._map, name))
                    positions = self.grid.positions
                times[name]["wall"].append(wall / positions)
                times[name]["device"].append(device / positions)
            yield {"times": times}
            if index + 1 >= MOST_ROUNDS or (index + 1 >= LEAST_ROUNDS and time.monotonic() - began > seconds):
                return

    def _map(self, way: str) -> kx.HeatMap:
        return self.sessions[way].explain(self.image, **self.question)

    # -- what it costs beside the arithmetic -------------------------------------------------------------------------

    def overhead(self) -> dict[str, Any]:
        """Of one map in every way: our launches, bytes that we send and fetch, and a trace of the whole device."""
        found: dict[str, Any] = {}
        for way in self.sessions:
            with Launches() as launches, Traffic() as traffic:
                self._map(way)
            found[way] = {
                "our_launches": dict(launches.counts), "our_host_ms": 1e3 * sum(launches.host.values()),
                "runs": traffic.runs, "sent_bytes": traffic.sent, "fetched_bytes": traffic.fetched,
            }  # fmt: skip
            try:
                found[way]["trace"] = traced(partial(self._map, way))
            except Exception as error:  # without PyTorch, or CUPTI
                found[way]["untraced"] = one_line(error) or type(error).__name__
        return found

    # -- approximate maps ----------------------------------------------------------------------------------------------

    def approximate(self, images: list[np.ndarray]) -> dict[str, Any]:
        """Tuned on these images, asked about the model's own: milliseconds a position, SSIM to the exact map."""
        session = self.sessions.get("auto")
        if session is None:
            raise RuntimeError("exact maps do not work")
        asked = {**self.question, "targets": self.targets[:1], "score": SCORE}
        exact = session.explain(self.image, **asked)
        began = time.perf_counter()
        where = {name: asked[name] for name in ("patch", "stride", "output", "score")}
        kx.tune(session, [{session.image_input: image} for image in images], min_ssim=SSIM, **where)
        tuned = time.perf_counter() - began
        times, found = [], exact
        for _ in range(LEAST_ROUNDS + 1):
            began = time.perf_counter()
            found = session.explain(self.image, **asked, mode="approximate")
            times.append(1e3 * (time.perf_counter() - began) / self.grid.positions)
        return {
            "wall": times[1:], "ssim": float(ssim(exact.scores[0], found.scores[0])), "tuning_s": tuned,
            "computed": float(found.computed.mean()), "estimated_ssim": found.estimated_ssim, "note": found.note,
        }  # fmt: skip


def _compare(scores: np.ndarray, cells: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of a map (T, rows, columns) from scores (n, T) at cells (n, 2); inf where not finite."""
    actual = scores[:, cells[:, 0], cells[:, 1]].T
    difference = np.abs(actual.astype(np.float64) - expected)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def _allowed(expected: np.ndarray) -> float:
    return TOLERANCE * max(1.0, float(np.ptp(expected)))

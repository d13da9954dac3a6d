"""The same occlusion map by Captum, MONAI, ONNX Runtime alone and krypton-onnx: equal first, then timed.

    python benchmarks/peers.py [--rounds 3] [--json FILE] [--markdown docs/comparison.md] [--quick]

Needs torch, captum and monai, and the extra `demo`: the network is its SqueezeNet, with the same weights in ONNX and in
PyTorch. The patch and the stride must end at the edges, where Captum cuts off and MONAI shifts the last patch. Prints
Markdown; --markdown also writes it between the two marks in that file. Exit code 1: the maps are not equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from machine import OtherWork, cpu_model
from measuring import plain_session
from PIL import Image

import krypton_onnx as kx
from krypton_onnx import demo
from krypton_onnx.adapters.captum import Occlusion
from krypton_onnx.adapters.monai import OcclusionSensitivity
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.images import prepare_image
from krypton_onnx.runtime.session import available_cores
from krypton_onnx.tolerance import PROBABILITY_TOLERANCE

MARKS = "<!-- measured by benchmarks/peers.py -->", "<!-- end of what is measured -->"
BATCHES = (1, 4, 8, 16, 32)
PROBE_STEPS = 6  # a batch size is tried on so many rows and columns
FILL = 0.0  # the mean colour, in this model's input space


@dataclass
class Way:
    """One way to compute the map. compute: the per-pixel map (H, W), the mean drop of the patches over a pixel."""

    name: str
    network: str
    compute: Callable[[], np.ndarray]
    batch: int | None = None
    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Bench:
    """The network, the image and the question; `ways` are all the ways to answer it."""

    def __init__(self, model: onnx.ModelProto, image: np.ndarray, patch: int, stride: int, threads: int) -> None:
        """image: float32 (1, 3, H, W). model: ends in probabilities."""
        import torch
        from torch_twin import TorchTwin

        torch.set_num_threads(threads)
        self.patch, self.stride, self.threads = patch, stride, threads
        self.session, self.image = kx.OcclusionSession(model), np.ascontiguousarray(image)
        self.tensor = torch.from_numpy(self.image)
        self.module: Any = TorchTwin(model)
        self.plain = plain_session(model.SerializeToString(), threads)
        scores = self.infer(self.image)
        self.target = int(scores[0].argmax())
        with torch.no_grad():
            self.unoccluded = self.module(self.tensor).numpy()
        self.networks_differ = float(np.abs(self.unoccluded - scores).max())
        self.frame = (self.image.shape[2], self.image.shape[3])

    def infer(self, images: np.ndarray) -> np.ndarray:
        """By the original model in ONNX Runtime."""
        return self.plain.run(None, {self.session.image_input: images})[0]

    @property
    def positions(self) -> int:
        return int(np.prod([(side - self.patch) // self.stride + 1 for side in self.frame]))

    def ways(self) -> list[Way]:
        """Full inference is the first; what each gives is compared with it."""
        import torch
        from captum.attr import Occlusion as CaptumOcclusion

        captum, captum_batch = self._by_captum(CaptumOcclusion(self.module))

        def by_onnx_runtime(tensor: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(self.infer(tensor.numpy()))

        over, over_batch = self._by_captum(CaptumOcclusion(by_onnx_runtime))
        monai, monai_batch = self._by_monai(only(self.module, self.target), 0)
        monai_all, monai_all_batch = self._by_monai(self.module, self.target)
        ours, overlap = Occlusion(self.session), self._overlap(self.stride)
        ours_all = OcclusionSensitivity(self.session, self.patch, 16, False, FILL, overlap, activate=False)
        classes = f"{self.unoccluded.shape[1]} classes"
        captum_name, monai_name = f"Captum {version('captum')}", f"MONAI {version('monai')}"
        return [
            Way("full inference", "ONNX Runtime", lambda: self._by_explain("naive")),
            Way(captum_name, "PyTorch", captum, captum_batch),
            Way(captum_name, "ONNX Runtime", over, over_batch),
            Way(f"{monai_name}, one class", "PyTorch", monai, monai_batch),
            Way(f"{monai_name}, {classes}", "PyTorch", monai_all, monai_all_batch),
            Way("krypton-onnx, `per_pixel()`", "rewritten", lambda: self._by_explain("exact")),
            Way("krypton-onnx, Captum's call", "rewritten", lambda: self._attributions(ours, self.patch, self.stride)),
            Way(
                f"krypton-onnx, MONAI's call, {classes}", "rewritten",
                lambda: self._from_scores(ours_all(self.image)[0], self.target),
            ),
        ]  # fmt: skip

    def _overlap(self, stride: int) -> float:
        return max(0.0, 1 - (stride + 0.5) / self.patch)  # MONAI rounds the step down

    def warm_up(self) -> None:
        """Sessions are made, kernels compiled, memory for the largest batches taken."""
        for mode in ("naive", "exact"):
            self.session.explain(self.image, self.target, self.patch, self.stride, FILL, mode=mode, time_budget=0)

    def _by_explain(self, mode: str) -> np.ndarray:
        heat_map = self.session.explain(self.image, self.target, self.patch, self.stride, FILL, mode=mode)
        return heat_map.per_pixel()[0]

    def _attributions(self, explainer: Any, patch: int, stride: int, **options: Any) -> np.ndarray:
        inputs = self.image if isinstance(explainer, Occlusion) else self.tensor
        made = explainer.attribute(inputs, (3, patch, patch), (3, stride, stride), FILL, self.target, **options)
        return np.asarray(made)[0, 0]

    def _from_scores(self, scores: Any, target: int) -> np.ndarray:
        return self.unoccluded[0, self.target] - np.asarray(scores)[0, target]

    def _by_captum(self, explainer: Any) -> tuple[Callable[[], np.ndarray], int]:
        side = -(-max(self.frame) // PROBE_STEPS)  # full inference takes as long whatever the patch
        best = fastest(lambda batch: self._attributions(explainer, side, side, perturbations_per_eval=batch))
        return lambda: self._attributions(explainer, self.patch, self.stride, perturbations_per_eval=best), best

    def _by_monai(self, module: Any, target: int) -> tuple[Callable[[], np.ndarray], int]:
        from monai.visualize import OcclusionSensitivity as MonaiOcclusion

        def scores(batch: int, overlap: float, b_box: tuple[int, ...] | None = None) -> Any:
            return MonaiOcclusion(module, self.patch, batch, False, FILL, overlap, False)(self.tensor, b_box)[0]

        end = min(PROBE_STEPS * self.patch - (self.patch - 1) // 2, min(self.frame))
        best = fastest(lambda batch: scores(batch, 0.0, (0, end, 0, end)))
        return lambda: self._from_scores(scores(best, self._overlap(self.stride)), target), best


def fastest(probe: Callable[[int], object]) -> int:
    """The batch size at which a small map, of some PROBE_STEPS x PROBE_STEPS positions, takes least time."""
    times = {}
    for batch in BATCHES:
        probe(batch)  # memory for this size is allocated now
        start = time.perf_counter()
        probe(batch)
        times[batch] = time.perf_counter() - start
    return min(times, key=lambda size: times[size])


def only(module: Any, target: int) -> Any:
    """The module with one of its classes as the only one: what MONAI does for the others is left out."""
    import torch

    class Only(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.module(x)[:, [target]]

    return Only()


def measure(bench: Bench, rounds: int) -> list[Way]:
    """Every way once a round, every other round backwards, so that a machine that changes hits all alike."""
    ways = bench.ways()
    bench.warm_up()
    reference: np.ndarray | None = None
    for number in range(rounds):
        for way in reversed(ways) if number % 2 else ways:
            start = time.perf_counter()
            result = way.compute()
            way.seconds.append(time.perf_counter() - start)
            reference = result if reference is None else reference
            way.difference = max(way.difference, float(np.abs(result - reference).max()))
            done = f"round {number + 1}: {way.name} ({way.network}) {way.seconds[-1]:.2f} s"
            print(done, file=sys.stderr, flush=True)
    return ways


def to_markdown(ways: list[Way], bench: Bench, threads: int, other_work: float | None) -> str:
    ours = min(way.median for way in ways if way.network == "rewritten")
    lines = [
        "| library | network in | batch | seconds a map | range | ms a position | times ours | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        low, high = min(way.seconds), max(way.seconds)
        lines.append(
            f"| {way.name} | {way.network} | {way.batch or 'own'} | {way.median:.2f} | {low:.2f}-{high:.2f} | "
            f"{1e3 * way.median / bench.positions:.2f} | {way.median / ours:.1f} | {way.difference:.1e} |"
        )
    elsewhere = "unknown" if other_work is None else f"{other_work:.0%}"
    lines += [
        "",
        f"SqueezeNet 1.1, {bench.frame[0]} x {bench.frame[1]} pixels, patch {bench.patch}, stride {bench.stride}: "
        f"{bench.positions} positions. {len(ways[0].seconds)} interleaved rounds, medians, {threads} threads, "
        f"{cpu_model()}; PyTorch {version('torch')}, ONNX Runtime {_onnxruntime()}, {time.strftime('%Y-%m-%d')}. The "
        f"two networks differ by {bench.networks_differ:.1e}; other work on the machine: {elsewhere}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _onnxruntime() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def between_marks(page: str, table: str) -> str:
    """The page with the table between the marks. Raises ValueError where it has not both, once each, in order."""
    if page.count(MARKS[0]) != 1 or page.count(MARKS[1]) != 1 or page.index(MARKS[0]) > page.index(MARKS[1]):
        raise ValueError(f"the page must hold {MARKS[0]} and, behind it, {MARKS[1]}, once each")
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patch", type=int, default=19, help="pixels (default %(default)s)")
    parser.add_argument("--stride", type=int, default=4, help="pixels (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="one round at stride 16: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table between its marks there")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.stride, chosen.rounds = 16, 1
    if not 0 < chosen.stride <= chosen.patch <= demo.SIZE or (demo.SIZE - chosen.patch) % chosen.stride:
        parser.error(f"--patch, --stride: {demo.SIZE} - patch must be a multiple of a stride of at most the patch")
    if chosen.rounds < 1:
        parser.error("--rounds: at least 1")
    page = ""
    try:
        for file in filter(None, (chosen.json, chosen.markdown)):
            require_writable(file)
        if chosen.markdown is not None:
            page = chosen.markdown.read_text()
            between_marks(page, "")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    # Both libraries warn of what will change in PyTorch; nothing of that is measured here.
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence")
    threads = available_cores()
    image = prepare_image(Image.fromarray(demo.photograph()), demo.PREPARATION).array
    bench = Bench(demo.squeezenet(), image, chosen.patch, chosen.stride, threads)
    others = OtherWork()
    ways = measure(bench, chosen.rounds)
    table = to_markdown(ways, bench, threads, others.share())
    print(table, end="")
    if chosen.json is not None:
        kept = [{name: value for name, value in vars(way).items() if name != "compute"} for way in ways]
        with atomic_write(chosen.json) as temporary:
            temporary.write_text(json.dumps({"positions": bench.positions, "ways": kept}, indent=1) + "\n")
    if chosen.markdown is not None:
        with atomic_write(chosen.markdown) as temporary:
            temporary.write_text(between_marks(page, table))
    worst = max(bench.networks_differ, *(way.difference for way in ways))
    if worst > PROBABILITY_TOLERANCE:
        print(f"the maps are not equal: they differ by {worst:.2g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`krypton-onnx demo`: a trained CNN and a photograph, explained with nothing to download or to choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import progress_bar
from krypton_onnx.files import atomic_write, require_writable

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from krypton_onnx import HeatMap, OcclusionSession

PATCH = 16
STRIDE = 4
# Full inference of the whole grid is a long wait, so it is timed at every seventh row and column.
EVERY = 7
ROUNDS = 2


@dataclass(frozen=True)
class Measurement:
    """Seconds for the whole grid and, as the median of interleaved rounds, for a sample of it."""

    heat_map: HeatMap
    exact: float
    sample: int
    sample_exact: float
    sample_naive: float
    largest_difference: float  # between exact on the whole grid and naive, over the sample

    @property
    def naive(self) -> float:
        """Seconds that full inference would take for the whole grid, from the sample."""
        return self.sample_naive * self.heat_map.computed.size / self.sample


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The map to write.")] = Path(
        "demo.png"
    ),
) -> None:
    """Explain what SqueezeNet sees in a photograph, and compare with full inference.

    Needs the extra krypton-onnx[demo]. Example: krypton-onnx demo -o demo.png
    """
    options.check_picture("--output", output)
    require_writable(output)

    from PIL import Image
    from rich.console import Console
    from rich.markup import escape

    import krypton_onnx as kx
    from krypton_onnx.demo import PREPARATION, class_name, photograph, squeezenet
    from krypton_onnx.images import prepare_image

    model, picture = squeezenet(), photograph()
    image = prepare_image(Image.fromarray(picture), PREPARATION).array
    inspection = kx.inspect(model, PATCH, STRIDE)
    with progress_bar("explaining") as progress:
        measured = _measure(kx.OcclusionSession(model), image, progress)

    heat_map = measured.heat_map
    name, probability = class_name(heat_map.targets[0]), float(heat_map.baseline[0])
    figure = heat_map.plot(picture, title=f"{name}: probability {probability:.3f}", score_name="probability")
    with atomic_write(output) as temporary:
        figure.savefig(temporary)

    console = Console(highlight=False)
    console.print(f"SqueezeNet sees: [bold]{escape(name)}[/], probability {probability:.4f}")
    console.print(_table(measured))
    console.print(
        f"Largest difference between exact and naive: {measured.largest_difference:.1e}\n"
        f"Redundancy ratio R: {inspection.redundancy_ratio:.2f} (multiply-adds of naive over exact)\n"
        f"Wrote [bold]{escape(str(output))}[/]: what the probability depends on",
        soft_wrap=True,
    )


def _measure(session: OcclusionSession, image: np.ndarray, progress: Callable[[int, int], None]) -> Measurement:
    import numpy as np

    def explain(mode: str, stride: int, progress: Callable[[int, int], None] | None = None) -> HeatMap:
        return session.explain(image, mode=mode, patch=PATCH, stride=stride, progress=progress)

    # The first calls compile kernels and allocate; every later one is like any other.
    explain("exact", STRIDE * EVERY)
    explain("naive", STRIDE * EVERY * 2)

    # The sample before and after the whole grid: what else the machine does meanwhile then weighs on both.
    def rounds() -> list[tuple[tuple[float, HeatMap], tuple[float, HeatMap]]]:
        return [
            (_timed(lambda: explain("exact", STRIDE * EVERY)), _timed(lambda: explain("naive", STRIDE * EVERY)))
            for _ in range(ROUNDS)
        ]

    before = rounds()
    exact, heat_map = _timed(lambda: explain("exact", STRIDE, progress))
    samples = before + rounds()
    naive_map = samples[0][1][1]
    difference = np.abs(heat_map.scores[:, ::EVERY, ::EVERY] - naive_map.scores).max()
    return Measurement(
        heat_map,
        exact,
        naive_map.computed.size,
        median(seconds for (seconds, _), _ in samples),
        median(seconds for _, (seconds, _) in samples),
        float(difference),
    )


def _timed(explain: Callable[[], HeatMap]) -> tuple[float, HeatMap]:
    started = perf_counter()
    heat_map = explain()
    return perf_counter() - started, heat_map


def _table(measured: Measurement) -> Table:
    from rich import box
    from rich.table import Table

    positions = measured.heat_map.computed.size
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"hiding {PATCH} x {PATCH} px")
    table.add_column(f"{measured.sample} spread positions", justify="right")
    table.add_column(f"all {positions:,} positions", justify="right")
    table.add_row("exact (incremental)", f"{measured.sample_exact:.2f} s", f"{measured.exact:.2f} s")
    table.add_row("naive (full inference)", f"{measured.sample_naive:.2f} s", f"{measured.naive:.2f} s estimated")
    sample_speedup = measured.sample_naive / measured.sample_exact
    table.add_row("speedup", f"{sample_speedup:.1f} x", f"[bold]{measured.naive / measured.exact:.1f} x[/]")
    return table

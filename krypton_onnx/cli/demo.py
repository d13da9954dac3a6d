"""`krypton-onnx demo`: a trained CNN and a photograph, explained with nothing to download or to choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.measuring import Measurement, Plan, measure
from krypton_onnx.cli.progress import progress_bar
from krypton_onnx.files import atomic_write, require_writable

if TYPE_CHECKING:
    from rich.table import Table

PATCH = 16
STRIDE = 4
# Full inference of the whole grid is a long wait, so it is timed at every seventh row and column.
EVERY = 7
ROUNDS = 2


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The map to write.")] = Path(
        "demo.png"
    ),
) -> None:
    """Explain what SqueezeNet sees in a photograph, and compare with full inference.

    Needs the extra 'demo' of krypton-onnx. Example: krypton-onnx demo -o demo.png
    """
    options.check_picture("--output", output)
    require_writable(output)

    from PIL import Image
    from rich.console import Console
    from rich.markup import escape

    import krypton_onnx as kx
    from krypton_onnx.demo import PREPARATION, class_name, label, photograph, squeezenet
    from krypton_onnx.images import prepare_image

    model, picture = squeezenet(), photograph()
    image = prepare_image(Image.fromarray(picture), PREPARATION).array
    inspection = kx.inspect(model, PATCH, STRIDE)
    plan = Plan((PATCH, PATCH), (STRIDE, STRIDE), EVERY, ROUNDS)
    with progress_bar("explaining", unit="maps") as progress:
        measured = measure(kx.OcclusionSession(model), image, plan, progress)

    heat_map = measured.heat_map
    name, probability = class_name(heat_map.targets[0]), float(heat_map.baseline[0])
    figure = heat_map.plot(picture, labels={target: label(target) for target in heat_map.targets})
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


def _table(measured: Measurement) -> Table:
    from statistics import median

    from rich import box
    from rich.table import Table

    times = measured.speedup("exact")
    sample = {mode: median(way.sample) for mode, way in measured.ways.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"hiding {PATCH} x {PATCH} px")
    table.add_column(f"{measured.sampled} spread positions", justify="right")
    table.add_column(f"all {measured.positions:,} positions", justify="right")
    table.add_row("exact (incremental)", f"{sample['exact']:.2f} s", f"{measured.seconds('exact'):.2f} s")
    table.add_row("naive (full inference)", f"{sample['naive']:.2f} s", f"{measured.seconds('naive'):.2f} s estimated")
    table.add_row("speedup", f"{sample['naive'] / sample['exact']:.1f} x", f"[bold]{times:.1f} x[/]")
    return table

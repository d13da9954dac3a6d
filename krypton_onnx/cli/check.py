"""`krypton-onnx check`: is incremental inference of this model right, on random occlusions?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import sizes
from krypton_onnx.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from krypton_onnx import CheckReport


def check(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The original ONNX model; or a converted one, to check by itself.")
    ],
    rewritten: Annotated[
        Path | None,
        typer.Argument(metavar="REWRITTEN", help="What convert made of it. Default: make it, without writing it."),
    ] = None,
    positions: Annotated[int, typer.Option(min=1, help="Random occlusions, at corners, edges and inside.")] = 36,
    seed: Annotated[int, typer.Option(min=0, help="Of the images, the inputs beside them and the occlusions.")] = 0,
    input_shape: options.InputShape = None,
    image_input: options.ImageInput = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare incremental with full inference on random occlusions, on every output of a model.

    Exits with 0 where they agree within the tolerance of exact mode, else with 1.

    Example: krypton-onnx check model.onnx model.krypton.onnx
    """
    shape, image_input = options.shape_and_input(input_shape, image_input)

    import krypton_onnx as kx

    with progress_bar("checking", quiet) as progress:
        report = kx.check(
            model, rewritten, positions, seed, input_shape=shape, image_input=image_input, progress=progress
        )
    if json:
        from json import dumps

        typer.echo(dumps(report.to_dict(), allow_nan=False))
    elif not quiet:
        _show(report)
    if not report.passed:
        typer.echo(f"krypton-onnx: error: incremental inference is wrong: {report.problems[0]}", err=True)
        raise typer.Exit(1)


def _show(report: CheckReport) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # no width to fit: a row is a line
    typer.echo(
        f"{report.positions} occlusions of random images {sizes(report.input_shape)}, patches "
        f"{', '.join(map(sizes, report.patches))} (seed {report.seed}), against {report.against}"
    )
    console.print(_table(report))
    for name in dict.fromkeys(row.output for row in report.outputs if row.passed and row.change <= row.tolerance):
        typer.echo(f"output '{name}' hardly changes under these occlusions: they could hide a mistake")
    if report.passed:
        typer.echo("incremental inference is right here")


def _table(report: CheckReport) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("output", overflow="fold", min_width=8)
    table.add_column("computed by", no_wrap=True)
    for heading in ("largest change", "largest difference", "allowed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in report.outputs:
        verdict = Text("passed", "green") if row.passed else Text(row.problem, "red")
        values = (row.change, row.largest_difference, row.tolerance)
        table.add_row(Text(row.output), row.way, *(f"{value:.3g}" for value in values), verdict)
    return table

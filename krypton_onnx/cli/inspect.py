"""`krypton-onnx inspect`: how far an occlusion spreads, operator by operator, and what that saves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import ends, misuse, sizes, stored
from krypton_onnx.files import atomic_write, require_writable

if TYPE_CHECKING:
    from rich.table import Table

    from krypton_onnx import Inspection
    from krypton_onnx.runtime.advice import BatchAdvice

KIND_STYLES = {"local": "green", "pointwise": "", "global": "yellow"}


def inspect(
    model: options.Model,
    patch: options.Patch = "16",
    stride: options.Stride = "4",
    input_shape: options.InputShape = None,
    image_input: options.ImageInput = None,
    batches: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write which positions to send together where the rewritten model runs without this package (JSON).",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of --batches: most positions of a run. Default: by memory, up to 128."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show how the region that an occlusion changes grows, and how much work is left to do.

    Example: krypton-onnx inspect model.onnx --patch 32
    """
    patch_size, step = options.pair("--patch", patch), options.pair("--stride", stride)
    shape, image_input = options.shape_and_input(input_shape, image_input)
    if batches is not None:
        require_writable(batches, [model])
    elif batch_size is not None:
        misuse("--batch-size", "has no meaning without --batches")

    import krypton_onnx as kx

    if batches is None:
        inspection = kx.inspect(model, patch_size, step, input_shape=shape, image_input=image_input)
    else:
        from krypton_onnx.inspection import inspect_and_advise

        inspection, advice = inspect_and_advise(model, patch_size, step, shape, image_input, batch_size)
        _write(advice, batches)
    if json:
        from json import dumps

        typer.echo(dumps(inspection.to_dict(), allow_nan=False))
        return

    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # Into a file or a pipe, where there is no width to fit, an operator is a line.
        console.width = 1000
    console.print(_table(inspection))
    console.print(_summary(inspection), soft_wrap=True)
    if batches is not None:
        typer.echo(
            f"wrote {batches}: {len(advice.batches)} runs that do 1/{advice.redundancy_ratio:.2f} of the work of full "
            "inference, the unoccluded pass of each counted"
        )


def _write(advice: BatchAdvice, path: Path) -> None:
    from json import dumps

    with atomic_write(path) as temporary:
        temporary.write_text(dumps(advice.to_dict()) + "\n", encoding="utf-8")


def _table(inspection: Inspection) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="region: the part of the frame that the patch changes at the central position\n"
        "work, left: multiply-adds of a convolution, full and incremental",
        caption_justify="left",
    )
    # Where the terminal is narrow, names fold and nothing else gives way.
    table.add_column("operator", overflow="fold", min_width=12)
    table.add_column("type", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for heading in ("region", "frame", "work", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in inspection.operators:
        table.add_row(
            Text(row.name),
            row.op_type,
            Text(row.kind, KIND_STYLES[row.kind]),
            sizes(row.region),
            sizes(row.frame),
            _count(row.multiply_adds),
            _count(row.incremental_multiply_adds) if row.multiply_adds else "",
        )
    return table


def _summary(inspection: Inspection) -> str:
    batches_cost = inspection.redundancy_ratio / inspection.achieved_redundancy_ratio
    lines = [
        f"input {sizes(inspection.input_shape)}, patch {sizes(inspection.patch)}, "
        f"stride {sizes(inspection.stride)}: {inspection.positions:,} positions",
        f"R = {inspection.redundancy_ratio:.2f} (redundancy ratio: work of full over incremental inference)",
        f"achieved R = {inspection.achieved_redundancy_ratio:.2f}, as positions share batches "
        f"({batches_cost - 1:.0%} more work)",
        f"{inspection.incremental_share:.1%} of the convolutions' multiply-adds are incremental",
        *ends(inspection.end_reasons),
        *_others(inspection),
        *stored(inspection.preparation, inspection.labels),
    ]
    return "\n".join(lines)


def _others(inspection: Inspection) -> list[str]:
    """How many global operators there are beside those where the incremental part ends, by their reason."""
    told = set(inspection.end_reasons)
    rows = [row for row in inspection.operators if row.kind == "global" and row.reason not in told]
    reasons = Counter(row.reason for row in rows if f"{row.op_type} '{row.name}': {row.reason}" not in told)
    return [f"  {count} more operator{'s' if count > 1 else ''}: {reason}" for reason, count in reasons.items()]


def _count(multiply_adds: float) -> str:
    """12.3 M, 456 k: three digits tell more than nine."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if multiply_adds >= size:
            return f"{multiply_adds / size:.3g} {unit}"
    return f"{multiply_adds:.3g}" if multiply_adds else ""

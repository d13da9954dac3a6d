"""`krypton-onnx convert`: the rewritten model as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import ends, sizes
from krypton_onnx.files import require_writable

if TYPE_CHECKING:
    from krypton_onnx import ConversionReport


def convert(
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The rewritten model.")],
    input_shape: options.InputShape = None,
    image_input: options.ImageInput = None,
    check: Annotated[
        bool, typer.Option(help="Run both models on random images and compare them before writing.")
    ] = True,
    quiet: options.Quiet = False,
) -> None:
    """Rewrite a model for incremental inference.

    The result is one ONNX file that any ONNX Runtime can run: the original model, and beside it the same for
    many occluded copies of an image at once.

    Example: krypton-onnx convert model.onnx -o model.krypton.onnx
    """
    shape, image_input = options.shape_and_input(input_shape, image_input)
    require_writable(output)

    import krypton_onnx as kx

    report = kx.convert(model, output, input_shape=shape, image_input=image_input, check=check)
    if not quiet:
        typer.echo(_summary(report))


def _summary(report: ConversionReport) -> str:
    lines = [
        f"input {report.image_input}: {sizes(report.input_shape)}; output {', '.join(report.outputs)}",
        f"{report.incremental_share:.1%} of the convolutions' multiply-adds are incremental",
        *ends(report.end_reasons),
    ]
    if report.largest_difference is not None:
        lines.append(
            f"equal to the original on {report.checked_positions} occluded images, without our kernels: "
            f"largest difference {report.largest_difference:.1e}"
        )
    return "\n".join([*lines, f"wrote {report.path}"])

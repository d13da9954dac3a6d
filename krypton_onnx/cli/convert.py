"""`krypton-onnx convert`: the rewritten model as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import ends, sizes, stored
from krypton_onnx.files import require_writable
from krypton_onnx.labels import read_labels

if TYPE_CHECKING:
    from krypton_onnx import ConversionReport


def convert(
    context: typer.Context,
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The rewritten model.")],
    input_shape: options.InputShape = None,
    image_input: options.ImageInput = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes, stored in the model: text, one a line, or JSON."),
    ] = None,
    preset: options.PresetName = None,
    preparation_file: options.PreparationFile = None,
    fit: options.Fit = None,
    resize: options.Resize = None,
    resample: options.Resample = None,
    window: options.Window = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channel_order: options.Channels = None,
    check: Annotated[
        bool, typer.Option(help="Run both models on random images and compare them before writing.")
    ] = True,
    quiet: options.Quiet = False,
) -> None:
    """Rewrite a model for incremental inference.

    The result is one ONNX file that any ONNX Runtime can run: the original model, and beside it the same for
    many occluded copies of an image at once. How it wants its image, and the names of its classes, can be stored in it
    (in one that is rewritten already, too), so that they are given once.

    Example: krypton-onnx convert model.onnx -o model.krypton.onnx --preset imagenet --labels names.txt
    """
    from krypton_onnx.cli.preparing import PreparingOptions

    preparing = PreparingOptions.of(context)
    require_writable(output, [path for path in (labels, preparation_file) if path is not None])
    names = None if labels is None else read_labels(labels)

    import krypton_onnx as kx
    from krypton_onnx.runtime.preparing import stored_in

    report = kx.convert(
        model, output, input_shape=preparing.input_shape, image_input=preparing.image_input, check=check,
        preparation=preparing.unadapted(stored_in(model) if preparing.given else None), labels=names,
    )  # fmt: skip
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
    return "\n".join([*lines, *stored(report.preparation, report.labels), f"wrote {report.path}"])

"""`krypton-onnx explain`: one model, one image, one heat map."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse, progress_bar
from krypton_onnx.cli.preparing import PreparingOptions, execution_providers
from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.images import read_image

if TYPE_CHECKING:
    from krypton_onnx import HeatMap

PREPARING = "How the model wants its image: x = (pixel * scale - mean) / std"
COMPUTING = "How to compute"


def explain(
    model: options.Model,
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="A picture (PNG, JPEG, TIFF, ...), or a .npy array of floats, which is taken as it is.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The map: .png, .pdf or .svg.")
    ] = None,
    patch: options.Patch = "16",
    stride: options.Stride = "4",
    fill: Annotated[
        str,
        typer.Option(
            metavar="X|A,B,C",
            help="What hides the pixels: a number, or one a channel, in the numbers that the model sees.",
        ),
    ] = "0",
    target: Annotated[
        int | None, typer.Option(metavar="CLASS", help="The class to explain. Default: the predicted one.")
    ] = None,
    score: Annotated[
        Literal["output", "logit", "margin"],
        typer.Option(
            help="output: as the model gives it; logit: before its last softmax or sigmoid; "
            "margin: the logit minus the largest other."
        ),
    ] = "output",
    model_output: Annotated[
        str | None, typer.Option(metavar="NAME", help="The output to explain, where the model has several.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line, from class 0 on.")
    ] = None,
    scale: Annotated[str | None, typer.Option(metavar="X", help="Default: 1/255.", rich_help_panel=PREPARING)] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="X|A,B,C",
            help="After scaling, in the model's channel order. Default: 0.",
            rich_help_panel=PREPARING,
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="X|A,B,C", help="As mean. Default: 1.", rich_help_panel=PREPARING)
    ] = None,
    channel_order: Annotated[
        Literal["rgb", "bgr", "gray"] | None,
        typer.Option(help="Default: rgb, or gray where the model takes one channel.", rich_help_panel=PREPARING),
    ] = None,
    image_input: options.ImageInput = None,
    input_shape: options.InputShape = None,
    mode: Annotated[
        Literal["exact", "approximate", "naive"],
        typer.Option(
            help="exact: by incremental inference; naive: by full inference, much slower and the same.",
            rich_help_panel=COMPUTING,
        ),
    ] = "exact",
    min_ssim: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Quality of an approximate map.", rich_help_panel=COMPUTING),
    ] = None,
    providers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="ONNX Runtime's execution providers, best first, as in cuda,cpu. Default: cpu.",
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Without the fast convolution that rounds a little more (Winograd).",
            rich_help_panel=COMPUTING,
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Map which parts of an image the score of a class depends on.

    A patch hides the image at every position of a grid; the map shows how much the score drops.

    Example: krypton-onnx explain model.onnx cat.jpg -o map.png --mean 0.5 --std 0.25
    """
    if output is None and not json:
        misuse("--output", "give a file for the map (-o map.png), or --json, or both")
    if output is not None:
        options.check_picture("--output", output)
    if min_ssim is not None and mode != "approximate":
        misuse("--min-ssim", "only an approximate map has a quality to ask for (--mode approximate)")
    patch_size, step = options.pair("--patch", patch), options.pair("--stride", stride)
    filling = options.numbers("--fill", fill)
    preparing = PreparingOptions.parse(scale, mean, std, channel_order, image_input, input_shape)

    # What can go wrong quickly comes first: the output, the small files, then the model.
    if output is not None:
        require_writable(output)
    names = None if labels is None else _read_labels(labels)
    source = read_image(image)

    import numpy as np

    import krypton_onnx as kx

    session = kx.OcclusionSession(
        model, providers=execution_providers(providers), image_input=preparing.image_input, strict=strict
    )
    prepared = preparing.prepare(source, session, str(image))
    started = time.perf_counter()
    with progress_bar("explaining", quiet) as progress:
        heat_map = session.explain(
            prepared.array,
            targets=target,
            patch=patch_size,
            stride=step,
            fill=filling[0] if len(filling) == 1 else np.array(filling, np.float32),
            mode=mode,
            min_ssim=min_ssim,
            score=score,
            output=model_output,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    name = _class_name(heat_map.targets[0], names, labels)
    if output is not None:
        title = f"{name}: {heat_map.baseline[0]:.4g}"
        figure = heat_map.plot(prepared.shown, title=title, score_name="score" if score == "output" else score)
        with atomic_write(output) as temporary:
            figure.savefig(temporary)
    if json:
        from json import dumps

        typer.echo(dumps(heat_map.to_dict(), allow_nan=False))
    elif not quiet:
        _summarize(heat_map, name, score, seconds, output)


def _read_labels(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise KryptonError(f"{path}: no such file; --labels takes a text file of class names") from None
    except (OSError, UnicodeDecodeError):
        raise KryptonError(f"{path}: cannot be read as text; --labels takes class names, one a line") from None


def _class_name(target: int, names: list[str] | None, path: Path | None) -> str:
    if names is None:
        return f"class {target}"
    if target >= len(names):
        raise KryptonError(f"{path}: has {len(names)} names and so none for class {target}")
    return f"{names[target]} (class {target})"


def _summarize(heat_map: HeatMap, name: str, score: str, seconds: float, output: Path | None) -> None:
    drop = heat_map.drop[0]
    row, column = divmod(int(drop.argmax()), drop.shape[1])
    height, width = heat_map.patch
    top, left = heat_map.tops[row], heat_map.lefts[column]
    typer.echo(f"{name}: {score} {heat_map.baseline[0]:.4g}")
    typer.echo(
        f"most it drops: to {heat_map.scores[0, row, column]:.4g}, "
        f"where rows {top} to {top + height - 1} and columns {left} to {left + width - 1} are hidden"
    )
    typer.echo(f"{drop.size:,} positions in {seconds:.2f} s ({drop.size / seconds:,.0f} a second), {heat_map.mode}")
    typer.echo(f"wrote {output}")

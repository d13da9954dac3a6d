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

INTERRUPTED = 130  # the exit code of what Ctrl-C ended, by convention


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
    fill: options.Fill = "0",
    target: Annotated[
        int | None, typer.Option(metavar="CLASS", help="The class to explain. Default: the predicted one.")
    ] = None,
    score: options.Score = "output",
    model_output: options.ModelOutput = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line, from class 0 on.")
    ] = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channel_order: options.Channels = None,
    image_input: options.ImageInput = None,
    input_shape: options.InputShape = None,
    mode: Annotated[
        Literal["exact", "approximate", "naive"],
        typer.Option(
            help="exact: by incremental inference; approximate: many times faster, of a quality that was tuned and is "
            "checked (krypton-onnx tune); naive: by full inference, much slower and the same as exact.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = "exact",
    min_ssim: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="SSIM of an approximate map to the exact one. Default: as tuned.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = None,
    complete_exactly: Annotated[
        bool,
        typer.Option(
            help="Compute an approximate map exactly where its estimated SSIM is too low.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = True,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="5s",
            help="Stop after so long and keep the map as far as it is, as Ctrl-C does.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = None,
    seed: options.Seed = 0,
    providers: options.Providers = None,
    strict: options.Strict = False,
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
    filling = options.filling(fill)
    budget = None if time_budget is None else options.seconds("--time-budget", time_budget)
    preparing = PreparingOptions.parse(scale, mean, std, channel_order, image_input, input_shape)

    # What can go wrong quickly comes first: the output, the small files, then the model.
    if output is not None:
        require_writable(output)
    names = None if labels is None else _read_labels(labels)
    source = read_image(image)

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
            fill=filling,
            mode=mode,
            min_ssim=min_ssim,
            complete_exactly=complete_exactly,
            score=score,
            output=model_output,
            time_budget=budget,
            seed=seed,
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
    if "Ctrl-C" in heat_map.note:
        raise typer.Exit(INTERRUPTED)


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


def _quality(heat_map: HeatMap) -> str:
    if heat_map.estimated_ssim is None:
        return "its quality is not estimated"
    expected = "" if heat_map.expected_ssim is None else f" (expected from tuning: {heat_map.expected_ssim:.2f})"
    return f"estimated SSIM {heat_map.estimated_ssim:.2f}{expected}"


def _summarize(heat_map: HeatMap, name: str, score: str, seconds: float, output: Path | None) -> None:
    import numpy as np

    drop = heat_map.drop[0]
    row, column = divmod(int(np.nanargmax(drop)), drop.shape[1])
    height, width = heat_map.patch
    top, left = heat_map.tops[row], heat_map.lefts[column]
    typer.echo(f"{name}: {score} {heat_map.baseline[0]:.4g}")
    typer.echo(
        f"most it drops: to {heat_map.scores[0, row, column]:.4g}, "
        f"where rows {top} to {top + height - 1} and columns {left} to {left + width - 1} are hidden"
    )
    done = drop.size if heat_map.complete else int(heat_map.computed.sum())
    typer.echo(f"{done:,} positions in {seconds:.2f} s ({done / seconds:,.0f} a second), {heat_map.mode}")
    if heat_map.mode == "approximate":
        share = heat_map.computed.mean()
        others = "" if heat_map.computed.all() else ", the others interpolated"
        typer.echo(f"{share:.0%} of the positions computed{others}; {_quality(heat_map)}")
    if heat_map.note:
        typer.echo(heat_map.note)
    typer.echo(f"wrote {output}")

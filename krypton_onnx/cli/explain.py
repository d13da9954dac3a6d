"""`krypton-onnx explain`: one model, one image, one heat map."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse, progress_bar
from krypton_onnx.cli.preparing import PreparingOptions, execution_providers
from krypton_onnx.cli.specifying import Asked, asked, specify
from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.images import read_image

if TYPE_CHECKING:
    from krypton_onnx import HeatMap

INTERRUPTED = 130  # the exit code of what Ctrl-C ended, by convention


def explain(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="An ONNX model, original or converted; with --spec it may be left out."),
    ],
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE",
            help="A picture (PNG, JPEG, TIFF, ...), or a .npy array of floats, which is taken as it is.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The map: .png, .pdf or .svg.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Explain as a saved specification says; other options change it."),
    ] = None,
    save_spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save all but the image as a specification (TOML), for --spec."),
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
    max_memory: options.MaxMemory = None,
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
    named_model: Path | None = model
    if image is None:
        if spec is None:
            misuse("IMAGE", "give the image to explain, after the model")
        named_model, image = None, model
    if output is None and not json:
        misuse("--output", "give a file for the map (-o map.png), or --json, or both")
    if output is not None:
        options.check_picture("--output", output)
    preparing = PreparingOptions.parse(scale, mean, std, channel_order, image_input, input_shape)
    asked_for = asked(
        context,
        {
            "patch": ("patch", options.pair("--patch", patch)),
            "stride": ("stride", options.pair("--stride", stride)),
            "fill": ("fill", options.fill_numbers(fill)),
            "target": ("targets", target),
            "score": ("score", score),
            "model_output": ("output", model_output),
            "mode": ("mode", mode),
            "min_ssim": ("min_ssim", min_ssim),
            "complete_exactly": ("complete_exactly", complete_exactly),
            "time_budget": (
                "time_budget", None if time_budget is None else options.seconds("--time-budget", time_budget)
            ),
            "max_memory": (
                "memory_budget", None if max_memory is None else options.memory("--max-memory", max_memory)
            ),
            "seed": ("seed", seed),
            "strict": ("strict", strict),
        },
    )  # fmt: skip

    # What can go wrong quickly comes first: the output, the small files, then the model.
    read = [path for path in (named_model, image, labels) if path is not None]
    if output is not None:
        require_writable(output, [*read, *([] if spec is None else [spec])])
    if save_spec is not None:
        require_writable(save_spec, read)
    names = None if labels is None else _read_labels(labels)
    source = read_image(image)

    import krypton_onnx as kx

    base = None if spec is None else kx.ExplanationSpec.load(spec)
    asked_for["providers"] = Asked(execution_providers(providers), providers is not None)
    asked_for["image_input"] = Asked(preparing.image_input, preparing.image_input is not None)
    wanted = specify(named_model, asked_for, base, quiet)
    if hasattr(source, "convert") and base is not None and not preparing.given:
        base.preparation_of_pictures(str(image))
    session = wanted.session()
    prepared = preparing.prepare(source, session, str(image), wanted.preparation)
    if hasattr(source, "convert"):
        wanted = replace(wanted, preparation=preparing.preparation(session, wanted.preparation))
    started = time.perf_counter()
    with progress_bar("explaining", quiet) as progress:
        heat_map = wanted.explain(prepared.array, session, progress)
    seconds = time.perf_counter() - started
    name = _class_name(heat_map.targets[0], names, labels)
    if output is not None:
        title = f"{name}: {heat_map.baseline[0]:.4g}"
        score_name = "score" if wanted.score == "output" else wanted.score
        figure = heat_map.plot(prepared.shown, title=title, score_name=score_name)
        with atomic_write(output) as temporary:
            figure.savefig(temporary)
    if save_spec is not None:
        wanted.save(save_spec)
    if json:
        from json import dumps

        typer.echo(dumps(heat_map.to_dict(), allow_nan=False))
    elif not quiet:
        _summarize(heat_map, name, wanted.score, seconds)
        for path in (output, save_spec):
            if path is not None:
                typer.echo(f"wrote {path}")
    if "Ctrl-C" in heat_map.note:
        raise typer.Exit(INTERRUPTED)


def _read_labels(path: Path) -> list[str]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and a device may have no end
            raise KryptonError(f"{path}: is not a regular file; --labels takes a text file of class names")
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise KryptonError(f"{path}: no such file; --labels takes a text file of class names") from None
    except (OSError, UnicodeDecodeError):
        raise KryptonError(
            f"{str(path)[:200]}: cannot be read as text; --labels takes class names, one a line"
        ) from None


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


def _summarize(heat_map: HeatMap, name: str, score: str, seconds: float) -> None:
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

"""`krypton-onnx web`: a static site that explains images by a model, on the visitor's own machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import ends, misuse, show_warning, sizes
from krypton_onnx.labels import read_labels

if TYPE_CHECKING:
    from krypton_onnx.cli.preparing import PreparingOptions
    from krypton_onnx.images import Preparation
    from krypton_onnx.web.manifest import PageFill
    from krypton_onnx.web.server import SiteServer
    from krypton_onnx.web.site import Site

PAGE = "What the page shows"
SERVING = "To look at it"


def web(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="An ONNX model, original or converted; or a site written before, to --serve it."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER/", help="The site.", show_default=False)
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(help="The page's heading. Default: the name of the model's file.", rich_help_panel=PAGE),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE", rich_help_panel=PAGE, show_default=False,
            help="A picture to try the page with; everybody who visits it can see it. Default: a cup of coffee.",
        ),
    ] = None,
    no_sample: Annotated[bool, typer.Option("--no-sample", help="None.", rich_help_panel=PAGE)] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PAGE, show_default=False,
            help="Names of the classes: text, one a line, or JSON. Default: as stored in the model.",
        ),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(
            metavar="N | H,W", rich_help_panel=PAGE, show_default=False,
            help="Size of the hidden patch that the page proposes, in pixels of the model's input. Default: 16.",
        ),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(
            metavar="N | H,W", rich_help_panel=PAGE, show_default=False,
            help="Step from one position to the next that it proposes. Default: 8.",
        ),
    ] = None,
    fill: Annotated[
        str,
        typer.Option(
            metavar="X|A,B,C|WORD", rich_help_panel=PAGE,
            help="What hides the pixels: a number that the model sees, one a channel, or mean, black, white or gray.",
        ),
    ] = "0",
    activation: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(
            rich_help_panel=PAGE, show_default=False,
            help="Of a model that ends in raw logits: what makes probabilities of them. Never guessed.",
        ),
    ] = None,
    model_output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The output to explain, where the model has several.", rich_help_panel=PAGE
        ),
    ] = None,
    preset: options.PresetName = None,
    preparation_file: options.PreparationFile = None,
    fit: options.Fit = None,
    resize: options.Resize = None,
    resample: options.Resample = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channel_order: options.Channels = None,
    image_input: options.ImageInput = None,
    input_shape: options.InputShape = None,
    check: Annotated[
        bool, typer.Option(help="Run both models on random images and compare them before writing.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Write also among what is in a folder that is no such site.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then serve it, until Ctrl-C.", rich_help_panel=SERVING)
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0: any free one.", rich_help_panel=SERVING)
    ] = 8000,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Of this machine.", rich_help_panel=SERVING)
    ] = "127.0.0.1",
    quiet: options.Quiet = False,
) -> None:
    """Write a static site that explains images by a model in the visitor's own browser.

    Nothing that a visitor opens leaves the visitor's machine. The folder can be published by any web server. The page
    is built once, by npm (the extra 'web' brings it).

    Example: krypton-onnx web model.onnx -o site/ --preset imagenet --labels names.txt
    """
    from krypton_onnx.cli.preparing import PreparingOptions
    from krypton_onnx.web.folder import is_site

    if serve and model.is_dir() and output is None:
        if not is_site(model):
            misuse("MODEL", f"{model} is a folder, and no site that krypton-onnx web wrote")
        _serve(model, host, port, quiet)
        return
    if output is None:
        misuse("--output", "give a folder for the site (-o site/)")
    if sample is not None and no_sample:
        misuse("--sample", "and --no-sample contradict each other: give one of them")
    preparing = PreparingOptions.of(context)
    wanted_fill = _fill(fill)
    size = None if patch is None else options.pair("--patch", patch)
    step = None if stride is None else options.pair("--stride", stride)
    names = None if labels is None else read_labels(labels)

    from krypton_onnx.web.site import Wanted, write_site

    site = write_site(
        model, output,
        Wanted(title, False if no_sample else sample, size, step, wanted_fill, model_output, activation),
        preparation=_preparation(preparing, model, quiet), labels=names, input_shape=preparing.input_shape,
        image_input=preparing.image_input, check=check, force=force,
        say=lambda text: None if quiet else typer.echo(text, err=True),
    )  # fmt: skip
    if not quiet:
        typer.echo(_summary(site))
    if serve:
        _serve(output, host, port, quiet)


def _fill(text: str) -> PageFill:
    """--fill, as a page takes it; exits with code 2 where that is impossible."""
    from krypton_onnx.web.manifest import FILL_WORDS

    given = options.filling(text)
    if isinstance(given, str) and given not in FILL_WORDS:
        misuse("--fill", f"{given} is not made in a browser: give numbers, or {', '.join(FILL_WORDS)}")
    return given  # type: ignore[return-value]


def _preparation(preparing: PreparingOptions, model: Path, quiet: bool) -> Preparation:
    """The options, over what is stored in the model. Warns, unless `quiet`, where neither says anything."""
    from krypton_onnx.images import Preparation
    from krypton_onnx.runtime.preparing import stored_in

    stored = stored_in(model)
    known = preparing.unadapted(stored) or stored or Preparation()
    if not quiet:
        preparing.tell_of_assumed(known, stored)
    return known


def _summary(site: Site) -> str:
    manifest, report = site.manifest, site.conversion
    classes = f"; the names of {len(manifest.labels)} classes" if manifest.labels else ""
    lines = [
        f"{manifest.title}: input {manifest.image_input} {sizes(report.input_shape)}, output {manifest.output}, "
        f"shown as {manifest.score_name}{classes}",
        f"{report.incremental_share:.1%} of the convolutions' multiply-adds are incremental",
        *ends(report.end_reasons),
        f"pictures: {manifest.preparation.describe()}",
        "sample: none" if manifest.sample is None else f"sample, for all visitors to see: {manifest.sample.caption}",
        f"wrote {site.path}{os.sep}: {site.bytes / 1e6:.1f} MB, of which the model {manifest.bytes / 1e6:.1f} MB",
        f"look at it: krypton-onnx web {site.path} --serve",
        "publish it: copy the folder to any web server, https. With the headers in _headers (Netlify, Cloudflare "
        "Pages), .htaccess (Apache) or _nginx.conf (nginx: include it) the page uses all cores; without them one",
    ]
    return "\n".join(lines)


def _serve(site: Path, host: str, port: int, quiet: bool) -> None:
    from krypton_onnx.web.server import serve

    def ready(server: SiteServer) -> None:
        if not server.loopback and not quiet:
            show_warning(
                f"{host} can be reached from other machines, which get this page without https: their browsers allow "
                "it one core only. For more than a look put a web server with https before it, or publish the folder"
            )
        if not quiet:
            typer.echo(f"serving {site} at {server.url} (Ctrl-C ends it)")

    serve(site, host, port, ready)
    if not quiet:
        typer.echo("stopped")

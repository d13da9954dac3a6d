"""`krypton-onnx serve`: a model as a service, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse, show_warning
from krypton_onnx.cli.grouping import grouped
from krypton_onnx.cli.groups import OcclusionOptions, PreparationOptions, ScoreOptions
from krypton_onnx.errors import KryptonError

if TYPE_CHECKING:
    from krypton_onnx.service.pool import WorkerPool
    from krypton_onnx.specification import ExplanationSpec

SERVING, BOUNDS = "Where, and for whom", "Bounds"
TOKEN = "KRYPTON_TOKEN"
MOST_TOKEN_FILE = 10_000  # bytes


@grouped
def serve(
    context: typer.Context,
    *,
    model: options.Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this machine's own need a token.",
                          rich_help_panel=SERVING)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.", rich_help_panel=SERVING)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, rich_help_panel=SERVING,
            help=f"A file with the token that clients must give. Or set {TOKEN} in the environment.",
        ),
    ] = None,
    log: Annotated[
        Literal["text", "json", "none"], typer.Option(help="A line a request, on stderr.", rich_help_panel=SERVING)
    ] = "text",
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes, each with the model.", rich_help_panel=options.COMPUTING)
    ] = 1,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Explanations at once in a worker; they share its threads.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 2,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=False, rich_help_panel=options.COMPUTING,
            help="Of each worker. Default: all cores, divided by the workers.",
        ),
    ] = None,
    mode: Annotated[
        Literal["exact", "approximate"],
        typer.Option(help="Where a request does not say; approximate needs a model that is tuned.",
                     rich_help_panel=options.COMPUTING),
    ] = "exact",
    providers: options.Providers = None,
    strict: options.Strict = False,
    queue: Annotated[
        int, typer.Option(min=0, max=10_000, help="Requests that wait; one more is answered 429.",
                          rich_help_panel=BOUNDS)
    ] = 16,
    deadline: Annotated[
        str,
        typer.Option(metavar="60s", help="After so long the map as far as it is comes back; the most a client can ask.",
                     rich_help_panel=BOUNDS),
    ] = "60s",
    max_bytes: Annotated[
        str, typer.Option(metavar="20MB", help="Of an upload.", rich_help_panel=BOUNDS)
    ] = "20MB",
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, max=178_956_970, help="Of an image.", rich_help_panel=BOUNDS)
    ] = 50_000_000,
    max_positions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Of a map.", rich_help_panel=BOUNDS)
    ] = 50_000,
    max_worker_memory: Annotated[
        str | None,
        typer.Option(
            metavar="4GiB", show_default=False, rich_help_panel=BOUNDS,
            help="A worker that has more is replaced when it is idle. Default: no bound.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False,
            help="Names of the classes: text, one a line, or JSON. Default: as stored in the model.",
        ),
    ] = None,
    occlusion: OcclusionOptions,
    scoring: ScoreOptions,
    preparation: PreparationOptions,
    quiet: options.Quiet = False,
) -> None:
    """Serve the maps of a model over HTTP: JSON, pictures, reports, and a stream while they are computed.

    Until Ctrl-C. A page to try it with is at the address that is printed; docs/service.md has the rest.

    Example: krypton-onnx serve rewritten.onnx
    """
    seconds = options.seconds("--deadline", deadline)
    if seconds <= 0:
        misuse("--deadline", "leaves no time for any map")
    bytes_taken = options.memory("--max-bytes", max_bytes)
    memory = None if max_worker_memory is None else options.memory("--max-worker-memory", max_worker_memory)
    preparing = preparation.read()
    if occlusion.mask is not None:
        misuse("--patch-shape", "a mask from a file is not served: give rectangle or ellipse")

    from krypton_onnx.service import Limits, ServiceSettings, WorkerSettings, require_installed, serve

    require_installed()
    from krypton_onnx.labels import read_labels
    from krypton_onnx.runtime.session import available_cores

    settings = ServiceSettings(
        WorkerSettings(
            _spec(context, model, occlusion, scoring, mode, preparing.image_input, providers, strict), preparing,
            None if labels is None else read_labels(labels), threads or max(1, available_cores() // workers),
            concurrency, max_pixels, max_positions,
        ),
        host, port, workers, _token(token_file),
        Limits(queue=queue, deadline=seconds, max_bytes=bytes_taken, max_pixels=max_pixels,
               max_positions=max_positions),
        "none" if quiet else log, memory,
    )  # fmt: skip

    def ready(url: str, pool: WorkerPool) -> None:
        if quiet:
            return
        for warning in pool.warnings:
            show_warning(warning)
        typer.echo(f"serving {model} at {url} (Ctrl-C ends it)")

    serve(settings, ready)
    if not quiet:
        typer.echo("stopped")


def _spec(
    context: typer.Context,
    model: Path,
    occlusion: OcclusionOptions,
    scoring: ScoreOptions,
    mode: str,
    image_input: str | None,
    providers: str | None,
    strict: bool,
) -> ExplanationSpec:
    """What holds where a request says nothing."""
    from krypton_onnx.cli.preparing import execution_providers
    from krypton_onnx.specification import ExplanationSpec

    values, _ = occlusion.read(context)
    values |= scoring.read()
    names = execution_providers(providers)
    return ExplanationSpec(
        str(model), mode=mode, image_input=image_input, strict=strict,
        providers=None if names is None else tuple(names), **{field: value for field, value in values.values()},
    )  # fmt: skip


def _token(path: Path | None) -> str | None:
    """From the file, else from the environment. Raises KryptonError where the file cannot be read."""
    if path is None:
        return os.environ.get(TOKEN) or None
    try:
        if path.exists() and not path.is_file():
            raise KryptonError(f"{path}: is not a regular file; give the path of a file with the token")
        with path.open(encoding="utf-8") as file:
            token = file.read(MOST_TOKEN_FILE).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KryptonError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not token:
        raise KryptonError(f"{path}: is empty; it should hold the token")
    return token

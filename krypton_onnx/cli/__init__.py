"""The command line: `krypton-onnx COMMAND`.

One command a module; each imports what computes only when it runs, so that help is quick."""

from __future__ import annotations

import inspect as introspection
from collections.abc import Callable
from typing import Annotated, Any

import typer

from krypton_onnx import __version__
from krypton_onnx.cli.bench import bench
from krypton_onnx.cli.check import check
from krypton_onnx.cli.console import OneLineErrors
from krypton_onnx.cli.convert import convert
from krypton_onnx.cli.demo import demo
from krypton_onnx.cli.explain import explain
from krypton_onnx.cli.inspect import inspect
from krypton_onnx.cli.serve import serve
from krypton_onnx.cli.tune import tune
from krypton_onnx.cli.web import web

__all__ = ["app", "main"]

app = typer.Typer(
    name="krypton-onnx",
    cls=OneLineErrors,
    no_args_is_help=True,
    # A traceback that is our fault is for a report: as Python prints it, without the values of variables.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"krypton-onnx {__version__}")
        raise typer.Exit


@app.callback()
def krypton_onnx(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Occlusion heat maps of ONNX CNNs by incremental inference: which pixels does the score depend on?"""


def _help(command: Callable[..., Any]) -> str:
    """A command's docstring with a line a paragraph: the terminal breaks them where it ends."""
    return "\n\n".join(" ".join(part.split()) for part in (introspection.getdoc(command) or "").split("\n\n"))


for command in (explain, tune, convert, check, inspect, bench, web, serve, demo):
    app.command(help=_help(command))(command)


def main() -> None:
    """The entry point. Exit codes: 0 ok, 1 the input or the model is at fault, 2 usage."""
    app()

"""The options of `explain` that say by what many images are explained: this process, or the workers of a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse
from krypton_onnx.cli.grouping import Options
from krypton_onnx.cli.writing import WrittenOptions

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@dataclass(frozen=True)
class EngineOptions(Options):
    """By which processes."""

    panel: ClassVar[str] = options.COMPUTING

    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="local: one image after another, here; ray: by the workers of a Ray cluster, or of this machine. The "
            "maps then go to Parquet files in the folder, which may be an object store's (s3://, gs://), as IMAGES may."
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Of the Ray cluster. Default: that of RAY_ADDRESS, else this machine.",
            show_default=False,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of --engine ray. Default: as many as fit.", show_default=False),
    ] = None
    threads_per_worker: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of --engine ray: cores of each worker. Default: 1.", show_default=False),
    ] = None

    @property
    def on_ray(self) -> bool:
        """Whether it is a cluster's."""
        return self.engine == "ray"

    def require_fitting(self, written: WrittenOptions) -> None:
        """Exits with code 2 where options do not fit the engine."""
        if not self.on_ray:
            for option, value in (
                ("--address", self.address), ("--workers", self.workers),
                ("--threads-per-worker", self.threads_per_worker),
            ):  # fmt: skip
                if value is not None:
                    misuse(option, "is about --engine ray: give that too, or leave it out")
            return
        if written.output is None:
            misuse("--output", "give a folder for the maps (-o maps/), or the URI of one")
        if written.formats:
            misuse("--format", "maps of --engine ray are Parquet files (docs/ray.md): leave it out")
        if written.show != "drop" or written.extremes:
            misuse("--show" if written.show != "drop" else "--extremes", "is about pictures; --engine ray draws none")


def worker_providers(names: str | None) -> tuple[str, ...] | None:
    """ONNX Runtime's names from "cuda,cpu", whatever this machine has: it is the workers that need them."""
    if names is None:
        return None
    words = [name.strip() for name in names.split(",") if name.strip()]
    return tuple(_PROVIDERS.get(word.lower().removesuffix("executionprovider"), word) for word in words)


def location(given: Path) -> str:
    """What was given as a path: a URI has lost one of its slashes on the way."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", given.as_posix())
    if found is None or given.exists():
        return str(given)
    scheme = found[1].lower()
    # Of a local file the host is empty; an address among the options has lost a slash too.
    rest = re.sub(r"=(https?):/(?!/)", r"=\1://", found[2])
    return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"

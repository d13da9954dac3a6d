"""`krypton-onnx tune`: which approximation keeps a quality, found on a few images and stored with the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import progress_bar
from krypton_onnx.cli.preparing import PreparingOptions, execution_providers
from krypton_onnx.files import require_writable
from krypton_onnx.images import read_image

if TYPE_CHECKING:
    from krypton_onnx import Tuning


def tune(
    model: options.Model,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Pictures like those that will be explained; 10 to 30 are good."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The rewritten model, with what was found stored in it."),
    ],
    min_ssim: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="SSIM to the exact map that approximate maps shall have.")
    ] = 0.9,
    patch: options.Patch = "16",
    stride: options.Stride = "4",
    fill: options.Fill = "0",
    score: options.Score = "output",
    model_output: options.ModelOutput = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    channel_order: options.Channels = None,
    image_input: options.ImageInput = None,
    input_shape: options.InputShape = None,
    max_memory: options.MaxMemory = None,
    seed: options.Seed = 0,
    providers: options.Providers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the fastest approximation that keeps a quality, on a few images, and store it with the model.

    Computes the exact map of every image and several cheaper ones. `explain --mode approximate` on the written model
    then uses the fastest setting that kept the SSIM, with the same patch, stride, fill and score.

    Example: krypton-onnx tune model.onnx photos/*.jpg --min-ssim 0.9 --score margin -o tuned.onnx
    """
    size, step = options.pair("--patch", patch), options.pair("--stride", stride)
    filling = options.filling(fill)
    budget = None if max_memory is None else options.memory("--max-memory", max_memory)
    preparing = PreparingOptions.parse(scale, mean, std, channel_order, image_input, input_shape)
    require_writable(output, images)
    sources = [read_image(path) for path in images]

    import krypton_onnx as kx

    session = kx.OcclusionSession(
        model, providers=execution_providers(providers), image_input=preparing.image_input, strict=strict
    )
    prepared = [
        preparing.prepare(source, session, str(path)).array for source, path in zip(sources, images, strict=True)
    ]
    with progress_bar("tuning", quiet, "maps") as progress:
        tuning = kx.tune(
            session, prepared, min_ssim, patch=size, stride=step, fill=filling, score=score, output=model_output,
            seed=seed, names=[path.name for path in images], progress=progress, memory_budget=budget,
        )  # fmt: skip
    kx.convert(model, output, input_shape=prepared[0].shape, image_input=preparing.image_input, tuning=tuning)
    if json:
        typer.echo(tuning.to_json())
    elif not quiet:
        _summarize(tuning, output)


def _summarize(tuning: Tuning, output: Path) -> None:
    evidence = tuning.evidence
    images = len(evidence.images)
    typer.echo(
        f"SSIM {tuning.expected_ssim:.3f} expected, {tuning.lowest_ssim:.3f} the lowest, on {images} "
        f"image{'s' if images > 1 else ''} that the estimates were not fitted on"
    )
    typer.echo(f"{evidence.speedup:.1f} times as fast as exact maps, which took {evidence.exact_seconds:.2f} s")
    given = tuning.specification
    typer.echo(
        f"holds for patch {options.size(given.patch)}, stride {options.size(given.stride)}, "
        f"fill {options.fill_words(given.fill)}, score {given.score}"
    )
    if images < options.FEW_IMAGES:
        typer.echo(f"with fewer than {options.FEW_IMAGES} images the promise is a weak one", err=True)
    typer.echo(f"wrote {output}")

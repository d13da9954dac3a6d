"""`krypton-onnx tune`: which approximation keeps a quality, found on a few images and stored with the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import show_warning
from krypton_onnx.cli.grouping import grouped
from krypton_onnx.cli.groups import OcclusionOptions, PreparationOptions, RunOptions, ScoreOptions
from krypton_onnx.cli.progress import Bar, image_bar
from krypton_onnx.cli.sources import find
from krypton_onnx.files import require_writable

if TYPE_CHECKING:
    from krypton_onnx import Tuning


@grouped
def tune(
    context: typer.Context,
    *,
    model: options.Model,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES",
            help="Pictures like those that will be explained; 10 to 30 are good. Folders stand for all images below "
            "them; so do patterns in quotes ('scans/**/*.dcm').",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The rewritten model, with what was found stored in it."),
    ],
    min_ssim: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="SSIM to the exact map that approximate maps shall have.")
    ] = 0.9,
    json: options.Json = False,
    quiet: options.Quiet = False,
    occlusion: OcclusionOptions,
    scoring: ScoreOptions,
    preparation: PreparationOptions,
    running: RunOptions,
) -> None:
    """Find the fastest approximation that keeps a quality, on a few images, and store it with the model.

    Computes the exact map of every image and several cheaper ones. `explain --mode approximate` on the written model
    then uses the fastest setting that kept the SSIM, with the same patch, stride, fill and score.

    Example: krypton-onnx tune model.onnx photos/ --min-ssim 0.9 --score margin -o tuned.onnx
    """
    values, _ = occlusion.read(context)
    values |= scoring.read()
    asked = {field: value for field, value in values.values()}
    budget = running.memory
    preparing = preparation.read()
    sources = find(images)
    paths = [source.path for source in sources]
    small = [path for path in (preparation.preparation_file, occlusion.mask) if path is not None]
    require_writable(output, [*paths, *small])

    from krypton_onnx.images import read_image

    pictures = [read_image(path) for path in paths]

    import krypton_onnx as kx
    from krypton_onnx.cli.preparing import execution_providers, tell_providers
    from krypton_onnx.mask_files import patch_shape

    session = kx.OcclusionSession(
        model, providers=execution_providers(running.providers), image_input=preparing.image_input,
        strict=running.strict,
    )  # fmt: skip
    tell_providers(session, quiet)
    if not session.rewritten:  # one that is gets its tuning in place
        require_writable(output, [model])
    prepared = [
        preparing.prepare(picture, session, str(path), quiet=quiet).array
        for picture, path in zip(pictures, paths, strict=True)
    ]
    from_pictures = any(hasattr(picture, "convert") for picture in pictures)
    if from_pictures:
        session.preparation = preparing.preparation(session)  # of a fill in pixel values, too
    names = [str(source.name) for source in sources]
    with warnings.catch_warnings(record=True) as caught:  # they would break the bar: they are shown after it
        warnings.simplefilter("always", UserWarning)
        with image_bar("tuning", len(names), quiet, "maps", whole=True) as bar:
            tuning = kx.tune(
                session, prepared, min_ssim, **{**asked, "patch_shape": patch_shape(asked["patch_shape"])},
                seed=running.seed, names=names, progress=_on(bar, names), memory_budget=budget,
            )  # fmt: skip
    for warning in [] if quiet else caught:
        show_warning(warning.message)
    # With the tuning goes how its pictures were prepared: maps of others hold only if these are prepared alike.
    kx.convert(
        model, output, input_shape=prepared[0].shape, image_input=preparing.image_input, tuning=tuning,
        preparation=session.preparation if from_pictures and preparing.given else None,
    )  # fmt: skip
    if json:
        typer.echo(tuning.to_json())
    elif not quiet:
        _summarize(tuning, output)


def _on(bar: Bar, names: Sequence[str]) -> Callable[[int, int], None]:
    """The maps of all images, (done, total), as those of one image after another."""
    number = 0
    bar.begin(names[0])

    def progress(done: int, total: int) -> None:
        nonlocal number
        size = total // len(names)
        bar(done - number * size, size)
        if done == (number + 1) * size:
            number += 1
            bar.end()
            if number < len(names):
                bar.begin(names[number])

    return progress


def _summarize(tuning: Tuning, output: Path) -> None:
    evidence = tuning.evidence
    images = len(evidence.images)
    typer.echo(
        f"SSIM {tuning.expected_ssim:.3f} expected, {tuning.lowest_ssim:.3f} the lowest, on {images} "
        f"image{'s' if images > 1 else ''} that the estimates were not fitted on"
    )
    typer.echo(f"{evidence.speedup:.1f} times as fast as exact maps, which took {evidence.exact_seconds:.2f} s")
    given = tuning.specification
    shape = "" if given.patch_shape == "rectangle" else f" ({given.patch_shape})"
    typer.echo(
        f"holds for patch {options.size(given.patch)}{shape}, stride {options.size(given.stride)}, "
        f"fill {options.fill_words(given.fill)}, score {given.score}"
    )
    if images < options.FEW_IMAGES:
        typer.echo(f"with fewer than {options.FEW_IMAGES} images the promise is a weak one", err=True)
    typer.echo(f"wrote {output}")

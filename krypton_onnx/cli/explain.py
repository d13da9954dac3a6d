"""`krypton-onnx explain`: one model, one image or many, a heat map of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from krypton_onnx.cli.console import INTERRUPTED, misuse
from krypton_onnx.cli.engine import EngineOptions, worker_providers
from krypton_onnx.cli.grouping import grouped
from krypton_onnx.cli.groups import (
    ModeOptions,
    OcclusionOptions,
    PreparationOptions,
    RunOptions,
    ScoreOptions,
    TargetOptions,
)
from krypton_onnx.cli.sources import are_several, find
from krypton_onnx.cli.writing import WrittenOptions
from krypton_onnx.files import require_writable

if TYPE_CHECKING:
    from krypton_onnx import ExplanationSpec
    from krypton_onnx.cli.explaining import Explainer
    from krypton_onnx.cli.specifying import Asked


@grouped
def explain(
    context: typer.Context,
    *,
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="An ONNX model, original or converted (.onnx). With --spec it may be left out.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Pictures (PNG, JPEG, TIFF, DICOM, ...), or .npy arrays of floats, taken as they are. Folders stand "
            "for all images below them; so do patterns in quotes ('scans/**/*.dcm').",
            show_default=False,
        ),
    ] = None,
    written: WrittenOptions,
    spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Explain as a saved specification says; other options change it."),
    ] = None,
    targets: TargetOptions,
    occlusion: OcclusionOptions,
    scoring: ScoreOptions,
    preparation: PreparationOptions,
    quality: ModeOptions,
    running: RunOptions,
    engine: EngineOptions,
) -> None:
    """Map which parts of an image the score of a class depends on.

    A patch hides the image at every position of a grid; the map shows how much the score drops. Of several images each
    is written as soon as it is finished; give the same command again to go on after Ctrl-C, or to retry what failed.

    Example: krypton-onnx explain model.onnx photos/ -o maps/ --preset imagenet --top 3
    """
    model, given = _model_and_images(model, images or [], replayed=spec is not None)
    preparing = preparation.read()
    asked = _asked(context, occlusion, scoring, targets, quality, running)
    engine.require_fitting(written)
    several = written.for_several(engine.on_ray or are_several(given))
    sources = () if engine.on_ray else find(given, written.folder)

    # What can go wrong quickly comes first: the outputs, the small files, then the model.
    base = None if spec is None else _loaded(spec)
    small = (targets.labels, preparation.preparation_file, occlusion.mask, None if base is None else base.mask)
    read = [path for path in (model, *small) if path is not None]
    paths = [source.path for source in sources]
    if not several:
        for path in written.files:
            require_writable(path, [*read, *paths, *([] if spec is None else [spec])])
        written.require_distinct()
    if written.save_spec is not None:
        require_writable(written.save_spec, [*read, *paths])

    def opened() -> Explainer:
        from krypton_onnx.cli.explaining import open_explainer
        from krypton_onnx.cli.preparing import execution_providers
        from krypton_onnx.cli.specifying import Asked
        here = None if engine.on_ray else execution_providers(running.providers)
        asked["providers"] = Asked(here, engine.on_ray or running.providers is not None)
        asked["image_input"] = Asked(preparing.image_input, preparing.image_input is not None)
        return open_explainer(model, base, asked, preparing, targets.target or [], targets.labels, written.quiet)

    if engine.on_ray:
        from krypton_onnx.cli.on_ray import explain_on_ray

        providers = worker_providers(running.providers) or (None if base is None else base.providers)
        explain_on_ray(given, written, opened, engine, providers, read if spec is None else [*read, spec])
    elif several:
        from krypton_onnx.cli.many import explain_all

        explain_all(sources, written, opened, read if spec is None else [*read, spec])
    else:
        _explain_one(paths[0], written, opened)


def _loaded(spec: Path) -> ExplanationSpec:
    from krypton_onnx.specification import ExplanationSpec

    return ExplanationSpec.load(spec)


def _model_and_images(model: Path | None, images: list[Path], replayed: bool) -> tuple[Path | None, list[Path]]:
    """With a specification the first argument is a model only where it ends in .onnx."""
    if replayed and model is not None and model.suffix.lower() != ".onnx":
        images, model = [model, *images], None
    if model is None and not replayed:
        misuse("MODEL", "give the model and the image to explain, or --spec and the image")
    if not images:
        misuse("IMAGES", "give the image to explain, after the model")
    return model, images


def _asked(
    context: typer.Context,
    occlusion: OcclusionOptions,
    scoring: ScoreOptions,
    targets: TargetOptions,
    quality: ModeOptions,
    running: RunOptions,
) -> dict[str, Asked]:
    """By field of the specification; exits with code 2 where a value cannot be right."""
    values, by_mask = occlusion.read(context)
    values |= scoring.read() | targets.read() | quality.read() | running.read()

    from krypton_onnx.cli.specifying import Asked, asked

    fields = asked(context, values)
    if by_mask:  # the mask gives the size of the patch, whatever a specification says
        fields["patch"] = Asked(fields["patch"].value, True)
    return fields


def _explain_one(path: Path, written: WrittenOptions, opened: Any) -> None:
    from krypton_onnx.cli.progress import progress_bar
    from krypton_onnx.cli.telling import tell
    from krypton_onnx.images import read_image

    source = read_image(path)
    explainer: Explainer = opened()
    with progress_bar("explaining", written.quiet, foretell=explainer.asked.mode != "approximate") as progress:
        explanation = explainer(path, source, written.quiet, progress)
    for file in written.files:
        explanation.save(file, **written.look)
    if written.save_spec is not None:
        explanation.spec.save(written.save_spec)
    if written.json:
        from json import dumps

        typer.echo(dumps(explanation.heat_map.to_dict(), allow_nan=False))
    elif not written.quiet:
        tell(explanation)
        for file in [*written.files, *([] if written.save_spec is None else [written.save_spec])]:
            typer.echo(f"wrote {file}")
    if "Ctrl-C" in explanation.heat_map.note:
        raise typer.Exit(INTERRUPTED)

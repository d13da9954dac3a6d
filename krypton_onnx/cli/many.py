"""Many images: each is written when it is done, what fails is told and the rest goes on, and a second run goes on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from krypton_onnx.cli.console import INTERRUPTED, TRACEBACK, error_line, in_one_line, show_error, warning_line
from krypton_onnx.cli.explaining import Explainer
from krypton_onnx.cli.outputs import OutputFolder
from krypton_onnx.cli.progress import Bar, image_bar
from krypton_onnx.cli.sources import Source
from krypton_onnx.cli.telling import in_a_line
from krypton_onnx.cli.writing import Format, WrittenOptions
from krypton_onnx.errors import ImageError, KryptonError, ModelError
from krypton_onnx.images import read_image


@dataclass
class _Results:
    """What became of the images. maps : as --json prints them."""

    done: int = 0
    maps: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)


def explain_all(
    sources: Sequence[Source],
    written: WrittenOptions,
    opened: Callable[[], Explainer],
    read: Sequence[Path],
) -> None:
    """Explain every image that is not finished yet. read : files beside the images that must not be replaced.

    Exits with code 1 where images failed, 130 after Ctrl-C. Raises KryptonError where it is not an image's fault.
    """
    formats = [one.value for one in written.formats or [Format.PNG]]
    folder = None if written.folder is None else OutputFolder(written.folder, formats, written.look)
    if folder is not None:
        folder.require_possible(sources, read, written.overwrite)
    explainer = opened()
    explainer = replace(explainer, asked=explainer.asked.with_digest())  # once, of the model that was opened
    # Arrays only, and nothing is said of pictures: then a specification says nothing either.
    spec = explainer.spec(pictures=any(source.path.suffix.lower() != ".npy" for source in sources))
    if folder is not None:
        folder.begin(spec, explainer.labels, written.overwrite)
    if written.save_spec is not None:
        spec.save(written.save_spec)
    results = _Results()
    left = []
    for source in sources:
        if folder is not None and folder.finished(source):
            results.skipped.append(str(source.path))
        else:
            left.append(source)
    interrupted = False
    approximate = explainer.asked.mode == "approximate"
    with image_bar("explaining", len(left), written.quiet, whole=approximate) as bar:
        try:
            for source in left:
                if not _explain(source, explainer, written, folder, bar, results):
                    interrupted = True
                    break
        except KeyboardInterrupt:
            interrupted = True
    _tell(results, len(sources), written, interrupted)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if results.failed:
        raise typer.Exit(1)


def _explain(
    source: Source,
    explainer: Explainer,
    written: WrittenOptions,
    folder: OutputFolder | None,
    bar: Bar,
    results: _Results,
) -> bool:
    """One image, into `results`; False where Ctrl-C ended it. Raises KryptonError where it is not the image's fault."""
    bar.begin(source.path.name)
    failure: str | None = None
    with warnings.catch_warnings(record=True) as caught:  # to be told with the image's name
        warnings.simplefilter("always", UserWarning)
        try:
            explanation = explainer(source.path, read_image(source.path), written.quiet, bar)
            if "Ctrl-C" in explanation.heat_map.note:
                return False
            outputs = [] if folder is None else folder.write(source, explanation)
        except (ImageError, ModelError) as error:
            failure = str(error)
        except KryptonError:
            raise
        except Exception as error:  # of this image: the others may be sound
            failure = None if os.environ.get(TRACEBACK) else in_one_line(error)
            if failure is None:
                raise
    for text in [] if written.quiet else dict.fromkeys(str(warning.message) for warning in caught):
        bar.say(warning_line(_named(text, source.path)))
    if failure is not None:
        failure = _named(failure, source.path)
        bar.say(error_line(failure))
        results.failed.append({"source": str(source.path), "error": failure})
    else:
        results.done += 1
        if written.json:
            heat_map = explanation.heat_map
            names = [explanation.name_of(target) for target in heat_map.targets]
            results.maps.append({"source": str(source.path), "names": names, **heat_map.to_dict()})
        elif not written.quiet:
            names = [path.relative_to(written.folder or ".").as_posix() for path in outputs]
            bar.say(in_a_line(explanation, names), err=False)
    bar.end()
    return True


def _named(text: str, path: Path) -> str:
    return text if text.startswith(f"{path}: ") else f"{path}: {text}"


def _tell(results: _Results, images: int, written: WrittenOptions, interrupted: bool) -> None:
    """What became of all of them: JSON on standard output, what went wrong on standard error."""
    if written.json and not interrupted:
        from json import dumps

        told = {"maps": results.maps, "skipped": results.skipped, "failed": results.failed}
        typer.echo(dumps(told, allow_nan=False))
    elif not (written.quiet or written.json):
        before = f", {len(results.skipped)} were finished before" if results.skipped else ""
        where = "" if written.folder is None else f"; see {written.folder}/"
        typer.echo(f"{results.done} of {images} images explained{before}{where}")
    again = "" if written.folder is None else ": give the same command again to "
    if interrupted:
        show_error(f"stopped by Ctrl-C{again and again + 'go on'}")
    elif results.failed:
        show_error(f"{len(results.failed)} of {images} images failed{again and again + 'retry them'}")
